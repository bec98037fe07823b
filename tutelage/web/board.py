"""Whether what people say can be trusted: the figures of the owner's board, with intervals.

Everything is worked out from the answers anew, from arrays read in a few statements; see `feedback` for the arithmetic.
Gold items tell who is right and count for nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from sqlalchemy import Connection, case, func, literal_column, select

from tutelage.feedback.agreement import DRAWS, alpha
from tutelage.feedback.consensus import DISPUTED
from tutelage.web import schema, votes
from tutelage.web.answers import Question
from tutelage.web.persons import (
    Fault,
    PersonFigures,
    alarming,
    consensus,
    figures,
    gold_answers,
    items_of,
    main_question,
)  # fmt: skip
from tutelage.web.sessions import DAY, HOUR
from tutelage.web.votes import LEVELS, Votes, distinct

LITTLE_AGREEMENT = 0.4
"""Source: Krippendorff 2004 draws the line for tentative conclusions at 0.667; preferences rarely reach it."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something to look at."""

    kind: Fault
    who: str
    """An account; empty where it is about all."""
    question: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionFigures:
    """How far people agree in one question."""

    key: str
    kind: str
    answers: int
    cannot_tell: float
    alpha: float | None
    low: float | None
    high: float | None
    items: int
    """What two or more people judged: items, or responses of items, or pairs of them."""


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Items by where they stand."""

    waiting: int
    held: int
    """That somebody has before them now."""
    answered: int
    """With as many answers as were asked for."""
    closed: int
    gold: int
    disputed: int
    """Whose likeliest answer is less likely than 0.8."""
    flagged: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What it costs, and when it will be done at the pace of the last seven days."""

    currency: str
    per_answer: float
    spent: float
    left: float
    answers_left: int
    ends: int | None
    """Microseconds since 1970; None where nobody has answered lately."""


@dataclass(frozen=True, slots=True)
class Board:
    """A project at a glance."""

    answers: int
    people: int
    answers_per_hour: float | None
    """In the last 24 hours in which there were any."""
    median_seconds: float | None
    questions: tuple[QuestionFigures, ...]
    queue: QueueCounts
    cost: Cost
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True, slots=True)
class Disputed:
    """An item that people do not agree on."""

    item: str
    certainty: float
    answers: int


@dataclass(frozen=True, slots=True)
class Change:
    """What setting somebody's answers aside would change."""

    answers: int
    items: int
    alpha_before: float | None
    alpha_after: float | None
    changed: int
    """Items whose likeliest answer would be another."""


def board(c: Connection, project: str, now: int) -> Board:
    """The board of a project."""
    held = votes.read(c, project)
    judged = held.only(~held.is_gold[held.item])
    questions = tuple(_question(judged, question) for question in judged.questions)
    main = main_question(judged)
    disputed = 0
    found = None
    if main is not None:
        found = consensus(judged, main)
        disputed = distinct(items_of(judged, found)[found.consensus.certainty() < DISPUTED])
    low = [
        Alarm("agreement", "", figures.key, figures.alpha)
        for figures in questions
        if figures.alpha is not None and figures.high is not None and figures.high < LITTLE_AGREEMENT
    ]
    people = figures(c, project, held, judged, found)
    named = [
        Alarm(kind, person.account, main.key if main else "", alarming(person, kind))
        for person in people
        for kind in person.alarms
    ]
    seconds = judged.seconds[judged.seconds > 0]
    return Board(
        answers=len(held.number), people=distinct(held.person), answers_per_hour=_pace(held.submitted),
        median_seconds=float(numpy.median(seconds)) if len(seconds) else None, questions=questions,
        queue=_queue(c, project, disputed), cost=_cost(c, project, held, now), alarms=(*low, *named),
    )  # fmt: skip


def people(c: Connection, project: str) -> tuple[PersonFigures, ...]:
    """Everybody in a project, those with the most answers first."""
    held = votes.read(c, project)
    judged = held.only(~held.is_gold[held.item])
    main = main_question(judged)
    found = consensus(judged, main) if main else None
    return figures(c, project, held, judged, found)


def disputed(c: Connection, project: str, limit: int = 50, offset: int = 0) -> list[Disputed]:
    """Items that were answered, those that people agree on least first."""
    held = votes.read(c, project)
    judged = held.only(~held.is_gold[held.item])
    main = main_question(judged)
    if main is None:
        return []
    found = consensus(judged, main)
    code = items_of(judged, found)
    least = numpy.ones(len(judged.items))
    numpy.minimum.at(least, code, found.consensus.certainty())
    answers = numpy.bincount(judged.item, minlength=len(judged.items))
    there = numpy.unique(code)
    chosen = there[numpy.lexsort((there, least[there]))][offset : offset + limit]
    numbers = [int(judged.items[one]) for one in chosen]
    named = select(schema.item.c.number, schema.item.c.id).where(schema.item.c.number.in_(numbers))
    ids: dict[int, str] = {row.number: row.id for row in c.execute(named)}
    return [
        Disputed(ids[number], float(least[one]), int(answers[one])) for number, one in zip(numbers, chosen, strict=True)
    ]


