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
    behind_first,
    continues,
    decode,
    ended,
    step,
)
from tutelage.corpus.hashing import compiled, widest
from tutelage.corpus.looks import is_prose
from tutelage.corpus.measures import Column

SHORT_LINE = 30
"""Characters of a short line (Penedo et al. 2024); a Chinese, Japanese or Korean one counts as two."""

STRETCH = 1 << 15
"""Words among which repeats are looked for: a long book is read stretch by stretch, in bounded memory. A place has 15
bits."""

_RUNS = (*range(Column.top_2, Column.repeated_10 + 1), int(Column.repeated_13))
"""What is counted about runs of words."""
_NEWLINE, _WIDE = 10, 11
"""Of a byte, beside what a character is: a newline, and one of a character beyond ASCII."""


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
def _power(n: Any) -> Any:
    size = 16
    while size < n:
        size *= 2
    return size


@compiled
def _first(table: Any, mask: Any, p: Any, tag: Any, place: Any) -> Any:
    """Where that of which this is the tag stood first: at an earlier place, or at this one.

    A slot is 48 bits of tag, then 16 of the place and one.
    """
    held = table[p & mask]
    while (held != 0) & ((held ^ tag) >= np.uint64(1 << 16)):
        p += np.uint64(1)
        held = table[p & mask]
    # Without a branch: whether a word is new cannot be foreseen.
    held |= np.uint64(held == 0) * (tag | np.uint64(place + 1))
    table[p & mask] = held
    return (held & np.uint64(0xFFFF)) - np.uint64(1)


@compiled
def _first_gram(table: Any, mask: Any, shorter: Any, word: Any, place: Any) -> Any:
    """Where an n-gram stood first, by where the one without its last word and that word did: places of 15 bits."""
    key = np.uint64(shorter) << np.uint64(15) | np.uint64(word)
    return _first(table, mask, (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40), key << np.uint64(16), place)


@compiled
def _repeats(n: Any, room: Any, row: Any, top: Any, prose: Any) -> None:
    """Words of one stretch that come again, and if it is prose, n-grams.

    ``row`` gains the characters in repeated 5- to 10-grams; ``top`` is the most frequent word's count, and the
    characters of the most frequent 2-, 3- and 4-gram. An n-gram goes by the place where it stood first, and is looked
    for only where both shorter ones in it come again. A 5-gram that was there before is followed from its latest
    occurrence on, so longer repeats need no tables of their own.
    """
    units, places, table, words, grams, counts, left = room
    size = _power(2 * n)
    mask = np.uint64(size - 1)
    table[:size] = 0
    counts[:n] = 0
    distinct, most = 0, np.int32(0)
    for i in range(n):
        h = units[i]
        first = _first(table, mask, h, h & np.uint64(0xFFFFFFFFFFFF0000), i)
        words[i] = grams[i] = first
        count = counts[first] + np.int32(1)
        counts[first] = count
        distinct += count == 1
        most = max(most, count)
    row[Column.distinct_words] += distinct
    if most < 2:
        return
    top[0] = max(top[0], np.int64(most))
    if not prose:
        return
    # The places from which a longer n-gram may come again: a repeated one, and a repeated one behind it.
    m, before = 0, False
    for i in range(n):
        again = counts[words[i]] > 1
        left[m] = i - 1
        m += np.int64(before & again)
        before = again
    for order in range(2, 5):
        size = _power(2 * m)
        table[:size] = 0
        for j in range(m):
            i = left[j]
            first = _first_gram(table, np.uint64(size - 1), grams[i], words[i + order - 1], i)
            grams[i] = first
            counts[first] = counts[first] * np.int32(first != i) + np.int32(1)
        kept, last, before, most_characters = 0, np.int64(-2), False, np.int64(0)
        for j in range(m):
            i = left[j]
            count = np.int64(counts[grams[i]])
            again = count > 1
            most_characters = max(most_characters, np.int64(again) * count * (places[i + order] - places[i]))
            left[kept] = last
            kept += np.int64(before & again & (last + 1 == i))
            last, before = np.int64(i), again
        top[order - 1] = max(top[order - 1], most_characters)
        m = kept
    _long_repeats(n, m, room, row)


@compiled
def _long_repeats(n: Any, m: Any, room: Any, row: Any) -> None:
    """Those of five words and more, at the places that are left."""
    _, places, table, words, grams, latest, left = room
    size = _power(2 * m)
    table[:size] = 0
    end = np.zeros(7, np.int64)
    for j in range(m):
        i = np.int64(left[j])
        first = np.int64(_first_gram(table, np.uint64(size - 1), grams[i], words[i + 4], i))
        before = np.int64(latest[first])
        latest[first] = i
        if first == i:
            continue
        length = 5
        while length < 13 and i + length < n and words[i + length] == words[before + length]:
            length += 1
        if length == 13:
            row[Column.repeated_13] += places[i + 13] - places[max(i, end[6])]
            end[6] = i + 13
        for width in range(5, min(length, 10) + 1):
            row[Column.repeated_5 + width - 5] += places[i + width] - places[max(i, end[width - 5])]
            end[width - 5] = i + width


