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
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from tutelage.corpus import compression, rows
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
from tutelage.errors import RecordError

COVERED = 0.5
"""Share of an item's units that must stand in a text, in runs."""
FIELDS = (
    "question", "prompt", "query", "instruction", "input", "problem", "premise", "hypothesis", "sentence", "sentence1",
    "sentence2", "context", "passage", "story", "text", "turns", "choices", "options", "endings", "answer", "answers",
    "output", "response", "solution", "canonical_solution", "target", "explanation",
)  # fmt: skip
"""Names of fields that hold an item's text; of a row that has none of them all text is taken."""
IDS = ("id", "tid", "task_id", "question_id", "example_id", "uid", "idx", "qid")

_LIKELY = 0.3
"""Share of an item's runs from which on it is worth a closer look."""
_WORDS, _CHARACTERS = 5, 8
"""Units of a run, where most units are words and where they are characters."""
_LEAST = {False: 13, True: 20}
"""Units that must stand in a text at least."""
_SHORT = 8
"""Units of the shortest text that can be looked for."""
_OWNERS = 8
"""Items that may share a run that counts."""
_EDGE = 0.25
"""Share of an item's runs that are missing before or behind all others where only a part of it stands in a text."""
_LONGEST = 64 << 20
_ALL = np.full(1, ~np.uint64(0))
"""A filter that turns nothing away."""

Alteration = Literal["none", "changed", "part"]


class Item(NamedTuple):
    """A text of a test."""

    test: str
    """The name of the file."""
    id: str
    field: str
    text: str


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


def read_tests(files: Sequence[str], fields: Sequence[str] = ()) -> list[Item]:
    """The items of test files: .jsonl, .json, .csv, .tsv and .parquet a row each, other files a paragraph each; also
    compressed.

    Args:
        fields: names of the fields to take; without any those of `FIELDS` that a row has.

    Raises:
        RecordError: a file cannot be read, a row is no record, or there is no text in a file.
    """
    items: list[Item] = []
    for name in files:
        path = Path(name)
        found = [
            Item(path.name, identity, field, text)
            for identity, row in _rows(path)
            for field, text in _texts(row, fields)
            if text.strip()
        ]
        if not found:
            wanted = f"none of the fields {', '.join(fields)}" if fields else "no text"
            raise RecordError(f"{path}: {wanted} found in it: name the fields that hold the questions")
        items += found
    return items


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Id and content of each row."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in (".gz", ".zst", ".xz", ".bz2")
    kind = (suffixes[-2:-1] if packed else suffixes[-1:]) or [""]
    if not path.is_file():
        raise RecordError(f"{path}: no such file: give the file of a test")
    if kind[0] in (".jsonl", ".ndjson", ".csv", ".tsv"):
        for row in rows.rows(path, kind[0], _LONGEST, ()):
            if row.fault:
                raise RecordError(f"{row.place}: {row.fault}")
            yield _named(row.value, row.number), row.value
    elif kind[0] == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(path)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise RecordError(f"{path}: not a Parquet file: {error}") from None
        for number, value in enumerate(table.to_pylist(), start=1):
            yield _named(value, number), value
    elif kind[0] == ".json":
        for number, value in enumerate(_listed(path), start=1):
            yield _named(value, number), value
    else:
        text = compression.whole(path, _LONGEST).decode("utf-8", "replace")
        for number, value in enumerate(text.replace("\r\n", "\n").split("\n\n"), start=1):
            yield str(number), {"text": value}


def _listed(path: Path) -> list[Any]:
    """The rows of a JSON file: a list, or the longest list in an object."""
    try:
        whole: Any = json.loads(compression.whole(path, _LONGEST))
    except ValueError as error:
        raise RecordError(f"{path}: not JSON: {error}") from None
    if isinstance(whole, dict):
        lists = [value for value in cast("dict[str, Any]", whole).values() if isinstance(value, list)]
        whole = max(lists, key=len, default=[])
    if not isinstance(whole, list):
        raise RecordError(f"{path}: neither a list nor an object with one: give one row a question")
    return cast("list[Any]", whole)


def _named(row: Any, number: int) -> str:
    if isinstance(row, dict):
        known = cast("dict[str, Any]", row)
        for name in IDS:
            if isinstance(known.get(name), str | int):
                return str(known[name])
    return str(number)


def _texts(row: Any, fields: Sequence[str]) -> list[tuple[str, str]]:
    """Field and text. What is too short by itself is looked for together with the others."""
    if not isinstance(row, dict):
        return [("text", _said(row))]
    known = {str(name): value for name, value in cast("dict[Any, Any]", row).items()}
    lower = {name.lower(): name for name in known}
    names = [name for name in fields if name in known] if fields else [lower[name] for name in FIELDS if name in lower]
    if not names and not fields:
        names = [name for name in known if name.lower() not in IDS]
    found = [(name, text) for name in names if (text := _said(known[name])).strip()]
    long = [(name, text) for name, text in found if count_units(text) >= _SHORT]
    if len(long) == len(found) or not found:
        return long
    return [*long, ("+".join(name for name, _ in found), "\n".join(text for _, text in found))]


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "\n".join(_said(one) for one in cast("Mapping[Any, Any]", value).values())
    if isinstance(value, Sequence):
        return "\n".join(_said(one) for one in cast("Sequence[Any]", value))
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def count_units(text: str) -> int:
    """How many units a text has."""
    return int(_lay(column([text]))[1][0])


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
        """Takes what `read_tests` gave. Items of fewer than eight units are in ``unjudged``, not looked for."""
        hashes, counts, alone = _lay(column([item.text for item in items]))
        edges = np.cumsum(np.concatenate(([0], counts)))
        self.items: list[Item] = []
        found: dict[bool, list[Hashes]] = {False: [], True: []}
        own = [2 * int(alone[a:b].sum()) > b - a for a, b in pairwise(edges.tolist())]
        self.unjudged = [item for item, size in zip(items, counts.tolist(), strict=True) if size < _SHORT]
        # Items of words first: the loops know by the number which kind one is.
        for place in sorted(range(len(items)), key=own.__getitem__):
            size = int(counts[place])
            if size >= _SHORT:
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


def by_item(leaks: Sequence[Leak]) -> dict[Item, list[Leak]]:
    """The leaks of each item, the fullest first; items in the order of their tests and ids."""
    found: dict[Item, list[Leak]] = {}
    for leak in sorted(leaks, key=lambda leak: (leak.item, -leak.coverage, leak.document)):
        found.setdefault(leak.item, []).append(leak)
    return found


def by_document(leaks: Sequence[Leak]) -> dict[int, list[Leak]]:
    """The leaks in each document, the fullest first; documents by number."""
    found: dict[int, list[Leak]] = {}
    for leak in sorted(leaks, key=lambda leak: (leak.document, -leak.coverage, leak.item)):
        found.setdefault(leak.document, []).append(leak)
    return found


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
