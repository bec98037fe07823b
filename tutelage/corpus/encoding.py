"""Texts to ids, many times faster than `tokenizers`, and the same ids.

The words that byte-pair encoding works on are cut by a compiled reading of the pattern, pairs are joined in compiled
code, and a cache keeps what recent words became. What is a letter, a digit, a space or a Chinese character is asked of
the library's own engine, so that both mean the same. Before any text is encoded the ids of a sample, and of strings
made to be difficult, are compared with the library's: where one differs, or the tokenizer is of another kind, the
library does the work, and says so.

Source: Sennrich, Haddow and Birch 2016, arXiv 1508.07909 (byte-pair encoding).
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Regex, Tokenizer, pre_tokenizers

from tutelage.corpus.characters import buffers, decode
from tutelage.corpus.hashing import compiled

Digits = Literal["threes", "single", "runs"]
Han = Literal["words", "runs", "single"]
Spaces = Literal["runs", "single"]
Ids = npt.NDArray[np.uint32]

SLOTS, WORD, KEPT = 1 << 15, 48, 16
"""Words that the cache holds, and the most bytes and ids of one."""

COMPARED = 200
"""Texts on which the fast encoder must give the library's ids before it is used."""

LONG = 256
"""Bytes of a word from which on its pairs are kept in a heap."""

_DIFFICULT = (
    "", " ", "  ", "\n", "\r\n\r\n", " \n \n", "\t\tx", "   x", "x   ", "x \n\n y", "don't DON'T I'LL we've 'ſ 'sx ''s",
    "1234567 ٣٤٥٦ ½Ⅷ〇 12a3", "中文abc中文 中文，中文。 。中文", "ab中c12中\u30001", "naïve cafe\u0301 ŉ ǅ ﬁ ß İ",
    "a.b,c!!!\n\n?? ...\r\n", "\u00a0\u2003x\u2028y\u0085z\ufeff\u200b.", "🙂👩‍👩‍👧‍👦🇨🇳 x🙂y",
    "\U00020000\U0002f800 々〆ヶ カタカナ 한국어", "\x00\x01\x7f\x80\ue000\ufffd", "<|end|><|endoftext|> <|user|>",
    "ABCdefGHI_jkl-mno/pqr\\stu", "x" * 600, "中" * 300, " " * 700 + "x", "=-" * 400, "a\n" * 300,
)  # fmt: skip

_LETTER, _HAN, _NUMBER, _SPACE, _NEWLINE = 1, 2, 3, 4, 5


def pattern(digits: Digits = "threes", han: Han = "words", spaces: Spaces = "runs") -> str:
    """How text is cut before pairs are joined: no token reaches over such a border.

    Args:
        digits: numbers in up to three digits, each digit alone, or whole numbers.
        han: Chinese characters as other letters; their runs apart from other letters; each character alone.
        spaces: runs of white space together, or each alone.
    """
    number = {"threes": r"\p{N}{1,3}", "single": r"\p{N}", "runs": r"\p{N}+"}[digits]
    letters = r"[^\r\n\p{L}\p{N}]?\p{L}+"
    if han != "words":
        alone = r"[\p{L}&&\p{Han}]" + ("+" if han == "runs" else "")
        letters = alone + r"|[^\r\n\p{L}\p{N}]?[\p{L}&&[^\p{Han}]]+"
    space = r"\s*[\r\n]+|\s+(?!\S)|\s+" if spaces == "runs" else r"\s"
    return rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|{letters}|{number}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{space}"


_RULES = {
    pattern(digits, han, spaces): (("threes", "single", "runs").index(digits), ("words", "runs", "single").index(han),
                                   ("runs", "single").index(spaces))
    for digits in ("threes", "single", "runs")
    for han in ("words", "runs", "single")
    for spaces in ("runs", "single")
}  # fmt: skip


@dataclass(frozen=True)
class _Tables:
    kinds: npt.NDArray[np.uint8]
    folded: npt.NDArray[np.uint8]
    rules: npt.NDArray[np.int64]
    singles: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]


