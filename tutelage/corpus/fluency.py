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

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus.characters import Floats, buffers, classes, decode
from tutelage.corpus.hashing import compiled
from tutelage.errors import RecordError

Counts = npt.NDArray[np.int64]
Tally = npt.NDArray[np.uint32]
"""Counts without all that is 0: a slot in the lower 21 bits, above them how often, at most `_MOST`; what was found more
often stands there more than once."""

ONES, TWOS, THREES = 1 << 16, 1 << 19, 1 << 20
"""Slots for single characters, pairs and triples; what shares a slot is counted together."""

SLOTS = ONES + TWOS + THREES + 2
"""The last two hold how many letters, and how many Chinese characters, were counted at all."""

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

_PLACE = 21
_MOST = 1 << 10
_KEPT: list[tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]] = []
"""Tables of `tally` that stand empty."""


def tally(texts: pa.Array) -> Tally:
    """What the model needs to know of a column of texts, of at most four billion letters."""
    data, offsets = buffers(texts)
    # The system takes longer to give new tables than a part takes to be counted.
    counts, few = _KEPT.pop() if _KEPT else (np.zeros(SLOTS, np.uint32), np.zeros(ALPHABET**3, np.uint32))
    _count(data, offsets, classes(), counts, few)
    found = _taken(counts)
    _KEPT.append((counts, few))
    return found


def total(tallies: Iterable[Tally]) -> Counts:
    """The counts of several columns together."""
    counts = np.zeros(SLOTS, np.int64)
    for one in tallies:
        _add(counts, one)
    return counts


def count(texts: pa.Array) -> Counts:
    """The counts of a column by itself."""
    return total([tally(texts)])


@dataclass(frozen=True)
class Model:
    """The counts of a whole corpus; see `count`."""

    counts: Counts

    def bits(self, texts: pa.Array) -> Floats:
        """Two columns, a row a document: bits a letter, and bits a Chinese character. Only what prevails is told, where
        such a character counts as three letters; nan: the other one, or too few to tell."""
        data, offsets = buffers(texts)
        found = np.full((len(texts), 2), np.nan)
        _score(data, offsets, classes(), self._cells, self._triples, found)
        found[:, np.flatnonzero(self.counts[-2:] < ENOUGH)] = np.nan
        return found

    @cached_property
    def _cells(self) -> npt.NDArray[Any]:
        """The counts, in half the room if they fit: so more of them stay near at hand."""
        return self.counts.astype(np.uint32) if self.counts.max() < 1 << 32 else self.counts

    @cached_property
    def _triples(self) -> Floats:
        return _plain(self.counts)

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
        if counts.shape != (SLOTS,) or counts.dtype != np.int64:
            raise RecordError(f"{path}: a model of fluency of another shape: make it anew from the corpus")
        return cls(counts)


@compiled
def pair(a: Any, b: Any) -> Any:
    """The slot of a pair of characters."""
    h = (np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b)) * np.uint64(0xD6E8FEB86659FD93)
    return np.int64(h >> np.uint64(45))


@compiled
def triple(a: Any, b: Any, c: Any) -> Any:
    """The slot of a triple."""
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
    """The character of a letter of the alphabet."""
    return a + 96 if a != 0 else a