@compiled
def count_all(
    data: Any, offsets: Any, classes: Any, marker_keys: Any, marker_values: Any, prose: Any, table: Any
) -> None:
    stretch = min(widest(offsets, 0, len(offsets) - 1) + 1, STRETCH)
    # Hashes of words, the characters before each; what `_repeats` works with.
    room = (
        np.empty(stretch + 1, np.uint64), np.zeros(stretch + 2, np.int64), np.empty(_power(2 * stretch), np.uint64),
        np.empty(stretch, np.uint32), np.empty(stretch, np.uint32), np.empty(stretch, np.int32),
        np.empty(stretch, np.uint32),
    )  # fmt: skip
    plain = np.full(256, _WIDE, np.uint8)
    plain[:128] = classes[:128]
    plain[10] = _NEWLINE
    # The counts of repeats, then the marks of words.
    top = np.zeros(5, np.int64)
    lines, blocks = np.zeros(1024, np.uint64), np.zeros(1024, np.uint64)
    for d in range(len(offsets) - 1):
        text = data[offsets[d] : offsets[d + 1]]
        newlines = 0
        for byte in text:
            newlines += byte == 10
        size = _power(2 * (newlines + 2))
        if size > len(lines):
            lines, blocks = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
        lines[:size] = blocks[:size] = 0
        row = table[d]
        row[Column.bytes], row[Column.newlines] = len(text), newlines
        top[:] = 0
        counted = _read(
            text, classes, plain, marker_keys, marker_values, row, top, room, lines, blocks, size - 1, prose[d]
        )
        for order in range(4):
            row[Column.top_word + order] = top[order]
        if not counted:
            for column in _RUNS:
                row[column] = np.nan
        found = top[4]
        for bit in range(8):
            row[Column.stop_words] += (found >> bit) & 1
        for bit in range(16, 62):
            row[Column.function_characters] += (found >> bit) & 1
        row[Column.lorem] = (found >> 8) & (found >> 9) & 1


