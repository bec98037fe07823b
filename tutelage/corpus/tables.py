"""Documents and refusals as Parquet: the same rows give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from tutelage.corpus import python_docs
from tutelage.corpus.hashing import replaced
from tutelage.corpus.parts import numbers, read_texts, strings
from tutelage.records import Document

SHOWN = 400
"""Characters of a refused text that are kept."""

DOCUMENT = ("id", "text", "source", "licence", "language", "split", "metadata")
REFUSAL = ("id", "source", "licence", "language", "name", "rule", "reason", "text", "duplicate_of", "leaks")


class Refusal(NamedTuple):
    """A document that is left out, and why."""

    document: Document
    rule: str
    """The rule in one word, to count by."""
    reason: str
    """What was found."""
    duplicate_of: str = ""
    """The id of the document that stands for it."""
    leaks: str = ""
    """The test items that it gives away, as "test:item", a comma between them."""


def document_table(documents: Sequence[Document], texts: pa.LargeStringArray | None = None) -> pa.Table:
    """The columns of documents, as `tutelage.records.read` reads them.

    Args:
        texts: those of the documents, if they are a column already.
    """
    columns = {
        name: texts if name == "text" and texts is not None else strings([getattr(one, name) for one in documents])
        for name in DOCUMENT[:-1]
    }
    return pa.table({**columns, "metadata": strings([packed(one.metadata) for one in documents])})


def refusal_table(refusals: Iterable[Refusal]) -> pa.Table:
    """The columns of refusals, with the start of each text."""
    rows = [
        (
            one.document.id, one.document.source, one.document.licence, one.document.language,
            one.document.metadata.get("name", ""), one.rule, one.reason, one.document.text[:SHOWN],
            one.duplicate_of, one.leaks,
        )
        for one in refusals
    ]  # fmt: skip
    return _table(REFUSAL, rows)


def write(path: Path, table: pa.Table) -> None:
    """Writes Parquet. A table without rows is written too: whoever reads the folder finds its columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def packed(metadata: dict[str, str]) -> str:
    """Metadata as one column holds it."""
    return json.dumps(metadata, ensure_ascii=False, sort_keys=True)


def unpacked(table: pa.Table, rows: Sequence[int] | npt.NDArray[np.int64] | None = None) -> list[Document]:
    """The documents of a table, or those in some rows."""
    if rows is not None:
        table = table.take(numbers(np.array(rows, np.int64)))
    columns = (table.column(name).to_pylist() for name in DOCUMENT)
    return [
        Document(
            id=id, text=text, source=source, licence=licence, language=language, split=split,
            metadata=orjson.loads(metadata),
        )
        for id, text, source, licence, language, split, metadata in zip(*columns, strict=True)
    ]  # fmt: skip


def with_column(table: pa.Table, name: str, values: pa.LargeStringArray) -> pa.Table:
    """The table with other values in a column."""
    return table.set_column(table.schema.get_field_index(name), name, values)


def known(table: pa.Table) -> list[dict[str, str]]:
    """The metadata of each document."""
    return orjson.loads(f"[{','.join(table.column('metadata').to_pylist())}]")


def bodies(table: pa.Table) -> pa.LargeStringArray:
    """The texts without the headings of documented objects, as `python_docs.body` gives them."""
    ask: Any = compute
    rows = np.flatnonzero(ask.match_substring(table.column("metadata"), '"kind"').to_pylist())
    found = zip(rows.tolist(), map(python_docs.body, unpacked(table, rows)), strict=True)
    return replaced(read_texts(table), dict(found))


def _table(names: Sequence[str], rows: Sequence[tuple[str, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pa.table({name: strings(list(column)) for name, column in zip(names, columns, strict=True)})
