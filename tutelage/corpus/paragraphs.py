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

from tutelage.corpus.edges import framed, line_start, pictures, sign_table, stretch, whole_line, without
from tutelage.corpus.hashing import (
    AT_ONCE,
    Hashes,
    Places,
    Text,
    Texts,
    by_rank,
    chain,
    column,
    compiled,
    folded,
    ordered,
    runs,
    units,
    widest,
)
from tutelage.corpus.lookup import filter_of, may_hold, place_of, table_of

LETTERS = 60
"""Bytes of letters, without signs, digits and spaces, of the shortest passage: some twelve English words, twenty
Chinese characters."""
DOCUMENTS = 10
"""Documents in which a passage stands before it counts as repeated."""
SHARE = 0.6
"""Of a passage's runs of three units, the share that a changed copy still has."""
EDITED = 20_000
"""Passages, those in most documents, of which changed copies are looked for too."""

_RUN = 3
_LONG = 16
"""Runs of a passage of which changed copies are looked for: of a shorter one the changed word may be all it says."""
_FULL = 60
"""Bytes of a line that may have been broken only because it was full."""
_TURNS = 16
"""Changed copies that are looked for in one line."""
_OWNERS = 8
"""Passages that a run is noted for; one that more of them share says little."""
_THERE, _GONE, _STAYS = range(3)
_REST = 24
"""Bytes of letters around a passage in its line that are too few to stay alone."""

Rows = npt.NDArray[np.int32]


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


class Removed(NamedTuple):
    """A passage that was left out."""

    row: int
    """Of the document in its part."""
    key: int
    """Of the repeated passage."""
    edited: bool
    """Whether it is a changed copy."""
    text: str


class Stripped(NamedTuple):
    """What `strip` gives."""

    texts: pa.LargeStringArray
    removed: list[Removed]


