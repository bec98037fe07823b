"""Whether an answer is right, where the right one is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.web.answers import Question


def is_right(questions: Sequence[Question], gold: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    """Whether somebody says what is known, in every question that the known answer speaks of.

    Args:
        gold, said: answers by the questions' keys, both about the responses in the same order.

    How strongly an answer is preferred is a matter of taste, which one is not: a comparison is right on the right side.
    Of a ranking the best must be the same, and no two that differ may stand the other way round. A score may be one
    step off where there are five steps or more. A text is not judged.
    """
    return all(
        _agrees(question, gold[question.key], said.get(question.key))
        for question in questions
        if gold.get(question.key) is not None and question.kind != "text"
    )


def _agrees(question: Question, gold: Any, said: Any) -> bool:
    if said is None or isinstance(gold, dict) or isinstance(said, dict):
        return gold == said
    if isinstance(gold, str) or isinstance(said, str):
        return gold == said
    match question.kind:
        case "compare":
            return _side(gold) == _side(said)
        case "rank":
            return _ranks_agree(gold, said)
        case "scale":
            room = 1 if question.high - question.low >= 4 else 0
            pairs = zip(_list(gold), _list(said), strict=False)
            return len(_list(gold)) == len(_list(said)) and all(abs(a - b) <= room for a, b in pairs)
        case _:
            return gold == said


def _ranks_agree(gold: Sequence[int], said: Sequence[int]) -> bool:
    places = range(len(gold))
    if len(gold) != len(said):
        return False
    turned = any(gold[a] < gold[b] and said[a] > said[b] for a in places for b in places)
    return not turned and [place == 1 for place in gold] == [place == 1 for place in said]


def _side(choice: int) -> int:
    return (choice > 4) - (choice < 4)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