class Encoder:
    """Encodes columns of texts with one tokenizer; special tokens in a text are read as text."""

    def __init__(self, tokenizer: Tokenizer, sample: Sequence[str] = ()) -> None:
        """Args:
        tokenizer: what to encode with.
        sample: texts whose ids are compared before anything is encoded.
        """
        self._library = Tokenizer.from_str(tokenizer.to_str())
        self._library.encode_special_tokens = True
        self._library.no_padding()
        self._library.no_truncation()
        self._tables, self.told = _tables(json.loads(self._library.to_str()))
        if self._tables is not None:
            wrong = self._differs([*_DIFFICULT, *sample])
            if wrong is None:
                self.told = f"the fast encoder: its ids are the library's on {len(_DIFFICULT) + len(sample):,} texts"
            else:
                self._tables, self.told = None, f"the library's encoder: the fast one differs on {wrong[:60]!r}"

    @classmethod
    def of(cls, path: Path, sample: Sequence[str] = ()) -> Encoder:
        """The encoder for a ``tokenizer.json``."""
        return cls(Tokenizer.from_file(str(path)), sample)

    @property
    def fast(self) -> bool:
        """Whether ids are made here, and not by the library."""
        return self._tables is not None

    @property
    def vocabulary(self) -> int:
        """One more than the largest id."""
        return self._library.get_vocab_size()

    def encode(self, texts: pa.Array | Sequence[str], threads: int = 1) -> tuple[Ids, npt.NDArray[np.int64]]:
        """The ids of all texts one after the other, and where each text's begin: n + 1 offsets."""
        column = texts if isinstance(texts, pa.Array) else pa.array(list(texts), pa.large_string())
        if self._tables is None:
            return self._slow(column)
        data, offsets = buffers(column)
        cuts = _shares(offsets, threads)
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(lambda cut: _encode(data, offsets[cut[0] : cut[1] + 1], self._tables), cuts))
        sizes = np.concatenate([[0], *(np.diff(ends) for _, ends in parts)])
        return (np.concatenate([ids for ids, _ in parts]) if parts else np.zeros(0, np.uint32)), np.cumsum(sizes)

    def _slow(self, column: pa.Array) -> tuple[Ids, npt.NDArray[np.int64]]:
        found = [
            encoded.ids for encoded in self._library.encode_batch_fast(column.to_pylist(), add_special_tokens=False)
        ]
        ends = np.cumsum([0, *map(len, found)])
        return np.fromiter((token for ids in found for token in ids), np.uint32, int(ends[-1])), ends

    def _differs(self, texts: list[str]) -> str | None:
        ids, ends = self.encode(texts)
        for place, encoded in enumerate(self._library.encode_batch_fast(texts, add_special_tokens=False)):
            if ids[ends[place] : ends[place + 1]].tolist() != encoded.ids:
                return texts[place]
        return None


def _tables(known: dict[str, Any]) -> tuple[_Tables | None, str]:
    """What the compiled code needs, or None and why it cannot be."""
    model, before = known["model"], known.get("pre_tokenizer") or {}
    steps = before.get("pretokenizers") or []
    plain = {"add_prefix_space": False, "use_regex": False}
    if model["type"] != "BPE":
        return None, f"the library's encoder: the model is {model['type']}, the fast one knows BPE"
    fits = (
        len(steps) == 2
        and steps[0]["type"] == "Split"
        and steps[0]["behavior"] == "Isolated"
        and not steps[0]["invert"]
        and steps[0]["pattern"].get("Regex") in _RULES
        and steps[1]["type"] == "ByteLevel"
        and all(steps[1].get(name, True) == value for name, value in plain.items())
        and known.get("normalizer") is None
        and not any(model.get(name) for name in ("dropout", "ignore_merges", "byte_fallback", "end_of_word_suffix"))
        and not model.get("continuing_subword_prefix")
        and all(token["special"] for token in known["added_tokens"])
    )
    if not fits:
        return None, "the library's encoder: text is cut in a way that the fast one does not know"
    vocabulary = model["vocab"]
    symbols = byte_symbols()
    if any(symbol not in vocabulary for symbol in symbols.values()):
        return None, "the library's encoder: a byte has no token"
    kinds, folded = _character_kinds()
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    keys = np.full(1 << max(4, (3 * len(merges) + 1).bit_length()), -1, np.int64)
    values = np.zeros(len(keys), np.int64)
    for rank, (left, right) in enumerate(merges):
        _put(keys, values, vocabulary[left] << 32 | vocabulary[right], rank << 32 | vocabulary[left + right])
    singles = np.array([vocabulary[symbols[byte]] for byte in range(256)], np.int64)
    rules = np.array(_RULES[steps[0]["pattern"]["Regex"]], np.int64)
    return _Tables(kinds, folded, rules, singles, keys, values), ""


