"""What can be counted about a document: all of it in one compiled pass over the bytes.

Texts come as an Arrow column and are read where they lie, without a Python string for any of them. The rules of
`tutelage.corpus.quality` are comparisons over these columns.

A *word* is a run of letters, digits and underscores, or one Chinese, Japanese or Korean character: so counts of words
mean about the same in all of these scripts, and no word splitter is needed.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


SHORT_LINE = 30
"""Characters of a short line (Penedo et al. 2024); a Chinese, Japanese or Korean one counts as two."""

STRETCH = 1 << 15
"""Words among which repeats are looked for: a long book is read stretch by stretch, in bounded memory."""

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Rae et al. 2021, arXiv 2112.11446, appendix A1: English prose holds two of them."""

FUNCTION_CHARACTERS = "的是了在不和有这为以之而于其也者不與為無於來這個們"
"""What stands in nearly any Chinese prose, modern or classical, simplified or traditional."""

_OTHER, _LETTER, _UPPER, _DIGIT, _CJK, _SPACE, _BROKEN, _TERMINAL, _CJK_PUNCTUATION, _CLOSING = range(10)
_LATIN_1_OF_CP1252 = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"


class Column(IntEnum):
    """The columns. Characters in n-grams (``top_2`` and so on) are counted as in ``word_characters``."""

    bytes = 0
    characters = 1
    visible = 2
    letters = 3
    upper = 4
    digits = 5
    cjk = 6
    broken = 7
    longest_run = 8
    hashes = 9
    ellipses = 10
    braces = 11
    sentences = 12
    words = 13
    plain_words = 14
    letter_words = 15
    number_words = 16
    word_characters = 17
    plain_characters = 18
    stop_words = 19
    function_characters = 20
    lorem = 21
    lines = 22
    newlines = 23
    line_characters = 24
    punctuated_lines = 25
    bullet_lines = 26
    ellipsis_lines = 27
    short_lines = 28
    brief_lines = 29
    narrow_lines = 30
    upper_lines = 31
    code_lines = 32
    repeated_lines = 33
    repeated_line_characters = 34
    paragraphs = 35
    repeated_paragraphs = 36
    repeated_paragraph_characters = 37
    distinct_words = 38
    top_word = 39
    top_2 = 40
    top_3 = 41
    top_4 = 42
    repeated_5 = 43
    repeated_6 = 44
    repeated_7 = 45
    repeated_8 = 46
    repeated_9 = 47
    repeated_10 = 48
    indented_lines = 49
    cjk_punctuation = 50
    flagged_words = 51
    repeated_13 = 52


NAMES = tuple(column.name for column in Column)


@dataclass(frozen=True)
class Statistics:
    """A row a document, a column for each of `NAMES`."""

    table: Floats

    def __getitem__(self, name: str) -> Floats:
        return self.table[:, Column[name]]

    def share(self, part: str, whole: str) -> Floats:
        """One column over another, 0 where there is nothing to divide by."""
        return self[part] / np.maximum(self[whole], 1)

    def __len__(self) -> int:
        return len(self.table)


def measure(texts: pa.Array) -> Statistics:
    """Counts everything in a column of texts (string or large_string, without nulls)."""
    data, offsets = buffers(texts)
    table = np.zeros((len(texts), len(NAMES)))
    keys, values = _markers()
    _measure(data, offsets, classes(), keys, values, table)
    return Statistics(table)


def buffers(texts: pa.Array) -> tuple[Bytes, Offsets]:
    """The bytes of a column and where each text begins and ends in them: n + 1 offsets. Nothing is copied.

    Raises:
        ValueError: the column has nulls.
    """
    if texts.null_count:
        raise ValueError(f"{texts.null_count} texts are null: leave them out first")
    if not pa.types.is_large_string(texts.type):
        texts = texts.cast(pa.large_string())
    _, places, data = texts.buffers()
    offsets = np.frombuffer(places, np.int64)[texts.offset : texts.offset + len(texts) + 1] if places else None
    if offsets is None or not len(texts):
        return np.zeros(1, np.uint8), np.zeros(1, np.int64)
    # An empty column of texts has no buffer of bytes at all.
    return (np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)), offsets


