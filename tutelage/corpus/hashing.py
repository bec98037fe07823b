"""Text as columns of bytes, cut into units and hashed by compiled loops.

A unit is a word, or one character where words are not written apart (Han, kana, Hangul, Thai, Lao, Khmer, Burmese).
Characters are folded before: compatibility forms and accents (NFKD), case, and everything that is neither letter nor
digit only parts words. All other modules about repetition work on the hashes of these units, so that Chinese and
English, full width and half width are treated alike.

The loops release the GIL and are compiled once; the compiled code is kept beside this file, or in the user's cache.
"""

from __future__ import annotations

import functools
import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Texts = Sequence[str] | pa.Array | pa.ChunkedArray

AT_ONCE = 1 << 24
"""Keys that are sorted at a time: 400 MB with what belongs to them."""

_OWN = 1 << 63
"""Marks, in a table of folded characters, one that is a unit by itself."""
_ALONE = (
    (0x3400, 0xA000), (0xF900, 0xFB00), (0x3041, 0x3100), (0x31F0, 0x3200), (0xAC00, 0xD7A4), (0x1100, 0x1200),
    (0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800),
)  # fmt: skip

_Function = TypeVar("_Function", bound=Callable[..., Any])


_SHARED = ("hashing.py", "characters.py", "digits.py", "edges.py", "lookup.py", "looks.py", "sentences.py", "signs.py")
_STATE = hashlib.blake2b(
    b"".join((Path(__file__).parent / name).read_bytes() for name in _SHARED), digest_size=4
).hexdigest()


def compiled(function: _Function) -> _Function:
    """The function as machine code, made when it is first called, and kept.

    What is kept goes by the name and the file of the function alone; but it holds loops of the files that others
    share, so their state is made a part of the name.
    """
    function.__qualname__ += f"_{_STATE}"
    decorate = cast("Callable[[_Function], _Function]", numba.njit(cache=True, nogil=True))
    return decorate(function)


def is_kept(loop: Any) -> bool:
    """Whether a `compiled` loop need not be compiled again, for its file as it is and for this processor.

    Numba has no word for it, so its index is looked into; if it has another one day, nothing is to be said.
    """
    try:
        machine, index = loop.targetctx.codegen().magic_tuple(), loop._cache._cache_file._load_index()
    except AttributeError:
        return True
    return any(kept[1] == machine for kept in index)


class Text(NamedTuple):
    """Texts one after the other in UTF-8."""

    data: Bytes
    offsets: Places
    """Where each text starts; one more than there are texts."""

    def __len__(self) -> int:
        return len(self.offsets) - 1


class Units(NamedTuple):
    """The units of texts, one text after the other."""

    hashes: Hashes
    starts: npt.NDArray[np.int32]
    """Bytes from the start of the text."""
    ends: npt.NDArray[np.int32]
    first: Places
    """Of each text where its units begin."""
    last: Places

    def take(self, rows: Places | slice) -> Units:
        """The units of some of the texts."""
        return self._replace(first=self.first[rows], last=self.last[rows])


def units_of(text: Text) -> Units:
    """The units of texts, for all that ask for them: finding them is half of the work of each."""
    room = int(text.offsets[-1] - text.offsets[0]) + 1
    found = np.empty(room, np.uint64), np.empty(room, np.int32), np.empty(room, np.int32)
    edges = np.zeros(len(text) + 1, np.int64)
    _cut(text.data, text.offsets, folded(), *found, edges)
    return Units(*found, edges[:-1], edges[1:])