@cache
def _character_kinds() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """For each character, whether the library's engine calls it a letter, a digit or a space; and which letter of
    ``'s 't 're 've 'm 'll 'd`` it is, whatever its case."""
    kinds = np.zeros(0x110000, np.uint8)
    letters = _matching(r"\p{L}+")
    kinds[letters] = _LETTER
    kinds[letters & _matching(r"\p{Han}+")] = _HAN
    kinds[_matching(r"\p{N}+")] = _NUMBER
    kinds[_matching(r"\s+")] = _SPACE
    kinds[[10, 13]] = _NEWLINE
    folded = np.zeros(0x110000, np.uint8)
    for letter in "strevmld":
        folded[_matching(f"(?i:{letter})+", 0x3000)] = ord(letter)
    return kinds, folded


def _matching(expression: str, most: int = 0x40000) -> npt.NDArray[np.bool_]:
    """The characters up to ``most`` that an expression matches, as the library's engine reads it. Behind plane 3
    there is no letter, digit or space."""
    found = np.zeros(0x110000, bool)
    split = pre_tokenizers.Split(Regex(expression), "removed")
    # In pieces: the library's time grows with the square of the text here.
    for first in range(0, most, 512):
        if not 0xD800 <= first < 0xE000:
            found[first : first + 512] = True
            for _, (start, stop) in split.pre_tokenize_str("".join(map(chr, range(first, first + 512)))):
                found[first + start : first + stop] = False
    return found


