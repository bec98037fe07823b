"""Characters and words of a column of texts, as the loops that count and score them read them.

Texts come as an Arrow column and are read where they lie, without a Python string for any of them. A *word* is a run of
letters, digits and underscores, or one Chinese, Japanese or Korean character: so counts of words mean about the same in
all of these scripts, and no word splitter is needed.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus.hashing import compiled

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

OTHER, LETTER, UPPER, DIGIT, CJK, SPACE, BROKEN, TERMINAL, CJK_PUNCTUATION, CLOSING = range(10)
"""What a character is. The last three are marks: those that end a sentence, those of Chinese, those that close."""


def buffers(texts: pa.Array) -> tuple[Bytes, Offsets]:
    """The bytes of a column and where each text begins and ends in them: n + 1 offsets. Nothing is copied.

    Raises:
        ValueError: the column has nulls.
    """
    if texts.null_count:
        raise ValueError(f"{texts.null_count} texts are null: leave them out first")
    if not pa.types.is_large_string(texts.type):
        texts = texts.cast(pa.large_string())
    _, places, data = texts.buffers()
    offsets = np.frombuffer(places, np.int64)[texts.offset : texts.offset + len(texts) + 1] if places else None
    if offsets is None or not len(texts):
        return np.zeros(1, np.uint8), np.zeros(1, np.int64)
    # An empty column of texts has no buffer of bytes at all.
    return (np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)), offsets


@cache
def classes() -> Bytes:
    """What each character of the basic plane is."""
    table = np.zeros(1 << 16, np.uint8)
    for code in range(1 << 16):
        category = unicodedata.category(chr(code))
        if category[0] in "LM":
            table[code] = UPPER if category in ("Lu", "Lt") else LETTER
        elif category[0] == "N":
            table[code] = DIGIT
        elif category[0] == "Z" or code in (9, 11, 12, 13):
            table[code] = SPACE
        elif category in ("Cc", "Co", "Cs"):
            table[code] = BROKEN
    table[0xFFFD] = BROKEN
    table[0x200B], table[0xFEFF] = SPACE, SPACE
    for first, last in ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF),
                        (0xF900, 0xFAFF), (0x1100, 0x11FF)):  # fmt: skip
        table[first : last + 1] = CJK
    table[0x30FB] = OTHER
    table[ord("_")] = LETTER
    for mark in "，、：；《》〈〉「」『』（）【】":
        table[ord(mark)] = CJK_PUNCTUATION
    for mark in ".!?。！？…．":
        table[ord(mark)] = TERMINAL
    for mark in "\"'”’)）」』》】":
        table[ord(mark)] = CLOSING
    return table


@compiled
def ended(x: Any) -> Any:
    """The hash of a word when its last character is in it."""
    x ^= x >> np.uint64(32)
    x *= np.uint64(0xD6E8FEB86659FD93)
    return x ^ (x >> np.uint64(32))


@compiled
def step(h: Any, code: Any) -> Any:
    """The hash of a word with one more character; it begins with 1."""
    return (h ^ np.uint64(code)) * np.uint64(0x9E3779B97F4A7C15) + (h >> np.uint64(29))


@compiled
def hash_units(codes: Any) -> Any:
    """The hash of a word's characters."""
    h = np.uint64(1)
    for code in codes:
        h = step(h, code)
    return ended(h)


@compiled
def decode(data: Any, i: Any) -> Any:
    """The character at byte i of valid UTF-8, and its bytes."""
    b = np.int64(data[i])
    if b < 0x80:
        return b, 1
    if b < 0xE0:
        return ((b & 31) << 6) | (np.int64(data[i + 1]) & 63), 2
    if b < 0xF0:
        return ((b & 15) << 12) | ((np.int64(data[i + 1]) & 63) << 6) | (np.int64(data[i + 2]) & 63), 3
    return (
        ((b & 7) << 18)
        | ((np.int64(data[i + 1]) & 63) << 12)
        | ((np.int64(data[i + 2]) & 63) << 6)
        | (np.int64(data[i + 3]) & 63)
    ), 4


@compiled
def behind_first(text: Any, i: Any) -> Any:
    """Whether a character stands behind one of U+00C2 to U+00F4, which a first byte of UTF-8 becomes in Latin-1."""
    return i >= 2 and text[i - 2] == 0xC3 and 0x82 <= text[i - 1] <= 0xB4


@compiled
def continues(code: Any) -> Any:
    """Whether a character may be what a byte 0x80 to 0xBF became in Latin-1 or in Windows' code page 1252."""
    if 0x80 <= code <= 0xBF:
        return True
    return (
        code == 0x20AC or code == 0x201A or code == 0x0192 or 0x201E <= code <= 0x2022 or code == 0x2026
        or code == 0x2030 or code == 0x2039 or code == 0x203A or 0x2018 <= code <= 0x201D or code == 0x2122
        or code == 0x02C6 or code == 0x02DC or 0x0152 <= code <= 0x0178 or code == 0x017D
    )  # fmt: skip


@compiled
def read_units(data: Any, start: Any, stop: Any, known: Any, units: Any, cjk: Any) -> Any:
    """The hashes of the first words of a text, in lower case, and which are single CJK characters; how many."""
    n = 0
    word, length = np.uint64(1), 0
    i = start
    while i <= stop and n < len(units):
        code, size = decode(data, i) if i < stop else (np.int64(10), 1)
        i += size
        kind = np.int64(known[code]) if code < 65536 else CJK if 0x20000 <= code <= 0x3FFFF else OTHER
        if 1 <= kind <= 3:
            word = step(word, code + 32 if 65 <= code <= 90 else code)
            length += 1
            continue
        if length:
            units[n], cjk[n] = ended(word), False
            n += 1
            word, length = np.uint64(1), 0
        if kind == CJK and n < len(units):
            units[n], cjk[n] = ended(step(np.uint64(1), code)), True
            n += 1
    return n
