"""Texts that say the same again: exactly, but for their form, or nearly.

Each part of a corpus is signed by itself (`sign`); what is alike is found from the signatures alone (`group`), 544
bytes a document, which may lie on disk. Which copy stays follows from a rank of the documents, not from the order in
which parts were worked on. `exact` and `near` do all of it for texts in a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tutelage.corpus.hashing import (
    AT_ONCE,
    Hashes,
    Places,
    Text,
    Texts,
    Units,
    by_rank,
    column,
    compiled,
    folded,
    in_threads,
    join,
    mix,
    ordered,
    root,
    runs,
    units,
    units_of,
    widest,
)
from tutelage.corpus.sieve import Sieve

BANDS = 32
ROWS = 8
WORDS = 5
"""Units in a run; two texts are as like each other as the share of runs that they have in common (Jaccard)."""
AGREEMENT = 0.74
"""Least similarity of two texts that count as one. An estimate from 256 hashes has a standard error of 0.025 there."""
RULES = ("", "exact_duplicate", "normalised_duplicate", "near_duplicate")
"""The rule by which a document goes, by `Groups.how`."""

_HASHES = BANDS * ROWS
_ROUNDS = 32
_SHORT = 16
"""In a text of fewer units signs count too: 3 + 4 is not 3 - 4."""
_LEADERS = 32
"""Texts of a bucket, unlike each other, with which a further one is compared."""

Shares = npt.NDArray[np.float32]


class Signs(NamedTuple):
    """What is known of each document of a part."""

    exact: Hashes
    """(documents, 2): of the bytes."""
    normal: Hashes
    """(documents, 2): of the units, so without case, white space, punctuation and form of characters."""
    bands: Hashes
    """(32, documents): equal if eight hashes are equal; all of them 0 if there is no unit."""
    sketch: npt.NDArray[np.uint8]
    """(documents, 256): the lowest byte of each hash."""

    def __len__(self) -> int:
        return len(self.exact)

    def write(self, folder: Path) -> None:
        """Writes an array to a file each."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in self._asdict().items():
            np.save(folder / f"{name}.npy", values, allow_pickle=False)

    @classmethod
    def read(cls, folder: Path) -> Signs:
        """The arrays of `write`, mapped into memory: read when they are needed."""
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in cls._fields))


class Groups(NamedTuple):
    """Which documents are one."""

    stands_for: Places
    """For each document the number of the one that stays."""
    how: npt.NDArray[np.uint8]
    """Why it goes: a place in `RULES`; 0 for a document that stays."""
    similarity: Shares
    """To the document that stays; of near duplicates the estimated Jaccard similarity."""


class Cluster(NamedTuple):
    """Documents that are one."""

    kept: int
    members: tuple[int, ...]
    """Those that go."""
    how: tuple[str, ...]
    """The rule for each of them."""
    similarity: tuple[float, ...]


def exact(texts: Texts) -> list[int]:
    """Groups texts that are equal but for case, white space, punctuation and form of characters; for each text the
    smallest place in its group."""
    return group([sign(texts)], near=False).stands_for.tolist()


def near(texts: Texts, agreement: float = AGREEMENT) -> list[int]:
    """Groups texts that are equal, or share at least ``agreement`` of their runs of five units; for each text the
    smallest place in its group. Groups are closed: a text like one of a group belongs to the group."""
    return group([sign(texts)], agreement=agreement).stands_for.tolist()


def sign(texts: Texts, threads: int = 1, known: Units | None = None) -> Signs:
    """Signs each text; the same whatever stands beside it.

    256 hashes of a text's runs of units, of which two texts agree in as great a share as their runs do (Jaccard).

    Args:
        known: the texts' units, if they are there already.

    Source: Dahlgaard, Knudsen and Thorup 2017, Fast similarity sketching, arXiv:1704.04370: rounds of one-permutation
    hashing until every place is filled, so that the work does not grow with the number of hashes; Broder 1997, On the
    resemblance and containment of documents; Li and König 2010, b-bit minwise hashing.
    """
    text = column(texts)
    count = len(text)
    signs = Signs(
        np.zeros((count, 2), dtype=np.uint64), np.zeros((count, 2), dtype=np.uint64),
        np.zeros((BANDS, count), dtype=np.uint64), np.zeros((count, _HASHES), dtype=np.uint8),
    )  # fmt: skip
    signed = folded(symbols=True)

    def work(first: int, last: int) -> None:
        some, own = Text(text.data, text.offsets[first : last + 1]), slice(first, last)
        units = known.take(own) if known else units_of(some)
        exact, normal, bands, sketch = signs
        _sign(*some, units, signed, exact[own], normal[own], bands[:, own], sketch[own])

    in_threads(work, text, threads)
    return signs


