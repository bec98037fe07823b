"""The loops that count everything about a document in one pass over its bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tutelage.corpus.characters import (
    BROKEN,
    CJK,
    CJK_PUNCTUATION,
    CLOSING,
    DIGIT,
    OTHER,
    SPACE,
    TERMINAL,
    UPPER,
    decode,
    ended,
    step,
)
from tutelage.corpus.hashing import compiled
from tutelage.corpus.measures import Column

SHORT_LINE = 30
"""Characters of a short line (Penedo et al. 2024); a Chinese, Japanese or Korean one counts as two."""

STRETCH = 1 << 15
"""Words among which repeats are looked for: a long book is read stretch by stretch, in bounded memory."""


@compiled
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


@compiled
def _slot(keys: Any, mask: Any, h: Any) -> Any:
    """The place of a hash in a table, a new one with key 0 if it is not there."""
    p = np.int64(h >> np.uint64(20)) & mask
    while keys[p] != 0 and keys[p] != h:
        p = (p + 1) & mask
    return p


@compiled
def _power(n: Any) -> Any:
    size = 16
    while size < n:
        size *= 2
    return size


@compiled
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
                for width in range(5, min(length, 10) + 1):
                    row[Column.repeated_5 + width - 5] += places[i + width] - places[max(i, end[width - 5])]
                    end[width - 5] = i + width
        if order < 5:
            top[order - 1] = max(top[order - 1], best)


@compiled
def count_all(data: Any, offsets: Any, classes: Any, marker_keys: Any, marker_values: Any, table: Any) -> None:
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


@compiled
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
            kind = np.int64(classes[code]) if code < 65536 else CJK if 0x20000 <= code <= 0x3FFFF else OTHER
            i += size
        else:
            code, kind, i = np.int64(10), np.int64(BROKEN), i + 1
        is_word = 1 <= kind <= 3
        if word_length and not is_word:
            h = ended(word)
            found |= _marked(h, marker_keys, marker_values)
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
                row[Column.punctuated_lines] += classes[end & 65535] == TERMINAL or (
                    classes[end & 65535] == CLOSING and classes[before_last & 65535] == TERMINAL
                )
                row[Column.bullet_lines] += (
                    first == 42 or first == 45 or first == 0x2022 or first == 0xB7 or first == 0x25CF
                )
                row[Column.ellipsis_lines] += end == 0x2026 or (end == 46 and before_last == 46)
                row[Column.short_lines] += line_width <= SHORT_LINE
                row[Column.brief_lines] += (
                    1 <= line_words <= 3
                    and line_width <= SHORT_LINE
                    and classes[end & 65535] != TERMINAL
                    and 2 * line_letters >= line_visible
                    and not (end == 59 or end == 123 or end == 125 or end == 41 or end == 61)
                )
                row[Column.narrow_lines] += line_words <= 1
                row[Column.upper_lines] += line_letters > 3 and 2 * line_upper > line_letters
                if line_words <= 1 or 2 * line_upper > line_letters or line_letters == 0:
                    row[Column.flagged_words] += line_words
                row[Column.code_lines] += end == 59 or end == 123 or end == 125 or end == 41 or end == 61
                row[Column.indented_lines] += leading >= 2
                if _seen(line_set, line_mask, ended(line)):
                    row[Column.repeated_lines] += 1
                    row[Column.repeated_line_characters] += line_visible
                block_visible += line_visible
                block = step(block, line)
            if not line_visible or i > stop:
                if block_visible:
                    row[Column.paragraphs] += 1
                    if _seen(block_set, line_mask, ended(block)):
                        row[Column.repeated_paragraphs] += 1
                        row[Column.repeated_paragraph_characters] += block_visible
                block, block_visible = np.uint64(1), 0
            line, line_visible, line_width, line_words, line_upper, line_letters = np.uint64(1), 0, 0, 0, 0, 0
            leading = 0
            first = last = before_last = np.int64(0)
            run = 0
            if before_class == TERMINAL:
                sentences += 1
            before, before_class = code, SPACE
            characters += i <= stop
        elif kind == SPACE:
            characters += 1
            leading += line_visible == 0
            line_width += 1
            run = 0
            if before_class == TERMINAL:
                sentences += 1
            before, before_class = code, SPACE
        else:
            characters += 1
            visible += 1
            line_visible += 1
            line_width += 1
            line = step(line, code)
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
                word = step(word, lower)
                word_length += 1
                if kind == DIGIT:
                    digits += 1
                else:
                    letters += 1
                    word_letters += 1
                    line_letters += 1
                    if kind == UPPER:
                        upper += 1
                        line_upper += 1
                # UTF-8 read in a one-byte encoding: a letter that was a first byte, and behind it one that was not.
                broken += 0x80 <= code <= 0xFF and 0xC2 <= before <= 0xF4
            elif kind == CJK:
                cjk += 1
                line_width += 1
                line_letters += 1
                h = ended(step(np.uint64(1), code))
                found |= _marked(h, marker_keys, marker_values)
                units[n], lengths[n] = h, 1
                n += 1
                words += 1
                line_words += 1
                word_characters += 1
            else:
                hashes += code == 35
                braces += code == 123 or code == 125
                cjk_marks += kind == CJK_PUNCTUATION or (kind == TERMINAL and code >= 0x3000)
                dots = dots + 1 if code == 46 else 0
                ellipses += code == 0x2026 or dots == 3
                broken += kind == BROKEN or (0xC2 <= before <= 0xF4 and _continues(code))
                sentences += kind == TERMINAL and code >= 0x3000
            before = code
            # A quote that closes behind a full stop belongs to the sentence.
            if kind == TERMINAL and code >= 0x3000:
                # Needs no space behind it, and was counted at once.
                before_class = OTHER
            else:
                before_class = TERMINAL if kind == CLOSING and before_class == TERMINAL else kind
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


@compiled
def _marked(h: Any, marker_keys: Any, marker_values: Any) -> Any:
    """The marks of a word, by its hash; 0 if it has none."""
    p = np.int64(h) & 255
    while marker_keys[p] != 0:
        if marker_keys[p] == h:
            return np.int64(marker_values[p])
        p = (p + 1) & 255
    return np.int64(0)


@compiled
def _continues(code: Any) -> Any:
    """Whether a character may be what a byte 0x80 to 0xBF became in Latin-1 or in Windows' code page 1252."""
    if 0x80 <= code <= 0xBF:
        return True
    return (
        code == 0x20AC or code == 0x201A or code == 0x0192 or 0x201E <= code <= 0x2022 or code == 0x2026
        or code == 0x2030 or code == 0x2039 or code == 0x203A or 0x2018 <= code <= 0x201D or code == 0x2122
        or code == 0x02C6 or code == 0x02DC or 0x0152 <= code <= 0x0178 or code == 0x017D
    )  # fmt: skip
