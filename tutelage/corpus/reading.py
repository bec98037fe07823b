"""All records of a run's sources in a row, as cheap to read as can be: what costs time is done by those who judge."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from tutelage.corpus import files, parts, positions, python_docs, sources, terms
from tutelage.corpus.rows import Block
from tutelage.errors import RecordError, SettingsError
from tutelage.run import Progress, write_json


def listings(given: Sequence[str], tests: Sequence[Path]) -> dict[str, files.Listing]:
    """The files of every source that is a path, before any work is done. Test sets are no sources.

    Raises:
        RecordError: nothing is there, or nothing that can be read.
        SettingsError: no source is given.
    """
    if not given:
        raise SettingsError(f"prepare: sources: empty: give {files.PYTHON}, or the path of a file or folder")
    asked = {test.resolve() for test in tests}
    found: dict[str, files.Listing] = {}
    for source in dict.fromkeys(given):
        if source == files.PYTHON:
            continue
        listing = files.listing(source)
        read = tuple((path, name) for path, name in listing.read if path.resolve() not in asked)
        if not read:
            raise RecordError(f"{source}: holds nothing but test sets: give texts too")
        found[source] = files.Listing(read, listing.unread)
    return found


def cards(given: dict[str, files.Listing], licence: str) -> tuple[terms.Card, ...]:
    """The card of each source: the one that lies beside it, else the one that the recipe states. The last is for none.

    Raises:
        RecordError: a card cannot be read.
        SettingsError: the licence is none.
    """
    stated = terms.card({"licence": licence} if licence else {}, "prepare: licence")
    return (*(terms.card_of(Path(source)) or stated for source in given), terms.Card())


def forget_others(root: Path, listed: dict[str, files.Listing]) -> None:
    """Throws away the parts of an earlier run if it read other files, for a pattern may fit others now, or cut them
    otherwise."""
    known = root / "files.json"
    paths = [
        [name, str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]
        for one in listed.values()
        for path, name in one.read
    ]
    found = {"files": paths, "parts": [parts.PART, parts.FIRST, parts.ALIKE]}
    if known.exists() and json.loads(known.read_text(encoding="utf-8")) == found:
        return
    shutil.rmtree(root, ignore_errors=True)
    write_json(known, found)


class Meter:
    """How many bytes of all files were read, packed ones as they are."""

    def __init__(self, listed: dict[str, files.Listing]) -> None:
        self._sizes = [(path, path.stat().st_size) for one in listed.values() for path, _ in one.read]
        self.total = sum(size for _, size in self._sizes)
        self._files = self._bytes = 0

    def pass_file(self) -> None:
        """One more file was read."""
        self._bytes += self._sizes[self._files][1]
        self._files += 1

    def read(self) -> int:
        """The bytes up to what was given last."""
        if self._files == len(self._sizes):
            return self._bytes
        path, size = self._sizes[self._files]
        return self._bytes + positions.of(path, size)


def rows(
    given: Sequence[str],
    listed: dict[str, files.Listing],
    progress: Progress,
    told: dict[str, Any],
    carry: bool = False,
    meter: Meter | None = None,
) -> Iterator[parts.Row]:
    """Every record of every source, in order; ``told`` gets what was not read, and the packages.

    carry: whether those who judge may not see the files, so that all content must come along.
    meter: is kept up to date.
    """
    unread = sum((Counter(dict(listing.unread)) for listing in listed.values()), Counter[str]())
    told["unread"] = dict(sorted(unread.items()))
    told["packages"] = []
    places = {source: place for place, source in enumerate(listed)}
    for source in dict.fromkeys(given):
        if source == files.PYTHON:
            yield from _python(progress, told, len(places))
            continue
        for path, name in listed[source].read:
            for piece in sources.pieces(path, name):
                yield _row(piece, places[source], carry)
            if meter:
                meter.pass_file()


def entries(row: parts.Row) -> Iterator[sources.Entry | sources.Fault]:
    """What is in a row that needs extraction still.

    Raises:
        RecordError: it is to be read where it lies, and was changed since.
    """
    told = dict(row.metadata or {})
    if row.form == parts.LINES:
        beside, changed = told.pop("beside"), int(told.pop("changed"))
        block = Block(cast(bytes, row.content), **{name: int(value) for name, value in told.items()})
        yield from sources.unfolded(sources.Lines(Path(row.source), row.id, beside, block, row.url, changed))
    else:
        form, content = cast(sources.Form, row.form), cast(str, row.content)
        yield sources.Entry(content, form, row.id, row.source, row.licence, row.url, row.language, told)


def _python(progress: Progress, told: dict[str, Any], card: int) -> Iterator[parts.Row]:
    documents, packages = python_docs.documents(progress)
    told["packages"] = [
        {"name": f"{one.name} {one.version}", "licence": one.licence, "stated": one.stated} for one in packages
    ]
    for one in documents:
        yield parts.Row(
            one.text, parts.READY, one.id, one.source, one.licence, "", one.language, dict(one.metadata), card
        )


def _row(piece: sources.Entry | sources.Lines | sources.Fault, card: int, carry: bool) -> parts.Row:
    if isinstance(piece, sources.Fault):
        return parts.Row(piece.reason, parts.FAULT, source=piece.place)
    if isinstance(piece, sources.Lines):
        content, block = piece.block.content if carry or not piece.file else b"", piece.block._asdict()
        told = {name: str(value) for name, value in block.items() if name != "content"}
        told |= {"beside": piece.beside, "changed": str(piece.changed)}
        return parts.Row(
            content, parts.LINES, piece.name, str(piece.path), url=piece.file, metadata=told, card=card,
            size=piece.block.size, records=piece.block.records,
        )  # fmt: skip
    return parts.Row(
        piece.content,
        piece.form,
        piece.id,
        piece.source,
        piece.licence,
        piece.url,
        piece.language,
        piece.metadata,
        card,
    )