def group(
    parts: Sequence[Signs], rank: Hashes | None = None, agreement: float = AGREEMENT, near: bool = True,
    at_once: int = AT_ONCE,
) -> Groups:  # fmt: skip
    """Finds the documents that are one, by signatures alone.

    Candidates agree in one of 32 bands of eight hashes: with a similarity of 0.8 that is missed once in 360 pairs. In a
    bucket a text is compared with those that came before and are unlike each other, at most 32, so that the work is
    linear. A pair counts if its 256 hashes agree so often that the similarity is estimated at ``agreement``.

    Args:
        rank: smaller stays; without it the first stays. Documents are the parts' in a row.
        near: whether to look for near duplicates too.
        at_once: keys sorted at a time.

    Source: Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3.4.
    """
    total = sum(map(len, parts))
    # In the order of the ranks, so that the smallest place of a group is the one that stays.
    order, position = by_rank(total, rank)
    edges = np.cumsum([0, *map(len, parts)])
    where = [position[a:b] for a, b in pairwise(edges)]
    parents = np.arange(total)
    how = np.zeros(total, dtype=np.uint8)
    for kind, name in ((1, "exact"), (2, "normal")):
        second = np.empty(total, dtype=np.uint64)
        for places, part in zip(where, parts, strict=True):
            second[places] = getattr(part, name)[:, 1]
        for keys, places in _several([getattr(part, name)[:, 0] for part in parts], where, at_once):
            _join_equal(keys, second, places, parents, how, kind)
    similarity = np.ones(total, dtype=np.float32)
    if near:
        of_part = np.repeat(np.arange(len(parts)), np.diff(edges))[order]
        inside = (order - edges[of_part]).astype(np.int64)
        sketches = _Sketches(parts, of_part, inside)
        for band in range(BANDS):
            for keys, places in _several([part.bands[band] for part in parts], where, at_once):
                _join_alike(keys, places, sketches, parents, how, _least(agreement))
        _flatten(parents)
        _measure(sketches, parents, how, similarity)
    _flatten(parents)
    return Groups(order[parents[position]], how[position], similarity[position])


def clusters(groups: Groups, most: int = 10) -> list[Cluster]:
    """The largest groups of more than one document; of equally large ones the one whose kept document comes first."""
    gone = np.flatnonzero(groups.how)
    kept, sizes = np.unique(groups.stands_for[gone], return_counts=True)
    chosen = kept[np.argsort(-sizes, kind="stable")[:most]]
    found: list[Cluster] = []
    for one in chosen.tolist():
        members = gone[groups.stands_for[gone] == one]
        names = tuple(RULES[kind] for kind in groups.how[members].tolist())
        shares = tuple(round(share, 3) for share in groups.similarity[members].tolist())
        found.append(Cluster(one, tuple(members.tolist()), names, shares))
    return found


def _several(keys: Sequence[Hashes], where: Sequence[Places], at_once: int) -> Iterator[tuple[Hashes, Places]]:
    """As `ordered`, but without most of the keys that stand alone."""
    sieve = Sieve(16 * sum(map(len, keys)))
    for some in keys:
        sieve.add(some)
    left = [sieve.often(some, 2) for some in keys]
    return ordered(
        [some[stays] for some, stays in zip(keys, left, strict=True)],
        [places[stays] for places, stays in zip(where, left, strict=True)],
        at_once,
    )


