"""Whether the questions of a test stand in a text: copied, with some words changed, or in part.

A text that gives test items away makes a model look better than it is. Items are taken apart into runs of five words or
eight characters, as all is hashed in `tutelage.corpus.hashing`; an item is found in a text if runs that make up half of
it stand close together there, thirteen words or twenty characters at least, or all of a shorter one. So the
thirteen words in a row that are usually looked for are found too, and besides copies in which the options are shuffled
or every tenth word is another. Runs that many items share, as in questions made from one pattern, do not count.

Source: Brown et al. 2020, arXiv:2005.14165, appendix C (13 words); Touvron et al. 2023, arXiv:2307.09288, appendix
A.6 (share of an item that is covered); Yang et al. 2023, arXiv:2311.04850 (copies in other words stay unseen by this).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tutelage.corpus.hashing import (
    FACTOR,
    Hashes,
    Places,
    Texts,
    Units,
    column,
    compiled,
    folded,
    units,
    units_of,
    widest,
)
from tutelage.corpus.lookup import filter_of, may_hold, place_of, table_of
from tutelage.corpus.testsets import SHORT, Item

COVERED = 0.5
"""Share of an item's units that must stand in a text, in runs."""

_LIKELY = 0.3
"""Share of an item's runs from which on it is worth a closer look."""
_WORDS, _CHARACTERS = 5, 8
"""Units of a run, where most units are words and where they are characters."""
_LEAST = {False: 13, True: 20}
"""Units that must stand in a text at least."""
_OWNERS = 8
"""Items that may share a run that counts."""
_EDGE = 0.25
"""Share of an item's runs that are missing before or behind all others where only a part of it stands in a text."""
_ALL = np.full(1, ~np.uint64(0))
"""A filter that turns nothing away."""

Alteration = Literal["none", "changed", "part"]


class Leak(NamedTuple):
    """An item that stands in a document."""

    document: int
    """The number of the document."""
    item: Item
    coverage: float
    """Share of the item's units that stand there."""
    start: int
    """Where in the text it begins, in bytes of UTF-8."""
    end: int
    text: str
    """What stands there."""
    alteration: Alteration
    """``none`` if all of it stands there, ``part`` if its beginning or its end is missing, else ``changed``."""


class _Book(NamedTuple):
    """The runs of all items, as the loops read them."""

    seen: Any
    """A bit for each run's hash: most of what is in a text is turned away here."""
    table: Any
    known: Any
    starts: Any
    owners: Any
    places: Any
    sizes: Any
    """How many runs of an item count."""
    enough: Any
    """How many of them must stand in a text at least."""
    units: Any
    """Units of an item that are in such runs."""
    spans: Any
    """Units within which they must stand."""
    lengths: Any
    """Runs of an item, counted or not."""


class Index:
    """The items of tests, to find them in any text."""

    def __init__(self, items: Sequence[Item]) -> None:
        """Takes what `testsets.read` gave. Items of fewer than eight units are in ``unjudged``, not looked for."""
        hashes, counts, alone = _lay(column([item.text for item in items]))
        edges = np.cumsum(np.concatenate(([0], counts)))
        self.items: list[Item] = []
        found: dict[bool, list[Hashes]] = {False: [], True: []}
        own = [2 * int(alone[a:b].sum()) > b - a for a, b in pairwise(edges.tolist())]
        self.unjudged = [item for item, size in zip(items, counts.tolist(), strict=True) if size < SHORT]
        # Items of words first: the loops know by the number which kind one is.
        for place in sorted(range(len(items)), key=own.__getitem__):
            size = int(counts[place])
            if size >= SHORT:
                run, where = np.empty(size, dtype=np.uint64), np.empty(size, dtype=np.int64)
                length = _CHARACTERS if own[place] else _WORDS
                shown = _near(hashes[edges[place] : edges[place + 1]], length, _ALL, run, where)
                found[own[place]].append(run[:shown])
                self.items.append(items[place])
        self.words = len(found[False])
        self.book = _book(found)