@cache
def classes() -> Bytes:
    """What each character of the basic plane is."""
    table = np.zeros(1 << 16, np.uint8)
    for code in range(1 << 16):
        category = unicodedata.category(chr(code))
        if category[0] in "LM":
            table[code] = _UPPER if category in ("Lu", "Lt") else _LETTER
        elif category[0] == "N":
            table[code] = _DIGIT
        elif category[0] == "Z" or code in (9, 11, 12, 13):
            table[code] = _SPACE
        elif category in ("Cc", "Co", "Cs"):
            table[code] = _BROKEN
    table[0xFFFD] = _BROKEN
    table[0x200B], table[0xFEFF] = _SPACE, _SPACE
    for first, last in ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF),
                        (0xF900, 0xFAFF), (0x1100, 0x11FF)):  # fmt: skip
        table[first : last + 1] = _CJK
    table[0x30FB] = _OTHER
    table[ord("_")] = _LETTER
    for mark in "，、：；《》〈〉「」『』（）【】":
        table[ord(mark)] = _CJK_PUNCTUATION
    for mark in ".!?。！？…．":
        table[ord(mark)] = _TERMINAL
    for mark in "\"'”’)）」』》】":
        table[ord(mark)] = _CLOSING
    return table


@cache
def _markers() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """A small table of words that are looked for, by hash; the value is a bit."""
    bits = {word: 1 << place for place, word in enumerate(STOP_WORDS)} | {"lorem": 1 << 8, "ipsum": 1 << 9}
    bits |= {character: 1 << (16 + place) for place, character in enumerate(dict.fromkeys(FUNCTION_CHARACTERS))}
    keys, values = np.zeros(256, np.uint64), np.zeros(256, np.int64)
    for word, bit in bits.items():
        found = np.uint64(hash_units(np.array([ord(character) for character in word], np.int64)))
        place = int(found) & 255
        while keys[place]:
            place = (place + 1) & 255
        keys[place], values[place] = found, bit
    return keys, values


def compiled(**options: Any) -> Any:
    """numba's compiler as it is used here: kept on disk, without the interpreter's lock."""
    return nb.njit(cache=True, nogil=True, **options)


@compiled()
def _mix(x: Any) -> Any:
    x ^= x >> np.uint64(32)
    x *= np.uint64(0xD6E8FEB86659FD93)
    return x ^ (x >> np.uint64(32))


@compiled()
def _step(h: Any, code: Any) -> Any:
    return (h ^ np.uint64(code)) * np.uint64(0x9E3779B97F4A7C15) + (h >> np.uint64(29))


@compiled()
def hash_units(codes: Any) -> Any:
    """The hash of a word's characters."""
    h = np.uint64(1)
    for code in codes:
        h = _step(h, code)
    return _mix(h)


@compiled()
def decode(data: Any, i: Any) -> Any:
    """The character at byte i of valid UTF-8, and its bytes."""
    b = np.int64(data[i])
    if b < 0x80:
        return b, 1
    if b < 0xE0:
        return ((b & 31) << 6) | (np.int64(data[i + 1]) & 63), 2
    if b < 0xF0:
        return ((b & 15) << 12) | ((np.int64(data[i + 1]) & 63) << 6) | (np.int64(data[i + 2]) & 63), 3
    return (
        ((b & 7) << 18)
        | ((np.int64(data[i + 1]) & 63) << 12)
        | ((np.int64(data[i + 2]) & 63) << 6)
        | (np.int64(data[i + 3]) & 63)
    ), 4


@compiled()
def read_units(data: Any, start: Any, stop: Any, known: Any, units: Any, cjk: Any) -> Any:
    """The hashes of the first words of a text, in lower case, and which are single CJK characters; how many."""
    n = 0
    word, length = np.uint64(1), 0
    i = start
    while i <= stop and n < len(units):
        code, size = decode(data, i) if i < stop else (np.int64(10), 1)
        i += size
        kind = np.int64(known[code]) if code < 65536 else _CJK if 0x20000 <= code <= 0x3FFFF else _OTHER
        if 1 <= kind <= 3:
            word = _step(word, code + 32 if 65 <= code <= 90 else code)
            length += 1
            continue
        if length:
            units[n], cjk[n] = _mix(word), False
            n += 1
            word, length = np.uint64(1), 0
        if kind == _CJK and n < len(units):
            units[n], cjk[n] = _mix(_step(np.uint64(1), code)), True
            n += 1
    return n