def passages(texts: Texts) -> Passages:
    """The keys of all lines and sentences that are long enough, each once a document."""
    text = column(texts)
    keys, rows, _, _ = _found(text)
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
    keys, rows, starts, ends = _found(text)
    place = np.searchsorted(found.keys, keys)
    place[place == len(found.keys)] = 0
    stays = np.zeros(len(keys), dtype=bool)
    if len(found.keys):
        stays = (found.keys[place] == keys) & (found.keepers[place] == first + rows)
    said: dict[int, str] = {}
    for at in np.flatnonzero(stays).tolist():
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
        long = sizes[owners] >= _LONG
        hashes, owners, places = hashes[long], owners[long], places[long]
        _, of_run, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        rare = counts[of_run] <= _OWNERS
        order = np.flatnonzero(rare)[np.lexsort((places[rare], owners[rare], hashes[rare]))]
        known, starts = np.unique(hashes[order], return_index=True)
        self.book = _Book(
            table_of(found.keys), found.keys, found.keepers, filter_of(known), table_of(known), known,
            np.append(starts, len(order)), owners[order], places[order], sizes, np.array(chosen, dtype=np.int64),
        )  # fmt: skip

    def mark(self, text: Text, first: int, exact: npt.NDArray[np.bool_]) -> tuple[_Marks, int]:
        """What is to be left out of texts, in room for more, and how many stretches that is.

        exact: (texts,) those that may hold a repeated passage as it is.
        """
        room = widest(text.offsets, 0, len(text)) + 1
        page = _Page(
            text.data, np.empty(room, np.uint64), np.empty(room, np.uint64), np.empty(room, np.int64),
            np.empty(room, np.int64), np.empty(room + 1, np.uint8), np.empty(room, np.uint8), np.zeros(1, np.int64),
            sign_table(),
        )  # fmt: skip
        most = 4 * (int(text.offsets[-1] - text.offsets[0]) // LETTERS) + 2 * len(text) + 1
        marks = _Marks(
            np.empty(most, np.int32), np.empty(most, np.int64), np.empty(most, np.bool_), np.empty(most, np.int64),
            np.empty(most, np.int64),
        )  # fmt: skip
        return marks, _mark(page, text.offsets, first, folded(digits=False), self.book, marks, exact)


def strip(texts: Texts, first: int, index: Index, known: Passages | None = None) -> Stripped:
    """Leaves out repeated passages, but each once where it stays, and says what went.

    A line that nothing is left of goes with its line break, and of two blank lines around it one. Headings and
    rows of tables stay.

    Args:
        first: the number of the part's first document.
        known: what `passages` gave of these texts: then fewer of them are looked at closely.

    Source: the share of a changed copy is a containment, Broder 1997.
    """
    text = column(texts)
    exact = np.full(len(text), known is None)
    if known is not None:
        exact[known.documents[np.isin(known.keys, index.found.keys)]] = True
    marks, count = index.mark(text, first, exact)
    rows, which, edited, starts, ends = (values[:count] for values in marks)
    removed = [
        Removed(row, int(index.found.keys[key]), changed, bytes(text.data[start:end]).decode("utf-8", "replace"))
        for row, key, changed, start, end in zip(
            rows.tolist(), which.tolist(), edited.tolist(), starts.tolist(), ends.tolist(), strict=True
        )
    ]
    return Stripped(without(text, starts, ends), removed)


def _found(text: Text) -> tuple[Hashes, Rows, Places, Places]:
    """Key, row, first and last byte of every passage."""
    room = 2 * (int(text.offsets[-1] - text.offsets[0]) // LETTERS) + 1
    keys, rows = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.int32)
    starts, ends = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    count = _collect(text.data, text.offsets, folded(digits=False), keys, rows, starts, ends)
    return keys[:count], rows[:count], starts[:count], ends[:count]


def _runs(text: Text) -> tuple[Hashes, Places, Places, Places]:
    """All runs of three units: hash, text, place in the text; and how many each text has."""
    room = int(text.offsets[-1]) + 1
    hashes, owners, places = np.empty(room, dtype=np.uint64), np.empty(room, np.int64), np.empty(room, np.int64)
    sizes = np.zeros(len(text), dtype=np.int64)
    count = _run_all(text.data, text.offsets, folded(digits=False), hashes, owners, places, sizes)
    return hashes[:count], owners[:count], places[:count], sizes


@compiled
def _part(data: Any, start: Any, count: Any, starts: Any, ends: Any, breaks: Any) -> None:
    """What parts a unit from the one before: 2 the end of a line, 1 the end of a sentence.

    A line that is broken only because it was full goes on in the next one: it is long, no sentence ends with it, and
    the next is not blank and begins with no mark of a list, a heading, a quotation or a table.
    """
    begun = start
    for unit in range(1, count):
        kind, ended, broken = 0, False, np.int64(-1)
        place, stop = start + ends[unit - 1], start + starts[unit]
        while place < stop:
            byte = data[place]
            if byte == 10:
                if broken >= 0 or ended or place - begun < _FULL:
                    kind = 2
                broken, begun = place, place + 1
            elif byte == 46 or byte == 33 or byte == 63:  # . ! ?
                ended = True
            elif byte == 32 or byte == 9 or byte == 13:
                if ended and kind == 0:
                    kind = 1
            elif byte == 0xE3 and place + 2 < stop and data[place + 1] == 0x80 and data[place + 2] == 0x82:
                kind, ended = max(kind, 1), True
            elif byte == 0xEF and place + 2 < stop and data[place + 1] == 0xBC:
                last = data[place + 2]
                if last == 0x81 or last == 0x9F or last == 0x9B:  # full width ! ? ;
                    kind, ended = max(kind, 1), True
            if broken >= 0 and byte > 32:
                following = data[place + 1]
                listed = (byte == 45 or byte == 42 or byte == 43) and (following == 32 or following == byte)  # - * +
                numbered = 48 <= byte <= 57 and (following == 46 or following == 41 or 48 <= following <= 57)
                if listed or numbered or byte in (35, 58, 61, 62, 96, 124, 126) or byte == 0xE2:  # # : = > ` | ~
                    kind = 2
            place += 1
        breaks[unit] = kind


@compiled
def _collect(data: Any, offsets: Any, table: Any, keys: Any, rows: Any, froms: Any, tos: Any) -> Any:
    texts = len(offsets) - 1
    room = widest(offsets, 0, texts) + 1
    hashes, breaks = np.empty(room, dtype=np.uint64), np.empty(room + 1, dtype=np.uint8)
    starts, ends = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    found = 0
    for row in range(texts):
        start = offsets[row]
        count = units(data, start, offsets[row + 1], table, hashes, starts, ends)
        _part(data, start, count, starts, ends, breaks)
        breaks[count] = 2
        line, sentence, line_letters, letters = 0, 0, 0, 0
        cells = False
        for unit in range(count):
            if unit == line:
                cells = framed(data, line_start(data, start, start + starts[unit]))
            size = ends[unit] - starts[unit]
            line_letters, letters = line_letters + size, letters + size
            kind = breaks[unit + 1]
            if kind == 0:
                continue
            if letters >= LETTERS and (sentence > line or kind == 1) and not cells:
                keys[found], rows[found] = chain(hashes, sentence, unit + 1), row
                froms[found], tos[found] = start + starts[sentence], start + ends[unit]
                found += 1
            if kind == 2:
                if line_letters >= LETTERS and not cells:
                    keys[found], rows[found] = chain(hashes, line, unit + 1), row
                    froms[found], tos[found] = start + starts[line], start + ends[unit]
                    found += 1
                line, line_letters = unit + 1, 0
            sentence, letters = unit + 1, 0
    return found


@compiled
def _run_all(data: Any, offsets: Any, table: Any, hashes: Any, owners: Any, places: Any, sizes: Any) -> Any:
    texts = len(offsets) - 1
    room = widest(offsets, 0, texts) + 1
    words, shingles = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.uint64)
    starts, ends = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    found = 0
    for row in range(texts):
        count = units(data, offsets[row], offsets[row + 1], table, words, starts, ends)
        shown = runs(words, count, _RUN, shingles)
        sizes[row] = shown
        for place in range(shown):
            hashes[found], owners[found], places[found] = shingles[place], row, place
            found += 1
    return found