def _book(found: dict[bool, list[Hashes]]) -> _Book:
    entries = [*found[False], *found[True]]
    hashes = np.concatenate(entries or [np.zeros(0, np.uint64)])
    owners = np.repeat(np.arange(len(entries)), [len(run) for run in entries])
    places = np.concatenate([np.arange(len(run)) for run in entries] or [np.zeros(0, np.int64)])
    # Each run of an item once, at its first place.
    order = np.lexsort((places, owners, hashes))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (hashes[order][1:] != hashes[order][:-1]) | (owners[order][1:] != owners[order][:-1])
    order = order[new]
    hashes, owners, places = hashes[order], owners[order], places[order]
    _, of_run, shared = np.unique(hashes, return_inverse=True, return_counts=True)
    rare = shared[of_run] <= _OWNERS
    distinct = np.bincount(owners, minlength=len(entries))
    left = np.bincount(owners[rare], minlength=len(entries))
    # An item of a pattern is known by what is its own, unless nothing is.
    counted = rare | (left < np.minimum(4, distinct))[owners]
    hashes, owners, places = hashes[counted], owners[counted], places[counted]
    sizes = np.bincount(owners, minlength=len(entries))
    least = np.array(
        [_LEAST[one] - (_CHARACTERS if one else _WORDS) + 1 for one in (False, True) for _ in found[one]],
        dtype=np.int64,
    )
    lengths = np.array([len(run) for run in entries], dtype=np.int64)
    enough = np.minimum(sizes, np.maximum(np.ceil(_LIKELY * sizes).astype(np.int64), least))
    reach = np.zeros(len(entries), dtype=np.int64)
    by_owner = np.lexsort((places, owners))
    _reach(owners[by_owner], places[by_owner], len(found[False]), reach)
    known, starts = np.unique(hashes, return_index=True)
    return _Book(
        filter_of(known), table_of(known), known, np.append(starts, len(hashes)), owners, places, sizes, enough, reach,
        lengths * 3 // 2 + 16, lengths,
    )  # fmt: skip


def find(texts: Texts, first: int, index: Index, known: Units | None = None) -> list[Leak]:
    """Which items stand in which texts.

    Args:
        first: the number of the first text.
        known: the texts' units, if they are there already.
    """
    text = column(texts)
    if not index.items or not len(text):
        return []
    known = known or units_of(text)
    room = max(1024, len(text))
    while True:
        found = tuple(np.empty(room, dtype=np.int64) for _ in range(7))
        count = _scan(text.offsets, known, index.book, index.words, found)
        if count <= room:
            break
        room = count
    leaks: list[Leak] = []
    columns = (values[:count].tolist() for values in found)
    for row, owner, covered, low, high, early, late in zip(*columns, strict=True):
        length = int(index.book.lengths[owner])
        coverage = covered / int(index.book.units[owner])
        if coverage >= 0.98:
            alteration: Alteration = "none"
        else:
            alteration = "part" if max(early, length - 1 - late) > _EDGE * length else "changed"
        said = bytes(text.data[low:high]).decode("utf-8", "replace")
        start = low - int(text.offsets[row])
        leaks.append(
            Leak(first + row, index.items[owner], round(coverage, 4), start, start + high - low, said, alteration)
        )
    return leaks


@functools.cache
def _own_units() -> npt.NDArray[np.bool_]:
    """(65536,): whether a character is a unit by itself."""
    return folded() >> np.uint64(63) == 1


def _lay(text: Any) -> tuple[Hashes, Places, npt.NDArray[np.bool_]]:
    """The units of texts in a row, how many each has, and which of them are single characters."""
    room = int(text.offsets[-1]) + 1
    hashes, counts = np.empty(room, dtype=np.uint64), np.zeros(len(text), dtype=np.int64)
    alone = np.zeros(room, dtype=np.bool_)
    count = _lay_out(text.data, text.offsets, folded(), _own_units(), hashes, counts, alone)
    return hashes[:count], counts, alone[:count]


@compiled
def _lay_out(data: Any, offsets: Any, table: Any, own: Any, hashes: Any, counts: Any, alone: Any) -> Any:
    texts = len(offsets) - 1
    room = widest(offsets, 0, texts) + 1
    words, starts, ends = np.empty(room, np.uint64), np.empty(room, np.int64), np.empty(room, np.int64)
    total = 0
    for row in range(texts):
        start = offsets[row]
        counts[row] = units(data, start, offsets[row + 1], table, words, starts, ends)
        for unit in range(counts[row]):
            hashes[total] = words[unit]
            if ends[unit] - starts[unit] == 3:
                place = start + starts[unit]
                code = (np.int64(data[place] & 15) << 12) | (np.int64(data[place + 1] & 63) << 6)
                alone[total] = data[place] >= 0xE0 and own[code | np.int64(data[place + 2] & 63)]
            total += 1
    return total


