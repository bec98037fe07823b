"""Which texts may hold so many listed words that it is worth to look closer: one compiled pass over their bytes.

An entry is taken to be there wherever its first word stands, or its first two characters where it begins with none of
ASCII. So a text is held for worse than it is, and never for better; most are far from any bound even so. Where three
bytes stand with which no entry begins, nothing more is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus.characters import Floats, buffers, decode
from tutelage.corpus.hashing import compiled, widest

Weights = npt.NDArray[np.float32]

_SLOTS = 1 << 16
_ANY = 1 << 40
_WORD = re.compile(r"[a-z0-9]+")


class Beginnings(NamedTuple):
    """How the entries of a list begin: the most that one of them weighs, its weight by its characters."""

    words: Weights
    """By a first word of ASCII letters and digits."""
    pairs: Weights
    """By the first two characters."""
    singles: Weights
    """Of entries of one character, by that."""
    firsts: npt.NDArray[np.bool_]
    """By a character, in either case: whether anything of the two tables before begins with it."""
    heads: npt.NDArray[np.bool_]
    """By the first three bytes, as `_head` spreads them: whether anything of all this may begin with them."""


def beginnings(entries: Mapping[str, float]) -> Beginnings:
    """Takes entries in lower case, with their weights."""
    lower = _lower()
    tables = (np.zeros(_SLOTS, np.float32) for _ in range(3))
    found = Beginnings(*tables, firsts=lower == 0, heads=np.zeros(_SLOTS, np.bool_))
    found.firsts[0] = False
    for entry, weight in entries.items():
        codes = [int(lower[min(ord(character), 0xFFFF)]) for character in entry[:2]]
        if word := _WORD.match(entry):
            table, slot = found.words, _word(np.frombuffer(word[0].encode(), np.uint8), 0, word.end())
            _note(found.heads, *_packed(word[0].encode()))
        elif len(codes) > 1:
            table, slot = found.pairs, _pair(*codes)
        else:
            table, slot = found.singles, codes[0]
        if not word:
            found.firsts[lower == codes[0]] = True
        table[slot] = max(table[slot], np.float32(weight * len(entry)))
    for code in np.flatnonzero(found.firsts).tolist():
        _note(found.heads, *_packed(chr(code).encode("utf-8", "surrogatepass")))
    for lead in range(0xF0, 0xF5) if found.firsts[-1] else ():
        _note(found.heads, lead, 1)
    return found


def _packed(start: bytes) -> tuple[int, int]:
    """Up to three of these bytes, the first the lowest, and how many."""
    return int.from_bytes(start[:3], "little"), min(len(start), 3)


def suspects(
    texts: pa.Array, known: Beginnings, visible: Floats, density: float, different: int
) -> npt.NDArray[np.int64]:
    """The places of texts in which listed words may make up so great a share of the visible characters, and of which
    so many different ones may be there.

    Args:
        texts: without nulls.
        visible: (texts,) characters.
    """
    data, offsets = buffers(texts)
    weights, places = np.zeros(len(texts)), np.zeros(len(texts), np.int64)
    _look(data, offsets, _lower(), *known, weights, places)
    # What is summed in another order may differ in the last digit.
    return np.flatnonzero((places >= different) & (weights * 1.001 >= density * visible))


@cache
def _lower() -> npt.NDArray[np.uint16]:
    """Each character of the basic plane in lower case; a sigma is one whether it ends a word or not. 0 for the two that
    begin with an ASCII letter there and are none: a dotted I and the sign of kelvin."""
    found = np.array([ord(chr(code).lower()[0]) for code in range(1 << 16)], np.uint16)
    found[0x3C2] = 0x3C3
    found[[0x130, 0x212A]] = 0
    return found


@compiled
def _pair(first: Any, second: Any) -> Any:
    return ((first * 40503) ^ (second * 3)) & 0xFFFF


@compiled
def _word(data: Any, start: Any, end: Any) -> Any:
    value = np.uint32(2166136261)
    for place in range(start, end):
        b = data[place]
        value = (value ^ np.uint32(b | 32 if b >= 65 else b)) * np.uint32(16777619)
    return np.int64((value ^ (value >> np.uint32(16))) & np.uint32(0xFFFF))


@compiled
def _is_plain(b: Any) -> Any:
    return np.uint8((b | 32) - 97) < 26 or np.uint8(b - 48) < 10


@compiled
def _head(three: Any) -> Any:
    """The slot of three bytes, the first the lowest; of letters in either case."""
    return np.uint32((three | np.uint32(0x202020)) * np.uint32(2654435761)) >> np.uint32(16)


@compiled
def _note(heads: Any, known: Any, size: Any) -> None:
    """Notes these bytes of three, and whatever may stand behind them."""
    for rest in range(1 << (24 - 8 * size)):
        heads[_head(np.uint32(known) | np.uint32(rest << (8 * size)))] = True


@compiled
def _look(
    data: Any, offsets: Any, lower: Any, words: Any, pairs: Any, singles: Any, firsts: Any, heads: Any, weights: Any,
    places: Any,
) -> None:  # fmt: skip
    near = np.empty(widest(offsets, 0, len(offsets) - 1) + 1, np.int32)
    for row in range(len(offsets) - 1):
        text = data[offsets[row] : offsets[row + 1]]
        count = _near(text, heads, near)
        weights[row], places[row] = _weigh(text, near[:count], lower, words, pairs, singles, firsts)


@compiled
def _near(text: Any, heads: Any, near: Any) -> Any:
    """Where three bytes stand with which an entry may begin, and the last two places; how many."""
    count, place, three = 0, 0, np.uint32(0)
    for byte in text[:2]:
        three = np.uint32(three >> np.uint32(8) | np.uint32(byte) << np.uint32(16))
    for byte in text[2:]:
        three = np.uint32(three >> np.uint32(8) | np.uint32(byte) << np.uint32(16))
        near[count] = place
        count += heads[_head(three)]
        place += 1
    for last in range(place, len(text)):
        near[count] = last
        count += 1
    return count


@compiled
def _weigh(text: Any, near: Any, lower: Any, words: Any, pairs: Any, singles: Any, firsts: Any) -> Any:
    """What entries weigh at the most that may begin at these places, and how many there may be."""
    total, count = 0.0, 0
    for place in near:
        first = text[place]
        if _is_plain(first):
            if place > 0 and _is_plain(text[place - 1]):
                continue
            end = place + 1
            while end < len(text) and _is_plain(text[end]):
                end += 1
            most = words[_word(text, place, end)]
        elif first & 0xC0 == 0x80:
            continue
        else:
            code, size = decode(text, place)
            if not firsts[min(code, 0xFFFF)]:
                continue
            one = np.int64(lower[min(code, 0xFFFF)])
            if one == 0:
                return np.inf, _ANY
            behind = place + size
            other, _ = decode(text, behind) if behind < len(text) else (np.int64(0), 0)
            most = max(pairs[_pair(one, np.int64(lower[min(other, 0xFFFF)]))], singles[one])
        total += most
        count += most > 0
    return total, count
