"""Texts that say the same again: exactly, or nearly.

Both functions give, for each text, the place of the text that stands for it: its own place if it is to be kept, else
the smallest place in its group. So the order is the order of preference: whoever wants to keep held-out text puts it
first.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tutelage.corpus.languages import CJK

BANDS = 14
ROWS = 8
WORDS = 5
"""Words in a shingle; in Chinese, Japanese and Korean a character is a word."""
AGREEMENT = 0.7
"""Share of the signature that two texts must have in common; it estimates the Jaccard similarity of their shingles."""

_WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+")
_BLOCK = 1 << 15
"""Shingles worked on at a time: small enough for the cache of one core."""

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


def exact(texts: Sequence[str]) -> list[int]:
    """Groups texts that are equal but for case, white space and Unicode form (NFKC)."""
    first: dict[bytes, int] = {}
    return [first.setdefault(_digest(text), place) for place, text in enumerate(texts)]


def near(texts: Sequence[str], agreement: float = AGREEMENT) -> list[int]:
    """Groups texts that share most of their runs of five words.

    MinHash with 14 bands of 8 hashes finds the candidates; a pair counts if its signatures agree in at least
    ``agreement`` of 112 places. Groups are closed: a text like one of a group belongs to the group. In a bucket each
    text is compared with the first and with the one before it, so that the work is linear.

    Source: Broder 1997, On the resemblance and containment of documents; Leskovec, Rajaraman and Ullman, Mining of
    Massive Datasets, chapter 3; multiply-shift hashing of Dietzfelbinger et al. 1997.
    """
    if len(texts) < 2:
        return list(range(len(texts)))
    signatures = _signatures(texts)
    parents = list(range(len(texts)))
    for left, right in _candidates(signatures):
        same = np.empty(len(left), dtype=bool)
        for start in range(0, len(left), _BLOCK):
            part = slice(start, start + _BLOCK)
            same[part] = (signatures[left[part]] == signatures[right[part]]).mean(axis=1) >= agreement
        for a, b in zip(left[same].tolist(), right[same].tolist(), strict=True):
            _join(parents, a, b)
    return [_root(parents, place) for place in range(len(texts))]


def _digest(text: str) -> bytes:
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return hashlib.blake2b("".join(plain.lower().split()).encode("utf-8", "replace"), digest_size=16).digest()


def _signatures(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    """(texts, 112): for each of 112 hash functions the least value over the text's shingles."""
    words, starts = _words(texts)
    multipliers, offsets = _functions(BANDS * ROWS)
    signatures = np.empty((len(texts), BANDS * ROWS), dtype=np.uint32)
    for first, last in _blocks(starts):
        shingles, edges = _shingles(words, starts[first : last + 1])
        for place in range(BANDS * ROWS):
            values = ((shingles * multipliers[place] + offsets[place]) >> np.uint64(32)).astype(np.uint32)
            signatures[first:last, place] = np.minimum.reduceat(values, edges)
    return signatures


def _words(texts: Sequence[str]) -> tuple[Hashes, Places]:
    """A stable hash of each word of all texts in a row, and where each text starts (one more than texts).

    A text of fewer words than a shingle is one word, itself, filled up: it is like nothing but its equals.
    """
    ids: dict[str, int] = {}
    row: list[int] = []
    starts = [0]
    for text in texts:
        words = _WORD.findall(text.lower())
        if len(words) < WORDS:
            words = [" ".join(words) or text.strip(), *[""] * (WORDS - 1)]
        row.extend([ids.setdefault(word, len(ids)) for word in words])
        starts.append(len(row))
    digests = b"".join(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest() for word in ids)
    return np.frombuffer(digests, dtype="<u8")[np.array(row, dtype=np.int64)], np.array(starts, dtype=np.int64)


def _shingles(words: Hashes, starts: Places) -> tuple[Hashes, Places]:
    """The shingles of consecutive texts in a row, and where each text's begin."""
    row = words[starts[0] : starts[-1]]
    mixed = np.zeros(len(row) - WORDS + 1, dtype=np.uint64)
    for place in range(WORDS):
        # An odd multiplier of its own for each place: the order of the words counts.
        mixed += row[place : len(mixed) + place] * np.uint64((0x9E3779B97F4A7C15 * (2 * place + 1)) % (1 << 64))
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    begins = starts[:-1] - starts[0]
    # The last four places of a text would reach into the next one.
    inside = np.ones(len(mixed), dtype=bool)
    for place in range(1, WORDS):
        inside[begins[1:] - place] = False
    lengths = np.diff(starts) - (WORDS - 1)
    return mixed[inside], np.cumsum(lengths) - lengths


def _blocks(starts: Places) -> Iterator[tuple[int, int]]:
    first, texts = 0, len(starts) - 1
    while first < texts:
        last = int(np.searchsorted(starts, starts[first] + _BLOCK, side="right")) - 1
        last = min(texts, max(first + 1, last))
        yield first, last
        first = last


def _functions(count: int) -> tuple[Hashes, Hashes]:
    raw = np.random.PCG64(112).random_raw(2 * count)
    return raw[:count] | np.uint64(1), raw[count:]


def _candidates(signatures: npt.NDArray[np.uint32]) -> Iterator[tuple[Places, Places]]:
    """Band by band, pairs of places whose hashes in that band are all equal."""
    for band in range(BANDS):
        rows = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])
        keys = np.zeros(len(rows), dtype=np.uint64)
        for place in range(ROWS):
            keys = (keys ^ rows[:, place]) * np.uint64(0x100000001B3)
            keys ^= keys >> np.uint64(29)
        order = np.argsort(keys, kind="stable")
        new = np.concatenate(([True], keys[order][1:] != keys[order][:-1]))
        firsts = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
        again = np.flatnonzero(~new)
        left = np.concatenate((firsts[again], order[again - 1]))
        right = np.concatenate((order[again], order[again]))
        differ = left != right
        yield left[differ], right[differ]


def _root(parents: list[int], place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place


def _join(parents: list[int], a: int, b: int) -> None:
    a, b = _root(parents, a), _root(parents, b)
    if a != b:
        parents[max(a, b)] = min(a, b)
