"""What is in a file: text files are one document each, tables one a row, web archives one a page, books one a chapter.

Reading is three steps, so that the slow ones can be done by many processes: `pieces` finds what there is to read, a
little at a time, `unfolded` parses lines of JSON, and `document` makes text of an entry. One bad record never stops a
run: it is a `Fault` with its place.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

from tutelage.corpus import compression, encodings, epub, files, html, licences, rows, terms, warc
from tutelage.errors import MissingExtraError, RecordError
from tutelage.records import Document, identify

TEXT_FIELDS = ("text", "content")
PAGE_FIELDS = ("html", "raw_html")
CONTENT_FIELDS = (*TEXT_FIELDS, *PAGE_FIELDS)
LICENCE_FIELDS = ("licence", "license", "spdx")
KEPT_FIELDS = ("title", "author", "date")
"""Fields of a row that go into a document's metadata."""
COLUMNS = (
    *CONTENT_FIELDS,
    *LICENCE_FIELDS,
    *KEPT_FIELDS,
    "id",
    "url",
    "source",
    "language",
    "lang",
    "metadata",
)
LONGEST = 32 << 20
"""Bytes that a record may unpack to; a longer one is refused, and never in memory whole."""

Form = Literal["text", "html", "book"]
Extraction = Literal["fast", "precise"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to read, as it was found. A field that nothing is said of is empty."""

    content: str
    form: Form
    id: str = ""
    source: str = ""
    licence: str = ""
    """As SPDX writes it; "unknown" where the record has the field and it says nothing."""
    url: str = ""
    language: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lines:
    """Rows of JSON, which are not parsed yet."""

    path: Path
    name: str
    beside: str
    """The licence beside the file, and in which file it is."""
    block: rows.Block
    """Its content may be left out if ``file`` has it."""
    file: str = ""
    """Where the block stands byte for byte, from the root."""
    changed: int = 0
    """When that was written, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that cannot be read."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def pieces(path: Path, name: str) -> Iterator[Entry | Lines | Fault]:
    """What there is to read in a file, which goes by ``name``, a little at a time.

    Nothing is raised for what is in the file: a file that is damaged gives what can be read of it, and then a fault.
    What lies beside it is heeded: ``index.jsonl`` in its folder, ``NAME.index.jsonl``, a licence file.
    """
    records = 0
    try:
        size = path.stat().st_size
        for piece in _pieces(path, name) if size else ():
            records += piece.block.records if isinstance(piece, Lines) else 1
            yield piece
        if not records:
            yield Fault(str(path), "no record in it" if size else "empty: it should hold text")
    except RecordError as error:
        yield Fault(str(path), str(error).removeprefix(f"{path}: "))
    except OSError as error:
        yield Fault(str(path), f"cannot be read: {(error.strerror or str(error)).lower()}")


def unfolded(lines: Lines) -> Iterator[Entry | Fault]:
    """What the lines hold.

    Raises:
        RecordError: their content was left out, and the file is another one now.
    """
    block = lines.block
    if block.size and not block.content:
        block = block._replace(content=_content(lines))
    for row in rows.parsed(lines.path, block, LONGEST):
        yield _entry(row, lines.name, lines.beside)


def _content(lines: Lines) -> bytes:
    with contextlib.suppress(OSError), Path(lines.file).open("rb", buffering=0) as file:
        file.seek(lines.block.start)
        content = file.read(lines.block.size)
        if len(content) == lines.block.size and os.fstat(file.fileno()).st_mtime_ns == lines.changed:
            return content
    raise RecordError(f"{lines.path}: was changed while it was read: give the same command again")


def entries(path: Path, name: str) -> Iterator[Entry | Fault]:
    """As `pieces`, with all lines parsed."""
    for piece in pieces(path, name):
        if isinstance(piece, Lines):
            yield from unfolded(piece)
        else:
            yield piece


def document(entry: Entry, card: terms.Card | None = None, extraction: Extraction = "fast") -> Document | Fault:
    """The document that an entry makes: its text, its licence and where that is stated, and the language it is said to
    be in, or "und": `treatment.treat` finds out.

    The licence is that of the record, else that of the source's card, else that of a licence file beside it. What the
    text itself says of its licence is held against it as well: then both must be allowed.

    Raises:
        MissingExtraError: ``precise`` extraction without trafilatura.
    """
    metadata = dict(entry.metadata)
    headers, beside = metadata.pop("headers", ""), metadata.pop("beside", "")
    text, own = entry.content, ""
    if entry.form == "text":
        own = terms.licence_of_text(text)
    else:
        own = terms.licence_of_page(text)
        if reserved := terms.reservation(text, headers):
            metadata["reservation"] = reserved
        text = _readable(text, entry, extraction)
    if not text.strip():
        return Fault(_place(entry), "no text in it")
    licence, metadata["evidence"] = _licence(entry.licence, own, card or terms.Card(), beside)
    if card is not None and card.origin:
        metadata["origin"] = card.origin
    if entry.url:
        metadata["url"] = entry.url
    return Document(
        id=entry.id or identify(entry.source, text),
        text=text,
        source=entry.source,
        licence=licence,
        language=entry.language or "und",
        metadata={key: value for key, value in metadata.items() if value},
    )


def _pieces(path: Path, name: str) -> Iterator[Entry | Lines | Fault]:
    kind = files.extension(path)
    deep = name.count("/")
    beside = _beside(path.parent, path.parents[deep - 1] if deep else path.parent)
    if kind in files.TEXTS:
        yield _file(path, name, kind, beside)
    elif kind in files.TABLES:
        yield from _table(path, name, kind, beside)
    elif kind == ".warc":
        yield from _archive(path, name, beside)
    else:
        yield from _book(path, name, beside)


def _file(path: Path, name: str, kind: str, beside: str) -> Entry:
    content = compression.whole(path, LONGEST)
    page = kind in files.PAGES
    text = (encodings.decode_page(content) if page else encodings.decode(content)).text
    told = _index(path.parent / "index.jsonl", "file").get(path.name, {})
    return _described(Entry(text, "html" if page else "text", source=name, metadata={"file": name}), told, beside)


def _table(path: Path, name: str, kind: str, beside: str) -> Iterator[Entry | Lines | Fault]:
    if kind in rows.JSON:
        file, changed = str(path.resolve()), path.stat().st_mtime_ns
        for block in rows.blocks(path, LONGEST):
            lies = block.start >= 0
            yield Lines(path, name, beside, block, file if lies else "", changed if lies else 0)
        return
    for row in rows.rows(path, kind, LONGEST, COLUMNS, CONTENT_FIELDS):
        yield _entry(row, name, beside)


def _archive(path: Path, name: str, beside: str) -> Iterator[Entry | Fault]:
    told = _index(_index_file(path), "url")
    for number, page in enumerate(warc.pages(path, LONGEST), start=1):
        if isinstance(page, warc.Broken):
            yield Fault(f"{path}: byte {page.offset}", page.reason)
            continue
        metadata = {"file": name, "row": str(number), "headers": page.headers}
        form: Form = "html" if "html" in page.type else "text"
        entry = Entry(page.text, form, source=name, url=page.url, metadata={key: v for key, v in metadata.items() if v})
        yield _described(entry, told.get(page.url, {}), beside)


def _book(path: Path, name: str, beside: str) -> Iterator[Entry | Fault]:
    for number, chapter in enumerate(epub.chapters(path, LONGEST), start=1):
        if isinstance(chapter, epub.Missing):
            yield Fault(f"{path}: {chapter.place}", chapter.reason)
            continue
        metadata = {"file": name, "row": str(number), "title": chapter.title, "beside": beside}
        rights = licences.of_address(chapter.rights)
        yield Entry(
            chapter.page, "book", source=name, licence=rights, metadata={k: v for k, v in metadata.items() if v}
        )


def _entry(row: rows.Row, name: str, beside: str) -> Entry | Fault:
    if row.fault:
        return Fault(row.place, row.fault)
    metadata = {"file": name, "row": str(row.number)}
    if beside:
        metadata["beside"] = beside
    if isinstance(row.value, str):
        return Entry(row.value, "text", source=name, metadata=metadata)
    if not isinstance(row.value, dict):
        return Fault(row.place, f"{type(row.value).__name__}: write an object with a field {TEXT_FIELDS[0]!r}")
    value = cast(dict[str, Any], row.value)
    named, text = "", None
    for named in CONTENT_FIELDS:
        text = value.get(named)
        if text is not None:
            break
    else:
        named = next((name for name in CONTENT_FIELDS if name in value), None)
        why = f"{named}: found nothing: it should be text" if named else f"no field {TEXT_FIELDS[0]!r}"
        return Fault(row.place, why if named else f"{why}: found {', '.join(map(str, value)) or 'nothing'}")
    if isinstance(text, bytes):
        text = encodings.decode(text).text
    if not isinstance(text, str):
        return Fault(row.place, f"{named}: found {type(text).__name__}: it should be text")
    for key in KEPT_FIELDS:
        if isinstance(value.get(key), (str, int)):
            metadata[key] = str(value[key])
    inner = value.get("metadata")
    inner = _parsed(inner) if isinstance(inner, str) else inner
    if isinstance(inner, dict):
        known = cast(dict[Any, Any], inner)
        metadata = {str(key): str(one) for key, one in known.items() if one is not None} | metadata
    return Entry(
        content=text,
        form="html" if named in PAGE_FIELDS else "text",
        id=_said(value, "id"),
        source=_said(value, "source") or name,
        licence=_stated(value),
        url=_said(value, "url"),
        language=_said(value, "language") or _said(value, "lang"),
        metadata=metadata,
    )


def _stated(value: Mapping[str, Any]) -> str:
    """What a row says of its licence; where it has the field and leaves it empty, that is unknown."""
    fields = [name for name in LICENCE_FIELDS if name in value]
    if not fields:
        return ""
    said = next((value[name] for name in fields if value[name]), "")
    return licences.normal(str(said[0] if isinstance(said, list) and said else said))


def _said(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if found is None or isinstance(found, str):
        return found or ""
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else ""


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _described(entry: Entry, told: Mapping[str, Any], beside: str) -> Entry:
    """The entry with what an index says of it."""
    return Entry(
        content=entry.content,
        form=entry.form,
        id=_said(told, "id"),
        source=_said(told, "source") or entry.source,
        licence=_stated(told),
        url=entry.url or _said(told, "url"),
        language=_said(told, "language") or _said(told, "lang"),
        metadata=entry.metadata | ({"beside": beside} if beside else {}),
    )


def _licence(stated: str, own: str, card: terms.Card, beside: str) -> tuple[str, str]:
    """(licence, where it is stated)."""
    if stated:
        found, evidence = stated, "record"
    elif card.licence:
        found, evidence = licences.normal(card.licence), card.evidence or "card"
    elif beside:
        found, _, evidence = beside.partition(" ")
    else:
        found, evidence = "", ""
    if own and own != found:
        return licences.both(found, own), f"{evidence} and text" if evidence else "text"
    return found or licences.UNKNOWN, evidence or "nowhere"


def _readable(page: str, entry: Entry, extraction: Extraction) -> str:
    if entry.form == "book":
        return html.all_text(page)
    if extraction == "fast":
        return html.main_text(page)
    try:
        import trafilatura
    except ImportError:
        raise MissingExtraError("trafilatura", "precise", "extraction: precise") from None
    return trafilatura.extract(page, url=entry.url or None, output_format="markdown", include_comments=False) or ""


def _place(entry: Entry) -> str:
    row = entry.metadata.get("row")
    return f"{entry.metadata.get('file') or entry.source}{f': row {row}' if row else ''}"


def _index_file(path: Path) -> Path:
    """``pages.index.jsonl`` of ``pages.warc.gz``."""
    bare = path.with_suffix("") if path.suffix.lower() in compression.SUFFIXES else path
    return bare.with_suffix(".index.jsonl")


def _index(file: Path, key: str) -> Mapping[str, Any]:
    """What an index says, by the last part of ``file`` or by ``url``; nothing if there is none."""
    if not file.is_file():
        return {}
    return _read_index(file, key, file.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read_index(file: Path, key: str, changed: int) -> Mapping[str, Any]:
    del changed  # only there so that a file that was written anew is read anew
    found: dict[str, Any] = {}
    for row in rows.rows(file, ".jsonl", LONGEST):
        if isinstance(row.value, dict) and isinstance(row.value.get(key), str):
            value = cast(dict[str, Any], row.value)
            found[Path(value[key]).name if key == "file" else value[key]] = value
    return found


@lru_cache(maxsize=4096)
def _beside(folder: Path, top: Path) -> str:
    """``MIT LICENSE``: the licence that the nearest file of that kind states, up to the source's own folder."""
    licence, file = terms.licence_beside(folder, top)
    return f"{licence} {file}" if licence != licences.UNKNOWN else ""
