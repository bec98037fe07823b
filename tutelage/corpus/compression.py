"""The bytes of a file, plain or compressed, a little at a time: what a file unpacks to is never all in memory.

A file that is cut off gives all that can be read of it before it is called damaged.
"""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from tutelage.corpus import positions
from tutelage.errors import RecordError

SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}
"""What a compressed file's name ends in, and the name of the format."""

STEP = 1 << 18
"""Bytes that are read or unpacked at a time."""

TINY = 1 << 10
"""Bytes of zstd that are unpacked at a time: four of them can stand for 128 KiB, and there is no other bound."""


def chunks(path: Path) -> Iterator[bytes]:
    """The unpacked content, in pieces of about `STEP` bytes.

    Raises:
        RecordError: the file is cut off or damaged, after all that could be read of it.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    with path.open("rb") as file, positions.known(path, file.tell):
        if kind is None:
            while piece := file.read(STEP):
                yield piece
        else:
            yield from _unpacked(file, kind, path)


def whole(path: Path, most: int) -> bytes:
    """All of a file's unpacked content.

    Raises:
        RecordError: it is damaged, or more than ``most`` bytes.
    """
    pieces: list[bytes] = []
    size = 0
    for piece in chunks(path):
        size += len(piece)
        if size > most:
            raise RecordError(f"{path}: unpacks to more than {most >> 20} MiB: cut it into smaller files")
        pieces.append(piece)
    return b"".join(pieces)


def stream(path: Path) -> io.BufferedReader:
    """The same as a file to read from."""
    return io.BufferedReader(_Stream(chunks(path)), STEP)


class _Stream(io.RawIOBase):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _unpacked(file: Any, kind: str, path: Path) -> Iterator[bytes]:
    """One member after another: tools that pack in parallel write many."""
    packed = b""
    while packed or (packed := file.read(STEP)):
        member = _member(kind)
        try:
            packed = yield from member.unpack(file, packed)
        except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError, member.fault) as error:
            known = "cut off" if isinstance(error, EOFError) else f"damaged: {error}"
            raise RecordError(f"{path}: {kind} data that is {known}: fetch it again") from None
        if kind in ("gzip", "xz") and not packed.strip(b"\0"):
            packed = b""  # padding


class _Member:
    """One member of a compressed file."""

    def __init__(self, unpacker: Any, bounded: bool, fault: type[Exception] = OSError) -> None:
        self._unpacker = unpacker
        self._bounded = bounded
        self.fault = fault
        """What the library raises besides the usual."""

    def unpack(self, file: Any, packed: bytes) -> Generator[bytes, None, bytes]:
        """Yields what it unpacks to; returns the bytes that follow it."""
        unpacker = self._unpacker
        while True:
            if self._bounded:
                yield from self._pieces(packed)
            else:
                for start in range(0, len(packed), TINY):
                    piece = unpacker.decompress(packed[start : start + TINY])
                    if piece:
                        yield piece
                    if unpacker.eof:
                        return unpacker.unused_data + packed[start + TINY :]
            if unpacker.eof:
                return unpacker.unused_data
            packed = file.read(STEP)
            if not packed:
                raise EOFError

    def _pieces(self, packed: bytes) -> Iterator[bytes]:
        unpacker = self._unpacker
        while piece := unpacker.decompress(packed, STEP):
            yield piece
            packed = getattr(unpacker, "unconsumed_tail", b"")
            if unpacker.eof:
                return


def _member(kind: str) -> _Member:
    if kind == "gzip":
        return _Member(zlib.decompressobj(wbits=31), True)
    if kind == "xz":
        return _Member(lzma.LZMADecompressor(), True)
    if kind == "bzip2":
        import bz2

        return _Member(bz2.BZ2Decompressor(), True)
    import zstandard

    return _Member(zstandard.ZstdDecompressor().decompressobj(), False, zstandard.ZstdError)
