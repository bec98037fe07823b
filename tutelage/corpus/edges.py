"""Taking a passage out of a text so that what is left keeps its lines, its paragraphs and its pictures."""

from __future__ import annotations

import functools
import unicodedata
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus.hashing import Places, Text, compiled

_SPACE, _LETTER, _ENDING, _OPENING, _CLOSING, _OTHER, _PICTURE = range(7)


@functools.cache
def sign_table() -> npt.NDArray[np.uint8]:
    """(65537,): what kind of sign each character of the basic plane is; the last stands for all others."""
    table = np.full(0x10001, _PICTURE, dtype=np.uint8)
    for code in range(0x10000):
        character = chr(code)
        kind = unicodedata.category(character)
        if kind[0] in "ZC":
            table[code] = _SPACE
        elif kind[0] in "LNM":
            table[code] = _LETTER
        elif character in ".!?;。！？；…":
            table[code] = _ENDING
        elif kind in ("Ps", "Pi"):
            table[code] = _OPENING
        elif kind in ("Pe", "Pf"):
            table[code] = _CLOSING
        elif kind != "So":
            table[code] = _OTHER
    return table


def without(text: Text, starts: Places, ends: Places, trimmed: bool = False) -> pa.LargeStringArray:
    """The texts without some stretches of their bytes, which may overlap; each lies within one text.

    Args:
        trimmed: whether a text that loses something also loses the line breaks at its ends.
    """
    low, high = _apart(starts, ends)
    if trimmed and len(low):
        more = np.empty((2, 2 * len(low)), np.int64)
        count = _breaks(text.data, text.offsets, low, high, *more)
        low, high = _apart(np.append(low, more[0, :count]), np.append(high, more[1, :count]))
    first, last = text.offsets[:1], text.offsets[-1:]
    kept = zip(np.concatenate((first, high)).tolist(), np.concatenate((low, last)).tolist(), strict=True)
    data = memoryview(cast("Any", np.ascontiguousarray(text.data)))
    gone = np.concatenate(([0], np.cumsum(high - low)))
    offsets = text.offsets - gone[np.searchsorted(high, text.offsets, side="right")] - first
    packed = b"".join(data[begin:end] for begin, end in kept)
    return pa.LargeStringArray.from_buffers(
        len(text), pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(packed)
    )


def _apart(starts: Places, ends: Places) -> tuple[Places, Places]:
    """The same stretches in order, and none over another."""
    order = np.argsort(starts, kind="stable")
    low = starts[order]
    high = np.maximum.accumulate(ends[order]) if len(order) else ends
    low = np.maximum(low, np.concatenate((low[:1], high[:-1])))
    some = low < high
    return low[some], high[some]


@compiled
def _breaks(data: Any, offsets: Any, low: Any, high: Any, starts: Any, ends: Any) -> Any:
    """From where to where each text that loses something holds nothing but line breaks and what it loses, at its start
    and at its end; gives how many such places."""
    found, first, row = 0, 0, np.searchsorted(offsets, low[0], side="right") - 1
    while first < len(low):
        while offsets[row + 1] <= low[first]:
            row += 1
        start, end = offsets[row], offsets[row + 1]
        last = first
        while last < len(low) and low[last] < end:
            last += 1
        place, gone = start, first
        while place < end and (data[place] == 10 or (gone < last and low[gone] == place)):
            if gone < last and low[gone] == place:
                place, gone = high[gone], gone + 1
            else:
                place += 1
        starts[found], ends[found] = start, place
        tail, gone = end, last - 1
        while tail > place and (data[tail - 1] == 10 or (gone >= first and high[gone] == tail)):
            if gone >= first and high[gone] == tail:
                tail, gone = low[gone], gone - 1
            else:
                tail -= 1
        starts[found + 1], ends[found + 1] = tail, end
        found, first = found + 2, last
    return found


