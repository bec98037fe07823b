"""Habits of answers that no score shows: their length, lists, apologies, hedges, refusals, repetitions.

A model that is rewarded for the wrong thing shows it here first. Patterns are for English and for Chinese; a word is a
run of letters and digits, or one Chinese character.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tutelage.errors import RecordError
from tutelage.sentences import sentences

_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W\u3400-\u9fff\uf900-\ufaff]+")
_LIST_ITEM = re.compile(r"^\s*(?:\d+[.、)]|[-*•])", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s", re.MULTILINE)

PATTERNS = {
    "closing_summary": r"总的来说|总体而言|综上|总之|\bin (?:summary|conclusion)\b|\boverall\b",
    "apology": r"抱歉|对不起|很遗憾|\bsorry\b|\bapologi[sz]e",
    "hedge": r"可能|也许|不太确定|不确定|\bmight\b|\bperhaps\b|\bit depends\b|\bI(?:['’]?m| am) not sure\b",
    "refusal": r"我不能|无法(?:提供|协助)|不便|\bI (?:can(?:['’]?t|not| not)|won['’]?t)\b|\bunable to\b",
    "self_reference": r"作为(?:一个|一名)?(?:AI|人工智能|语言模型)|\bas an AI\b",
    "please": r"请|\bplease\b|\bpls\b",
    "question_marks": r"[?？]{3}",
}
"""Each is counted once in an answer."""

_COMPILED = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in PATTERNS.items()}
N = 4
"""Words in a repeated n-gram."""
OPENING = 5
"""Words in an opening."""


def behaviour(texts: Sequence[str]) -> dict[str, float]:
    """Numbers on how answers are written.

    Means over answers: ``characters``, ``words``, ``sentences``, ``list_items``, ``headings``, and
    ``repeated_ngrams``, the share of an answer's 4-grams that stood in it before. Shares of answers: ``empty``, and
    each of `PATTERNS`. Of all answers together: ``distinct_2``, different word pairs over word pairs;
    ``commonest_opening``, the share of answers that begin with the commonest five words.

    Source: for distinct-2, Li et al. 2016, arXiv 1510.03055.

    Raises:
        RecordError: no texts.
    """
    if not texts:
        raise RecordError("behaviour: no answers: give at least one")
    words = [_words(text) for text in texts]
    pairs = [pair for answer in words for pair in _ngrams(answer, 2)]
    openings = Counter(tuple(answer[:OPENING]) for answer in words if answer)
    numbers = {
        "characters": _mean([len(text.strip()) for text in texts]),
        "words": _mean([len(answer) for answer in words]),
        "sentences": _mean([len(sentences(text)) for text in texts]),
        "list_items": _mean([len(_LIST_ITEM.findall(text)) for text in texts]),
        "headings": _mean([len(_HEADING.findall(text)) for text in texts]),
        "empty": _mean([not text.strip() for text in texts]),
        "repeated_ngrams": _mean([repeated(answer) for answer in words]),
        "distinct_2": len(set(pairs)) / len(pairs) if pairs else 0.0,
        "commonest_opening": max(openings.values(), default=0) / len(texts),
    }
    return numbers | {
        name: _mean([pattern.search(text) is not None for text in texts]) for name, pattern in _COMPILED.items()
    }


def repeated(words: Sequence[str], n: int = N) -> float:
    """The share of n-grams that stood before in the same words: 0 where all differ, or where there is none."""
    grams = _ngrams(words, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