def column(texts: Texts) -> Text:
    """The bytes of texts; without a copy if they are a `pyarrow.LargeStringArray`."""
    array: Any = texts
    if isinstance(texts, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
    elif not isinstance(texts, pa.Array):
        array = strings(texts)
    if not pa.types.is_large_string(array.type):
        array = array.cast(pa.large_string())
    if array.null_count:
        array = array.fill_null("")
    _, offsets, data = array.buffers()
    if not len(array) or data is None:
        return Text(np.frombuffer(b"", dtype=np.uint8), np.frombuffer(bytes(8 * len(array) + 8), dtype=np.int64))
    starts = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return Text(np.frombuffer(data, dtype=np.uint8), starts)


def strings(texts: Sequence[str]) -> pa.LargeStringArray:
    """A column of text. Half a pair of surrogates, which no encoding has, becomes a question mark.

    It is made from the bytes, for `pyarrow.array` would import pandas.
    """
    try:
        packed = [text.encode() for text in texts]
    except UnicodeEncodeError:
        packed = [text.encode("utf-8", "replace") for text in texts]
    return joined(packed)


def joined(packed: Sequence[bytes]) -> pa.LargeStringArray:
    """A column of what is encoded already."""
    offsets = np.zeros(len(packed) + 1, dtype=np.int64)
    np.cumsum([len(one) for one in packed], out=offsets[1:])
    return pa.LargeStringArray.from_buffers(len(packed), pa.py_buffer(offsets), pa.py_buffer(b"".join(packed)))


def replaced(texts: pa.LargeStringArray, values: Mapping[int, str]) -> pa.LargeStringArray:
    """The column with other texts in some rows."""
    if not values:
        return texts
    rows = sorted(values)
    fresh = strings([values[row] for row in rows])
    if len(rows) == len(texts):
        return fresh
    pieces: list[pa.LargeStringArray] = []
    place = 0
    for number, row in enumerate(rows):
        pieces += [texts.slice(place, row - place), fresh.slice(number, 1)]
        place = row + 1
    return pa.concat_arrays([*pieces, texts.slice(place)])


def rank(ids: Sequence[str], preference: Sequence[int] | None = None) -> Hashes:
    """An order of the documents that does not depend on how they came: by preference (0 to 255, smaller stays), then by
    a hash of the id. For two documents of one id (or in 2^56 of equal hash) the first comes first."""
    digests = b"".join(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest() for name in ids)
    hashed = np.frombuffer(digests, dtype="<u8").astype(np.uint64) >> np.uint64(8)
    if preference is None:
        return hashed
    return hashed | (np.asarray(preference, dtype=np.uint64) << np.uint64(56))


def by_rank(total: int, ranks: Hashes | None) -> tuple[Places, Places]:
    """The documents in the order of their ranks, or as they came; and of each its place in that order."""
    order = np.arange(total) if ranks is None else np.argsort(ranks, kind="stable")
    position = np.empty(total, dtype=np.int64)
    position[order] = np.arange(total)
    return order, position


def shares(text: Text, count: int) -> list[tuple[int, int]]:
    """Cuts texts into about ``count`` runs of equal bytes, as (first, last + 1)."""
    goals = np.linspace(text.offsets[0], text.offsets[-1], count + 1)
    edges = np.searchsorted(text.offsets, goals)
    edges[0], edges[-1] = 0, len(text)
    return [(int(a), int(b)) for a, b in pairwise(edges) if b > a]


def in_threads(work: Callable[[int, int], None], text: Text, threads: int) -> None:
    """Calls ``work(first, last)`` for all texts, in runs of some MB."""
    runs = shares(text, max(threads * 4, len(text.data) >> 23)) if threads > 1 else [(0, len(text))]
    if threads == 1:
        for first, last in runs:
            work(first, last)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, first, last) for first, last in runs]:
            done.result()