@compiled
def line_start(data: Any, start: Any, place: Any) -> Any:
    """Where the line around a place begins."""
    while place > start and data[place - 1] != 10:
        place -= 1
    return place


@compiled
def framed(data: Any, place: Any) -> Any:
    """Whether the line that begins at a place is a heading or a row of a table: without it the rest means less."""
    return data[place] == 124 or (data[place] == 35 and (data[place + 1] == 35 or data[place + 1] == 32))


@compiled
def _code(data: Any, place: Any) -> Any:
    """The character that begins at a place; 0x10000 for all beyond the basic plane."""
    byte = np.int64(data[place])
    if byte < 0x80:
        return byte
    if byte < 0xE0:
        return ((byte & 31) << 6) | np.int64(data[place + 1] & 63)
    if byte < 0xF0:
        return ((byte & 15) << 12) | (np.int64(data[place + 1] & 63) << 6) | np.int64(data[place + 2] & 63)
    return 0x10000


@compiled
def pictures(data: Any, start: Any, end: Any, signs: Any) -> Any:
    """Whether there is an emoji or another picture, which is never left out with what stands beside it."""
    place = start
    while place < end and (data[place] < 0xE2 or signs[_code(data, place)] != _PICTURE):
        place += 1
    return place < end


@compiled
def bare(data: Any, start: Any, end: Any, signs: Any) -> Any:
    """Whether there are only signs and spaces, neither letters nor pictures."""
    place = start
    while place < end:
        code = _code(data, place)
        if signs[code] == _LETTER or signs[code] == _PICTURE:
            return False
        place += 1 if code < 0x80 else 2 if code < 0x800 else 3
    return True


@compiled
def _blank(data: Any, place: Any, end: Any) -> Any:
    """The place behind the blank line that begins here, or the place itself if the line is not blank."""
    at = place
    while at < end and (data[at] == 32 or data[at] == 9 or data[at] == 13):
        at += 1
    return at + 1 if at < end and data[at] == 10 else place


@compiled
def whole_line(data: Any, start: Any, end: Any, first: Any, last: Any) -> Any:
    """A line with its line break, from a place in it to another, and of two blank lines around it the second."""
    while last < end and data[last] != 10:
        last += 1
    if last == end:  # nothing follows: the break before goes
        while first > start and data[first - 1] <= 32:
            first -= 1
        return first, last
    last += 1
    before = first
    while before > start and (data[before - 1] == 32 or data[before - 1] == 9 or data[before - 1] == 13):
        before -= 1
    if before == start or (before - start >= 2 and data[before - 1] == 10 and _was_blank(data, start, before - 1)):
        last = _blank(data, last, end)
    return first, last


@compiled
def _was_blank(data: Any, start: Any, place: Any) -> Any:
    """Whether the line that ends at a place is blank."""
    while place > start:
        place -= 1
        if data[place] == 10:
            return True
        if data[place] > 32:
            return False
    return True


@compiled
def stretch(data: Any, low: Any, high: Any, head: Any, tail: Any, signs: Any) -> Any:
    """The bytes to leave out for a passage from ``low`` to ``high`` in the line from ``head`` to ``tail``.

    With it go the signs that touch it: those before it back to a space or the end of a sentence, those behind it up to
    a space, an opening bracket or the end of a Chinese sentence; and the spaces that follow.
    """
    while low > head:
        before = low - 1
        while before > head and data[before] & 0xC0 == 0x80:
            before -= 1
        if signs[_code(data, before)] not in (_OPENING, _OTHER):
            break
        low = before
    ended = False
    while high < tail:
        code = _code(data, high)
        kind = signs[code]
        if kind not in (_ENDING, _CLOSING, _OTHER) or (ended and kind != _CLOSING):
            break
        ended = ended or (kind == _ENDING and code >= 0x3000)
        high += 1 if code < 0x80 else 2 if code < 0x800 else 3
    while high < tail and (data[high] == 32 or data[high] == 9):
        high += 1
    return low, high
