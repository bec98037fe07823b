"""Where text comes from: this Python's documentation, or the user's own files.

A source is written in a recipe as ``python``, or as the path of a file or folder. Text files are one document each;
tables and JSONL are one document a row, from its column ``text``. The names of sources in the output are relative, so
that the same folder elsewhere gives the same documents.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tutelage.corpus import python_docs
from tutelage.corpus.cleaning import html_text
from tutelage.corpus.languages import language
from tutelage.errors import RecordError
from tutelage.records import Document, identify, json_lines
from tutelage.run import combine, file_hash

PYTHON = "python"
PAGES = (".html", ".htm")
TEXTS = (".txt", ".md", ".rst", *PAGES)
TABLES = (".jsonl", ".parquet", ".csv")
TEXT_FIELDS = ("text", "content")


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a source."""

    read: tuple[tuple[Path, str], ...]
    """Path and relative name of what can be read, sorted by name."""
    unread: Mapping[str, int]
    """How many files of a folder cannot be, by extension."""


def listing(source: str) -> Listing:
    """The files of a path; hidden ones are passed over.

    Raises:
        RecordError: nothing is there, or nothing that can be read.
    """
    path = Path(source)
    known = ", ".join((*TEXTS, *TABLES))
    if path.is_file():
        if extension(path) not in (*TEXTS, *TABLES):
            raise RecordError(f"{path}: cannot read {path.suffix or 'a file without extension'}: give one of {known}")
        if path.stat().st_size == 0:
            raise RecordError(f"{path}: empty: it should hold text")
        return Listing(((path, path.name),), {})
    if not path.is_dir():
        raise RecordError(f"{path}: no such file or folder: give a path, or {PYTHON!r} for this Python's documentation")
    files = sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path)))
    read = [file for file in files if extension(file) in (*TEXTS, *TABLES)]
    if not read:
        raise RecordError(f"{path}: {len(files)} files, none that can be read: put in files of {known}")
    top = path.resolve().name
    unread = Counter(file.suffix or "without" for file in files if file not in set(read))
    named = tuple((file, f"{top}/{file.relative_to(path).as_posix()}") for file in read)
    return Listing(named, dict(sorted(unread.items())))


def documents(path: Path, name: str, licence: str) -> Iterator[Document]:
    """The documents of one file, which goes by ``name``. A row's own ``licence`` comes before the one given.

    Raises:
        RecordError: a line that is broken or has no text, with its place; or text that is not UTF-8.
    """
    if extension(path) in TEXTS:
        text = _text(path)
        text = html_text(text) if extension(path) in PAGES else text
        yield _document(text, name, licence, {"file": name})
        return
    found = False
    for number, (where, row) in enumerate(_rows(path), start=1):
        found = True
        yield _row_document(row, where, name, licence, number)
    if not found:
        raise RecordError(f"{path}: empty: it should hold at least one row")


def fingerprint(source: str) -> str:
    """Changes when what the source gives changes: the content of its files, or the packages that are installed.

    Raises:
        RecordError: as `listing`.
    """
    if source == PYTHON:
        return python_docs.fingerprint()
    return combine({name: file_hash(path) for path, name in listing(source).read})


def extension(path: Path) -> str:
    """``.jsonl`` of ``a.jsonl`` and of ``a.jsonl.gz``."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _text(path: Path) -> str:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: not UTF-8 at byte {error.start}: convert it first") from None
    except (gzip.BadGzipFile, EOFError):
        raise RecordError(f"{path}: named .gz but not whole gzip data") from None


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    match extension(path):
        case ".jsonl":
            yield from json_lines(path)
        case ".csv":
            rows = csv.DictReader(io.StringIO(_text(path), newline=""))
            try:
                for row in rows:
                    yield f"{path}:{rows.line_num}", row
            except csv.Error as error:
                raise RecordError(f"{path}:{rows.line_num}: broken CSV: {error}") from None
        case _:
            yield from _parquet(path)


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise RecordError(f"{path}: not a Parquet file: {error}") from None
    with file:
        number = 0
        for batch in file.iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", row


def _row_document(value: Any, where: str, name: str, licence: str, number: int) -> Document:
    if isinstance(value, str):
        return _document(value, name, licence, {"file": name, "row": str(number)})
    if not isinstance(value, dict):
        raise RecordError(f"{where}: {type(value).__name__}: write an object with a field {TEXT_FIELDS[0]!r}")
    row = cast(dict[str, Any], value)
    field = next((field for field in TEXT_FIELDS if field in row), None)
    if field is None:
        raise RecordError(f"{where}: no field {TEXT_FIELDS[0]!r}: found {', '.join(map(str, row)) or 'nothing'}")
    text = row[field]
    if not isinstance(text, str):
        raise RecordError(f"{where}: {field}: found {type(text).__name__}: it should be text")
    metadata = {"file": name, "row": str(number)}
    if isinstance(row.get("metadata"), dict):
        metadata = {str(key): str(known) for key, known in row["metadata"].items()} | metadata
    stated = row.get("licence") or row.get("license") or licence
    return _document(text, str(row.get("source") or name), str(stated), metadata)


def _document(text: str, source: str, licence: str, metadata: dict[str, str]) -> Document:
    return Document(
        id=identify(source, text),
        text=text,
        source=source,
        licence=licence,
        language=language(text),
        metadata=metadata,
    )