@cache
def byte_symbols() -> dict[int, str]:
    """The letter that stands for each byte in the vocabulary: itself if it can be seen, else one from 256 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + place) for place, byte in enumerate(hidden)}


def _shares(offsets: npt.NDArray[np.int64], threads: int) -> list[tuple[int, int]]:
    """Ranges of texts with about as many bytes each."""
    marks = np.searchsorted(offsets, np.linspace(offsets[0], offsets[-1], max(1, threads) + 1)[1:-1])
    cuts = sorted({0, *marks.tolist(), len(offsets) - 1})
    return [(start, stop) for start, stop in itertools.pairwise(cuts) if stop > start]


def _encode(data: Any, offsets: Any, tables: _Tables | None) -> tuple[Ids, npt.NDArray[np.int64]]:
    assert tables is not None
    ids = np.empty(int(offsets[-1] - offsets[0]) + 1, np.uint32)
    ends = np.zeros(len(offsets), np.int64)
    words, sizes = np.zeros((SLOTS, WORD), np.uint8), np.zeros((SLOTS, 2), np.uint8)
    _run(
        data, offsets, tables.kinds, tables.folded, tables.rules, tables.singles, tables.keys, tables.values, ids, ends,
        words, sizes, np.zeros((SLOTS, KEPT), np.uint32),
    )  # fmt: skip
    return ids[: ends[-1]].copy(), ends


@compiled
def _slot(keys: Any, key: Any) -> Any:
    mask = len(keys) - 1
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    p = np.int64(h >> np.uint64(32)) & mask
    while keys[p] != key and keys[p] != -1:
        p = (p + 1) & mask
    return p


@compiled
def _put(keys: Any, values: Any, key: Any, value: Any) -> None:
    p = _slot(keys, key)
    # The library keeps the last of two equal pairs.
    keys[p], values[p] = key, value


@compiled
def _joined(keys: Any, values: Any, left: Any, right: Any) -> Any:
    """Rank and id of a pair in one number; the largest one if it is never joined."""
    p = _slot(keys, (np.int64(left) << 32) | np.int64(right))
    return values[p] if keys[p] != -1 else np.int64(0x7FFFFFFFFFFFFFFF)


@compiled
def _join(data: Any, start: Any, stop: Any, singles: Any, keys: Any, values: Any, parts: Any, ranks: Any) -> Any:
    """Joins the pair of lowest rank, the leftmost of equals, until none is left; how many ids ``parts`` then holds."""
    n = stop - start
    for i in range(n):
        parts[i] = singles[data[start + i]]
    for i in range(n - 1):
        ranks[i] = _joined(keys, values, parts[i], parts[i + 1])
    never = np.int64(0x7FFFFFFFFFFFFFFF)
    while n > 1:
        best, at = never, -1
        for i in range(n - 1):
            if ranks[i] < best:
                best, at = ranks[i], i
        if at < 0:
            break
        parts[at] = best & 0xFFFFFFFF
        n -= 1
        for i in range(at + 1, n):
            parts[i] = parts[i + 1]
            ranks[i] = ranks[i + 1] if i < n - 1 else never
        if at < n - 1:
            ranks[at] = _joined(keys, values, parts[at], parts[at + 1])
        else:
            ranks[at] = never
        if at > 0:
            ranks[at - 1] = _joined(keys, values, parts[at - 1], parts[at])
    return n


@compiled
def _join_long(data: Any, start: Any, stop: Any, singles: Any, keys: Any, values: Any, out: Any, place: Any) -> Any:
    """The same for a long word, in n log n: a heap of pairs over a list of neighbours."""
    n = stop - start
    parts = np.empty(n, np.int64)
    after = np.arange(1, n + 1)
    before = np.arange(-1, n - 1)
    never = np.int64(0x7FFFFFFFFFFFFFFF)
    heap: Any = [(never, np.int64(0), np.int64(0), np.int64(0))]
    for i in range(n):
        parts[i] = singles[data[start + i]]
    for i in range(n - 1):
        found = _joined(keys, values, parts[i], parts[i + 1])
        if found != never:
            heapq.heappush(heap, (found, np.int64(i), parts[i], parts[i + 1]))
    while heap:
        found, i, left, right = heapq.heappop(heap)
        if found == never:
            break
        # What was joined since is no longer the pair that was put in.
        if parts[i] != left or after[i] >= n or parts[after[i]] != right:
            continue
        j = after[i]
        parts[i], parts[j] = found & 0xFFFFFFFF, -1
        after[i] = after[j]
        if after[j] < n:
            before[after[j]] = i
            found = _joined(keys, values, parts[i], parts[after[i]])
            if found != never:
                heapq.heappush(heap, (found, np.int64(i), parts[i], parts[after[i]]))
        if before[i] >= 0:
            k = before[i]
            found = _joined(keys, values, parts[k], parts[i])
            if found != never:
                heapq.heappush(heap, (found, np.int64(k), parts[k], parts[i]))
    for i in range(n):
        if parts[i] >= 0:
            out[place] = parts[i]
            place += 1
    return place


@compiled
def _kind(data: Any, i: Any, stop: Any, kinds: Any) -> Any:
    """The kind of the character at i, itself, and where the next begins; kind -1 at the end."""
    if i >= stop:
        return np.int64(-1), np.int64(0), i
    code, size = decode(data, i)
    return np.int64(kinds[code]), code, i + size


@compiled
def _word(data: Any, i: Any, stop: Any, kinds: Any, folded: Any, digits: Any, han: Any, spaces: Any) -> Any:
    """Where the word that begins at byte i ends: the alternatives of `pattern`, in its order."""
    kind, code, j = _kind(data, i, stop, kinds)
    if code == 39:
        _, one, k = _kind(data, j, stop, kinds)
        letter = folded[one]
        if k > j and (letter == 115 or letter == 116 or letter == 109 or letter == 100):
            return k
        _, two, m = _kind(data, k, stop, kinds)
        if m > k and (
            ((letter == 114 or letter == 118) and folded[two] == 101) or (letter == 108 and folded[two] == 108)
        ):
            return m
    if kind == _HAN and han == 2:
        return j
    if kind == _HAN and han == 1:
        following, _, k = _kind(data, j, stop, kinds)
        while following == _HAN:
            j = k
            following, _, k = _kind(data, j, stop, kinds)
        return j
    # One character that is no letter, digit or line end may come before letters.
    following, _, k = _kind(data, j, stop, kinds)
    letters = kind in (_LETTER, _HAN)
    if letters or (kind != _NUMBER and kind != _NEWLINE and (following == _LETTER or (following == _HAN and han == 0))):
        while following == _LETTER or (following == _HAN and han == 0):
            j = k
            following, _, k = _kind(data, j, stop, kinds)
        return j
    if kind == _NUMBER:
        count = 1
        while following == _NUMBER and (digits == 2 or (digits == 0 and count < 3)):
            j, count = k, count + 1
            following, _, k = _kind(data, j, stop, kinds)
        return j
    if kind == 0 or (code == 32 and following == 0):
        while following == 0:
            j = k
            following, _, k = _kind(data, j, stop, kinds)
        while following == _NEWLINE:
            j = k
            following, _, k = _kind(data, j, stop, kinds)
        return j
    if spaces == 1:
        return j
    # White space: up to its last line end; else all but the last, if something follows; else all.
    newline = j if kind == _NEWLINE else 0
    last = i
    while following in (_SPACE, _NEWLINE):
        last = j
        j = k
        if following == _NEWLINE:
            newline = j
        following, _, k = _kind(data, j, stop, kinds)
    if newline:
        return newline
    return last if following >= 0 and last > i else j


@compiled
def _run(
    data: Any, offsets: Any, kinds: Any, folded: Any, rules: Any, singles: Any, keys: Any, values: Any, ids: Any,
    ends: Any, words: Any, sizes: Any, kept: Any,
) -> None:  # fmt: skip
    parts = np.empty(LONG + 1, np.int64)
    ranks = np.empty(LONG + 1, np.int64)
    digits, han, spaces = rules[0], rules[1], rules[2]
    n = np.int64(0)
    for d in range(len(offsets) - 1):
        i, stop = offsets[d], offsets[d + 1]
        while i < stop:
            j = _word(data, i, stop, kinds, folded, digits, han, spaces)
            size = j - i
            if size > LONG:
                n = _join_long(data, i, j, singles, keys, values, ids, n)
                i = j
                continue
            slot = np.int64(-1)
            if size <= WORD:
                h = np.uint64(size)
                for k in range(i, j):
                    h = (h ^ np.uint64(data[k])) * np.uint64(0x100000001B3)
                h ^= h >> np.uint64(29)
                slot = np.int64(h * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(49))
                same = sizes[slot, 0] == size
                k = 0
                while same and k < size:
                    same = words[slot, k] == data[i + k]
                    k += 1
                if same:
                    for k in range(sizes[slot, 1]):
                        ids[n] = kept[slot, k]
                        n += 1
                    i = j
                    continue
            count = _join(data, i, j, singles, keys, values, parts, ranks)
            for k in range(count):
                ids[n + k] = parts[k]
            if slot >= 0 and count <= KEPT:
                sizes[slot, 0], sizes[slot, 1] = size, count
                for k in range(size):
                    words[slot, k] = data[i + k]
                for k in range(count):
                    kept[slot, k] = parts[k]
            n += count
            i = j
        ends[d + 1] = n
