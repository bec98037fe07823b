"""The corpus in parts: what is read is cut into pieces of some megabytes, and each step keeps each piece it has done.

    read.json        how many parts there are; written when all is read
    raw/00000.arrow  what was read, or where it lies, and is not judged yet
    judged/00000/    documents.arrow, refused.arrow, keys, facts.json: after the first pass
    settled/         what was decided by comparing keys, part by part
    stripped/00000/  if long stretches go: what is left before they do, with its anchors
    met/             where documents meet, part by part
    applied/00000/   documents.parquet, refused.parquet, facts.json: after the second pass

Each is written beside and renamed, so whatever is there is whole.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from tutelage.corpus.hashing import joined, strings
from tutelage.run import write_json

PART = 16_000_000
"""Bytes of a part. A worker holds one, some ten times over; what a run gives depends on this and not on the workers."""
FIRST, ALIKE = 2_000_000, 4
"""Bytes of the first parts, and how many there are of a size before it doubles: so that workers have something to do
soon, and each of them has, however small the corpus is."""
MOST = 50_000
"""Documents of a part."""

ENTRY = ("content", "form", "id", "source", "licence", "url", "language", "metadata")
FAULT, READY, LINES = "fault", "ready", "lines"
"""Forms of a row beside those that `sources` knows: a record that cannot be read, a document that needs no extraction,
and lines of JSON, each a record."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where parts lie while they are worked on."""

    root: Path

    def read(self) -> Path:
        return self.root / "read.json"

    def numbers(self) -> range:
        """The parts, when all is read."""
        return range(json.loads(self.read().read_text(encoding="utf-8"))["parts"])

    def known(self) -> int:
        """How many parts were judged one after another, from the first."""
        return next(number for number in itertools.count() if not self.judged(number).exists())

    def raw(self, number: int) -> Path:
        return self.root / "raw" / f"{number:05d}.arrow"

    def judged(self, number: int) -> Path:
        return self.root / "judged" / f"{number:05d}"

    def settled(self) -> Path:
        return self.root / "settled"

    def stripped(self, number: int) -> Path:
        return self.root / "stripped" / f"{number:05d}"

    def met(self) -> Path:
        return self.root / "met"

    def applied(self, number: int) -> Path:
        return self.root / "applied" / f"{number:05d}"


class Row(NamedTuple):
    """Something that was read, before anything is known of it."""

    content: str | bytes
    """Of lines the bytes; nothing if they are to be read where they lie."""
    form: str
    """ "text", "html", `READY`, `LINES` or `FAULT`."""
    id: str = ""
    source: str = ""
    """Of a fault its place."""
    licence: str = ""
    url: str = ""
    language: str = ""
    metadata: dict[str, str] | None = None
    card: int = 0
    """Which of the run's source cards it stands under."""
    size: int = 0
    """Bytes of lines, wherever they are."""
    records: int = 1
    """How many there are in it."""


@contextlib.contextmanager
def beside(folder: Path) -> Generator[Path]:
    """A folder to write in, which gets its name when all is written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    yield half
    half.rename(folder)


def write_table(path: Path, table: pa.Table, packed: bool = True) -> None:
    """Arrow's own format, compressed lightly: parts are written once and read once or twice.

    One that is not ``packed`` is read where it lies, and of it only what is asked for.
    """
    with pa.OSFile(str(path), "wb") as file:
        options = pa.ipc.IpcWriteOptions(compression="lz4" if packed else None)
        with pa.ipc.new_file(file, table.schema, options=options) as writer:
            writer.write_table(table)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table, or some columns of it; the others are not read."""
    with pa.memory_map(str(path)) as file:
        schema = pa.ipc.open_file(file).schema
        wanted = None if columns is None else [schema.get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=wanted)
        return pa.ipc.open_file(file, options=options).read_all()


def read_texts(table: pa.Table) -> pa.LargeStringArray:
    """The texts of a table in one piece."""
    column = table.column("text")
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def cut(bench: Bench, rows: Iterable[Row], told: dict[str, Any], read: Callable[[], int] = int) -> Iterator[int]:
    """Cuts what is read into parts, and gives the number of each as soon as it may be judged.

    What is judged already is passed over. ``told`` is filled while reading, with the bytes that were ``read`` up to the
    end of each part too, and kept in ``read.json`` at the end: from then on nothing is read again.
    """
    done = bench.read()
    if done.exists():
        known = json.loads(done.read_text(encoding="utf-8"))
        told.update(known)
        yield from range(known["parts"])
        return
    number = 0
    ends: list[int] = told.setdefault("ends", [])
    bench.raw(0).parent.mkdir(parents=True, exist_ok=True)
    for part in _gathered(rows):
        ends.append(read())
        if not bench.judged(number).exists() and not bench.raw(number).exists():
            half = bench.raw(number).with_suffix(".tmp")
            write_table(half, part, packed=False)  # it goes as soon as it is judged
            half.rename(bench.raw(number))
        yield number
        number += 1
    told["parts"] = number
    write_json(done, told)


def raw_rows(path: Path) -> Iterator[Row]:
    """The rows of a raw part."""
    table = read_table(path)
    columns = [table.column(name).to_pylist() for name in (*ENTRY, "card")]
    for content, form, id, source, licence, url, language, metadata, card in zip(*columns, strict=True):
        content = content if form == LINES else content.decode()
        yield Row(content, form, id, source, licence, url, language, orjson.loads(metadata) if metadata else {}, card)


def _gathered(rows: Iterable[Row]) -> Iterator[pa.Table]:
    waiting: list[Row] = []
    size = records = number = 0
    for row in rows:
        waiting.append(row)
        # Near enough; a whole encoding only to count would cost as much again.
        size += row.size or (len(row.content) if row.content.isascii() else 3 * len(row.content))
        records += row.records
        if size >= min(PART, FIRST << (number // ALIKE)) or records >= MOST:
            yield _raw_table(waiting)
            waiting, size, records, number = [], 0, 0, number + 1
    if waiting:
        yield _raw_table(waiting)


def _raw_table(rows: Sequence[Row]) -> pa.Table:
    metadata = [json.dumps(row.metadata, ensure_ascii=False, sort_keys=True) if row.metadata else "" for row in rows]
    columns = {name: strings([getattr(row, name) for row in rows]) for name in ENTRY[1:] if name != "metadata"}
    contents = (row.content for row in rows)
    packed = joined([one if isinstance(one, bytes) else one.encode("utf-8", "replace") for one in contents])
    card = numbers(np.array([row.card for row in rows], np.int32))
    content = packed.view(pa.large_binary())
    return pa.table({"content": content, **columns, "metadata": strings(metadata), "card": card})


def numbers(values: npt.NDArray[np.integer]) -> pa.Array:
    """A column of whole numbers, which `pyarrow.array` would import pandas for."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)