@compiled()
def _seen(keys: Any, mask: Any, h: Any) -> Any:
    """Puts a hash into a set; whether it was there."""
    h = h | np.uint64(1)
    p = np.int64(h >> np.uint64(20)) & mask
    while keys[p] != 0:
        if keys[p] == h:
            return True
        p = (p + 1) & mask
    keys[p] = h
    return False


@compiled()
def _slot(keys: Any, mask: Any, h: Any) -> Any:
    """The place of a hash in a table, a new one with key 0 if it is not there."""
    p = np.int64(h >> np.uint64(20)) & mask
    while keys[p] != 0 and keys[p] != h:
        p = (p + 1) & mask
    return p


@compiled()
def _power(n: Any) -> Any:
    size = 16
    while size < n:
        size *= 2
    return size


@compiled()
def _repeats(
    units: Any, lengths: Any, n: Any, keys: Any, counts: Any, row: Any, top: Any, grams: Any, places: Any,
    slots: Any,
) -> None:  # fmt: skip
    """Words and n-grams of one stretch that come again.

    ``row`` gains the characters in repeated 5- to 10-grams; ``top`` is the most frequent word's count, and the
    characters of the most frequent 2-, 3- and 4-gram. A 5-gram that was there before is followed from its latest
    occurrence on, so longer repeats need no tables of their own.
    """
    size = _power(2 * n)
    mask = size - 1
    end = np.zeros(7, np.int64)
    grams[:n] = np.uint64(1)
    places[0] = 0
    for i in range(n):
        places[i + 1] = places[i] + lengths[i]
    for order in range(1, 6):
        key, count = keys[order - 1], counts[order - 1]
        key[:size] = 0
        best = np.int64(0)
        for i in range(n - order + 1):
            # What was there once as a shorter n-gram cannot come again as a longer one.
            if order > 1 and (slots[i] < 0 or counts[order - 2][slots[i]] < 2):
                slots[i] = -1
                continue
            h = (grams[i] ^ units[i + order - 1]) * np.uint64(0x9E3779B97F4A7C15)
            h ^= h >> np.uint64(31)
            grams[i] = h
            h |= np.uint64(1)
            p = _slot(key, mask, h)
            slots[i] = p
            if key[p] == 0:
                key[p] = h
                count[p] = 1 if order < 5 else i
                row[Column.distinct_words] += order == 1
            elif order < 5:
                count[p] += 1
                best = max(best, np.int64(count[p]) * (1 if order == 1 else places[i + order] - places[i]))
            else:
                before = np.int64(count[p])
                count[p] = i
                length = 5
                while length < 13 and i + length < n and units[i + length] == units[before + length]:
                    length += 1
                if length == 13:
                    row[Column.repeated_13] += places[i + 13] - places[max(i, end[6])]
                    end[6] = i + 13
                for step in range(5, min(length, 10) + 1):
                    row[Column.repeated_5 + step - 5] += places[i + step] - places[max(i, end[step - 5])]
                    end[step - 5] = i + step
        if order < 5:
            top[order - 1] = max(top[order - 1], best)


