"""Passages that many documents repeat: the advertisement printed 60 000 times.

A passage is a line, or a sentence of a line. Two are the same if their letters are: case, form, white space, signs and
numbers do not count. A passage found in many documents stays in one of them; in the others it goes, and so do copies
with some words changed, added or left out. The rest of the text stays as it was.

1. `passages` of each part; 2. `repeated` from their keys alone; 3. `wordings` from the parts in which a repeated
passage stays; 4. `strip` of each part with an `Index` of the wordings.

Source: Raffel et al. 2020, arXiv:1910.10683 (lines said before are left out, section 2.2); Penedo et al. 2023,
arXiv:2306.01116.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus.edges import sign_table, without
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
from tutelage.corpus.lookup import filter_of, table_of
from tutelage.corpus.marking import BRIEFLY, CLOSELY, LONG, RUN, UNSEEN, Book, Marks, Page, mark
from tutelage.corpus.sentences import LETTERS, Rows, found_in

DOCUMENTS = 10
"""Documents in which a passage stands before it counts as repeated."""
EDITED = 20_000
"""Passages, those in most documents, of which changed copies are looked for too."""

_OWNERS = 8
"""Passages that a run is noted for; one that more of them share says little."""


class Passages(NamedTuple):
    """The passages of a part's documents, by key."""

    keys: Hashes
    documents: Rows
    """The row of the document in its part."""


class Repeated(NamedTuple):
    """The passages that stand in many documents, by ascending key."""

    keys: Hashes
    counts: Places
    """Documents that hold it."""
    keepers: Places
    """The number of the document in which it stays."""

    def places(self, keys: Hashes) -> tuple[Places, npt.NDArray[np.bool_]]:
        """Where keys would stand, and whether they do."""
        places = np.searchsorted(self.keys, keys)
        known = places < len(self.keys)
        known[known] = self.keys[places[known]] == keys[known]
        return places, known


class Removed(NamedTuple):
    """Passages that were left out, document by document."""

    rows: Rows
    """The row of the document in its part."""
    passages: Places
    """The place of the repeated passage among all."""
    edited: npt.NDArray[np.bool_]
    """Whether it is a changed copy."""
    starts: Places
    """The first byte that went, in the column of texts."""
    ends: Places


class Stripped(NamedTuple):
    """What `strip` gives."""

    texts: pa.LargeStringArray
    removed: Removed


def passages(texts: Texts) -> Passages:
    """The keys of all lines and sentences that are long enough, each once a document."""
    text = column(texts)
    keys, rows, _, _ = found_in(text)
    order = np.lexsort((keys, rows))
    keys, rows = keys[order], rows[order]
    new = np.ones(len(keys), dtype=bool)
    new[1:] = (keys[1:] != keys[:-1]) | (rows[1:] != rows[:-1])
    return Passages(keys[new], rows[new])


def repeated(
    parts: Sequence[Passages], sizes: Sequence[int], rank: Hashes | None = None, least: int = DOCUMENTS,
    alive: npt.NDArray[np.bool_] | None = None, at_once: int = AT_ONCE,
) -> Repeated:  # fmt: skip
    """The passages that at least ``least`` documents hold.

    Args:
        sizes: documents of each part.
        rank: of all documents; a passage stays in the one of the smallest rank, without it in the first.
        alive: documents that count; those already refused do not.
        at_once: keys sorted at a time.
    """
    edges = np.cumsum([0, *sizes])
    order, position = by_rank(int(edges[-1]), rank)
    keys: list[Hashes] = []
    places: list[Places] = []
    for first, part in zip(edges.tolist(), parts, strict=False):
        numbers = first + part.documents.astype(np.int64)
        counted = slice(None) if alive is None else alive[numbers]
        keys.append(part.keys[counted])
        places.append(position[numbers[counted]])
    found: list[tuple[Hashes, Places, Places]] = []
    for some, where in ordered(keys, places, at_once):
        starts = np.flatnonzero(np.concatenate(([True], some[1:] != some[:-1]))) if len(some) else np.zeros(0, np.int64)
        counts = np.diff(np.append(starts, len(some)))
        many = counts >= least
        found.append((some[starts[many]], counts[many], order[where[starts[many]]]))
    return Repeated(*(np.concatenate(column) for column in zip(*found, strict=True)))


def wordings(texts: Texts, first: int, found: Repeated) -> dict[int, str]:
    """The text of each repeated passage that stays in this part, by key.

    Args:
        first: the number of the part's first document.
    """
    text = column(texts)
    keys, rows, starts, ends = found_in(text)
    place, known = found.places(keys)
    stays = np.flatnonzero(known)
    stays = stays[found.keepers[place[stays]] == first + rows[stays]]
    said: dict[int, str] = {}
    for at in stays.tolist():
        said.setdefault(int(keys[at]), bytes(text.data[starts[at] : ends[at]]).decode("utf-8", "replace"))
    return said


