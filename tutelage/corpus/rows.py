"""Rows of JSONL, CSV and Parquet, one after another; a bad one is told and passed over."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tutelage.corpus import compression, encodings
from tutelage.errors import RecordError

JSON = (".jsonl", ".ndjson")
SEPARATED = (".csv", ".tsv")


class Row(NamedTuple):
    """One row, or what is wrong with it."""

    place: str
    """``FILE:LINE``, or ``FILE: row N``."""
    number: int
    """From 1, among the rows that hold something."""
    value: Any
    fault: str = ""


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
        yield from _json(path, longest)
    elif extension in SEPARATED:
        yield from _separated(path, longest, "\t" if extension == ".tsv" else ",")
    else:
        yield from _parquet(path, columns, needed)


def lines(path: Path, longest: int) -> Iterator[tuple[int, bytes | None]]:
    """(number, bytes) of each line in UTF-8, without its end; None for one that is longer than allowed.

    Raises:
        RecordError: as `rows`.
    """
    source = compression.chunks(path)
    held = b""
    number = 0
    overlong = False
    coding: Any = None
    for place, piece in enumerate(source):
        if place == 0:
            name = _encoding(piece)
            if name not in ("utf-8", "utf-8-sig"):
                coding = codecs.getincrementaldecoder(name)("replace")
            elif name == "utf-8-sig":
                piece = piece[3:]
        if coding is not None:
            piece = coding.decode(piece).encode("utf-8", "replace")
        first, newline, rest = piece.partition(b"\n")
        if not newline:
            held = b"" if overlong else held + piece
            if len(held) > longest:
                overlong, held = True, b""
            continue
        number += 1
        yield number, None if overlong or len(held) + len(first) > longest else held + first
        overlong = False
        *whole, held = rest.split(b"\n")
        for line in whole:
            number += 1
            yield number, line
    if held or overlong:
        yield number + 1, None if overlong else held


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


def _json(path: Path, longest: int) -> Iterator[Row]:
    import orjson

    count = 0
    for number, line in lines(path, longest):
        if line is not None and not line.strip():
            continue
        count += 1
        place = f"{path}:{number}"
        if line is None:
            yield Row(place, count, None, f"a line of more than {longest >> 20} MiB: cut it into records")
            continue
        try:
            yield Row(place, count, orjson.loads(line))
        except orjson.JSONDecodeError:
            yield _loosely(place, count, line)


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
    with file:
        names = file.schema_arrow.names
        if not any(name in needed for name in names):
            yield Row(f"{path}: row 1", 1, dict.fromkeys(names))
            return
        number = 0
        try:
            for batch in file.iter_batches(batch_size=1024, columns=[name for name in names if name in columns]):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}: row {number}", number, value)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise RecordError(f"{path}: row {number + 1}: damaged: {' '.join(str(error).split())[:120]}") from None
