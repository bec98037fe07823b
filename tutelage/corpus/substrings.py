"""Long stretches that two documents share word for word: a quoted chapter, a licence, a page inside another page.

Documents that are not alike as a whole can share a long stretch; it stays in one of them. Letters decide, as everywhere
in `tutelage.corpus.hashing`: two stretches are the same if their units are.

A stretch is passed over if each of its anchors stands in a still earlier document too that shares less than the length.

1. `anchors` of each part; 2. `meetings` from the anchors alone; 3. `cut` of each part, with the text of the documents
that `Meetings.wanted` names.

Source: Lee et al. 2022, arXiv:2107.06499 (exact substrings, section 4.1); Schleimer, Wilkerson and Aiken 2003,
Winnowing (SIGMOD), section 3: what it chooses in two documents has a place in common wherever they share the length
that was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus.edges import bare, line_start, sign_table, stretch, whole_line, without
from tutelage.corpus.hashing import (
    AT_ONCE,
    Hashes,
    Places,
    Text,
    Texts,
    by_rank,
    column,
    compiled,
    folded,
    ordered,
    runs,
    units,
    widest,
)

LENGTH = 100
"""Units of the shortest stretch that counts: words, or Chinese characters."""

Rows = npt.NDArray[np.int32]


class Anchors(NamedTuple):
    """Chosen runs of half the length that counts."""

    keys: Hashes
    documents: Rows
    """The row of the document in its part."""
    places: Rows
    """The first unit of the run."""


class Meetings(NamedTuple):
    """Places at which a document and one that stays before it hold the same run."""

    documents: Places
    """Ascending."""
    places: Places
    originals: Places
    original_places: Places
    length: int

    @property
    def wanted(self) -> Places:
        """The numbers of the documents whose text `cut` needs."""
        return np.unique(self.originals)


class Cut(NamedTuple):
    """A stretch that was left out."""

    row: int
    """Of the document in its part."""
    original: int
    """The number of the document in which it stays."""
    text: str


class Result(NamedTuple):
    """What `cut` gives."""

    texts: pa.LargeStringArray
    removed: list[Cut]


class _Units(NamedTuple):
    hashes: Hashes
    starts: Places
    ends: Places


def anchors(texts: Texts, length: int = LENGTH) -> Anchors:
    """Chooses runs of ``length / 2`` units such that every ``length`` units hold one, by their hashes alone."""
    text = column(texts)
    room = int(text.offsets[-1] - text.offsets[0]) // 2 + 2
    keys, rows, places = np.empty(room, np.uint64), np.empty(room, np.int32), np.empty(room, np.int32)
    count = _choose(text.data, text.offsets, folded(), length // 2, length - length // 2 + 1, keys, rows, places)
    return Anchors(keys[:count].copy(), rows[:count].copy(), places[:count].copy())


def meetings(
    parts: Sequence[Anchors], sizes: Sequence[int], rank: Hashes | None = None, length: int = LENGTH,
    alive: npt.NDArray[np.bool_] | None = None, at_once: int = AT_ONCE,
) -> Meetings:  # fmt: skip
    """Where documents meet: each later one with the first that holds the run.

    Args:
        sizes: documents of each part.
        rank: of all documents; the one of the smallest rank keeps the stretch, without it the first.
        alive: documents that count; those already refused do not.
        at_once: keys sorted at a time.
    """
    edges = np.cumsum([0, *sizes])
    order, position = by_rank(int(edges[-1]), rank)
    keys: list[Hashes] = []
    spots: list[Places] = []
    for first, part in zip(edges.tolist(), parts, strict=False):
        numbers = first + part.documents.astype(np.int64)
        counted = np.ones(len(numbers), dtype=bool) if alive is None else alive[numbers]
        keys.append(part.keys[counted])
        # Document and place in one number: a document has fewer than 2^31 units.
        spots.append((position[numbers[counted]] << 31) | part.places[counted])
    found: list[tuple[Places, Places]] = []
    for some, where in ordered(keys, spots, at_once):
        if not len(some):
            continue
        starts = np.flatnonzero(np.concatenate(([True], some[1:] != some[:-1])))
        first_of = np.repeat(where[starts], np.diff(np.append(starts, len(some))))
        later = (first_of >> 31) != (where >> 31)
        found.append((where[later], first_of[later]))
    met = np.concatenate([one for one, _ in found] or [np.zeros(0, np.int64)])
    kept = np.concatenate([one for _, one in found] or [np.zeros(0, np.int64)])
    documents, originals = order[met >> 31], order[kept >> 31]
    places, original_places = met & (2**31 - 1), kept & (2**31 - 1)
    by_document = np.lexsort((places, documents))
    return Meetings(
        documents[by_document], places[by_document], originals[by_document], original_places[by_document], length
    )


def cut(texts: Texts, first: int, met: Meetings, originals: Mapping[int, str]) -> Result:
    """Leaves out the stretches that stay in another document, as far as they reach.

    Args:
        first: the number of the part's first document.
        originals: the text of all documents of ``met.wanted`` that meet with this part's.
    """
    text = column(texts)
    low, high = np.searchsorted(met.documents, [first, first + len(text)])
    known: dict[int, Hashes] = {}
    removed: list[Cut] = []
    starts: list[int] = []
    ends: list[int] = []
    for row in np.unique(met.documents[low:high] - first).tolist():
        some = slice(*np.searchsorted(met.documents, [first + row, first + row + 1]).tolist())
        mine = _units(text, row)
        offset = int(text.offsets[row])
        covered = 0
        for place, original, other in zip(
            met.places[some].tolist(), met.originals[some].tolist(), met.original_places[some].tolist(), strict=True
        ):
            if place < covered:
                continue
            if original not in known:
                known[original] = _units(column([originals[original]]), 0).hashes.copy()
            begin, end = _reach(mine.hashes, known[original], place, other)
            begin = max(begin, covered)
            if end - begin < met.length:
                continue
            covered = end
            low_byte, high_byte = offset + int(mine.starts[begin]), offset + int(mine.ends[end - 1])
            a, b = _edges(text.data, offset, int(text.offsets[row + 1]), low_byte, high_byte, sign_table())
            starts.append(a)
            ends.append(b)
            removed.append(Cut(row, original, bytes(text.data[a:b]).decode("utf-8", "replace")))
    return Result(without(text, np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)), removed)


def _units(text: Text, row: int) -> _Units:
    start, end = int(text.offsets[row]), int(text.offsets[row + 1])
    room = end - start + 1
    hashes, starts, ends = np.empty(room, np.uint64), np.empty(room, np.int64), np.empty(room, np.int64)
    count = units(text.data, start, end, folded(), hashes, starts, ends)
    return _Units(hashes[:count], starts[:count], ends[:count])


@compiled
def _edges(data: Any, start: Any, end: Any, low: Any, high: Any, signs: Any) -> Any:
    """The bytes that go for those from ``low`` to ``high``: whole lines with their breaks, else up to the next word."""
    head, tail = line_start(data, start, low), high
    while tail < end and data[tail] != 10:
        tail += 1
    if bare(data, head, low, signs) and bare(data, high, tail, signs):
        return whole_line(data, start, end, head, tail)
    return stretch(data, low, high, head, tail, signs)


@compiled
def _reach(mine: Any, other: Any, place: Any, spot: Any) -> Any:
    """How far two documents are the same around a place of each."""
    begin, end, shift = place, place, spot - place
    while begin > 0 and begin + shift > 0 and mine[begin - 1] == other[begin - 1 + shift]:
        begin -= 1
    while end < len(mine) and end + shift < len(other) and mine[end] == other[end + shift]:
        end += 1
    return begin, end


@compiled
def _choose(data: Any, offsets: Any, table: Any, length: Any, window: Any, keys: Any, rows: Any, places: Any) -> Any:
    """Of every ``window`` runs that follow each other the one of the least hash, the last of several."""
    texts = len(offsets) - 1
    room = widest(offsets, 0, texts) + 1
    hashes, shingles = np.empty(room, np.uint64), np.empty(room, np.uint64)
    starts, ends = np.empty(room, np.int64), np.empty(room, np.int64)
    found = 0
    for row in range(texts):
        count = units(data, offsets[row], offsets[row + 1], table, hashes, starts, ends)
        if count < length + window - 1:
            continue
        shown = runs(hashes, count, length, shingles)
        least = -1
        for last in range(window - 1, shown):
            first = last - window + 1
            if least < first:
                least = first
                for place in range(first + 1, last + 1):
                    if shingles[place] <= shingles[least]:
                        least = place
            elif shingles[last] <= shingles[least]:
                least = last
            else:
                continue
            keys[found], rows[found], places[found] = shingles[least], row, least
            found += 1
    return found