@compiled
def _scan(offsets: Any, units: Any, book: Any, words: Any, found: Any) -> Any:
    """Notes (text, item, units found, first byte, last byte, first and last place in the item); gives how many there
    are, which may be more than there is room for."""
    texts = len(offsets) - 1
    room = np.max(units.last - units.first)
    near = np.empty(room, np.uint64)
    hits, where = np.empty(2 * room, np.int64), np.empty(2 * room, np.int64)
    tally = np.zeros(len(book.sizes), dtype=np.int64)
    seen, slots, known = book.seen, book.table, book.known
    total = 0
    for row in range(texts):
        start = offsets[row]
        hashes = units.hashes[units.first[row] : units.last[row]]
        starts, ends = units.starts[units.first[row] :], units.ends[units.first[row] :]
        count = len(hashes)
        caught = 0
        for length in (_WORDS, _CHARACTERS):
            if (length == _WORDS and words == 0) or (length == _CHARACTERS and words == len(tally)) or count < length:
                continue
            first = caught
            for one in range(_near(hashes, length, seen, near, where[first:])):
                run = place_of(near[one], slots, known)
                if run >= 0:
                    hits[caught], where[caught] = run, where[first + one]
                    caught += 1
        if caught == 0:
            continue
        for hit in range(caught):
            for entry in range(book.starts[hits[hit]], book.starts[hits[hit] + 1]):
                tally[book.owners[entry]] += 1
        for hit in range(caught):
            for entry in range(book.starts[hits[hit]], book.starts[hits[hit] + 1]):
                owner = book.owners[entry]
                if tally[owner] >= book.enough[owner]:
                    length = _WORDS if owner < words else _CHARACTERS
                    some, covered, low, high, early, late = _densest(
                        book, owner, length, hits, where, hit, tally[owner]
                    )
                    if some >= book.enough[owner] and covered >= COVERED * book.units[owner]:
                        if total < len(found[0]):
                            found[0][total], found[1][total], found[2][total] = row, owner, covered
                            found[3][total] = start + starts[low]
                            found[4][total] = start + ends[min(high + length, count) - 1]
                            found[5][total], found[6][total] = early, late
                        total += 1
                tally[owner] = 0
    return total


@compiled
def _near(hashes: Any, length: Any, seen: Any, sums: Any, where: Any) -> Any:
    """The sums of runs of units, each unit weighed by its place, that a filter does not turn away, and where they
    stand; how many. What sums are made of are hashes, so they are as good as hashes."""
    value, leaving = np.uint64(0), np.uint64(1)
    for one in hashes[:length]:
        value = value * FACTOR + one
        leaving *= FACTOR
    found, more = 0, len(hashes) - length
    for place in range(more + 1):
        if may_hold(value, seen):
            sums[found], where[found] = value, place
            found += 1
        if place < more:
            value = value * FACTOR + (hashes[place + length] - leaving * hashes[place])
    return found


@compiled
def _reach(owners: Any, places: Any, words: Any, reach: Any) -> None:
    """How many units of each item are in its runs; by item and place."""
    end = np.int64(0)
    for entry in range(len(owners)):
        length = _WORDS if owners[entry] < words else _CHARACTERS
        if entry == 0 or owners[entry] != owners[entry - 1]:
            end = np.int64(0)
        reach[owners[entry]] += places[entry] + length - max(end, places[entry])
        end = places[entry] + length


@compiled
def _densest(book: Any, owner: Any, length: Any, hits: Any, where: Any, first: Any, count: Any) -> Any:
    """Of an item's ``count`` runs the most that stand close together: how many, how many units they make, where they
    stand, and which of the item's runs are the first and the last of them."""
    mine, spots = np.empty(count, np.int64), np.empty(count, np.int64)
    size, hit = 0, first
    while size < count:
        for entry in range(book.starts[hits[hit]], book.starts[hits[hit] + 1]):
            if book.owners[entry] == owner:
                mine[size], spots[size] = book.places[entry], where[hit]
                size += 1
        hit += 1
    times = np.zeros(book.lengths[owner] + length, dtype=np.int32)
    most, begin, distinct, best_first, best_last = 0, 0, 0, 0, 0
    for last in range(size):
        times[mine[last]] += 1
        distinct += times[mine[last]] == 1
        while spots[last] - spots[begin] > book.spans[owner]:
            times[mine[begin]] -= 1
            distinct -= times[mine[begin]] == 0
            begin += 1
        if distinct > most:
            most, best_first, best_last = distinct, begin, last
    times[:] = 0
    early, late, covered = book.lengths[owner], np.int64(0), 0
    for hit in range(best_first, best_last + 1):
        early, late = min(early, mine[hit]), max(late, mine[hit])
        for unit in range(mine[hit], mine[hit] + length):
            covered += times[unit] == 0
            times[unit] = 1
    return most, covered, spots[best_first], spots[best_last], early, late
