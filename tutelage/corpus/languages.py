"""The language of a text, by the share of each script.

Only scripts are told apart: Latin letters are called English, and French is too. Where that matters, a classifier
belongs before this.
"""

from __future__ import annotations

import re

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
KANA = r"\u3040-\u30ff\u31f0-\u31ff"
HANGUL = r"\uac00-\ud7af\u1100-\u11ff"
CJK = HAN + KANA + HANGUL

_HAN = re.compile(f"[{HAN}]")
_KANA_OR_HANGUL = re.compile(f"[{KANA}{HANGUL}]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]+")
_OTHER = re.compile(r"[^\W\d_A-Za-z\u00c0-\u024f" + CJK + "]")


def language(text: str) -> str:
    """ "zh", "en", or "und" where neither script prevails.

    A Han character weighs as three letters, for it says about as much: a Chinese manual full of English names of
    functions is Chinese. Text with more than one kana or Hangul in ten Han characters is not.
    """
    latin = sum(len(run) for run in _LATIN.findall(text))
    if text.isascii():
        return "en" if latin else "und"
    han = len(_HAN.findall(text))
    foreign = len(_KANA_OR_HANGUL.findall(text))
    other = len(_OTHER.findall(text)) + 3 * foreign
    if foreign * 10 <= han and 3 * han >= latin + other and han:
        return "zh"
    return "en" if latin > 3 * han + other else "und"


def han_characters(text: str) -> str:
    """The Chinese characters of a text, alone."""
    return "".join(_HAN.findall(text))


def length(text: str) -> int:
    """Characters, where a Chinese, Japanese or Korean one counts as two: bounds then mean the same in both scripts."""
    return len(text) if text.isascii() else len(text) + len(_HAN.findall(text)) + len(_KANA_OR_HANGUL.findall(text))