class _Book(NamedTuple):
    """The repeated passages, as the loops read them."""

    exact: Any
    """A table of the places of ``keys``."""
    keys: Any
    keepers: Any
    seen: Any
    """A filter of ``known``."""
    table: Any
    """A table of the places of ``known``, the runs of the passages of which changed copies are looked for."""
    known: Any
    known_starts: Any
    owners: Any
    places: Any
    sizes: Any
    templates: Any
    """The place in ``keys`` of each of these passages."""


class _Page(NamedTuple):
    """A text in units, and what of it goes; made once, with room for the longest text."""

    data: Any
    hashes: Any
    runs: Any
    starts: Any
    ends: Any
    breaks: Any
    gone: Any
    """`_THERE`, `_GONE`, or `_STAYS` for what must not be taken for a changed copy."""
    left: Any
    """Bytes of letters that are left of the line at hand."""
    signs: Any


class _Marks(NamedTuple):
    """What is to be left out."""

    rows: Any
    which: Any
    edited: Any
    starts: Any
    ends: Any


@compiled
def _mark(page: Any, offsets: Any, first: Any, table: Any, book: Any, marks: Any, exact: Any) -> Any:
    """Finds what is to be left out of each text; gives how many stretches."""
    kept = np.zeros(len(book.keys), dtype=np.bool_)
    tally = np.zeros(len(book.sizes), dtype=np.int64)
    seen = np.zeros(np.max(book.sizes) if len(book.sizes) else 0, dtype=np.int32)
    least = 1 << 40
    for template in range(len(book.sizes)):
        if book.sizes[template] >= _LONG:
            least = min(least, np.int64(np.ceil(SHARE * book.sizes[template])))
    found = 0
    data, starts, breaks = page.data, page.starts, page.breaks
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        count = units(page.data, start, end, table, page.hashes, page.starts, page.ends)
        if count >= _RUN:
            runs(page.hashes, count, _RUN, page.runs)
        if not exact[row] and _hits(page.runs, count - _RUN + 1, book) < least:
            continue
        _part(page.data, start, count, page.starts, page.ends, page.breaks)
        page.breaks[count] = 2
        page.gone[:count] = _THERE
        line = 0
        while line < count:
            stop = line + 1
            while breaks[stop] != 2:
                stop += 1
            letters = page.left[0] = _letters(page, line, stop)
            if letters >= SHARE * LETTERS and not framed(data, line_start(data, start, start + starts[line])):
                number = np.int64(-1)
                if letters >= LETTERS:
                    number = place_of(chain(page.hashes, line, stop), book.exact, book.keys)
                if number < 0:
                    found = _leave_edited(
                        page, start, end, line, stop, book, kept, tally, seen, marks, found, row, first
                    )
                    found = _leave_sentences(page, start, end, line, stop, book, kept, marks, found, row, first)
                elif book.keepers[number] == first + row and not kept[number]:
                    kept[number] = True
                else:
                    found = _leave_out(page, start, end, line, stop, line, stop, marks, found, row, number, False)
            line = stop
    return found