@compiled
def _last(context: Any) -> Any:
    """The last two characters of a run of letters of the alphabet; before none is none."""
    b = context % ALPHABET
    return _code(context // ALPHABET % ALPHABET) if b != 0 else b, _code(b)


@compiled
def _context(a: Any, b: Any) -> Any:
    """The place of two letters of ASCII, or none, in a table of pairs."""
    return (a & (ALPHABET - 1)) * ALPHABET + (b & (ALPHABET - 1))


@compiled
def _count(data: Any, offsets: Any, known: Any, counts: Any, few: Any) -> None:
    twos, threes = counts[ONES:], counts[ONES + TWOS :]
    letters = _letters(known)
    for d in range(len(offsets) - 1):
        number, apart = _windows(offsets[d + 1] - offsets[d])
        for w in range(number):
            i = _start(data, offsets[d] + w * apart, offsets[d + 1])
            stop = min(offsets[d + 1], i + WINDOW) if number > 1 else offsets[d + 1]
            a = b = np.int64(0)
            while i < stop:
                # Triples of ASCII are counted in a small table first.
                context = _context(a, b)
                while i < stop and data[i] < 128:
                    context = (context * ALPHABET + letters[data[i]]) & (ALPHABET**3 - 1)
                    few[context] += np.uint32(1)
                    i += 1
                a, b = _last(context)
                while i < stop:
                    code, size = decode(data, i)
                    i += size
                    kind = _kind(code, known)
                    if kind == 0:
                        if b != 0:
                            counts[0] += np.uint32(1)
                            twos[pair(b, 0)] += np.uint32(1)
                            threes[triple(a, b, 0)] += np.uint32(1)
                        a = b = np.int64(0)
                        break
                    code = _lower(code)
                    counts[code & 65535] += np.uint32(1)
                    twos[pair(b, code)] += np.uint32(1)
                    if kind == 1:
                        threes[triple(a, b, code)] += np.uint32(1)
                    counts[-3 + kind] += np.uint32(1)
                    a, b = b, code
                    if (a | b) < 128:
                        break
    for place in range(ALPHABET**3):
        if few[place] == 0:
            continue
        a, b = _last(place // ALPHABET)
        code = _code(place % ALPHABET)
        if b | code != 0:
            counts[code] += few[place]
            twos[pair(b, code)] += few[place]
            threes[triple(a, b, code)] += few[place]
            if code != 0:
                counts[-2] += few[place]
        few[place] = 0


@compiled
def _taken(counts: Any) -> Any:
    """What was counted, as a `Tally`; the counts are 0 then."""
    size = 0
    for slot in range(len(counts)):
        size += (np.int64(counts[slot]) + _MOST - 1) // _MOST
    found = np.empty(size, np.uint32)
    place = 0
    for slot in range(len(counts)):
        while counts[slot] != 0:
            times = min(counts[slot], np.uint32(_MOST))
            found[place] = np.uint32(slot) | times << np.uint32(_PLACE)
            counts[slot] -= times
            place += 1
    return found


@compiled
def _add(counts: Any, tally: Any) -> None:
    for one in tally:
        counts[one & np.uint32((1 << _PLACE) - 1)] += np.int64(one >> np.uint32(_PLACE))


@compiled
def _likely(kind: Any, total: Any, one: Any, two: Any, behind: Any, three: Any, before: Any) -> Any:
    """How likely a character is, from the counts of it, of the pair and the triple that end in it, and of what stands
    before it in each of these."""
    prior = PRIOR * total + 1.0
    likely = (one + 0.5) / (total + 0.5 * ONES)
    likely = (two + prior * likely) / (behind + prior)
    if kind == 1:
        likely = (three + prior * likely) / (before + prior)
    return min(likely, 1.0)


@compiled
def _plain(counts: Any) -> Any:
    """How likely each triple of ASCII is; one that ends in none is passed over."""
    twos, threes = counts[ONES:], counts[ONES + TWOS :]
    found = np.ones(ALPHABET**3)
    for place in range(len(found)):
        if place % ALPHABET != 0:
            a, b = _last(place // ALPHABET)
            code = _code(place % ALPHABET)
            found[place] = _likely(
                1, counts[-2], counts[code], twos[pair(b, code)], counts[b], threes[triple(a, b, code)],
                twos[pair(a, b)],
            )  # fmt: skip
    return found


@compiled
def _score(data: Any, offsets: Any, known: Any, counts: Any, triples: Any, found: Any) -> None:
    twos, threes = counts[ONES:], counts[ONES + TWOS :]
    letters = _letters(known)
    bits = np.zeros(3)
    shown = np.zeros(3, np.int64)
    for d in range(len(offsets) - 1):
        number, apart = _windows(offsets[d + 1] - offsets[d])
        bits[:] = 0.0
        shown[:] = 0
        for w in range(number):
            i = _start(data, offsets[d] + w * apart, offsets[d + 1])
            stop = min(offsets[d + 1], i + WINDOW) if number > 1 else offsets[d + 1]
            a = b = np.int64(0)
            product = 1.0
            last = 0
            while i < stop:
                context = _context(a, b)
                while i < stop and data[i] < 128:
                    letter = letters[data[i]]
                    i += 1
                    context = (context * ALPHABET + letter) & (ALPHABET**3 - 1)
                    # Logarithms are slow: they are taken of products.
                    if (last != 1 or product < 1e-200) and letter != 0:
                        bits[last] -= np.log2(product)
                        product, last = 1.0, 1
                    product *= triples[context]
                    shown[1] += letter != 0
                a, b = _last(context)
                before, behind = twos[pair(a, b)], counts[b]
                while i < stop:
                    code, size = decode(data, i)
                    i += size
                    kind = _kind(code, known)
                    if kind == 0:
                        a = b = np.int64(0)
                        break
                    code = _lower(code)
                    one, two = counts[code & 65535], twos[pair(b, code)]
                    three = threes[triple(a, b, code)] if kind == 1 else np.int64(0)
                    likely = _likely(kind, counts[-3 + kind], one, two, behind, three, before)
                    if kind != last or product < 1e-200:
                        bits[last] -= np.log2(product)
                        product, last = 1.0, kind
                    product *= likely
                    shown[kind] += 1
                    a, b, before, behind = b, code, two, one
                    if (a | b) < 128:
                        break
            bits[last] -= np.log2(product)
        kind = 2 if 3 * shown[2] >= shown[1] else 1
        if shown[kind] >= LEAST:
            found[d, kind - 1] = bits[kind] / shown[kind]