class Index:
    """The repeated passages, to find them and their changed copies in any text."""

    def __init__(self, found: Repeated, said: Mapping[int, str], edited: int = EDITED) -> None:
        """Takes what `repeated` and `wordings` gave; only as many as ``edited`` are looked for in changed form."""
        self.found = found
        self.said = dict(said)
        often = np.argsort(-found.counts, kind="stable")
        chosen = [place for place in often.tolist() if int(found.keys[place]) in self.said][:edited]
        hashes, owners, places, sizes = _runs(column([self.said[int(found.keys[place])] for place in chosen]))
        long = sizes[owners] >= LONG
        hashes, owners, places = hashes[long], owners[long], places[long]
        _, of_run, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        rare = counts[of_run] <= _OWNERS
        order = np.flatnonzero(rare)[np.lexsort((places[rare], owners[rare], hashes[rare]))]
        known, starts = np.unique(hashes[order], return_index=True)
        self.book = Book(
            table_of(found.keys), found.keys, found.keepers, filter_of(known), table_of(known), known,
            np.append(starts, len(order)), owners[order], places[order], sizes, np.array(chosen, dtype=np.int64),
        )  # fmt: skip

    def mark(self, text: Text, first: int, look: npt.NDArray[np.uint8]) -> Removed:
        """What is to be left out of texts.

        look: (texts,) `UNSEEN`, `BRIEFLY`, or `CLOSELY` for those that may hold a repeated passage as it is.
        """
        room = widest(text.offsets, 0, len(text)) + 1
        page = Page(
            text.data, np.empty(room, np.uint64), np.empty(room, np.int32), np.empty(room, np.int32),
            np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room + 1, np.uint8),
            np.empty(room, np.uint8), np.zeros(1, np.int64), sign_table(),
        )  # fmt: skip
        most = 4 * (int(text.offsets[-1] - text.offsets[0]) // LETTERS) + 2 * len(text) + 1
        marks = Marks(
            np.empty(most, np.int32), np.empty(most, np.int64), np.empty(most, np.bool_), np.empty(most, np.int64),
            np.empty(most, np.int64),
        )  # fmt: skip
        count = mark(page, text.offsets, first, folded(digits=False), self.book, marks, look)
        return Removed(*(values[:count].copy() for values in marks))


def strip(
    texts: Texts, first: int, index: Index, known: Passages | None = None, stays: npt.NDArray[np.bool_] | None = None
) -> Stripped:
    """Leaves out repeated passages, but each once where it stays, and says what went.

    A line that nothing is left of goes with its line break, and of two blank lines around it one; of a text that loses
    something the line breaks at its ends go too. Headings and rows of tables stay.

    Args:
        first: the number of the part's first document.
        known: what `passages` gave of these texts: then fewer of them are looked at closely.
        stays: which texts are looked at; the others are left as they are, and no passage stays in them.

    Source: the share of a changed copy is a containment, Broder 1997.
    """
    text = column(texts)
    look = np.full(len(text), CLOSELY if known is None else BRIEFLY, np.uint8)
    if known is not None:
        _, repeated = index.found.places(known.keys)
        look[known.documents[repeated]] = CLOSELY
    if stays is not None:
        look[~stays] = UNSEEN
    removed = index.mark(text, first, look)
    return Stripped(without(text, removed.starts, removed.ends, trimmed=True), removed)


def _runs(text: Text) -> tuple[Hashes, Places, Places, Places]:
    """All runs of three units: hash, text, place in the text; and how many each text has."""
    room = int(text.offsets[-1]) + 1
    hashes, owners, places = np.empty(room, dtype=np.uint64), np.empty(room, np.int64), np.empty(room, np.int64)
    sizes = np.zeros(len(text), dtype=np.int64)
    count = _run_all(text.data, text.offsets, folded(digits=False), hashes, owners, places, sizes)
    return hashes[:count], owners[:count], places[:count], sizes


@compiled
def _run_all(data: Any, offsets: Any, table: Any, hashes: Any, owners: Any, places: Any, sizes: Any) -> Any:
    texts = len(offsets) - 1
    room = widest(offsets, 0, texts) + 1
    words, shingles = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.uint64)
    starts, ends = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    found = 0
    for row in range(texts):
        count = units(data, offsets[row], offsets[row + 1], table, words, starts, ends)
        shown = runs(words, count, RUN, shingles)
        sizes[row] = shown
        for place in range(shown):
            hashes[found], owners[found], places[found] = shingles[place], row, place
            found += 1
    return found