@compiled
def _read(
    text: Any, classes: Any, plain: Any, marker_keys: Any, marker_values: Any, row: Any, top: Any, room: Any,
    line_set: Any, block_set: Any, line_mask: Any, prose: Any,
) -> Any:  # fmt: skip
    """One document, character by character. What belongs to a word, a line or a paragraph is settled at its end. Says
    whether n-grams were counted."""
    units, places = room[0], room[1]
    stretch = len(units) - 1
    visible = spaces = letters = upper = digits = cjk = words = 0
    broken = hashes = ellipses = braces = sentences = letter_words = word_characters = cjk_marks = 0
    longest_run = run_start = n = dots = 0
    word = np.uint64(1)
    word_length = word_letters = 0
    # Of the line: what was counted before it, its leading spaces, its last characters; `line` and `block` are hashes of
    # what is visible.
    line = block = np.uint64(1)
    visible_before = spaces_before = letters_before = upper_before = cjk_before = words_before = 0
    block_visible = leading = 0
    last = before_last = np.int64(0)
    bullet = stopped = False
    places[0] = 0
    i, stop = np.int64(0), len(text)
    while i <= stop:
        code = np.int64(text[i]) if i < stop else np.int64(10)
        kind = np.int64(plain[code])
        if 1 <= kind <= 3:
            # Words of ASCII, most of what there is.
            start, digits_before = i, digits
            while 1 <= kind <= 3:
                line = step(line, code)
                word = step(word, code + (np.int64(kind == UPPER) << 5))
                upper += kind == UPPER
                digits += kind == DIGIT
                i += 1
                if i == stop:
                    break
                code = np.int64(text[i])
                kind = np.int64(plain[code])
            size = i - start
            # Any letter stands for those that a line ends with.
            before_last, last = last if size == 1 else 97, np.int64(97)
            visible += size
            letters += size - (digits - digits_before)
            word_letters += size - (digits - digits_before)
            word_length += size
            dots, stopped = 0, False
            continue
        size = 1
        if kind == _WIDE:
            code, size = decode(text, i)
            kind = np.int64(classes[code]) if code < 65536 else CJK if 0x20000 <= code <= 0x3FFFF else OTHER
            longest_run = max(longest_run, i - run_start)
            run_start = i + size
            if 1 <= kind <= 3:
                line = step(line, code)
                word = step(word, code)
                before_last, last = last, code
                visible += 1
                word_length += 1
                digits += kind == DIGIT
                letters += kind != DIGIT
                word_letters += kind != DIGIT
                upper += kind == UPPER
                dots, stopped = 0, False
                # UTF-8 read in a one-byte encoding: a letter that was a first byte, and behind it one that was not.
                broken += code <= 0xFF and behind_first(text, i)
                i += size
                continue
        if word_length:
            letter_words += word_letters > 0
            words += 1
            word_characters += word_length
            units[n] = ended(word)
            n += 1
            places[n] = word_characters + cjk
            word, word_length, word_letters = np.uint64(1), 0, 0
        if kind == SPACE:
            leading += visible == visible_before
            spaces += 1
            longest_run = max(longest_run, i - run_start)
            run_start = i + size
            sentences += stopped
            stopped = False
        elif kind == CJK:
            cjk += 1
            visible += 1
            line = step(line, code)
            before_last, last = last, code
            stopped = False
            units[n] = ended(step(np.uint64(1), code))
            n += 1
            places[n] = word_characters + cjk
        elif kind == _NEWLINE:
            line_visible = visible - visible_before
            if line_visible:
                line_cjk = cjk - cjk_before
                line_width = line_visible + spaces - spaces_before + line_cjk
                line_words = words - words_before + line_cjk
                line_letters = letters - letters_before + line_cjk
                line_upper = upper - upper_before
                kind_last, kind_before = classes[last & 65535], classes[before_last & 65535]
                code_line = (last == 59) | (last == 123) | (last == 125) | (last == 41) | (last == 61)
                row[Column.lines] += 1
                row[Column.line_characters] += line_visible
                row[Column.punctuated_lines] += (kind_last == TERMINAL) | (
                    (kind_last == CLOSING) & (kind_before == TERMINAL)
                )
                row[Column.bullet_lines] += bullet
                row[Column.ellipsis_lines] += (last == 0x2026) | ((last == 46) & (before_last == 46))
                row[Column.short_lines] += line_width <= SHORT_LINE
                row[Column.brief_lines] += (
                    (line_words >= 1)
                    & (line_words <= 3)
                    & (line_width <= SHORT_LINE)
                    & (kind_last != TERMINAL)
                    & (2 * line_letters >= line_visible)
                    & (not code_line)
                )
                row[Column.narrow_lines] += line_words <= 1
                row[Column.upper_lines] += (line_letters > 3) & (2 * line_upper > line_letters)
                if (line_words <= 1) | (2 * line_upper > line_letters) | (line_letters == 0):
                    row[Column.flagged_words] += line_words
                row[Column.code_lines] += code_line
                row[Column.indented_lines] += leading >= 2
                if _seen(line_set, line_mask, ended(line)):
                    row[Column.repeated_lines] += 1
                    row[Column.repeated_line_characters] += line_visible
                block_visible += line_visible
                block = step(block, line)
            if not line_visible or i == stop:
                if block_visible:
                    row[Column.paragraphs] += 1
                    if _seen(block_set, line_mask, ended(block)):
                        row[Column.repeated_paragraphs] += 1
                        row[Column.repeated_paragraph_characters] += block_visible
                block, block_visible = np.uint64(1), 0
            visible_before, spaces_before, letters_before, upper_before = visible, spaces, letters, upper
            cjk_before, words_before = cjk, words
            line, leading, bullet = np.uint64(1), 0, False
            last = before_last = np.int64(0)
            longest_run = max(longest_run, i - run_start)
            run_start = i + 1
            sentences += stopped
            stopped = False
        else:
            if visible == visible_before:
                bullet = code == 42 or code == 45 or code == 0x2022 or code == 0xB7 or code == 0x25CF
            visible += 1
            line = step(line, code)
            before_last, last = last, code
            dots = dots + 1 if code == 46 else 0
            # A quote that closes behind a full stop belongs to the sentence; a Chinese stop needs no space behind it,
            # and is counted at once.
            wide_stop = (kind == TERMINAL) & (code >= 0x3000)
            stopped = ((kind == TERMINAL) & (not wide_stop)) | ((kind == CLOSING) & stopped)
            sentences += wide_stop
            hashes += code == 35
            braces += (code == 123) | (code == 125)
            ellipses += (code == 0x2026) | (dots == 3)
            cjk_marks += wide_stop | (kind == CJK_PUNCTUATION)
            broken += kind == BROKEN or (size > 1 and behind_first(text, i) and continues(code))
        i += size
        if n >= stretch:
            # A word and a Chinese character behind it come at once: there may be one too many.
            _settle(stretch, room, row, top, marker_keys, marker_values, prose != 0)
            n -= stretch
            units[0], places[0], places[1] = units[stretch], places[stretch], places[stretch + 1]
    row[Column.characters] = visible + spaces + row[Column.newlines]
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
    row[Column.words] = words + cjk
    row[Column.plain_words] = words
    row[Column.letter_words] = letter_words
    row[Column.number_words] = words - letter_words
    row[Column.word_characters] = word_characters + cjk
    row[Column.plain_characters] = word_characters
    row[Column.cjk_punctuation] = cjk_marks
    counted = prose > 0 or (prose < 0 and is_prose(row))
    _settle(n, room, row, top, marker_keys, marker_values, counted)
    return counted


@compiled
def _settle(n: Any, room: Any, row: Any, top: Any, marker_keys: Any, marker_values: Any, prose: Any) -> None:
    """What the words of a stretch say: their marks, and what of them comes again."""
    found = np.int64(0)
    for h in room[0][:n]:
        p = h & np.uint64(len(marker_keys) - 1)
        found |= marker_values[p] * np.int64(marker_keys[p] == h)
    top[4] |= found
    if n:
        _repeats(n, room, row, top, prose)