def gold_accuracy(c: Connection, project: str, account: str) -> tuple[int, int]:
    """(how often somebody was right, how often they were asked) where the answer is known."""
    held = votes.read(c, project)
    if account not in held.people:
        return 0, 0
    person, right = gold_answers(c, project, held)
    mine = person == held.people.index(account)
    return int(right[mine].sum()), int(mine.sum())


def what_if(c: Connection, project: str, account: str, since: int) -> Change:
    """What would change if somebody's answers since then were set aside."""
    held = votes.read(c, project)
    before = held.only(~held.is_gold[held.item])
    code = before.people.index(account) if account in before.people else -1
    gone = (before.person == code) & (before.submitted >= since)
    after = before.only(~gone)
    main = main_question(before)
    items = distinct(before.item[gone])
    if main is None:
        return Change(int(gone.sum()), items, None, None, 0)
    # Without their intervals: nobody waits for them here.
    alphas = [alpha(one.of(main).unit, one.of(main).value, LEVELS[main.kind], draws=0).value for one in (before, after)]
    likeliest: list[dict[int, int]] = []
    for one in (before, after):
        found = consensus(one, main)
        best = found.consensus.posterior.argmax(1) if len(found.units) else numpy.zeros(0, int)
        likeliest.append(dict(zip(found.units.tolist(), best.tolist(), strict=True)))
    changed = sum(likeliest[1].get(unit, label) != label for unit, label in likeliest[0].items())
    return Change(int(gone.sum()), items, alphas[0], alphas[1], changed)


def _question(held: Votes, question: Question) -> QuestionFigures:
    if question.kind == "text":
        mine = held.rows[0][held.rows[1] == held.questions.index(question)]
        return QuestionFigures(
            key=question.key, kind=question.kind, answers=distinct(mine),
            cannot_tell=held.cannot_tell(question), alpha=None, low=None, high=None, items=0,
        )  # fmt: skip
    said = held.of(question)
    found = alpha(said.unit, said.value, said.level, draws=DRAWS)
    return QuestionFigures(
        key=question.key, kind=question.kind, answers=distinct(said.answer),
        cannot_tell=held.cannot_tell(question), alpha=found.value, low=found.low, high=found.high, items=found.units,
    )  # fmt: skip


def _queue(c: Connection, project: str, disputed: int) -> QueueCounts:
    item, seat, flag = schema.item.c, schema.seat.c, schema.flag.c
    is_open = item.state == literal_column("'open'")
    ordinary = item.lane != schema.GOLD
    one = {
        "waiting": ordinary & is_open & (item.taken < item.need),
        "answered": ordinary & is_open & (item.done >= item.need),
        "closed": ordinary & ~is_open,
        "gold": item.lane == schema.GOLD,
    }
    counts = select(*(func.sum(case((test, 1), else_=0)).label(name) for name, test in one.items()))
    row = c.execute(counts.where(item.project == project)).one()
    held = select(func.count(seat.item.distinct())).where(seat.project == project, seat.state == "leased")
    flags = select(func.count(flag.item.distinct())).where(flag.item == item.number, item.project == project)
    return QueueCounts(
        waiting=int(row.waiting or 0), held=int(c.scalar(held) or 0), answered=int(row.answered or 0),
        closed=int(row.closed or 0), gold=int(row.gold or 0), disputed=disputed, flagged=int(c.scalar(flags) or 0),
    )  # fmt: skip


def _cost(c: Connection, project: str, held: Votes, now: int) -> Cost:
    settings = json.loads(c.scalar(select(schema.project.c.settings).where(schema.project.c.id == project)) or "{}")
    item = schema.item.c
    asked = select(func.sum(item.need - item.done)).where(
        item.project == project, item.lane != schema.GOLD, item.state == "open"
    )
    left = int(c.scalar(asked) or 0)
    each = float(settings.get("per_answer") or 0)
    lately = int(((held.submitted > now - 7 * DAY) & ~held.is_gold[held.item]).sum()) if len(held.number) else 0
    ends = None
    if lately:
        began = max(int(held.submitted.min()), now - 7 * DAY)
        ends = now + round(left * max(1, now - began) / lately)
    return Cost(
        currency=str(settings.get("currency") or ""), per_answer=each, spent=each * len(held.number), left=each * left,
        answers_left=left, ends=ends,
    )  # fmt: skip


def _pace(submitted: NDArray[numpy.int64]) -> float | None:
    """Answers an hour in the last 24 hours in which there were any."""
    if not len(submitted):
        return None
    hours, counts = numpy.unique(submitted // HOUR, return_counts=True)
    return float(counts[-24:].sum() / len(hours[-24:]))