@compiled
def _hits(words: Any, count: Any, book: Any) -> Any:
    """How often a run of a text is one of a passage of which changed copies are looked for."""
    hits = 0
    for unit in range(count):
        number = place_of(words[unit], book.table, book.known) if may_hold(words[unit], book.seen) else -1
        if number >= 0:
            hits += book.known_starts[number + 1] - book.known_starts[number]
    return hits


@compiled
def _letters(page: Any, first: Any, last: Any) -> Any:
    """The bytes of letters of those units that are still there."""
    starts, ends, gone = page.starts, page.ends, page.gone
    letters = np.int64(0)
    for unit in range(first, last):
        if gone[unit] != _GONE:
            letters += ends[unit] - starts[unit]
    return letters


@compiled
def _guard(page: Any, line: Any, stop: Any, book: Any, kept: Any, document: Any) -> None:
    """Marks the sentences of a line that stay here."""
    sentence = line
    while sentence < stop:
        last = sentence + 1
        while page.breaks[last] == 0:
            last += 1
        if last - sentence < stop - line and _letters(page, sentence, last) >= LETTERS:
            number = place_of(chain(page.hashes, sentence, last), book.exact, book.keys)
            if number >= 0 and book.keepers[number] == document and not kept[number]:
                page.gone[sentence:last] = _STAYS
        sentence = last


@compiled
def _leave_sentences(
    page: Any, start: Any, end: Any, line: Any, stop: Any, book: Any, kept: Any, marks: Any, found: Any, row: Any,
    first: Any,
) -> Any:  # fmt: skip
    """Leaves out sentences of a line that are repeated ones."""
    sentence = line
    while sentence < stop:
        last = sentence + 1
        while page.breaks[last] == 0:
            last += 1
        if last - sentence < stop - line and _letters(page, sentence, last) >= LETTERS:
            number = place_of(chain(page.hashes, sentence, last), book.exact, book.keys)
            if number >= 0:
                if book.keepers[number] == first + row and not kept[number]:
                    kept[number] = True
                else:
                    found = _leave_out(page, start, end, line, stop, sentence, last, marks, found, row, number, False)
        sentence = last
    return found


