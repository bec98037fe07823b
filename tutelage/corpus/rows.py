"""Rows of JSONL, CSV and Parquet, one after another; a bad one is told and passed over."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tutelage.corpus import compression, encodings, positions
from tutelage.errors import RecordError

JSON = (".jsonl", ".ndjson")
SEPARATED = (".csv", ".tsv")
_EMPTY = re.compile(rb"\n[ \t\r\v\f]*(?=\n)")


class Row(NamedTuple):
    """One row, or what is wrong with it."""

    place: str
    """``FILE:LINE``, or ``FILE: row N``."""
    number: int
    """From 1, among the rows that hold something."""
    value: Any
    fault: str = ""


class Block(NamedTuple):
    """Lines of a file in UTF-8, which nobody has looked at."""

    content: bytes
    """Of a line that is too long nothing."""
    size: int
    """Bytes; 0 of a line that is too long."""
    number: int
    """Of its first line, from 1."""
    row: int
    """Of its first record, from 1."""
    records: int
    """Its lines that hold something."""
    start: int
    """Where in the file it stands byte for byte; -1 if the file is packed or in another encoding."""


def rows(
    path: Path, extension: str, longest: int, columns: tuple[str, ...] = (), needed: tuple[str, ...] = ()
) -> Iterator[Row]:
    """The rows of a file.

    longest: bytes of a line; a longer one is a fault, and is never in memory whole.
    columns: those that are wanted of a Parquet file; the others are not read.
    needed: of these one must be there, or the file is one row, which holds the names of its columns.

    Raises:
        RecordError: the file is cut off or damaged, after all that could be read of it.
    """
    if extension in JSON:
        for block in blocks(path, longest):
            yield from parsed(path, block, longest)
    elif extension in SEPARATED:
        yield from _separated(path, longest, "\t" if extension == ".tsv" else ",")
    else:
        yield from _parquet(path, columns, needed)


def blocks(path: Path, longest: int) -> Iterator[Block]:
    """The lines of a file, many at a time; one that is longer than allowed is alone, and left out.

    Raises:
        RecordError: as `rows`.
    """
    held = b""
    number = count = 1
    start, known = 0, path.suffix.lower() not in compression.SUFFIXES
    overlong = False
    coding: Any = None
    for place, piece in enumerate(compression.chunks(path)):
        if place == 0:
            name = _encoding(piece)
            if name not in ("utf-8", "utf-8-sig"):
                coding, known = codecs.getincrementaldecoder(name)("replace"), False
            elif name == "utf-8-sig":
                piece, start = piece[3:], 3
        if coding is not None:
            piece = coding.decode(piece).encode("utf-8", "replace")
        first = piece.find(b"\n")
        if first < 0:
            overlong = overlong or len(held) + len(piece) > longest
            start += len(held) + len(piece) if overlong else 0
            held = b"" if overlong else held + piece
            continue
        if overlong or len(held) + first > longest:
            yield Block(b"", 0, number, count, 1, -1)
            number, count, start = number + 1, count + 1, start + len(held) + first + 1
            overlong, held, piece = False, b"", piece[first + 1 :]
        edge = piece.rfind(b"\n") + 1
        content, held = held + piece[:edge], piece[edge:]
        if edge:
            lines = content.count(b"\n")
            records = lines - _blank(content)
            yield Block(content, len(content), number, count, records, start if known else -1)
            number, count, start = number + lines, count + records, start + len(content)
    if held or overlong:
        records = int(overlong or bool(held.strip()))
        yield Block(held, len(held), number, count, records, start if known and held else -1)


def parsed(path: Path, block: Block, longest: int) -> Iterator[Row]:
    """The rows of a block of lines, each in JSON."""
    name, count = str(path), block.row
    if not block.size:
        fault = f"a line of more than {longest >> 20} MiB: cut it into records"
        yield Row(f"{name}:{block.number}", count, None, fault)
    for number, line in enumerate(block.content.split(b"\n"), block.number):
        if not line or line.isspace():
            continue
        place = f"{name}:{number}"
        try:
            yield Row(place, count, orjson.loads(line))
        except orjson.JSONDecodeError:
            yield _loosely(place, count, line)
        count += 1


def _blank(content: bytes) -> int:
    """How many of these lines hold nothing."""
    return len(_EMPTY.findall(content)) + (not content.partition(b"\n")[0].strip())


def _encoding(piece: bytes) -> str:
    """The encoding of a file's first lines. Some that are broken do not make it another, where most are UTF-8."""
    name = encodings.name_of(piece)
    if name in encodings.ONE_BYTE:
        some = piece[: encodings.SAMPLE].split(b"\n")
        if sum(_is_utf8(line) for line in some) * 2 >= len(some):
            return "utf-8"
    return name


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _loosely(place: str, count: int, line: bytes) -> Row:
    """What is JSON for the standard library at least: NaN, halves of surrogate pairs."""
    try:
        value = json.loads(line.decode("utf-8"))
        return Row(place, count, json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")))
    except UnicodeDecodeError as error:
        return Row(place, count, None, f"not UTF-8 at byte {error.start}: convert it first")
    except json.JSONDecodeError as error:
        return Row(place, count, None, f"broken JSON at column {error.colno}: {error.msg}: one JSON object per line")
    except RecursionError:
        return Row(place, count, None, "JSON that is nested too deeply")


def _separated(path: Path, longest: int, separator: str) -> Iterator[Row]:
    csv.field_size_limit(longest)
    with compression.stream(path) as packed:
        head = packed.peek(encodings.SAMPLE)[: encodings.SAMPLE]
        text = io.TextIOWrapper(packed, encodings.name_of(head), errors="replace", newline="")
        found = csv.DictReader(text, delimiter=separator)
        count = 0
        while True:
            count += 1
            try:
                value = next(found, None)
            except csv.Error as error:
                yield Row(f"{path}:{found.line_num}", count, None, f"broken CSV: {error}")
                continue
            if value is None:
                return
            yield Row(f"{path}:{found.line_num}", count, value)


def _parquet(path: Path, columns: tuple[str, ...], needed: tuple[str, ...]) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise RecordError(f"{path}: not a Parquet file: {error}") from None
    number, count, size = 0, max(file.metadata.num_rows, 1), path.stat().st_size
    with file, positions.known(path, lambda: size * number // count):
        names = file.schema_arrow.names
        if not any(name in needed for name in names):
            yield Row(f"{path}: row 1", 1, dict.fromkeys(names))
            return
        try:
            for batch in file.iter_batches(batch_size=1024, columns=[name for name in names if name in columns]):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}: row {number}", number, value)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise RecordError(f"{path}: row {number + 1}: damaged: {' '.join(str(error).split())[:120]}") from None
