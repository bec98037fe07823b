"""Documents and refusals as Parquet: the same rows give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tutelage.records import Document

ROWS = 50_000
"""Rows of a file."""

SHOWN = 200
"""Characters of a refused text that are kept."""

_DOCUMENT = ("id", "text", "source", "licence", "language", "split", "metadata")
_REFUSAL = ("id", "source", "licence", "name", "rule", "reason", "text", "duplicate_of")


class Refusal(NamedTuple):
    """A document that is left out, and why."""

    document: Document
    rule: str
    """The rule in one word, to count by."""
    reason: str
    """What was found."""
    duplicate_of: str = ""
    """The id of the document that stands for it."""


def write_documents(folder: Path, documents: Sequence[Document]) -> None:
    """Writes ``folder/00000.parquet`` and so on, as `tutelage.records.read` reads them."""
    rows = [
        {
            "id": document.id,
            "text": document.text,
            "source": document.source,
            "licence": document.licence,
            "language": document.language,
            "split": document.split,
            "metadata": json.dumps(document.metadata, ensure_ascii=False, sort_keys=True),
        }
        for document in documents
    ]
    _write(folder, rows, _DOCUMENT)


def write_refusals(folder: Path, refusals: Sequence[Refusal]) -> None:
    """Writes what was left out, with the start of its text."""
    rows = [
        {
            "id": refusal.document.id,
            "source": refusal.document.source,
            "licence": refusal.document.licence,
            "name": refusal.document.metadata.get("name", ""),
            "rule": refusal.rule,
            "reason": refusal.reason,
            "text": refusal.document.text[:SHOWN],
            "duplicate_of": refusal.duplicate_of,
        }
        for refusal in refusals
    ]
    _write(folder, rows, _REFUSAL)


def _write(folder: Path, rows: Sequence[dict[str, str]], columns: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in columns])
    folder.mkdir(parents=True, exist_ok=True)
    # A table without rows is written too: whoever reads the folder finds its columns.
    for number, start in enumerate(range(0, max(1, len(rows)), ROWS)):
        table = pa.Table.from_pylist(list(rows[start : start + ROWS]), schema=schema)
        pq.write_table(table, folder / f"{number:05d}.parquet", compression="zstd")
