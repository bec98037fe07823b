"""What the traits of texts are told by: what is kept of each character, and tables of words, lines and names.

Tables are small and rough: what falls together with something in them is looked at closely afterwards.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tutelage.corpus.hashing import Bytes, compiled

LATIN, HAN, KANA, HANGUL, OTHER, WORDS, COMMON = range(7)
"""What is counted: characters of scripts; words of Latin letters, and how many of them are common English ones."""
NEITHER, SIMPLIFIED, TRADITIONAL, MISREAD = range(7, 11)
"""Characters of Han that both ways of writing Chinese have, that one alone has, or that UTF-8 read as GBK gives."""

FUNCTION_WORDS = ("the", "of", "and", "to", "is", "in", "that", "for", "it", "this", "with", "are", "was", "you", "be")
_MISREAD = "锛銆鐨鏄涓浜鍦鏈"

NOTHING, LETTER, DIGIT, NEWLINE, COLON, MARK, TICK, AT, RETURN, UNSEEN = range(10)
"""What an ASCII character asks for."""
SCRIPT, OF_CONTROL, OF_LINE_ENDS, OF_FORMS = 7, 8, 16, 32
"""What is kept of a character beyond ASCII: its script, from 1 (Latin) to 5, and what it may need."""


class Marks(NamedTuple):
    """What is looked for, beside what is the same for everybody."""

    leftovers: frozenset[str]
    """Lines in lower case."""
    secrets: frozenset[str]
    """What a word may begin with; three ASCII characters at least."""
    tags: frozenset[str]
    """Names of elements, in the case that they are written in."""


@compiled
def spread(packed: Any) -> Any:
    """Where up to four bytes stand in a table of 4,096."""
    return ((packed * 2654435769) & 0xFFFFFFFF) >> 20


class Tables(NamedTuple):
    lines: npt.NDArray[np.bool_]
    shapes: npt.NDArray[np.bool_]
    """Of the lines: bytes, and the first of them."""
    secrets: Bytes
    threes: npt.NDArray[np.bool_]
    tags: npt.NDArray[np.bool_]


@cache
def tables(look_for: Marks) -> Tables:
    secrets = np.zeros((len(look_for.secrets), max(map(len, look_for.secrets), default=1)), np.uint8)
    threes = np.zeros(1 << 12, np.bool_)
    for row, secret in enumerate(sorted(look_for.secrets)):
        secrets[row, : len(secret)] = list(secret.encode())
        threes[spread(int.from_bytes(secret[:3].encode(), "big"))] = True
    leftovers = [line.encode() for line in look_for.leftovers]
    shapes = np.zeros((1 + max(map(len, leftovers), default=0), 256), np.bool_)
    for line in leftovers:
        shapes[len(line), line[0]] = True
    return Tables(
        _table(look_for.leftovers),
        shapes,
        secrets,
        threes,
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
def asks() -> Bytes:
    table = np.full(128, NOTHING, np.uint8)
    table[:32] = table[127] = UNSEEN
    table[9], table[10], table[13] = NOTHING, NEWLINE, RETURN
    for code in range(128):
        character = chr(code)
        if character.isalpha():
            table[code] = LETTER
        elif character.isdigit():
            table[code] = DIGIT
        elif character in "<&]":
            table[code] = MARK
        elif character in "`~":
            table[code] = TICK
    table[ord(":")], table[ord("@")] = COLON, AT
    return table


PLAIN_FORMS = (
    (0x80, 0x300), (0x388, 0x483), (0x48A, 0x530), (0x2002, 0x20D0), (0x2100, 0x2126), (0x2127, 0x212A),
    (0x212C, 0x2329), (0x232B, 0x2ADC), (0x3000, 0x302A), (0x3030, 0x3099), (0x309B, 0xA66F), (0xAC00, 0xD7A4),
    (0xE000, 0xF900), (0xFE30, 0x10000),
)  # fmt: skip
"""Characters that stay as they are in NFC, whatever stands before them; there are more."""


@cache
def beyond() -> Bytes:
    """For each character to U+FFFF, what is kept of it."""
    table = np.full(0x10000, OF_FORMS, np.uint8)
    for start, end in PLAIN_FORMS:
        table[start:end] = 0
    for script, ranges in (
        (OTHER, ((0x250, 0x2000), (0xA000, 0xE000), (0xFB00, 0xFE00), (0xFE70, 0xFEFF))),
        (HAN, ((0x3400, 0xA000), (0xF900, 0xFB00))),
        (HANGUL, ((0xAC00, 0xD7B0), (0x1100, 0x1200))),
        (KANA, ((0x3041, 0x3097), (0x30A1, 0x30FB), (0x31F0, 0x3200))),
        (LATIN, ((0xC0, 0x250),)),
    ):
        for start, end in ranges:
            table[start:end] = (table[start:end] & ~np.uint8(SCRIPT)) | (1 + script)
    for start, end in ((0x80, 0xA0), (0xAD, 0xAE), (0x200B, 0x200C), (0x200E, 0x2010), (0x202A, 0x202F),
                       (0x2060, 0x2070), (0xFEFF, 0xFF00), (0xFFF9, 0x10000)):  # fmt: skip
        table[start:end] |= OF_CONTROL
    for code in (0x85, 0x2028, 0x2029):
        table[code] = OF_LINE_ENDS
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
def words() -> npt.NDArray[np.int64]:
    table = np.zeros(1 << 12, np.int64)
    for word in FUNCTION_WORDS:
        packed = int.from_bytes(word.encode(), "big")
        table[spread(packed)] = packed
    return table
