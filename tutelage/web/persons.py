"""How each person judges: the figures and alarms of the page about people, from arrays.

Gold items tell who is right and count for nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from tutelage.feedback import conduct
from tutelage.feedback.consensus import Consensus, dawid_skene, of_others
from tutelage.feedback.proportions import wilson
from tutelage.web import schema, votes
from tutelage.web.answers import Question
from tutelage.web.marking import is_right
from tutelage.web.votes import CLASSES, Said, Votes, distinct

MUCH = 0.25
"""A share of the answers from one person above this is told."""
ROUNDS = 40
"""Of the estimate of consensus, at most: a board is looked at often."""

Fault = Literal["agreement", "share", "straight", "speed", "seat", "length", "careless", "against", "gold"]


@dataclass(frozen=True, slots=True)
class Share:
    """A share with Wilson's 95 % interval."""

    value: float
    low: float
    high: float
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonFigures:
    """How one person judges."""

    account: str
    name: str
    role: str
    state: str
    answers: int
    share: float
    median_seconds: float | None
    gold: Share | None
    agreement: Share | None
    attention: float | None
    """How far they follow what is likely to be true by what others say: 1 always, 0 not at all, below 0 against it."""
    first: Share | None
    first_p: float | None
    longer: float | None
    """How much they prefer the longer response where nothing speaks for either."""
    longer_p: float | None
    fast: float
    run: int
    alarms: tuple[Fault, ...]
    confusion: tuple[tuple[float, ...], ...] | None
    """How likely they are to say what (columns), given what is likely to be true (rows)."""


@dataclass(frozen=True)
class Found:
    """The consensus about a question's units."""

    said: Said
    person: NDArray[numpy.int64]
    """(N,) who gave each value."""
    units: NDArray[numpy.int64]
    code: NDArray[numpy.int64]
    """(N,) the unit of each value, as a place in ``units``."""
    consensus: Consensus


def main_question(held: Votes) -> Question | None:
    """The question by which people are known: the overall one, or else the first, of those whose answers are labels."""
    labelled = [question for question in held.questions if question.kind in CLASSES]
    told = [question for question in labelled if len(held.of(question).unit)]
    overall = [question for question in told if question.dimension == "overall"]
    return (overall or told or [None])[0]


def consensus(held: Votes, question: Question) -> Found:
    said = held.of(question)
    person = held.person[said.answer]
    units, code = numpy.unique(said.unit, return_inverse=True)
    if not len(units):
        nothing = Consensus(
            posterior=numpy.ones((0, 1)), confusion=numpy.ones((0, 1, 1)), prior=numpy.ones(1), model="coin", rounds=0
        )
        return Found(said, person, units, code, nothing)
    found = dawid_skene(code, person, said.labels, CLASSES[question.kind], rounds=ROUNDS)
    return Found(said, person, units, code, found)


def items_of(held: Votes, found: Found) -> NDArray[numpy.int64]:
    """(units,) the item of each unit."""
    item = numpy.zeros(len(found.units), int)
    item[found.code] = held.item[found.said.answer]
    return item


def figures(c: Connection, project: str, held: Votes, judged: Votes, found: Found | None) -> tuple[PersonFigures, ...]:
    crowd = len(held.people)
    member, account = schema.membership.c, schema.account.c
    wanted = select(member.account, member.role, member.state, account.name).where(
        member.project == project, account.id == member.account
    )
    answers = numpy.bincount(held.person, minlength=crowd)
    gold = conduct.gold(*gold_answers(c, project, held), crowd)
    hurried = conduct.hurried(*_times(judged), crowd)
    rest = None if found is None else _conduct(judged, found, crowd)
    found_people: list[PersonFigures] = []
    places = {name: code for code, name in enumerate(held.people)}
    for row in c.execute(wanted):
        code = places.get(row.account)
        common: dict[str, Any] = {"account": row.account, "name": row.name, "role": row.role, "state": row.state}
        if code is None:
            if row.role != "viewer":
                found_people.append(PersonFigures(**common, **_NOTHING))
            continue
        seconds = judged.seconds[(judged.person == code) & (judged.seconds > 0)]
        share = float(answers[code] / max(1, len(held.number)))
        alarms: list[Fault] = [] if rest is None else [kind for kind, told in rest.alarms.items() if told[code]]
        if hurried.chance[code] < conduct.ALARM:
            alarms.append("speed")
        if gold.chance[code] < conduct.ALARM:
            alarms.append("gold")
        if share > MUCH and (answers > 0).sum() > round(1 / MUCH):
            alarms.append("share")
        found_people.append(
            PersonFigures(
                **common, answers=int(answers[code]), share=share,
                median_seconds=float(numpy.median(seconds)) if len(seconds) else None,
                gold=_share(gold.successes[code], gold.of[code]), fast=_part(hurried.successes[code], hurried.of[code]),
                alarms=tuple(alarms), **(_NO_MAIN if rest is None else rest.of(code)),
            )
        )  # fmt: skip
    return tuple(sorted(found_people, key=lambda person: (-person.answers, person.name)))


