"""How well a text fits the corpus that it stands in: bits a letter under a small model of characters.

The model is trained on the corpus itself, so it needs no download and knows the languages that are there. Letters are
guessed from the two before them within a word, a Chinese character from the one before it. What stands in few places
must not vouch for itself: counts are drawn towards the shorter context with a weight that grows with the corpus, so
letters at random stay unlikely though the corpus holds some, and a language that is a few parts in a thousand of it
does too. The bound in `tutelage.corpus.quality` leaves room for such languages.

Source: perplexity as a filter, Wenzek et al. 2020, arXiv 1911.00359; smoothing with a Dirichlet prior, MacKay and
Peto 1995.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus.characters import Floats, buffers, classes, decode
from tutelage.corpus.hashing import compiled
from tutelage.errors import RecordError

Counts = npt.NDArray[np.int64]

ONES, TWOS, THREES = 1 << 16, 1 << 19, 1 << 20
"""Slots for single characters, pairs and triples; what shares a slot is counted together."""

ALPHABET = 32
"""Room for the letters of ASCII, and for none, in a table of triples."""

WINDOW, WINDOWS = 1024, 8
"""A text longer than all windows is read in so many places, evenly apart; each has so many bytes."""

PRIOR = 2e-5
"""The weight of the shorter context, as a share of all letters counted."""

LEAST = 20
"""Letters, or Chinese characters, that a document must have to be measured."""

ENOUGH = 200_000
"""Letters, or Chinese characters, from which on the model says anything."""


def count(texts: pa.Array) -> Counts:
    """What the model needs to know of a column of texts. Counts of several columns are added."""
    data, offsets = buffers(texts)
    counts = np.zeros(ONES + TWOS + THREES + 2, np.int64)
    _count(data, offsets, classes(), counts)
    return counts


@dataclass(frozen=True)
class Model:
    """The counts of a whole corpus; see `count`."""

    counts: Counts

    def bits(self, texts: pa.Array) -> Floats:
        """Two columns, a row a document: bits a letter, and bits a Chinese character. Only what prevails is told, where
        such a character counts as three letters; nan: the other one, or too few to tell."""
        data, offsets = buffers(texts)
        found = np.full((len(texts), 2), np.nan)
        _score(data, offsets, classes(), self.counts, found)
        found[:, np.flatnonzero(self.counts[-2:] < ENOUGH)] = np.nan
        return found

    def pairs(self) -> Counts:
        """The part of the counts that holds pairs, by `pair`."""
        return self.counts[ONES : ONES + TWOS]

    def save(self, path: Path) -> None:
        """Writes the counts as a .npz file."""
        np.savez(path, counts=self.counts)

    @classmethod
    def load(cls, path: Path) -> Model:
        """Raises:
        RecordError: no such file, or not a model of this shape."""
        try:
            with np.load(path, allow_pickle=False) as held:
                counts = held["counts"]
        except (OSError, ValueError, KeyError) as error:
            raise RecordError(f"{path}: not a model of fluency: {error}: make it anew from the corpus") from None
        if counts.shape != (ONES + TWOS + THREES + 2,) or counts.dtype != np.int64:
            raise RecordError(f"{path}: a model of fluency of another shape: make it anew from the corpus")
        return cls(counts)


@compiled
def pair(a: Any, b: Any) -> Any:
    """The slot of a pair of characters."""
    h = (np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b)) * np.uint64(0xD6E8FEB86659FD93)
    return np.int64(h >> np.uint64(45))


@compiled
def _triple(a: Any, b: Any, c: Any) -> Any:
    h = (np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b)) * np.uint64(0xD6E8FEB86659FD93)
    h = (h ^ (h >> np.uint64(31)) ^ np.uint64(c)) * np.uint64(0xBF58476D1CE4E5B9)
    return np.int64(h >> np.uint64(44))


@compiled
def _kind(code: Any, known: Any) -> Any:
    """0: no letter; 1: a letter; 2: a Chinese, Japanese or Korean character."""
    kind = known[code] if code < 65536 else 4 if 0x20000 <= code <= 0x3FFFF else 0
    if kind == 4:
        return 2
    # A digit or an underscore ends a word here: neither is more or less fluent than the other.
    return 1 if (kind == 1 or kind == 2) and code != 95 else 0


@compiled
def _start(data: Any, place: Any, stop: Any) -> Any:
    while place < stop and data[place] & 0xC0 == 0x80:
        place += 1
    return place


@compiled
def _windows(size: Any) -> Any:
    """How many windows, and how far apart they begin."""
    if size <= WINDOW * WINDOWS:
        return 1, size
    return WINDOWS, (size - WINDOW) // (WINDOWS - 1)


@compiled
def _lower(code: Any) -> Any:
    return code + 32 if 65 <= code <= 90 or 0xC0 <= code <= 0xDE or 0x410 <= code <= 0x42F else code


@compiled
def _letters(known: Any) -> Any:
    """Which letter of the alphabet an ASCII character is, from 1 on in either case; 0: none."""
    found = np.zeros(128, np.int64)
    for code in range(128):
        if _kind(code, known) == 1:
            found[code] = _lower(code) - 96
    return found


@compiled
def _code(a: Any) -> Any:
    """The character of a letter of the alphabet; all others are as they are."""
    return a + 96 if 0 < a < ALPHABET else a


@compiled
def _count(data: Any, offsets: Any, known: Any, counts: Any) -> None:
    twos, threes = counts[ONES:], counts[ONES + TWOS :]
    letters = _letters(known)
    # Triples of ASCII are counted in a small table first.
    few = np.zeros(ALPHABET**3, np.int64)
    for d in range(len(offsets) - 1):
        number, apart = _windows(offsets[d + 1] - offsets[d])
        for w in range(number):
            i = _start(data, offsets[d] + w * apart, offsets[d + 1])
            stop = min(offsets[d + 1], i + WINDOW) if number > 1 else offsets[d + 1]
            a = b = np.int64(0)
            while i < stop:
                if data[i] < 128 and (a | b) < ALPHABET:
                    code = letters[data[i]]
                    i += 1
                    few[(a * ALPHABET + b) * ALPHABET + code] += 1
                    a, b = b * np.int64(code != 0), code
                    continue
                code, size = decode(data, i)
                i += size
                kind = _kind(code, known)
                first, second = _code(a), _code(b)
                if kind == 0:
                    if b != 0:
                        counts[0] += 1
                        twos[pair(second, 0)] += 1
                        threes[_triple(first, second, 0)] += 1
                    a = b = np.int64(0)
                    continue
                code = _lower(code)
                counts[code & 65535] += 1
                twos[pair(second, code)] += 1
                if kind == 1:
                    threes[_triple(first, second, code)] += 1
                counts[-3 + kind] += 1
                a, b = b, letters[code] if code < 128 else code
    few[0] = 0
    for place in np.flatnonzero(few):
        a, b, code = _code(place // ALPHABET**2), _code(place // ALPHABET % ALPHABET), _code(place % ALPHABET)
        counts[code] += few[place]
        twos[pair(b, code)] += few[place]
        threes[_triple(a, b, code)] += few[place]
        if code != 0:
            counts[-2] += few[place]


@compiled
def _score(data: Any, offsets: Any, known: Any, counts: Any, found: Any) -> None:
    twos, threes = counts[ONES:], counts[ONES + TWOS :]
    for d in range(len(offsets) - 1):
        number, apart = _windows(offsets[d + 1] - offsets[d])
        bits = np.zeros(3)
        letters = np.zeros(3)
        for w in range(number):
            i = _start(data, offsets[d] + w * apart, offsets[d + 1])
            stop = min(offsets[d + 1], i + WINDOW) if number > 1 else offsets[d + 1]
            a = b = np.int64(0)
            product = 1.0
            last = 0
            while i < stop:
                code, size = decode(data, i)
                i += size
                kind = _kind(code, known)
                if kind == 0:
                    a = b = np.int64(0)
                    continue
                code = _lower(code)
                total = counts[-3 + kind]
                prior = PRIOR * total + 1.0
                likely = (counts[code & 65535] + 0.5) / (total + 0.5 * ONES)
                likely = (twos[pair(b, code)] + prior * likely) / (counts[b & 65535] + prior)
                if kind == 1:
                    likely = (threes[_triple(a, b, code)] + prior * likely) / (twos[pair(a, b)] + prior)
                # Logarithms are slow: they are taken of products.
                if kind != last or product < 1e-200:
                    bits[last] -= np.log2(product)
                    product, last = 1.0, kind
                product *= min(likely, 1.0)
                letters[kind] += 1
                a, b = b, code
            bits[last] -= np.log2(product)
        kind = 2 if 3 * letters[2] >= letters[1] else 1
        if letters[kind] >= LEAST:
            found[d, kind - 1] = bits[kind] / letters[kind]