class _Sketches:
    """The sketches of all documents, in the order of their ranks, wherever they lie."""

    def __init__(self, parts: Sequence[Signs], of_part: Places, inside: Places) -> None:
        self.parts, self.of_part, self.inside = parts, of_part, inside

    def __getitem__(self, places: Places) -> npt.NDArray[np.uint8]:
        found = np.empty((len(places), _HASHES), dtype=np.uint8)
        owners = self.of_part[places]
        for number in np.flatnonzero(np.bincount(owners)).tolist():
            mine = owners == number
            found[mine] = self.parts[number].sketch[self.inside[places[mine]]]
        return found


def _least(agreement: float) -> int:
    """Equal bytes of 256 at which the similarity is estimated at ``agreement``: unequal hashes agree once in 256."""
    return int(np.ceil(_HASHES * (agreement + (1 - agreement) / 256)))


def _join_alike(keys: Hashes, places: Places, sketches: _Sketches, parents: Places, how: Any, least: int) -> None:
    """Compares within each bucket of one band. Only documents in buckets of several are looked at, some at a time."""
    live = keys != 0
    keys, places = keys[live], places[live]
    # An exact or normalised copy is judged by the one that stands for it.
    whole = how[places] == 0
    keys, places = keys[whole], places[whole]
    if len(keys) < 2:
        return
    same = keys[1:] == keys[:-1]
    crowded = np.concatenate((same, [False])) | np.concatenate(([False], same))
    keys, places = keys[crowded], places[crowded]
    for first, last in _buckets(keys, 1 << 18):
        _join_bucket(keys[first:last], places[first:last], sketches[places[first:last]], parents, least)


def _buckets(keys: Hashes, most: int) -> Iterator[tuple[int, int]]:
    """Cuts sorted keys into stretches of about ``most``, never between equal ones."""
    first = 0
    while first < len(keys):
        last = min(len(keys), first + most)
        last = int(np.searchsorted(keys, keys[last - 1], side="right"))
        yield first, last
        first = last


def _measure(sketches: _Sketches, parents: Places, how: Any, similarity: Shares) -> None:
    """Marks near duplicates and estimates how like the kept document each is."""
    gone = np.flatnonzero((parents != np.arange(len(parents))) & (how == 0))
    how[gone] = 3
    for start in range(0, len(gone), 1 << 18):
        some = gone[start : start + (1 << 18)]
        equal = (sketches[some] == sketches[parents[some]]).mean(axis=1)
        similarity[some] = np.maximum(0, (equal - 1 / 256) / (1 - 1 / 256))
    # A copy of a near duplicate is as like the kept one as that is, but goes by the rule by which it was found first.


@compiled
def _flatten(parents: Any) -> None:
    for place in range(len(parents)):
        parents[place] = root(parents, place)


@compiled
def _join_equal(keys: Any, second: Any, places: Any, parents: Any, how: Any, kind: Any) -> None:
    """Joins documents whose two keys are equal; places ascend within equal keys."""
    for at in range(1, len(keys)):
        back = at - 1
        while back >= 0 and keys[back] == keys[at]:
            one, other = places[back], places[at]
            if second[one] == second[other]:
                if root(parents, one) != root(parents, other):
                    join(parents, one, other)
                    if how[other] == 0:
                        how[other] = kind
                break
            back -= 1


@compiled
def _join_bucket(keys: Any, places: Any, sketches: Any, parents: Any, least: Any) -> None:
    leaders = np.empty(_LEADERS, dtype=np.int64)
    count = 0
    for at in range(len(keys)):
        if at == 0 or keys[at] != keys[at - 1]:
            count = 0
        alone = True
        for number in range(count):
            other = leaders[number]
            if root(parents, places[at]) == root(parents, places[other]):
                alone = False
                continue
            equal = 0
            for place in range(sketches.shape[1]):
                equal += sketches[at, place] == sketches[other, place]
            if equal >= least:
                join(parents, places[at], places[other])
                alone = False
        if alone and count < _LEADERS:
            leaders[count] = at
            count += 1