@compiled()
def _measure(data: Any, offsets: Any, classes: Any, marker_keys: Any, marker_values: Any, table: Any) -> None:
    longest = np.int64(0)
    for d in range(len(offsets) - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    stretch = min(longest + 1, STRETCH)
    units = np.empty(stretch, np.uint64)
    lengths = np.empty(stretch, np.int32)
    keys = np.empty((5, _power(2 * stretch)), np.uint64)
    counts = np.empty((5, _power(2 * stretch)), np.int32)
    top = np.zeros(4, np.int64)
    grams = np.empty(stretch, np.uint64)
    places = np.empty(stretch + 1, np.int64)
    slots = np.empty(stretch, np.int32)
    lines = np.zeros(1024, np.uint64)
    blocks = np.zeros(1024, np.uint64)
    for d in range(len(offsets) - 1):
        start, stop = offsets[d], offsets[d + 1]
        newlines = 0
        for i in range(start, stop):
            newlines += data[i] == 10
        size = _power(2 * (newlines + 2))
        if size > len(lines):
            lines = np.zeros(size, np.uint64)
            blocks = np.zeros(size, np.uint64)
        lines[:size] = 0
        blocks[:size] = 0
        row = table[d]
        row[Column.bytes] = stop - start
        row[Column.newlines] = newlines
        top[:] = 0
        _read(
            data, start, stop, classes, marker_keys, marker_values, row, units, lengths, keys, counts, top, grams,
            places, slots, lines, blocks, size - 1,
        )  # fmt: skip
        for order in range(4):
            row[Column.top_word + order] = top[order]


@compiled()
def _read(
    data: Any, start: Any, stop: Any, classes: Any, marker_keys: Any, marker_values: Any, row: Any, units: Any,
    lengths: Any, keys: Any, counts: Any, top: Any, grams: Any, places: Any, slots: Any, line_set: Any,
    block_set: Any, line_mask: Any,
) -> None:  # fmt: skip
    """One document, character by character. What belongs to a word, a line or a paragraph is settled at its end."""
    characters = visible = letters = upper = digits = cjk = broken = hashes = ellipses = braces = sentences = 0
    words = plain = letter_words = number_words = word_characters = plain_characters = cjk_marks = 0
    run = longest_run = n = dots = 0
    found = np.int64(0)
    word = np.uint64(1)
    word_length = word_letters = 0
    # Of the line: visible characters so far, width, words, upper-case letters, first and last characters, leading
    # spaces; `line` and `block` are hashes of what is visible.
    line = block = np.uint64(1)
    line_visible = line_width = line_words = line_upper = line_letters = block_visible = leading = 0
    first = last = before_last = before = np.int64(0)
    before_class = 0
    i = start
    while i <= stop:
        if i < stop:
            code, size = decode(data, i)
            kind = np.int64(classes[code]) if code < 65536 else _CJK if 0x20000 <= code <= 0x3FFFF else _OTHER
            i += size
        else:
            code, kind, i = np.int64(10), np.int64(_BROKEN), i + 1
        is_word = 1 <= kind <= 3
        if word_length and not is_word:
            h = _mix(word)
            p = np.int64(h) & 255
            while marker_keys[p] != 0:
                if marker_keys[p] == h:
                    found |= marker_values[p]
                    break
                p = (p + 1) & 255
            units[n], lengths[n] = h, word_length
            n += 1
            words += 1
            plain += 1
            line_words += 1
            word_characters += word_length
            plain_characters += word_length
            letter_words += word_letters > 0
            number_words += word_letters == 0
            word, word_length, word_letters = np.uint64(1), 0, 0
        if code == 10:
            if line_visible:
                row[Column.lines] += 1
                row[Column.line_characters] += line_visible
                end = last
                row[Column.punctuated_lines] += classes[end & 65535] == _TERMINAL or (
                    classes[end & 65535] == _CLOSING and classes[before_last & 65535] == _TERMINAL
                )
                row[Column.bullet_lines] += (
                    first == 42 or first == 45 or first == 0x2022 or first == 0xB7 or first == 0x25CF
                )
                row[Column.ellipsis_lines] += end == 0x2026 or (end == 46 and before_last == 46)
                row[Column.short_lines] += line_width <= SHORT_LINE
                row[Column.brief_lines] += (
                    1 <= line_words <= 3
                    and line_width <= SHORT_LINE
                    and classes[end & 65535] != _TERMINAL
                    and 2 * line_letters >= line_visible
                    and not (end == 59 or end == 123 or end == 125 or end == 41 or end == 61)
                )
                row[Column.narrow_lines] += line_words <= 1
                row[Column.upper_lines] += line_letters > 3 and 2 * line_upper > line_letters
                if line_words <= 1 or 2 * line_upper > line_letters or line_letters == 0:
                    row[Column.flagged_words] += line_words
                row[Column.code_lines] += end == 59 or end == 123 or end == 125 or end == 41 or end == 61
                row[Column.indented_lines] += leading >= 2
                if _seen(line_set, line_mask, _mix(line)):
                    row[Column.repeated_lines] += 1
                    row[Column.repeated_line_characters] += line_visible
                block_visible += line_visible
                block = _step(block, line)
            if not line_visible or i > stop:
                if block_visible:
                    row[Column.paragraphs] += 1
                    if _seen(block_set, line_mask, _mix(block)):
                        row[Column.repeated_paragraphs] += 1
                        row[Column.repeated_paragraph_characters] += block_visible
                block, block_visible = np.uint64(1), 0
            line, line_visible, line_width, line_words, line_upper, line_letters = np.uint64(1), 0, 0, 0, 0, 0
            leading = 0
            first = last = before_last = np.int64(0)
            run = 0
            if before_class == _TERMINAL:
                sentences += 1
            before, before_class = code, _SPACE
            characters += i <= stop
        elif kind == _SPACE:
            characters += 1
            leading += line_visible == 0
            line_width += 1
            run = 0
            if before_class == _TERMINAL:
                sentences += 1
            before, before_class = code, _SPACE
        else:
            characters += 1
            visible += 1
            line_visible += 1
            line_width += 1
            line = _step(line, code)
            if line_visible == 1:
                first = code
            before_last, last = last, code
            if code < 128:
                run += 1
                longest_run = max(longest_run, run)
            else:
                run = 0
            if is_word:
                dots = 0
                lower = code + 32 if 65 <= code <= 90 else code
                word = _step(word, lower)
                word_length += 1
                if kind == _DIGIT:
                    digits += 1
                else:
                    letters += 1
                    word_letters += 1
                    line_letters += 1
                    if kind == _UPPER:
                        upper += 1
                        line_upper += 1
                # UTF-8 read in a one-byte encoding: a letter that was a first byte, and behind it one that was not.
                broken += 0x80 <= code <= 0xFF and 0xC2 <= before <= 0xF4
            elif kind == _CJK:
                cjk += 1
                line_width += 1
                line_letters += 1
                h = _mix(_step(np.uint64(1), code))
                p = np.int64(h) & 255
                while marker_keys[p] != 0:
                    if marker_keys[p] == h:
                        found |= marker_values[p]
                        break
                    p = (p + 1) & 255
                units[n], lengths[n] = h, 1
                n += 1
                words += 1
                line_words += 1
                word_characters += 1
            else:
                hashes += code == 35
                braces += code == 123 or code == 125
                cjk_marks += kind == _CJK_PUNCTUATION or (kind == _TERMINAL and code >= 0x3000)
                dots = dots + 1 if code == 46 else 0
                ellipses += code == 0x2026 or dots == 3
                broken += kind == _BROKEN or (0xC2 <= before <= 0xF4 and _continues(code))
                sentences += kind == _TERMINAL and code >= 0x3000
            before = code
            # A quote that closes behind a full stop belongs to the sentence.
            if kind == _TERMINAL and code >= 0x3000:
                # Needs no space behind it, and was counted at once.
                before_class = _OTHER
            else:
                before_class = _TERMINAL if kind == _CLOSING and before_class == _TERMINAL else kind
        if n == len(units):
            _repeats(units, lengths, n, keys, counts, row, top, grams, places, slots)
            n = 0
    if n:
        _repeats(units, lengths, n, keys, counts, row, top, grams, places, slots)
    row[Column.characters] = characters
    row[Column.visible] = visible
    row[Column.letters] = letters
    row[Column.upper] = upper
    row[Column.digits] = digits
    row[Column.cjk] = cjk
    row[Column.broken] = broken
    row[Column.longest_run] = longest_run
    row[Column.hashes] = hashes
    row[Column.ellipses] = ellipses
    row[Column.braces] = braces
    row[Column.sentences] = sentences
    row[Column.words] = words
    row[Column.plain_words] = plain
    row[Column.letter_words] = letter_words
    row[Column.number_words] = number_words
    row[Column.word_characters] = word_characters
    row[Column.plain_characters] = plain_characters
    for bit in range(8):
        row[Column.stop_words] += (found >> bit) & 1
    for bit in range(16, 62):
        row[Column.function_characters] += (found >> bit) & 1
    row[Column.lorem] = (found >> 8) & (found >> 9) & 1
    row[Column.cjk_punctuation] = cjk_marks


@compiled()
def _continues(code: Any) -> Any:
    """Whether a character may be what a byte 0x80 to 0xBF became in Latin-1 or in Windows' code page 1252."""
    if 0x80 <= code <= 0xBF:
        return True
    return (
        code == 0x20AC or code == 0x201A or code == 0x0192 or 0x201E <= code <= 0x2022 or code == 0x2026
        or code == 0x2030 or code == 0x2039 or code == 0x203A or 0x2018 <= code <= 0x201D or code == 0x2122
        or code == 0x02C6 or code == 0x02DC or 0x0152 <= code <= 0x0178 or code == 0x017D
    )  # fmt: skip
