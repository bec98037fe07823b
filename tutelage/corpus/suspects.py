"""Which texts may hold so many listed words that it is worth to look closer: one compiled pass over their bytes.

An entry is taken to be there wherever its first word stands, or its first two characters where it begins with none of
ASCII. So a text is held for worse than it is, and never for better; most are far from any bound even so.
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
from tutelage.corpus.hashing import compiled

Weights = npt.NDArray[np.float32]

_SLOTS = 1 << 16
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


def beginnings(entries: Mapping[str, float]) -> Beginnings:
    """Takes entries in lower case, with their weights."""
    lower = _lower()
    found = Beginnings(*(np.zeros(_SLOTS, np.float32) for _ in range(3)), firsts=lower == 0)
    for entry, weight in entries.items():
        codes = [int(lower[min(ord(character), 0xFFFF)]) for character in entry[:2]]
        if word := _WORD.match(entry):
            table, slot = found.words, _word(np.frombuffer(word[0].encode(), np.uint8), 0, word.end())
        elif len(codes) > 1:
            table, slot = found.pairs, _pair(*codes)
        else:
            table, slot = found.singles, codes[0]
        if not word:
            found.firsts[lower == codes[0]] = True
        table[slot] = max(table[slot], np.float32(weight * len(entry)))
    return found


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
def _look(
    data: Any, offsets: Any, lower: Any, words: Any, pairs: Any, singles: Any, firsts: Any, weights: Any, places: Any
) -> None:
    for text in range(len(offsets) - 1):
        i, stop = offsets[text], offsets[text + 1]
        total, count = 0.0, 0
        while i < stop:
            if _is_plain(data[i]):
                start = i
                i += 1
                while i < stop and _is_plain(data[i]):
                    i += 1
                most = words[_word(data, start, i)]
            else:
                code, size = decode(data, i)
                i += size
                if not firsts[min(code, 0xFFFF)]:
                    continue
                first = np.int64(lower[min(code, 0xFFFF)])
                if first == 0:
                    total, count = np.inf, 1 << 40
                    break
                second, _ = decode(data, i) if i < stop else (np.int64(0), 0)
                most = max(pairs[_pair(first, np.int64(lower[min(second, 0xFFFF)]))], singles[first])
            if most > 0:
                total += most
                count += 1
        weights[text], places[text] = total, count
