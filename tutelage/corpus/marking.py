"""Finds what is to be left out of a text: repeated passages as they are, and copies of them with some words changed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tutelage.corpus.edges import framed, line_start, pictures, stretch, whole_line
from tutelage.corpus.hashing import FACTOR, chain, compiled, mix, units
from tutelage.corpus.lookup import may_hold, place_of
from tutelage.corpus.sentences import LETTERS, part

SHARE = 0.6
"""Of a passage's runs of three units, the share that a changed copy still has."""
RUN = 3
LONG = 16
"""Runs of a passage of which changed copies are looked for: of a shorter one the changed word may be all it says."""
_TURNS = 16
"""Changed copies that are looked for in one line."""
_THERE, _GONE, _STAYS = range(3)
UNSEEN, BRIEFLY, CLOSELY = range(3)
"""How a text is looked at: not at all; only if it holds enough of some passage to be a changed copy; in any case."""
_REST = 24
"""Bytes of letters around a passage in its line that are too few to stay alone."""


class Book(NamedTuple):
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


class Page(NamedTuple):
    """A text in units, and what of it goes; made once, with room for the longest text."""

    data: Any
    hashes: Any
    hits: Any
    """The units with which a run of `Book.known` begins, and one beyond all."""
    numbers: Any
    """The place of that run in `Book.known`."""
    starts: Any
    ends: Any
    breaks: Any
    gone: Any
    """`_THERE`, `_GONE`, or `_STAYS` for what must not be taken for a changed copy."""
    left: Any
    """Bytes of letters that are left of the line at hand."""
    signs: Any


class Marks(NamedTuple):
    """What is to be left out."""

    rows: Any
    which: Any
    edited: Any
    starts: Any
    ends: Any


@compiled
def mark(page: Any, offsets: Any, first: Any, table: Any, book: Any, marks: Any, look: Any) -> Any:
    """Finds what is to be left out of each text; gives how many stretches."""
    kept = np.zeros(len(book.keys), dtype=np.bool_)
    tally = np.zeros(len(book.sizes), dtype=np.int64)
    seen = np.zeros(np.max(book.sizes) if len(book.sizes) else 0, dtype=np.int32)
    least = 1 << 40
    for template in range(len(book.sizes)):
        if book.sizes[template] >= LONG:
            least = min(least, np.int64(np.ceil(SHARE * book.sizes[template])))
    found = 0
    data, starts, ends, breaks = page.data, page.starts, page.ends, page.breaks
    for row in range(len(offsets) - 1):
        if look[row] == UNSEEN:
            continue
        start, end = offsets[row], offsets[row + 1]
        count = units(page.data, start, end, table, page.hashes, page.starts, page.ends)
        if _find(page, count, book) < least and look[row] == BRIEFLY:
            continue
        part(page.data, start, count, page.starts, page.ends, page.breaks)
        page.breaks[count] = 2
        page.gone[:count] = _THERE
        line, hit = 0, 0
        while line < count:
            stop, whole = line + 1, True
            letters = np.int64(ends[line] - starts[line])
            while breaks[stop] != 2:
                whole = whole and breaks[stop] == 0
                letters += ends[stop] - starts[stop]
                stop += 1
            while page.hits[hit] < line:
                hit += 1
            page.left[0] = letters
            if letters >= SHARE * LETTERS and not framed(data, line_start(data, start, start + starts[line])):
                number = np.int64(-1)
                if letters >= LETTERS:
                    number = place_of(chain(page.hashes, line, stop), book.exact, book.keys)
                if number < 0:
                    # To call a function with so many arrays costs more than most lines do.
                    if page.hits[hit] <= stop - RUN:
                        found = _leave_edited(
                            page, start, end, line, stop, hit, book, kept, tally, seen, marks, found, row, first
                        )
                    if not whole:
                        found = _leave_sentences(page, start, end, line, stop, book, kept, marks, found, row, first)
                elif book.keepers[number] == first + row and not kept[number]:
                    kept[number] = True
                else:
                    found = _leave_out(page, start, end, line, stop, line, stop, marks, found, row, number, False)
            line = stop
    return found