@compiled
def _digest(data: Any, start: Any, end: Any, out: Any) -> None:
    """128 bits of the bytes, eight at a time."""
    one, other = np.uint64(end - start), np.uint64(0x9E3779B97F4A7C15)
    # Places without a sign: of those that may be negative each would be looked at first, and each byte read by itself.
    place, stop = np.uint64(start), np.uint64(end)
    while place < stop:
        word = np.uint64(0)
        if place + np.uint64(8) <= stop:
            for byte in range(8):
                word |= np.uint64(data[place + np.uint64(byte)]) << np.uint64(8 * byte)
        else:
            for byte in range(stop - place):
                word |= np.uint64(data[place + np.uint64(byte)]) << np.uint64(8 * byte)
        one = (one ^ word) * np.uint64(0xBF58476D1CE4E5B9)
        one ^= one >> np.uint64(29)
        other = (other + word) * np.uint64(0x94D049BB133111EB)
        other ^= other >> np.uint64(32)
        place += np.uint64(8)
    out[0], out[1] = mix(one), mix(other)


@compiled
def _chain(hashes: Any, count: Any, out: Any) -> None:
    """128 bits of the units in their order."""
    one, other = np.uint64(count), np.uint64(0x9E3779B97F4A7C15)
    for place in range(count):
        one = (one ^ hashes[place]) * np.uint64(0xBF58476D1CE4E5B9)
        one ^= one >> np.uint64(29)
        other = (other + hashes[place]) * np.uint64(0x94D049BB133111EB)
        other ^= other >> np.uint64(32)
    out[0], out[1] = mix(one), mix(other)


@compiled
def _sketch(shingles: Any, count: Any, least: Any) -> None:
    """Of each of 256 hash functions the least value; the highest 16 bits say in which round the place was filled."""
    empty = np.uint64(0xFFFFFFFFFFFFFFFF)
    least[:] = empty
    for turn in range(_ROUNDS):
        height = np.uint64(turn) << np.uint64(48)
        salt = np.uint64(turn) * np.uint64(0x9E3779B97F4A7C15)
        for place in range(count):
            value = shingles[place] if turn == 0 else mix(shingles[place] ^ salt)
            slot = value & np.uint64(_HASHES - 1)
            # A least value and no question, of which the answer could not be guessed.
            least[slot] = min(least[slot], height | (value >> np.uint64(16)))
        filled = 0
        for slot in range(_HASHES):
            filled += least[slot] != empty
        if filled == _HASHES:
            return
    for slot in range(_HASHES):
        if least[slot] == empty:
            height = np.uint64(_ROUNDS + slot) << np.uint64(48)
            salt = np.uint64(_ROUNDS + slot) * np.uint64(0x9E3779B97F4A7C15)
            for place in range(count):
                least[slot] = min(least[slot], height | (mix(shingles[place] ^ salt) >> np.uint64(16)))


@compiled
def _sign(
    data: Any, offsets: Any, known: Any, signed: Any, exact: Any, normal: Any, bands: Any, sketch: Any
) -> None:  # fmt: skip
    room = widest(offsets, 0, len(offsets) - 1) + 1
    own, shingles = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.uint64)
    starts, ends = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    least = np.empty(_HASHES, dtype=np.uint64)
    for text in range(len(offsets) - 1):
        start, end = offsets[text], offsets[text + 1]
        _digest(data, start, end, exact[text])
        hashes = known.hashes[known.first[text] : known.last[text]]
        count = len(hashes)
        if count:
            shown = runs(hashes, count, WORDS, shingles)
            _sketch(shingles, shown, least)
            for slot in range(_HASHES):
                value = mix(least[slot])
                sketch[text, slot] = np.uint8(value & np.uint64(0xFF))
                least[slot] = value
            for band in range(BANDS):
                key = np.uint64(band)
                for row in range(ROWS):
                    key = mix(key ^ least[band * ROWS + row])
                bands[band, text] = key | np.uint64(1)
        if count < _SHORT:
            hashes = own
            count = units(data, start, end, signed, hashes, starts, ends)
        if count:
            _chain(hashes, count, normal[text])
        else:
            normal[text] = exact[text]
