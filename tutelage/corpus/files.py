"""The files of a source: which of those that lie there can be read, and what they are called.

A source is written in a recipe as ``python``, for this Python's documentation, or as the path of a file or folder, or
as a pattern such as ``crawl/*.warc.gz``. Names of files in the output are relative, so that the same folder elsewhere
gives the same documents.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tutelage.corpus import compression, rows
from tutelage.errors import RecordError
from tutelage.sentences import counted

PYTHON = "python"
PAGES = (".html", ".htm", ".xhtml")
TEXTS = (".txt", ".md", ".rst", *PAGES)
TABLES = (*rows.JSON, ".parquet", *rows.SEPARATED)
ARCHIVES = (".warc", ".epub")
KNOWN = (*TEXTS, *TABLES, *ARCHIVES)


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a source."""

    read: tuple[tuple[Path, str], ...]
    """Path and relative name of what can be read, sorted by name."""
    unread: Mapping[str, int]
    """How many files of a folder cannot be, by extension."""


def listing(source: str) -> Listing:
    """The files of a path or a pattern; hidden ones are passed over, and so are those that describe others.

    Raises:
        RecordError: nothing is there, or nothing that can be read.
    """
    path = Path(source)
    known = ", ".join(KNOWN)
    if not path.exists() and glob.has_magic(source):
        found = sorted(Path(name) for name in glob.iglob(source, recursive=True))  # noqa: PTH207
        if not found:
            raise RecordError(f"{source}: no file is called so: give a path, or a pattern that fits one")
        parts = [listing(str(file)) for file in found if file.is_dir() or extension(file) in KNOWN]
        if not parts:
            held = counted(len(found), "file")
            raise RecordError(f"{source}: {held}, none that can be read: put in files of {known}")
        unread = Counter(file.suffix or "without" for file in found if file.is_file() and extension(file) not in KNOWN)
        for part in parts:
            unread.update(part.unread)
        read = [named for part in parts for named in part.read if len(parts) == 1 or not _describes(named[0])]
        return Listing(tuple(dict.fromkeys(read)), dict(sorted(unread.items())))
    if path.is_file():
        if extension(path) not in KNOWN:
            raise RecordError(f"{path}: cannot read {path.suffix or 'a file without extension'}: give one of {known}")
        if path.stat().st_size == 0:
            raise RecordError(f"{path}: empty: it should hold text")
        return Listing(((path, path.name),), {})
    if not path.is_dir():
        raise RecordError(f"{path}: no such file or folder: give a path, or {PYTHON!r} for this Python's documentation")
    files = sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path)))
    files = [file for file in files if not _describes(file)]
    read = [file for file in files if extension(file) in KNOWN]
    if not read:
        raise RecordError(f"{path}: {counted(len(files), 'file')}, none that can be read: put in files of {known}")
    top = path.resolve().name
    unread = Counter(file.suffix or "without" for file in files if extension(file) not in KNOWN)
    named = tuple((file, f"{top}/{file.relative_to(path).as_posix()}") for file in read)
    return Listing(named, dict(sorted(unread.items())))


def extension(path: Path) -> str:
    """``.jsonl`` of ``a.jsonl`` and of ``a.jsonl.gz``."""
    return (path.with_suffix("") if path.suffix.lower() in compression.SUFFIXES else path).suffix.lower()


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _describes(file: Path) -> bool:
    """Whether a file tells of others: an index, a licence."""
    name = file.name.lower()
    return (
        name == "index.jsonl"
        or name.endswith(".index.jsonl")
        or name in ("license.txt", "licence.txt", "license.md", "copying.txt")
    )
