"""Held-out questions put to a model, and what its answers are worth, task by task."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tutelage.errors import RecordError
from tutelage.evaluation import judge
from tutelage.evaluation.judge import RuleScore
from tutelage.evaluation.ratings import Interval, WinRate, mean_interval, wilson, win_rate
from tutelage.inference.language_model import Reply
from tutelage.records import Conversation

ALL = "all"
"""The name under which all tasks are marked together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said to a held-out prompt."""

    prompt: str
    """The conversation's id."""
    task: str
    response: str
    stopped: bool
    """It ended by itself; otherwise it was cut."""
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """A model's answers to one task, or to all."""

    task: str
    accuracy: Interval
    """`judge.accuracy`, from 0 to 1, its mean over prompts."""
    stopped: Interval
    """The share of answers that ended by themselves."""
    tokens: float
    """Mean length of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """By how much a model is more accurate than another on the same prompts, of one task or of all.

    Prompt by prompt, so what makes a prompt hard for both cancels out: narrower than two intervals held side by side.
    """

    task: str
    over: str
    """The other model."""
    mean: float
    """From -1 to 1."""
    low: float
    high: float
    prompts: int


def choose(conversations: Iterable[Conversation], per_task: int, seed: int) -> list[Conversation]:
    """At most so many conversations of each task, drawn by the seed and the ids alone, in the order of task and id.

    Raises:
        RecordError: one has no answer to compare with, two have the same id, or the rule cannot judge one.
    """
    tasks: dict[str, list[Conversation]] = {}
    seen: set[str] = set()
    for conversation in conversations:
        if conversation.answer is None:
            raise RecordError(f"conversation {conversation.id}: no answer: evaluation compares with the last turn")
        if conversation.id in seen:
            raise RecordError(f"conversation {conversation.id}: stands twice: give each its own id")
        if conversation.task == ALL:
            raise RecordError(f"conversation {conversation.id}: task {ALL!r}: all tasks together are called so: rename")
        seen.add(conversation.id)
        tasks.setdefault(conversation.task, []).append(conversation)
    chosen: list[Conversation] = []
    for task in sorted(tasks):
        ordered = sorted(tasks[task], key=lambda c: c.id)
        drawn = random.Random(f"{seed} {task}").sample(ordered, min(per_task, len(ordered)))
        chosen += sorted(drawn, key=lambda c: c.id)
    for conversation in chosen:
        judge.check(conversation)
    return chosen


def answers(conversations: Sequence[Conversation], replies: Sequence[Reply]) -> list[Answer]:
    """A model's replies to the prompts of conversations, as answers to be marked; in order."""
    return [
        Answer(
            prompt=conversation.id,
            task=conversation.task,
            response=reply.text,
            stopped=reply.finish_reason == "stop",
            tokens=reply.completion_tokens,
        )
        for conversation, reply in zip(conversations, replies, strict=True)
    ]


def mark(given: Sequence[Answer], conversations: Sequence[Conversation], seed: int = 1) -> list[Marks]:
    """Marks of each task, sorted by its name, with those of `ALL` tasks together at the end.

    In `ALL` every prompt counts the same, so a task counts by its number of prompts.

    Raises:
        RecordError: no answers, or one to a prompt that is not among the conversations.
    """
    asked = _by_id(conversations)
    tasks = sorted({answer.task for answer in given})
    groups = [(task, [answer for answer in given if answer.task == task]) for task in tasks]
    return [_marks(task, group, asked, seed) for task, group in [*groups, (ALL, list(given))]]


def scores(given: Sequence[Answer], conversations: Sequence[Conversation]) -> list[RuleScore]:
    """What the rule finds in each answer.

    Raises:
        RecordError: an answer to a prompt that is not among the conversations.
    """
    asked = _by_id(conversations)
    return [judge.score(_find(asked, answer), answer.response, answer.stopped) for answer in given]


def wins(
    over: str, prompts: Sequence[str], ours: Sequence[RuleScore], theirs: Sequence[RuleScore], seed: int = 1
) -> WinRate:
    """How often the rule prefers our answers to theirs, on the same prompts in the same order.

    Raises:
        RecordError: no prompts.
    """
    points = [(1 + judge.prefer(a, b)) / 2 for a, b in zip(ours, theirs, strict=True)]
    return win_rate(over, zip(prompts, points, strict=True), seed)


def gains(
    over: str, ours: Sequence[Answer], theirs: Sequence[Answer], conversations: Sequence[Conversation], seed: int = 1
) -> list[Gain]:
    """What our answers gain over theirs to the same prompts, in the order of `mark`.

    Raises:
        RecordError: no answers, or one to a prompt that the other did not answer or that is not asked.
    """
    asked = _by_id(conversations)
    before = {answer.prompt: _accuracy(answer, asked) for answer in theirs}
    differences: list[tuple[str, str, float]] = []
    for answer in ours:
        if answer.prompt not in before:
            raise RecordError(f"answer to {answer.prompt!r}: {over} gave none: ask both the same prompts")
        differences.append((answer.task, answer.prompt, _accuracy(answer, asked) - before[answer.prompt]))
    found: list[Gain] = []
    for task in [*sorted({task for task, _, _ in differences}), ALL]:
        # As shares from 0 to 1, so that where all prompts agree the interval still has a width.
        shares = [(prompt, (1 + difference) / 2) for of, prompt, difference in differences if task in (of, ALL)]
        mean = mean_interval(shares, seed, f"gain over {over} in task {task!r}")
        low, high = 2 * mean.low - 1, 2 * mean.high - 1
        found.append(Gain(task=task, over=over, mean=2 * mean.mean - 1, low=low, high=high, prompts=mean.prompts))
    return found


def _marks(task: str, given: list[Answer], asked: dict[str, Conversation], seed: int) -> Marks:
    right = [(answer.prompt, _accuracy(answer, asked)) for answer in given]
    return Marks(
        task=task,
        accuracy=mean_interval(right, seed, f"accuracy of task {task!r}"),
        stopped=wilson(sum(answer.stopped for answer in given), len(given)),
        tokens=sum(answer.tokens for answer in given) / len(given),
    )


def _accuracy(answer: Answer, asked: dict[str, Conversation]) -> float:
    return judge.accuracy(answer.task, answer.response, judge.reference_of(_find(asked, answer)))


def _by_id(conversations: Sequence[Conversation]) -> dict[str, Conversation]:
    return {conversation.id: conversation for conversation in conversations}


def _find(asked: dict[str, Conversation], answer: Answer) -> Conversation:
    if answer.prompt not in asked:
        raise RecordError(f"answer to {answer.prompt!r}: no held-out conversation has this id")
    return asked[answer.prompt]
