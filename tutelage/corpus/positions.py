"""How far the files are read that are read at this moment: for a bar. Packed ones are measured as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path

_read: dict[Path, Callable[[], int]] = {}


@contextlib.contextmanager
def known(path: Path, read: Callable[[], int]) -> Generator[None]:
    """As long as it lasts, ``read`` says how many bytes of the file were read."""
    _read[path] = read
    try:
        yield
    finally:
        _read.pop(path, None)


def of(path: Path, size: int) -> int:
    """How many of a file's bytes were read; all of them if nobody reads it any more."""
    return min(size, _read[path]()) if path in _read else size
