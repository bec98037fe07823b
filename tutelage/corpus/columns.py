"""Documents as columns: read a batch at a time, and a sample of them chosen, without holding them all."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tutelage.corpus import splits
from tutelage.errors import RecordError
from tutelage.records import Document, read

COLUMNS = ("id", "text", "source", "licence", "language", "split")
ROWS = 1024
"""Documents of a batch."""


@dataclass(frozen=True)
class Batch:
    """Some documents; the texts as a column, the rest as lists."""

    texts: pa.Array
    ids: list[str]
    sources: list[str]
    licences: list[str]
    languages: list[str]
    held_out: list[bool]
    modules: list[str]
    """What a document is a part of, by its metadata; its own id if that does not say."""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: list[int]) -> Batch:
        """The documents at these places."""
        lists = ([held[i] for i in places] for held in (self.ids, self.sources, self.licences, self.languages))
        texts = self.texts.take(pa.array(places, pa.int64()))
        held = [self.held_out[i] for i in places]
        return Batch(texts, *lists, held_out=held, modules=[self.modules[i] for i in places])


def batches(path: Path) -> Iterator[Batch]:
    """All documents of a prepare run, a file or a folder of them, in order.

    Raises:
        RecordError: no such file, or a fault in it, with its place.
    """
    inner = path / "documents" if (path / "documents").is_dir() else path
    files = [inner]
    if inner.is_dir():
        files = sorted(file for file in inner.iterdir() if file.name.endswith((".parquet", ".jsonl", ".jsonl.gz")))
    if not files or not all(_whole(file) for file in files):
        yield from _checked(path)
        return
    found = checked = False
    for file in files:
        opened = pq.ParquetFile(file)
        wanted = [*COLUMNS, *(name for name in ("metadata",) if name in opened.schema_arrow.names)]
        for batch in opened.iter_batches(batch_size=ROWS, columns=wanted):
            found = True
            table = {name: batch.column(name) for name in COLUMNS}
            if not checked and not _clean(table):
                for _ in _checked(path):  # which tells what is wrong, and where
                    pass
                checked = True
            lists = (table[name].to_pylist() for name in ("id", "source", "licence", "language"))
            held = [split == "held_out" for split in table["split"].to_pylist()]
            ids = table["id"].to_pylist()
            told = batch.column("metadata").to_pylist() if "metadata" in wanted else [None] * len(ids)
            modules = [_module(value, name, file) for value, name in zip(told, ids, strict=True)]
            yield Batch(table["text"].cast(pa.large_string()), *lists, held_out=held, modules=modules)
    if not found:
        raise RecordError(f"{path}: empty: it should hold at least one Document")


def choose(
    documents: Callable[[], Iterator[Batch]], megabytes: float, seed: int, balance: float = 1.0
) -> tuple[list[str], dict[str, int]]:
    """Training texts of at most so many megabytes of UTF-8, and how many bytes of each language are in them.

    The texts of a language are those with the smallest hash of seed and id, so that neither the order of the documents
    nor a new one changes much. They come in the order of the hashes.

    Args:
        documents: reads them; called twice, so that only what is chosen is held.
        megabytes: of all languages together; at least one text is chosen.
        seed: chooses.
        balance: 1: each language has the share of bytes that it has of the documents; 0: all languages alike; between
            them, shares are raised to this power.
    """
    sizes: Counter[str] = Counter()
    drawn: dict[str, list[tuple[int, int]]] = {}
    for batch in documents():
        for name, language, held, text in zip(batch.ids, batch.languages, batch.held_out, batch.texts, strict=True):
            if not held:
                size = text.as_buffer().size
                sizes[language] += size
                drawn.setdefault(language, []).append((splits.value(name, seed), size))
    bounds: dict[str, int] = {}
    allowed = allowances(dict(sizes), megabytes * 1e6, balance)
    first = min((min(draws)[0], language) for language, draws in drawn.items()) if drawn else None
    for language in sorted(drawn):
        left = allowed[language]
        heapq.heapify(drawn[language])
        while drawn[language]:
            draw, size = heapq.heappop(drawn[language])
            if size > left:
                break
            bounds[language], left = draw, left - size
    if not bounds and first:
        # Every text is larger than what is allowed: the first of all is taken alone.
        bounds[first[1]] = first[0]
    chosen: list[tuple[int, str]] = []
    taken: Counter[str] = Counter()
    for batch in documents():
        for place, (name, language, held) in enumerate(zip(batch.ids, batch.languages, batch.held_out, strict=True)):
            if not held and language in bounds and (draw := splits.value(name, seed)) <= bounds[language]:
                text = batch.texts[place].as_py()
                chosen.append((draw, text))
                taken[language] += len(text.encode())
    return [text for _, text in sorted(chosen)], dict(sorted(taken.items()))


def allowances(sizes: dict[str, int], most: float, balance: float) -> dict[str, float]:
    """How much of each language may be taken: shares by size to a power; what one has too little of goes to others."""
    allowed: dict[str, float] = {}
    open_ones = {name: size for name, size in sizes.items() if size}
    left = most
    while open_ones:
        whole = sum(size**balance for size in open_ones.values())
        full = [name for name, size in open_ones.items() if left * size**balance / whole >= size]
        if not full:
            return allowed | {name: left * size**balance / whole for name, size in open_ones.items()}
        for name in full:
            allowed[name] = float(open_ones.pop(name))
            left -= allowed[name]
    return allowed


def _whole(file: Path) -> bool:
    """Whether a file is Parquet with all columns as text; anything else is read with care and told with its place."""
    if file.suffix != ".parquet":
        return False
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowInvalid, OSError):
        return False
    text = (pa.string(), pa.large_string())
    return all(name in schema.names and schema.field(name).type in text for name in COLUMNS)


def _clean(table: dict[str, pa.Array]) -> bool:
    """Whether nothing is missing or empty, and every document is on one of the two sides."""
    if any(column.null_count for column in table.values()):
        return False
    sides = set(table["split"].unique().to_pylist())
    return sides <= {"train", "held_out"} and pc.index(table["text"], "").as_py() < 0  # pyright: ignore


def _checked(path: Path) -> Iterator[Batch]:
    held: list[Document] = []
    for document in read(path, Document):
        held.append(document)
        if len(held) == ROWS:
            yield _batch(held)
            held = []
    if held:
        yield _batch(held)


def _batch(documents: list[Document]) -> Batch:
    return Batch(
        pa.array([one.text for one in documents], pa.large_string()), [one.id for one in documents],
        [one.source for one in documents], [one.licence for one in documents], [one.language for one in documents],
        [one.split == "held_out" for one in documents],
        [one.metadata.get("module", one.id) for one in documents],
    )  # fmt: skip


def _module(metadata: object, name: str, file: Path) -> str:
    """A document's module, of metadata as JSON or as columns."""
    if isinstance(metadata, str) and metadata:
        try:
            metadata = json.loads(metadata)
        except json.JSONDecodeError as error:
            raise RecordError(f"{file}: document {name}: metadata: broken JSON: {error.msg}") from None
    found = cast(dict[str, Any], metadata).get("module") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else name
