"""Web archives: the pages in a WARC file, one after another.

A record whose length is wrong is left out, and reading goes on at the next one that begins like a record.

Source: ISO 28500:2017, WARC 1.1, sections 4 to 6.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.corpus import compression
from tutelage.corpus.encodings import decode_page
from tutelage.errors import RecordError

LONGEST_HEADER = 1 << 16
PAGES = ("text/html", "application/xhtml+xml", "text/plain", "text/markdown")
"""Types of content that are text to read."""
_BEGINS = b"WARC/1."


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was fetched."""

    url: str
    id: str
    text: str
    """As it was sent, with its markup, decoded."""
    type: str
    headers: str
    """``X-Robots-Tag`` and ``TDM-Reservation``, one a line."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be read."""

    offset: int
    """Where it begins, in unpacked bytes."""
    reason: str


def pages(path: Path, longest: int) -> Iterator[Page | Broken]:
    """The pages of a file, plain or compressed; what is no page, such as requests and pictures, is passed over.

    longest: bytes; a longer record is called broken.

    Raises:
        RecordError: the file is cut off or damaged, after all that could be read of it.
    """
    reader = _Reader(path)
    if not reader.fill(len(_BEGINS)):
        return
    while reader.find():
        start = reader.offset
        header = reader.header()
        length = _length(header)
        if length is None:
            yield Broken(start, "a record without its length")
            continue
        if length > longest:
            yield Broken(start, f"a record of {length >> 20} MiB: the most is {longest >> 20}")
            reader.skip(length)
            continue
        body = reader.take(length)
        if len(body) < length and reader.damaged is not None:
            break
        if len(body) < length or not reader.at_end_of_record():
            # What was taken belongs to other records too: they are looked for in it.
            reader.give_back(body)
            yield Broken(start, f"its length is said to be {length}, which is not where the next record begins")
            continue
        try:
            page = _page(header, body)
        except (OSError, ValueError, RuntimeError) as error:
            yield Broken(start, f"broken HTTP: {' '.join(str(error).split())[:80]}")
            continue
        if page is not None:
            yield page
    if reader.damaged is not None:
        raise reader.damaged


class _Reader:
    """Unpacked bytes that can be given back."""

    def __init__(self, path: Path) -> None:
        self._pieces = compression.chunks(path)
        self._held = bytearray()
        self.offset = 0
        self.damaged: RecordError | None = None

    def fill(self, size: int) -> bool:
        """Whether so many bytes are there."""
        while len(self._held) < size and self.damaged is None:
            try:
                piece = next(self._pieces, None)
            except RecordError as error:
                self.damaged = error
                break
            if piece is None:
                break
            self._held += piece
        return len(self._held) >= size

    def find(self) -> bool:
        """Goes on to where the next record begins."""
        if self._held.startswith(_BEGINS):
            return True
        while (at := self._held.find(b"\n" + _BEGINS)) < 0:
            self._drop(max(0, len(self._held) - len(_BEGINS)))
            if self._held.startswith(_BEGINS):
                self._drop(1)  # in the middle of a line
            if not self.fill(len(self._held) + 1):
                return False
        self._drop(at + 1)
        return True

    def header(self) -> bytes:
        """The header with its empty line, or what there is of it."""
        size = 0
        while (at := self._held.find(b"\r\n\r\n", max(0, size - 3), LONGEST_HEADER)) < 0:
            size = len(self._held)
            if size >= LONGEST_HEADER or not self.fill(size + 1):
                return self.take(min(len(_BEGINS), size))
        return self.take(at + 4)

    def take(self, size: int) -> bytes:
        self.fill(size)
        taken = bytes(self._held[:size])
        self._drop(len(taken))
        return taken

    def skip(self, size: int) -> None:
        while size:
            self.fill(1)
            step = min(size, len(self._held))
            if not step:
                return
            self._drop(step)
            size -= step

    def give_back(self, body: bytes) -> None:
        self._held[:0] = body
        self.offset -= len(body)

    def at_end_of_record(self) -> bool:
        """Whether a record ends here: two line ends, and then another record or nothing."""
        self.fill(4 + len(_BEGINS))
        if not self._held:
            return self.damaged is None
        rest = bytes(self._held[: 4 + len(_BEGINS)]).lstrip(b"\r\n")
        return not rest or rest.startswith(_BEGINS[: len(rest)])

    def _drop(self, size: int) -> None:
        del self._held[:size]
        self.offset += size


def _length(header: bytes) -> int | None:
    for line in header.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return None


def _page(header: bytes, body: bytes) -> Page | None:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    wanted = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
    records = ArchiveIterator(
        io.BytesIO(header + body), record_types=wanted, parse_http=True, auto_decode="all", stream_detect=False
    )
    record: Any = next(iter(records), None)
    if record is None:
        return None
    http = record.http_headers
    if http is not None and http.status_code is not None and not 200 <= http.status_code < 300:
        return None
    kind = str((http.get("Content-Type") if http else record.headers.get("Content-Type")) or "text/html")
    type, _, parameters = kind.partition(";")
    type = type.strip().lower()
    if type not in PAGES:
        return None
    content = record.reader.read()
    charset = parameters.rpartition("charset=")[2].strip(" \"'") if "charset=" in parameters else ""
    told = [f"{name}: {http.get(name)}" for name in ("X-Robots-Tag", "TDM-Reservation") if http and http.get(name)]
    return Page(
        url=str(record.headers.get("WARC-Target-URI") or "").strip("<>"),
        id=str(record.headers.get("WARC-Record-ID") or "").strip("<>"),
        text=decode_page(content, charset).text,
        type=type,
        headers="\n".join(told),
    )
