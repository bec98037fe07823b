"""Books: the chapters of an EPUB file, in reading order.

Source: EPUB 3.3, W3C recommendation 2023: the container names a package, whose spine names the chapters.
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from tutelage.corpus.encodings import decode_page
from tutelage.errors import RecordError

_CONTAINER = "META-INF/container.xml"
_DUBLIN = "{http://purl.org/dc/elements/1.1/}"


@dataclass(frozen=True, slots=True)
class Chapter:
    """One page of a book."""

    place: str
    """Its name in the file."""
    page: str
    """XHTML."""
    title: str
    """The book's."""
    rights: str
    """What the book says of its licence."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A chapter that cannot be read."""

    place: str
    reason: str


def chapters(path: Path, longest: int) -> Iterator[Chapter | Missing]:
    """The chapters of a book.

    longest: bytes that a chapter may unpack to.

    Raises:
        RecordError: it is no book, or is locked.
    """
    try:
        with zipfile.ZipFile(path) as book:
            package = _package(book, longest)
            metadata = _parsed(_content(book, package, longest), package)
            title = " ".join((metadata.findtext(f".//{_DUBLIN}title") or "").split())
            rights = " ".join((metadata.findtext(f".//{_DUBLIN}rights") or "").split())
            for place in _spine(metadata, posixpath.dirname(package)):
                try:
                    page = decode_page(_content(book, place, longest)).text
                except RecordError as error:
                    yield Missing(place, str(error))
                else:
                    yield Chapter(place, page, title, rights)
    except (zipfile.BadZipFile, RecordError, RuntimeError, NotImplementedError) as error:
        raise RecordError(f"{path}: not an EPUB book: {error}") from None


def _package(book: zipfile.ZipFile, longest: int) -> str:
    root = _parsed(_content(book, _CONTAINER, longest), _CONTAINER)
    named = next((part.get("full-path") for part in root.iter() if part.tag.endswith("rootfile")), None)
    if not named:
        raise RecordError(f"{_CONTAINER} names no package")
    return named


def _spine(package: ElementTree.Element, folder: str) -> list[str]:
    places = {part.get("id"): part.get("href", "") for part in package.iter() if part.tag.endswith("}item")}
    order = [
        part.get("idref") for part in package.iter() if part.tag.endswith("}itemref") and part.get("linear") != "no"
    ]
    return [posixpath.normpath(posixpath.join(folder, unquote(places[name]))) for name in order if name in places]


def _content(book: zipfile.ZipFile, name: str, longest: int) -> bytes:
    """A file of the archive; never more than is allowed, whatever the archive says of its size."""
    try:
        with book.open(name) as file:
            content = file.read(longest + 1)
    except KeyError:
        raise RecordError(f"{name} is not in it") from None
    except (zlib.error, EOFError) as error:
        raise RecordError(f"{name} is damaged: {error}") from None
    if len(content) > longest:
        raise RecordError(f"{name} unpacks to more than {longest >> 20} MiB")
    return content


def _parsed(content: bytes, name: str) -> ElementTree.Element:
    # An entity that stands for itself many times over fills the memory; no book needs one in its package.
    if b"<!ENTITY" in content:
        raise RecordError(f"{name} defines entities of its own")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise RecordError(f"{name} is no XML: {error}") from None
