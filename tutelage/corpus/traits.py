"""What there is to be done about a text, found for many texts in one compiled pass over their bytes.

Most texts need nothing of most of what cleaning and masking can do. Each trait says that something may be there; only
then is a text looked at closely. A trait may be wrong where nothing is there, and never where something is. Of markup
the places are told too, for that is what is most often taken away.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tutelage.corpus import signs
from tutelage.corpus.digits import is_digit, is_letter, may_be_number
from tutelage.corpus.hashing import Bytes, Places, Texts, column, compiled
from tutelage.corpus.signs import (
    AT,
    COLON,
    COMMON,
    DIGIT,
    HAN,
    HANGUL,
    KANA,
    LATIN,
    LETTER,
    MARK,
    MISREAD,
    NEITHER,
    NEWLINE,
    NOTHING,
    OF_CONTROL,
    OF_FORMS,
    OF_LINE_ENDS,
    OTHER,
    RETURN,
    SCRIPT,
    SIMPLIFIED,
    TICK,
    TRADITIONAL,
    UNSEEN,
    WORDS,
    Marks,
    spread,
)  # fmt: skip

MARKUP, CONTROL, LINE_ENDS, TRAILING, BLANK, MOJIBAKE, LEFTOVER, FORMS = (1 << place for place in range(8))
"""FORMS: there may be characters that Unicode writes otherwise in its form NFC."""
NUMBER, ADDRESS, COLONS, SECRET = (1 << place for place in range(8, 12))

UNCLEAN = MARKUP | CONTROL | LINE_ENDS | TRAILING | BLANK | MOJIBAKE | LEFTOVER | FORMS
PERSONAL = NUMBER | ADDRESS | COLONS | SECRET


class Traits(NamedTuple):
    """Of each text."""

    sizes: npt.NDArray[np.int64]
    """Bytes in UTF-8."""
    flags: npt.NDArray[np.uint32]
    counts: npt.NDArray[np.int64]
    """(texts, 11)."""
    begins: npt.NDArray[np.int64]
    """Where the places of each text start; one more than there are texts."""
    places: npt.NDArray[np.uint32]
    """Characters at which markup may begin outside of code, and blocks of code that elements may hang in."""


def traits(texts: Texts, look_for: Marks) -> Traits:
    """The traits of texts."""
    text = column(texts)
    flags = np.zeros(len(text), np.uint32)
    counts = np.zeros((len(text), 11), np.int64)
    begins = np.zeros(len(text) + 1, np.int64)
    places = np.empty(len(text.data) // 2 + 1, np.uint32)
    tables = signs.tables(look_for)
    _pass(
        text.data, text.offsets, signs.asks(), signs.beyond(), signs.classes(), signs.words(), tables.lines,
        tables.shapes, tables.secrets, tables.threes, tables.tags, flags, counts, begins, places,
    )  # fmt: skip
    return Traits(np.diff(text.offsets), flags, counts, begins, places[: begins[-1]].copy())


@compiled
def _key(data: Bytes, start: int, end: int) -> int:
    """Where a word stands in a table of 65,536; words that fall together are both believed."""
    value = np.uint32(2166136261)
    for place in range(start, end):
        value = (value ^ np.uint32(data[place])) * np.uint32(16777619)
    return int(value & np.uint32(0xFFFF))


@compiled
def _is_markup(data: Bytes, i: int, end: int, tags: npt.NDArray[np.bool_]) -> bool:
    """Whether an element of HTML, a comment or an escaped character may begin here."""
    j = i + 1
    if data[i] == 93:
        return j + 1 < end and data[j] == 93 and data[j + 1] == 62
    if data[i] == 38:
        while j < end and j < i + 27 and (is_letter(data[j]) or is_digit(data[j]) or data[j] == 35):
            j += 1
        return j > i + 2 and j < end and data[j] == 59
    if j < end and data[j] == 33:
        return True
    if j < end and data[j] == 47:
        j += 1
        while j < end and (data[j] <= 32 or data[j] >= 128):
            j += 1
    first = j
    while j < end and j < first + 12 and (is_letter(data[j]) or is_digit(data[j])):
        j += 1
    return j > first and tags[_key(data, first, j)]


@compiled
def _code(data: Bytes, i: int, end: int, tags: npt.NDArray[np.bool_]) -> tuple[int, bool]:
    """Where the code ends that a back tick or tilde may open here, else here; and whether elements may hang in it."""
    tick, j = data[i], i + 1
    if j + 1 < end and data[j] == tick and data[j + 1] == tick:
        opened, hung = False, False
        j = i + 3
        while j < end and not (data[j] == tick and j + 2 < end and data[j + 1] == tick and data[j + 2] == tick):
            if data[j] == 60 and not opened:
                b = data[j - 1]
                opened = b > 127 or is_letter(b) or is_digit(b) or b in (95, 59, 41, 125, 93)
                opened = opened and _is_markup(data, j, end, tags)
            hung |= data[j] == 62 and j + 1 < end and data[j + 1] == 10
            j += 1
        return min(j + 3, end), opened and hung
    if tick == 96:
        while j < end and data[j] != 96 and data[j] != 10:
            j += 1
        if j < end and data[j] == 96 and j > i + 1:
            return j + 1, False
    return i, False


@compiled
def _blank(data: Bytes, i: int, end: int) -> int:
    """The bytes of the white space that begins here, or 0."""
    b = data[i]
    if b == 32 or b == 9:
        return 1
    if b == 0xC2 and i + 1 < end and data[i + 1] == 0xA0:
        return 2
    if (b == 0xE3 or b == 0xE2 or b == 0xE1) and i + 2 < end:
        code = ((b & 0x0F) << 12) | ((data[i + 1] & 0x3F) << 6) | (data[i + 2] & 0x3F)
        if code == 0x3000 or 0x2000 <= code <= 0x200A or code == 0x202F or code == 0x205F or code == 0x1680:
            return 3
    return 0


@compiled
def _is_leftover(
    data: Bytes, start: int, end: int, lines: npt.NDArray[np.bool_], shapes: npt.NDArray[np.bool_]
) -> bool:
    while start < end:
        size = _blank(data, start, end)
        if size == 0:
            break
        start += size
    while start < end and (data[end - 1] <= 32 or data[end - 1] >= 128):
        if _blank(data, end - 1, end) == 1:
            end -= 1
        elif end - start >= 2 and _blank(data, end - 2, end) == 2:
            end -= 2
        elif end - start >= 3 and _blank(data, end - 3, end) == 3:
            end -= 3
        else:
            break
    if start == end or end - start >= len(shapes):
        return False
    b = data[start]
    if not shapes[end - start, b | 32 if is_letter(b) else b]:
        return False
    value = np.uint32(2166136261)
    for place in range(start, end):
        b = data[place]
        value = (value ^ np.uint32(b | 32 if is_letter(b) else b)) * np.uint32(16777619)
    return lines[value & np.uint32(0xFFFF)]


@compiled
def _is_trailing(data: Bytes, line: int, i: int) -> bool:
    """Whether a line that ends here ends with white space that is taken away."""
    if i == line:
        return False
    b = data[i - 1]
    if b == 0x80:
        return i - line >= 3 and data[i - 3] == 0xE3 and data[i - 2] == 0x80
    return b == 32 or b == 9 or (b == 0xA0 and i - line >= 2 and data[i - 2] == 0xC2)


@compiled
def _begins(data: Bytes, i: int, end: int, secrets: Bytes) -> bool:
    """Whether one of some words begins here. They stand in rows, with zeros behind."""
    for row in range(len(secrets)):
        j = 0
        while j < secrets.shape[1] and secrets[row, j] and i + j < end and data[i + j] == secrets[row, j]:
            j += 1
        if j == secrets.shape[1] or secrets[row, j] == 0:
            return True
    return False


@compiled
def _pass(
    data: Bytes, offsets: Places, asks: Bytes, beyond: Bytes, kinds: Bytes, words: npt.NDArray[np.int64],
    lines: npt.NDArray[np.bool_], shapes: npt.NDArray[np.bool_], secrets: Bytes, threes: npt.NDArray[np.bool_],
    tags: npt.NDArray[np.bool_], flags: npt.NDArray[np.uint32], counts: npt.NDArray[np.int64],
    begins: npt.NDArray[np.int64], places: npt.NDArray[np.uint32],
) -> None:  # fmt: skip
    taken = 0
    tally = np.zeros(8, np.int64)
    for number in range(len(offsets) - 1):
        start, end = offsets[number], offsets[number + 1]
        tally[:] = 0
        found, latin, han, known, simplified, traditional, misread, seen, common = 0, 0, 0, 0, 0, 0, 0, 0, 0
        colons, newlines, more = 0, 0, 0
        line = code = i = start
        while i < end:
            b = data[i]
            if b < 128:
                ask = asks[b]
                if ask == LETTER:
                    j = i + 1
                    while j < end and is_letter(data[j]):
                        j += 1
                    latin += j - i
                    seen += 1
                    if j - i <= 4:
                        word = np.int64(0)
                        for place in range(i, j):
                            word = (word << 8) | np.int64(data[place] | 32)
                        common += words[spread(word)] == word
                    if i + 3 <= end:
                        three = (np.int64(b) << 16) | (np.int64(data[i + 1]) << 8) | np.int64(data[i + 2])
                        if threes[spread(three)] and _begins(data, i, end, secrets):
                            found |= SECRET
                    i = j
                    continue
                if ask == NOTHING:
                    i += 1
                    continue
                if ask == DIGIT:
                    if not found & NUMBER and may_be_number(data, start, i, end):
                        found |= NUMBER
                    i += 1
                    while i < end and is_digit(data[i]):
                        i += 1
                    continue
                if ask == NEWLINE:
                    newlines = newlines + 1 if i == line else 1
                    if newlines >= 4:
                        found |= BLANK
                    elif i > line:
                        if _is_trailing(data, line, i):
                            found |= TRAILING
                        if not found & LEFTOVER and _is_leftover(data, line, i, lines, shapes):
                            found |= LEFTOVER
                    line = i + 1
                elif ask == MARK:
                    if i >= code and _is_markup(data, i, end, tags):
                        found |= MARKUP
                        places[taken] = i - start - more
                        taken += 1
                elif ask == TICK:
                    if i >= code:
                        code, hung = _code(data, i, end, tags)
                        if hung:
                            found |= MARKUP
                            places[taken] = i - start - more
                            taken += 1
                elif ask == COLON:
                    j = i - 1
                    while j >= start and j > i - 6 and (is_letter(data[j]) or is_digit(data[j])):
                        j -= 1
                    if colons and j >= start and data[j] == 58:
                        colons += 1
                        if colons >= 3:
                            found |= COLONS
                    else:
                        colons = 1 if i >= start + 4 and 50 <= data[i - 4] <= 51 else 0
                elif ask == AT:
                    found |= ADDRESS
                elif ask == RETURN:
                    found |= LINE_ENDS
                elif ask == UNSEEN:
                    found |= CONTROL
                i += 1
                continue
            if 0xE4 <= b <= 0xE9 and i + 2 < end:
                place = (np.int64(b & 0x0F) << 12) | (np.int64(data[i + 1] & 0x3F) << 6) | np.int64(data[i + 2] & 0x3F)
                i += 3
                more += 2
                han += 1
                if place >= 0x4E00:
                    kind = kinds[place - 0x4E00]
                    known += 1
                    simplified += kind & 1
                    traditional += (kind >> 1) & 1
                    misread += kind >> 2
                continue
            length = 2 if b < 0xE0 else 3 if b < 0xF0 else 4
            point = np.int64(b & (0x1F if length == 2 else 0x0F if length == 3 else 0x07))
            for place in range(i + 1, min(i + length, end)):
                point = (point << 6) | (data[place] & 0x3F)
            i += length
            more += length - 1
            if point < 0x10000:
                kind = beyond[point]
                tally[kind & SCRIPT] += 1
                if kind > SCRIPT:
                    if kind & OF_CONTROL:
                        found |= CONTROL
                    if kind & OF_LINE_ENDS:
                        found |= LINE_ENDS
                    if kind & OF_FORMS:
                        found |= FORMS
                if 0xC0 <= point <= 0xF4 and i < end:
                    after = data[i]
                    if after == 0xC2 or after == 0xC5 or after == 0xC6 or after == 0xCB or after == 0xE2:
                        found |= MOJIBAKE
            elif 0x20000 <= point < 0x30000:
                han += 1
                found |= FORMS
            elif not 0x1F000 <= point < 0x1FB00:
                found |= FORMS
        if i > line and not found & LEFTOVER and _is_leftover(data, line, i, lines, shapes):
            found |= LEFTOVER
        han += tally[1 + HAN]
        if misread * 12 > han:
            found |= MOJIBAKE
        row = counts[number]
        row[LATIN], row[HAN], row[KANA] = latin + tally[1 + LATIN], han, tally[1 + KANA]
        row[HANGUL], row[OTHER], row[WORDS], row[COMMON] = tally[1 + HANGUL], tally[1 + OTHER], seen, common
        row[NEITHER] = known - simplified - traditional
        row[SIMPLIFIED], row[TRADITIONAL], row[MISREAD] = simplified, traditional, misread
        flags[number] = found
        begins[number + 1] = taken
