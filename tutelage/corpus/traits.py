"""What there is to be done about a text, found for many texts in one compiled pass over their bytes.

Most texts need nothing of most of what cleaning and masking can do. Each trait says that something may be there; only
then is a text looked at closely. A trait may be wrong where nothing is there, and never where something is.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tutelage.corpus.hashing import Bytes, Places, Texts, column, compiled

MARKUP, CONTROL, LINE_ENDS, TRAILING, BLANK, MOJIBAKE, LEFTOVER = (1 << place for place in range(7))
NUMBER, ADDRESS, COLONS, SECRET = (1 << place for place in range(8, 12))
BEYOND = 1 << 16
"""There is a character beyond ASCII."""

UNCLEAN = MARKUP | CONTROL | LINE_ENDS | TRAILING | BLANK | MOJIBAKE | LEFTOVER
PERSONAL = NUMBER | ADDRESS | COLONS | SECRET

LATIN, HAN, KANA, HANGUL, OTHER, WORDS, COMMON = range(7)
"""What is counted: characters of scripts; words of Latin letters, and how many of them are common English ones."""
NEITHER, SIMPLIFIED, TRADITIONAL, MISREAD = range(7, 11)
"""Characters of Han that both ways of writing Chinese have, that one alone has, or that UTF-8 read as GBK gives."""

FUNCTION_WORDS = ("the", "of", "and", "to", "is", "in", "that", "for", "it", "this", "with", "are", "was", "you", "be")
_MISREAD = "锛銆鐨鏄涓浜鍦鏈"


class Marks(NamedTuple):
    """What is looked for, beside what is the same for everybody."""

    leftovers: frozenset[str]
    """Lines in lower case."""
    secrets: frozenset[str]
    """What a word may begin with; three ASCII characters are looked at."""
    tags: frozenset[str]
    """Names of elements, in the case that they are written in."""


class Traits(NamedTuple):
    """Of each text."""

    flags: npt.NDArray[np.uint32]
    counts: npt.NDArray[np.int64]
    """(texts, 11)."""


def traits(texts: Texts, look_for: Marks) -> Traits:
    """The traits of texts."""
    text = column(texts)
    flags = np.zeros(len(text), np.uint32)
    counts = np.zeros((len(text), 11), np.int64)
    tables = _tables(look_for)
    _pass(
        text.data,
        text.offsets,
        flags,
        counts,
        classes(),
        _words(),
        tables.lines,
        tables.longest,
        tables.secrets,
        tables.tags,
    )
    return Traits(flags, counts)


@compiled
def _is_letter(b: Any) -> Any:
    return np.uint8((b | 32) - 97) < 26


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
    if data[i] == 38:
        while j < end and j < i + 27 and (_is_letter(data[j]) or 48 <= data[j] <= 57 or data[j] == 35):
            j += 1
        return j > i + 2 and j < end and data[j] == 59
    if j < end and data[j] == 33:
        return True
    if j < end and data[j] == 47:
        j += 1
        while j < end and data[j] == 32:
            j += 1
    first = j
    while j < end and j < first + 12 and (_is_letter(data[j]) or 48 <= data[j] <= 57):
        j += 1
    return j > first and tags[_key(data, first, j)]


@compiled
def _is_leftover(data: Bytes, start: int, end: int, lines: npt.NDArray[np.bool_]) -> bool:
    while start < end:
        if data[start] == 32 or data[start] == 9:
            start += 1
        elif data[start] == 0xE3 and start + 2 < end and data[start + 1] == 0x80 and data[start + 2] == 0x80:
            start += 3
        elif data[start] == 0xC2 and start + 1 < end and data[start + 1] == 0xA0:
            start += 2
        else:
            break
    value = np.uint32(2166136261)
    for place in range(start, end):
        b = data[place]
        value = (value ^ np.uint32(b | 32 if _is_letter(b) else b)) * np.uint32(16777619)
    return end > start and lines[value & np.uint32(0xFFFF)]


@compiled
def _fewest_digits(data: Bytes, start: int, place: int) -> int:
    """How many digits a run that begins here has at least if it is somebody's number: seven behind a code in brackets,
    eight behind a plus, else ten."""
    if place > start and data[place - 1] == 43:
        return 8
    return 7 if place > start + 1 and data[place - 1] == 32 and data[place - 2] == 41 else 10


@compiled
def _pass(
    data: Bytes, offsets: Places, flags: npt.NDArray[np.uint32], counts: npt.NDArray[np.int64], kinds: Bytes,
    words: npt.NDArray[np.uint32], lines: npt.NDArray[np.bool_], longest: int, secrets: npt.NDArray[np.bool_],
    tags: npt.NDArray[np.bool_],
) -> None:  # fmt: skip
    for number in range(len(offsets) - 1):
        start, end = offsets[number], offsets[number + 1]
        found, row = 0, counts[number]
        run, since_colon, colons, newlines = 0, 99, 0, 0
        digits, dots, fewest = 0, 0, 10
        line, last = start, start
        i = start
        while i < end:
            b = data[i]
            if _is_letter(b):
                j = i + 1
                while j < end and _is_letter(data[j]):
                    j += 1
                size = j - i
                row[LATIN] += size
                row[WORDS] += 1
                if size <= 4:
                    word = np.uint32(0)
                    for place in range(i, j):
                        word = (word << np.uint32(8)) | np.uint32(data[place] | 32)
                    if words[(word ^ (word >> np.uint32(11))) & np.uint32(0xFFFF)] == word:
                        row[COMMON] += 1
                    since_colon += size
                else:
                    since_colon = 99
                if (size > 2 or j < end) and i + 3 <= end and secrets[_key(data, i, i + 3)]:
                    found |= SECRET
                run = newlines = 0
                last = i = j
                continue
            if b < 128:
                if 48 <= b <= 57:
                    if run == 0:
                        digits, dots = 0, 0
                        fewest = _fewest_digits(data, start, i)
                    run += 1
                    digits += 1
                    if digits >= fewest or (dots >= 3 and digits >= 4):
                        found |= NUMBER
                    since_colon += 1
                    newlines = 0
                    last = i + 1
                elif b == 32 or b == 9:
                    run = run + 1 if run and b == 32 and i > start and 48 <= data[i - 1] <= 57 else 0
                    since_colon, newlines = 99, 0
                elif b == 10:
                    if last < i:
                        found |= TRAILING
                    elif 0 < i - line <= longest and _is_leftover(data, line, i, lines):
                        found |= LEFTOVER
                    newlines += 1
                    if newlines >= 4:
                        found |= BLANK
                    run, since_colon = 0, 99
                    line = last = i + 1
                else:
                    if b == 58:
                        colons = colons + 1 if since_colon <= 4 else 1
                        since_colon = 0
                        if colons >= 3:
                            found |= COLONS
                    else:
                        since_colon = 99
                        if b == 60 or b == 38:
                            if _is_markup(data, i, end, tags):
                                found |= MARKUP
                        elif b == 64:
                            found |= ADDRESS
                        elif b == 93:
                            if i + 2 < end and data[i + 1] == 93 and data[i + 2] == 62:
                                found |= MARKUP
                        elif b == 13:
                            found |= LINE_ENDS
                        elif b < 32 or b == 127:
                            found |= CONTROL
                    run = run + 1 if run and (b == 45 or b == 46 or b == 40 or b == 41) else 0
                    dots += b == 46
                    newlines = 0
                    last = i + 1
                i += 1
                continue
            found |= BEYOND
            run, newlines, since_colon = 0, 0, 99
            if 0xE4 <= b <= 0xE9 and i + 2 < end:
                code = ((b & 0x0F) << 12) | ((data[i + 1] & 0x3F) << 6) | (data[i + 2] & 0x3F)
                i += 3
                last = i
                if code >= 0x4E00:
                    row[HAN] += 1
                    kind = kinds[code - 0x4E00]
                    row[NEITHER + (kind & 3)] += 1
                    row[MISREAD] += kind >> 2
                else:
                    row[HAN] += 1
                continue
            length = 2 if b < 0xE0 else 3 if b < 0xF0 else 4
            code = np.int64(b & (0x1F if length == 2 else 0x0F if length == 3 else 0x07))
            for place in range(i + 1, min(i + length, end)):
                code = (code << 6) | (data[place] & 0x3F)
            i += length
            if code != 0x3000 and code != 0xA0:
                last = i
            if code < 0xC0:
                if code < 0xA0 or code == 0xAD:
                    found |= CONTROL if code != 0x85 else LINE_ENDS
            elif code < 0x250:
                row[LATIN] += 1
                if code <= 0xF4 and i < end:
                    after = data[i]
                    if after == 0xC2 or after == 0xC5 or after == 0xC6 or after == 0xCB or after == 0xE2:
                        found |= MOJIBAKE
            elif 0x2000 <= code < 0x2070:
                if code == 0x2028 or code == 0x2029:
                    found |= LINE_ENDS
                elif code == 0x200B or code == 0x200E or code == 0x200F or 0x202A <= code <= 0x202E or code >= 0x2060:
                    found |= CONTROL
            elif 0x3041 <= code < 0x3097 or 0x30A1 <= code < 0x30FB or 0x31F0 <= code < 0x3200:
                row[KANA] += 1
            elif 0xAC00 <= code < 0xD7B0 or 0x1100 <= code < 0x1200:
                row[HANGUL] += 1
            elif 0x3400 <= code < 0x4DC0 or 0xF900 <= code < 0xFB00 or 0x20000 <= code < 0x30000:
                row[HAN] += 1
            elif code == 0xFEFF or 0xFFF9 <= code <= 0xFFFF:
                found |= CONTROL
            elif code < 0x2000 or 0xA000 <= code < 0xE000 or 0xFB00 <= code < 0xFE00 or 0xFE70 <= code < 0xFF00:
                row[OTHER] += 1
        if 0 < last - line <= longest and _is_leftover(data, line, last, lines):
            found |= LEFTOVER
        if row[MISREAD] * 12 > row[HAN]:
            found |= MOJIBAKE
        flags[number] = found


class _Tables(NamedTuple):
    lines: npt.NDArray[np.bool_]
    longest: int
    secrets: npt.NDArray[np.bool_]
    tags: npt.NDArray[np.bool_]


@cache
def _tables(look_for: Marks) -> _Tables:
    return _Tables(
        _table(look_for.leftovers),
        max((len(line.encode()) for line in look_for.leftovers), default=0),
        _table(frozenset(secret[:3] for secret in look_for.secrets)),
        _table(look_for.tags),
    )


def _table(words: frozenset[str]) -> npt.NDArray[np.bool_]:
    table = np.zeros(1 << 16, np.bool_)
    for word in words:
        value = 2166136261
        for byte in word.encode():
            value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
        table[value & 0xFFFF] = True
    return table


@cache
def classes() -> Bytes:
    """For each character from U+4E00: 1 if it is simplified alone, 2 if traditional alone, and 4 more if it is a sign
    of UTF-8 that was read as GBK.

    Two national standards tell: GB 2312 has the simplified characters, Big5 the traditional ones.
    """
    table = np.zeros(0xA000 - 0x4E00, np.uint8)
    for code in range(0x4E00, 0xA000):
        simplified, traditional = (_encodes(chr(code), name) for name in ("gb2312", "big5"))
        if simplified != traditional:
            table[code - 0x4E00] = 1 if simplified else 2
    for character in _MISREAD:
        table[ord(character) - 0x4E00] |= 4
    return table


def _encodes(character: str, name: str) -> bool:
    try:
        character.encode(name)
    except UnicodeEncodeError:
        return False
    return True


@cache
def _words() -> npt.NDArray[np.uint32]:
    table = np.zeros(1 << 16, np.uint32)
    for word in FUNCTION_WORDS:
        packed = int.from_bytes(word.encode(), "big")
        table[(packed ^ (packed >> 11)) & 0xFFFF] = packed
    return table
