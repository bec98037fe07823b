"""Where the lines and sentences of a text end, and which are passages: long enough to be looked for elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.corpus.edges import framed, line_start
from tutelage.corpus.hashing import Hashes, Places, Text, chain, compiled, folded, units, widest

LETTERS = 60
"""Bytes of letters, without signs, digits and spaces, of the shortest passage: some twelve English words, twenty
Chinese characters."""
_FULL = 60
"""Bytes of a line that may have been broken only because it was full."""

Rows = npt.NDArray[np.int32]


def found_in(text: Text) -> tuple[Hashes, Rows, Places, Places]:
    """Key, row, first and last byte of every passage."""
    room = 2 * (int(text.offsets[-1] - text.offsets[0]) // LETTERS) + 1
    keys, rows = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.int32)
    starts, ends = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    count = _collect(text.data, text.offsets, folded(digits=False), keys, rows, starts, ends)
    return keys[:count], rows[:count], starts[:count], ends[:count]


@compiled
def part(data: Any, start: Any, count: Any, starts: Any, ends: Any, breaks: Any) -> None:
    """What parts a unit from the one before: 2 the end of a line, 1 the end of a sentence.

    A line that is broken only because it was full goes on in the next one: it is long, no sentence ends with it, and
    the next is not blank and begins with no mark of a list, a heading, a quotation or a table.
    """
    begun = start
    for unit in range(1, count):
        kind, ended, broken = 0, False, np.int64(-1)
        place, stop = start + ends[unit - 1], start + starts[unit]
        while place < stop:
            byte = data[place]
            if byte == 10:
                if broken >= 0 or ended or place - begun < _FULL:
                    kind = 2
                broken, begun = place, place + 1
            elif byte == 46 or byte == 33 or byte == 63:  # . ! ?
                ended = True
            elif byte == 32 or byte == 9 or byte == 13:
                if ended and kind == 0:
                    kind = 1
            elif byte == 0xE3 and place + 2 < stop and data[place + 1] == 0x80 and data[place + 2] == 0x82:
                kind, ended = max(kind, 1), True
            elif byte == 0xEF and place + 2 < stop and data[place + 1] == 0xBC:
                last = data[place + 2]
                if last == 0x81 or last == 0x9F or last == 0x9B:  # full width ! ? ;
                    kind, ended = max(kind, 1), True
            if broken >= 0 and byte > 32:
                following = data[place + 1]
                listed = (byte == 45 or byte == 42 or byte == 43) and (following == 32 or following == byte)  # - * +
                numbered = 48 <= byte <= 57 and (following == 46 or following == 41 or 48 <= following <= 57)
                if listed or numbered or byte in (35, 58, 61, 62, 96, 124, 126) or byte == 0xE2:  # # : = > ` | ~
                    kind = 2
            place += 1
        breaks[unit] = kind


@compiled
def _collect(data: Any, offsets: Any, table: Any, keys: Any, rows: Any, froms: Any, tos: Any) -> Any:
    texts = len(offsets) - 1
    room = widest(offsets, 0, texts) + 1
    hashes, breaks = np.empty(room, dtype=np.uint64), np.empty(room + 1, dtype=np.uint8)
    starts, ends = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    found = 0
    for row in range(texts):
        start = offsets[row]
        count = units(data, start, offsets[row + 1], table, hashes, starts, ends)
        part(data, start, count, starts, ends, breaks)
        breaks[count] = 2
        line, sentence, line_letters, letters = 0, 0, 0, 0
        cells = False
        for unit in range(count):
            if unit == line:
                cells = framed(data, line_start(data, start, start + starts[unit]))
            size = ends[unit] - starts[unit]
            line_letters, letters = line_letters + size, letters + size
            kind = breaks[unit + 1]
            if kind == 0:
                continue
            if letters >= LETTERS and (sentence > line or kind == 1) and not cells:
                keys[found], rows[found] = chain(hashes, sentence, unit + 1), row
                froms[found], tos[found] = start + starts[sentence], start + ends[unit]
                found += 1
            if kind == 2:
                if line_letters >= LETTERS and not cells:
                    keys[found], rows[found] = chain(hashes, line, unit + 1), row
                    froms[found], tos[found] = start + starts[line], start + ends[unit]
                    found += 1
                line, line_letters = unit + 1, 0
            sentence, letters = unit + 1, 0
    return found