@compiled
def _leave_edited(
    page: Any, start: Any, end: Any, line: Any, stop: Any, book: Any, kept: Any, tally: Any, seen: Any, marks: Any,
    found: Any, row: Any, first: Any,
) -> Any:  # fmt: skip
    """Leaves out changed copies of repeated passages: stretches of a line that hold a share of one's runs of units."""
    words, table, known = page.runs, book.table, book.known
    total = 0
    for unit in range(line, stop - _RUN + 1):
        number = place_of(words[unit], table, known) if may_hold(words[unit], book.seen) else -1
        if number >= 0:
            total += book.known_starts[number + 1] - book.known_starts[number]
    if total == 0:
        return found
    _guard(page, line, stop, book, kept, first + row)
    owner, place, where = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total, np.int64)
    total = 0
    for unit in range(line, stop - _RUN + 1):
        number = place_of(words[unit], table, known)
        if number >= 0:
            for entry in range(book.known_starts[number], book.known_starts[number + 1]):
                owner[total], place[total], where[total] = book.owners[entry], book.places[entry], unit
                total += 1
    turns = 0
    while turns < _TURNS:
        turns += 1
        for at in range(total):
            tally[owner[at]] += not page.gone[where[at]] and not page.gone[where[at] + _RUN - 1]
        best, low, high, most = np.int64(-1), np.int64(0), np.int64(0), np.int64(0)
        for at in range(total):
            template = owner[at]
            if tally[template] >= SHARE * book.sizes[template]:
                some, a, b = _densest(page, at, tally[template], owner, place, where, book.sizes[template], seen)
                # The longest first, so that a whole advertisement goes at once and not sentence by sentence.
                if some >= SHARE * book.sizes[template] and some > most:
                    best, low, high, most = template, a, b, some
            tally[template] = 0
        if best >= 0:
            low, high = _whole(page, line, stop, low, high)
        if best < 0 or low == high:  # nothing, or amid a sentence that says something else
            break
        found = _leave_out(page, start, end, line, stop, low, high, marks, found, row, book.templates[best], True)
    return found


@compiled
def _whole(page: Any, line: Any, stop: Any, low: Any, high: Any) -> Any:
    """The sentences that units ``low`` to ``high`` are, but for a little at the edges; nothing if they are not."""
    first, last = low, high
    while first > line and page.breaks[first] == 0:
        first -= 1
    while last < stop and page.breaks[last] == 0:
        last += 1
    if _letters(page, first, low) + _letters(page, high, last) < _REST:
        return first, last
    return low, low


@compiled
def _densest(page: Any, at: Any, count: Any, owner: Any, place: Any, where: Any, size: Any, seen: Any) -> Any:
    """Of one passage's ``count`` runs the most that stand within one and a half times its length, and from where to
    where."""
    template, begin, distinct, right = owner[at], at, np.int64(0), at
    most, low, high = np.int64(0), np.int64(0), np.int64(0)
    gone = page.gone
    while count > 0:
        if owner[right] == template and not gone[where[right]] and not gone[where[right] + _RUN - 1]:
            count -= 1
            seen[place[right]] += 1
            distinct += seen[place[right]] == 1
            while where[right] - where[begin] > size + size // 2 + _RUN:
                if owner[begin] == template and not gone[where[begin]] and not gone[where[begin] + _RUN - 1]:
                    seen[place[begin]] -= 1
                    distinct -= seen[place[begin]] == 0
                begin += 1
            while owner[begin] != template or gone[where[begin]] or gone[where[begin] + _RUN - 1]:
                begin += 1
            if distinct > most:
                most, low, high = distinct, where[begin], where[right] + _RUN
        right += 1
    for number in range(at, right):
        if owner[number] == template:
            seen[place[number]] = 0
    return most, low, high


@compiled
def _leave_out(
    page: Any, start: Any, end: Any, line: Any, stop: Any, first: Any, last: Any, marks: Any, found: Any, row: Any,
    number: Any, changed: Any,
) -> Any:  # fmt: skip
    """Notes that units ``first`` to ``last`` of a line go; the whole line if little else is in it."""
    low, high = start + page.starts[first], start + page.ends[last - 1]
    page.left[0] -= _letters(page, first, last)
    page.gone[first:last] = _GONE
    little = page.left[0] < _REST
    head, tail = low, high
    if little:
        head = line_start(page.data, start, low)
        while tail < end and page.data[tail] != 10:
            tail += 1
        little = not pictures(page.data, head, low, page.signs) and not pictures(page.data, high, tail, page.signs)
    if little:
        low, high = whole_line(page.data, start, end, head, tail)
        page.gone[line:stop] = _GONE
    else:
        low, high = stretch(page.data, low, high, start, end, page.signs)
    marks.rows[found], marks.which[found], marks.edited[found] = row, number, changed
    marks.starts[found], marks.ends[found] = low, high
    return found + 1