def ordered(
    keys: Sequence[Hashes], places: Sequence[Places], at_once: int = AT_ONCE
) -> Iterator[tuple[Hashes, Places]]:
    """All (key, place), sorted by key and then by place, in slices; equal keys come in one slice.

    The arrays may be memory-mapped: of them only the slice is held. Keys must be hashes, for the slices are ranges of
    equal width.
    """
    total = sum(map(len, keys))
    slices = max(1, -(-total // at_once))
    for number in range(slices):
        low, high = number * (1 << 64) // slices, (number + 1) * (1 << 64) // slices - 1
        if slices == 1:
            some, where = np.concatenate(keys or [np.zeros(0, np.uint64)]), np.concatenate(places or [_NONE])
        else:
            inside = [(part >= np.uint64(low)) & (part <= np.uint64(high)) for part in keys]
            some = np.concatenate([part[mask] for part, mask in zip(keys, inside, strict=True)])
            where = np.concatenate([part[mask] for part, mask in zip(places, inside, strict=True)])
        order = np.argsort(some)
        # Keys that stand alone need no second look, and most do.
        same = some[order[1:]] == some[order[:-1]]
        crowded = np.flatnonzero(np.append(same, False) | np.append(False, same)) if len(order) else order
        several = order[crowded]
        order[crowded] = several[np.lexsort((where[several], some[several]))]
        yield some[order], where[order]


_NONE = np.zeros(0, dtype=np.int64)


@functools.cache
def folded(digits: bool = True, symbols: bool = False) -> Hashes:
    """(65536,): what each character of the basic plane becomes: 0 if it parts words, else up to three characters of 21
    bits, and bit 63 for a unit by itself; that bit alone is for one that is passed over.

    Args:
        digits: else a digit parts words, so that texts are the same whatever their numbers are.
        symbols: whether a sign that is neither letter nor digit is a unit too; only white space parts then.

    Source: Unicode Standard Annex 15, NFKD; default case folding, chapter 3.13.
    """
    table = np.zeros(0x10000, dtype=np.uint64)
    for code in range(0x10000):
        if 0xD800 <= code < 0xF900:  # no characters
            continue
        if 0x3400 <= code < 0xA000 or 0xAC00 <= code < 0xD800:  # most of the plane, and nothing to fold
            table[code] = code | _OWN
            continue
        character = chr(code)
        if character.isdigit() and not digits:
            continue
        if 0x300 <= code < 0x370 or unicodedata.category(character) == "Cf":  # accents, soft hyphens, joiners
            table[code] = _OWN
            continue
        apart = unicodedata.normalize("NFKD", character.casefold())
        # Accents go, so that composed, decomposed and unaccented are one; all else is put together again.
        bare = "".join(letter for letter in apart if not 0x300 <= ord(letter) < 0x370)
        letters = [letter for letter in unicodedata.normalize("NFC", bare) if _counts(letter, symbols)][:3]
        if not letters or (not digits and all(letter.isdigit() for letter in letters)):
            continue
        packed = sum(ord(letter) << (21 * place) for place, letter in enumerate(letters))
        sign = not letters[0].isalnum() and unicodedata.category(letters[0])[0] != "M"
        own = sign or any(first <= ord(letters[0]) < end for first, end in _ALONE)
        table[code] = packed | (_OWN if own else 0)
    return table


def _counts(letter: str, symbols: bool) -> bool:
    kind = unicodedata.category(letter)[0]
    return kind in "LNM" or (symbols and kind in "PS")


@compiled
def mix(value: Any) -> Any:
    """A bijection of 64 bits in which every bit depends on every other.

    Source: Stafford's variant 13 of the finaliser of MurmurHash3, as in Steele, Lea and Flood 2014, SplitMix.
    """
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@compiled
def units(data: Any, start: Any, end: Any, table: Any, hashes: Any, starts: Any, ends: Any) -> Any:
    """Hashes the units of ``data[start:end]`` and says where each starts and ends, in bytes from ``start``; gives their
    number. The arrays must have room for ``end - start`` units."""
    # A place that may be below zero is looked at twice: it could count from the end.
    one, two, three, six = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(6)
    start, end, count = np.uint64(start), np.uint64(end), np.uint64(0)
    place, began, inside = start, start, False
    value = np.uint64(0)
    while place < end:
        first = data[place]
        here = place
        if first < 128:
            letters = table[first]
            if letters - np.uint64(1) < np.uint64(_OWN - 1):
                # A run of plain letters, without looking at each for what it might be else.
                if not inside:
                    began, inside, value = here, True, np.uint64(0)
                while letters - np.uint64(1) < np.uint64(_OWN - 1):
                    value = (value ^ letters) * np.uint64(0x9E3779B97F4A7C15)
                    value ^= value >> np.uint64(32)
                    place += one
                    letters = table[data[place]] if place < end and data[place] < 128 else np.uint64(0)
                continue
            place += one
        elif first < 0xE0:
            letters = table[(np.uint64(first & 31) << six) | np.uint64(data[place + one] & 63)]
            place += two
        elif first < 0xF0:
            code = (np.uint64(first & 15) << six) | np.uint64(data[place + one] & 63)
            letters = table[(code << six) | np.uint64(data[place + two] & 63)]
            place += three
        else:
            code = (np.uint64(first & 7) << six) | np.uint64(data[place + one] & 63)
            code = (code << six) | np.uint64(data[place + two] & 63)
            code = (code << six) | np.uint64(data[place + three] & 63)
            place += three + one
            letters = np.uint64(0)  # emoji, private use
            if 0x20000 <= code < 0x40000:
                letters = code | np.uint64(_OWN)
            elif code < 0x1F000:  # old scripts, mathematical letters
                letters = code
        if letters == np.uint64(_OWN):
            continue
        if letters != 0 and letters < np.uint64(_OWN):
            if not inside:
                began, inside, value = here, True, np.uint64(0)
            while letters != 0:
                value = (value ^ (letters & np.uint64(0x1FFFFF))) * np.uint64(0x9E3779B97F4A7C15)
                value ^= value >> np.uint64(32)
                letters >>= np.uint64(21)
            continue
        if inside:
            hashes[count], starts[count], ends[count] = mix(value), began - start, here - start
            count += one
            inside = False
        if letters != 0:
            hashes[count], starts[count], ends[count] = mix(letters), here - start, place - start
            count += one
    if inside:
        hashes[count], starts[count], ends[count] = mix(value), began - start, end - start
        count += one
    return np.int64(count)


@compiled
def _cut(data: Any, offsets: Any, table: Any, hashes: Any, starts: Any, ends: Any, edges: Any) -> None:
    count = 0
    for row in range(len(offsets) - 1):
        count += units(data, offsets[row], offsets[row + 1], table, hashes[count:], starts[count:], ends[count:])
        edges[row + 1] = count


FACTOR = np.uint64(0xD1342543DE82EF95)
"""What the place of a unit in a run weighs, in powers."""


@compiled
def runs(hashes: Any, count: Any, length: Any, out: Any) -> Any:
    """The hash of every run of ``length`` units; of a shorter text the one of all its units. Gives their number."""
    if count == 0:
        return 0
    value = np.uint64(length)
    if count < length:
        for place in range(count):
            value = value * FACTOR + hashes[place]
        out[0] = mix(value)
        return 1
    value, leaving = np.uint64(0), np.uint64(1)
    for place in range(length):
        value = value * FACTOR + hashes[place]
        leaving *= FACTOR
    salt = np.uint64(length)
    for place in range(length, count):
        out[place - length] = mix(value + salt)
        value = value * FACTOR + hashes[place] - leaving * hashes[place - length]
    out[count - length] = mix(value + salt)
    return count - length + 1


@compiled
def widest(offsets: Any, first: Any, last: Any) -> Any:
    """The bytes of the longest of some texts."""
    most = np.int64(0)
    for place in range(first, last):
        most = max(most, offsets[place + 1] - offsets[place])
    return most


@compiled
def root(parents: Any, place: Any) -> Any:
    """The one that stands for a place; halves the way there."""
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place


@compiled
def join(parents: Any, one: Any, other: Any) -> None:
    """Makes two groups one; the smaller of their places stands for it."""
    one, other = root(parents, one), root(parents, other)
    if one < other:
        parents[other] = one
    elif other < one:
        parents[one] = other


@compiled
def chain(hashes: Any, first: Any, last: Any) -> Any:
    """The hash of some units in their order."""
    value = np.uint64(last - first)
    for place in range(np.uint64(first), np.uint64(last)):
        value = (value ^ hashes[place]) * np.uint64(0xBF58476D1CE4E5B9)
        value ^= value >> np.uint64(29)
    return mix(value)