@dataclass(frozen=True)
class _Conduct:
    """How everybody judges the main question."""

    same: NDArray[numpy.int64]
    clear: NDArray[numpy.int64]
    attention: conduct.Attention
    seats: conduct.Shares | None
    lean: conduct.Lean | None
    runs: conduct.Runs
    consensus: Consensus
    alarms: dict[Fault, NDArray[numpy.bool_]]

    def of(self, code: int) -> dict[str, Any]:
        """The figures of one person."""
        seats, lean, table = self.seats, self.lean, self.consensus.confusion
        return {
            "agreement": _share(self.same[code], self.clear[code]), "attention": _known(self.attention.value[code]),
            "first": None if seats is None else _share(seats.successes[code], seats.of[code]),
            "first_p": None if seats is None or not seats.of[code] else float(seats.chance[code]),
            "longer": None if lean is None else _known(lean.value[code]),
            "longer_p": None if lean is None or numpy.isnan(lean.value[code]) else float(lean.chance[code]),
            "run": int(self.runs.longest[code]),
            "confusion": tuple(tuple(row) for row in table[code].tolist()) if code < len(table) else None,
        }  # fmt: skip


def _conduct(judged: Votes, found: Found, crowd: int) -> _Conduct:
    said, labels = found.said, found.said.labels
    classes = found.consensus.posterior.shape[1]
    same, clear = conduct.agreement(found.code, found.person, labels, classes, crowd)
    likely = of_others(found.consensus, found.code, found.person, labels) if len(labels) else numpy.ones((0, classes))
    attention = conduct.attention(found.person, labels, likely, crowd)
    first = judged.first[said.answer]
    pressed, order = labels, judged.number[said.answer]
    seats = lean = None
    if said.level == "ordinal" and len(said.answer) == distinct(said.answer):
        # Two responses side by side: which seat, and which length.
        decided = (labels != 1) & (first >= 0)
        seats = conduct.seats(found.person[decided], labels[decided] == 2 * first[decided], crowd)
        pressed = numpy.where(first == 1, 2 - labels, labels)
        longer = judged.longer[judged.item[said.answer]]
        told = (labels != 1) & (longer >= 0)
        pair = likely[told][:, [0, 2]]
        better = pair[numpy.arange(len(pair)), longer[told]] / numpy.maximum(pair.sum(1), 1e-12)
        lean = conduct.lengths(found.person[told], labels[told] == 2 * longer[told], better, crowd)
    runs = conduct.runs(found.person, order, pressed, crowd)
    alarms: dict[Fault, NDArray[numpy.bool_]] = {
        "against": attention.against < conduct.ALARM,
        "careless": (attention.careless < conduct.ALARM) & (attention.against >= conduct.ALARM),
        "straight": runs.chance < conduct.ALARM,
    }
    if seats is not None and lean is not None:
        alarms |= {"seat": seats.chance < conduct.ALARM, "length": lean.chance < conduct.ALARM}
    return _Conduct(same, clear, attention, seats, lean, runs, found.consensus, alarms)


def _times(judged: Votes) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(person, seconds, reading seconds) of the answers of which both are known."""
    reading = judged.reading[judged.item] if len(judged.reading) else judged.seconds
    known = (judged.seconds > 0) & ~numpy.isnan(reading)
    return judged.person[known], judged.seconds[known], reading[known]


def gold_answers(c: Connection, project: str, held: Votes) -> tuple[NDArray[numpy.int64], NDArray[numpy.bool_]]:
    """(person, whether they were right) of each answer to a gold item."""
    answers = numpy.flatnonzero(held.is_gold[held.item]) if len(held.item) else numpy.zeros(0, int)
    known = votes.gold_of(c, project) if len(answers) else {}
    right: list[bool] = []
    for answer in answers.tolist():
        gold, slots = known[int(held.items[held.item[answer]])]
        right.append(is_right(held.questions, gold, held.said_by_slots(answer, slots)))
    return held.person[answers], numpy.array(right, dtype=bool)


def alarming(person: PersonFigures, kind: str) -> float:
    """The number behind an alarm."""
    shares = {"share": person.share, "speed": person.fast, "straight": float(person.run)}
    share = {"seat": person.first, "gold": person.gold}.get(kind)
    if kind in shares:
        return shares[kind]
    if kind == "length":
        return person.longer or 0.0
    return share.value if share else person.attention or 0.0


def _share(successes: Any, of: Any) -> Share | None:
    if not of:
        return None
    low, high = wilson([successes], [of])
    return Share(float(successes / of), float(low[0]), float(high[0]), int(of))


def _part(successes: Any, of: Any) -> float:
    return float(successes / of) if of else 0.0


def _known(value: Any) -> float | None:
    return None if numpy.isnan(value) else float(value)


_NO_MAIN: dict[str, Any] = {
    "agreement": None, "attention": None, "first": None, "first_p": None, "longer": None, "longer_p": None, "run": 0,
    "confusion": None,
}  # fmt: skip
_NOTHING: dict[str, Any] = {
    "answers": 0, "share": 0.0, "median_seconds": None, "gold": None, "fast": 0.0, "alarms": (), **_NO_MAIN,
}  # fmt: skip