@compiled
def _find(page: Any, count: Any, book: Any) -> Any:
    """Finds the runs of a text that are those of passages of which changed copies are looked for; gives how many runs
    of passages these are."""
    hits, total, hashes = 0, 0, page.hashes
    one, two = np.uint64(1), np.uint64(2)
    for unit in range(np.uint64(max(0, count - RUN + 1))):
        # As `hashing.runs` hashes three.
        key = mix((hashes[unit] * FACTOR + hashes[unit + one]) * FACTOR + hashes[unit + two] + np.uint64(RUN))
        if may_hold(key, book.seen):
            number = place_of(key, book.table, book.known)
            if number >= 0:
                page.hits[hits], page.numbers[hits] = unit, number
                total += book.known_starts[number + 1] - book.known_starts[number]
                hits += 1
    page.hits[hits] = count
    return total


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
def _sentence(page: Any, line: Any, stop: Any, sentence: Any, book: Any) -> Any:
    """Where a sentence of a line ends, and which repeated one it is: -1 if none, or if it is the whole line."""
    last = sentence + 1
    while page.breaks[last] == 0:
        last += 1
    if last - sentence < stop - line and _letters(page, sentence, last) >= LETTERS:
        return last, np.int64(place_of(chain(page.hashes, sentence, last), book.exact, book.keys))
    return last, np.int64(-1)


@compiled
def _guard(page: Any, line: Any, stop: Any, book: Any, kept: Any, document: Any) -> None:
    """Marks the sentences of a line that stay here."""
    sentence = line
    while sentence < stop:
        last, number = _sentence(page, line, stop, sentence, book)
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
        last, number = _sentence(page, line, stop, sentence, book)
        if number >= 0:
            if book.keepers[number] == first + row and not kept[number]:
                kept[number] = True
            else:
                found = _leave_out(page, start, end, line, stop, sentence, last, marks, found, row, number, False)
        sentence = last
    return found


@compiled
def _leave_edited(
    page: Any, start: Any, end: Any, line: Any, stop: Any, hit: Any, book: Any, kept: Any, tally: Any, seen: Any,
    marks: Any, found: Any, row: Any, first: Any,
) -> Any:  # fmt: skip
    """Leaves out changed copies of repeated passages: stretches of a line that hold a share of one's runs of units.

    hit: the first of the page's hits in the line.
    """
    total, last = 0, hit
    while page.hits[last] <= stop - RUN:
        number = page.numbers[last]
        total += book.known_starts[number + 1] - book.known_starts[number]
        last += 1
    _guard(page, line, stop, book, kept, first + row)
    owner, place, where = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total, np.int64)
    total = 0
    for at in range(hit, last):
        number = page.numbers[at]
        for entry in range(book.known_starts[number], book.known_starts[number + 1]):
            owner[total], place[total], where[total] = book.owners[entry], book.places[entry], page.hits[at]
            total += 1
    turns = 0
    while turns < _TURNS:
        turns += 1
        for at in range(total):
            tally[owner[at]] += not page.gone[where[at]] and not page.gone[where[at] + RUN - 1]
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
        if owner[right] == template and not gone[where[right]] and not gone[where[right] + RUN - 1]:
            count -= 1
            seen[place[right]] += 1
            distinct += seen[place[right]] == 1
            while where[right] - where[begin] > size + size // 2 + RUN:
                if owner[begin] == template and not gone[where[begin]] and not gone[where[begin] + RUN - 1]:
                    seen[place[begin]] -= 1
                    distinct -= seen[place[begin]] == 0
                begin += 1
            while owner[begin] != template or gone[where[begin]] or gone[where[begin] + RUN - 1]:
                begin += 1
            if distinct > most:
                most, low, high = distinct, where[begin], where[right] + RUN
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
