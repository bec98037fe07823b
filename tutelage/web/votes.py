"""What a project's people said, as arrays: read in a few statements, however many answers there are.

Only what counts is here: of each person about each item their last word, if it is an answer and is not set aside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, case, literal_column, select

from tutelage.feedback.agreement import Level
from tutelage.web import schema
from tutelage.web.answers import Question, Value, said
from tutelage.web.items import MAX_RESPONSES
from tutelage.web.prepared import Prepared
from tutelage.web.projects import questions_of

Floats = NDArray[numpy.float64]
Whole = NDArray[numpy.int64]
Flags = NDArray[numpy.bool_]

LEVELS: dict[str, Level] = {"compare": "ordinal", "rank": "ordinal", "scale": "interval", "binary": "nominal"}
CLASSES = {"compare": 3, "rank": 3, "binary": 2}
"""How many labels there are, where labels are what is said."""
_PAIRS = 64
"""More than the pairs of slots can need: 26 responses at most, coded as low * 64 + high."""


@dataclass(frozen=True)
class Said:
    """What was said to one question, one entry for each value."""

    unit: Whole
    """What was judged: an item, a response of it, or a pair of them."""
    answer: Whole
    """Which answer it is from."""
    value: Floats
    """To be compared with one another: for a pair, below 0 where the first is better."""
    level: Level

    @property
    def labels(self) -> Whole:
        """Codes from 0: for a pair, first better, alike, second better; for good or bad, 0 and 1."""
        return self.value.astype(int) if self.level == "nominal" else (numpy.sign(self.value) + 1).astype(int)


@dataclass(frozen=True)
class Votes:
    """What counts, one entry for each answer."""

    questions: tuple[Question, ...]
    people: tuple[str, ...]
    """Accounts, by code."""
    items: Whole
    """Numbers, by code."""
    number: Whole
    item: Whole
    person: Whole
    submitted: Whole
    """Microseconds since 1970."""
    seconds: Floats
    """How long the page was in front."""
    first: Whole
    """The slot that was shown first."""
    reading: Floats
    """By item: how many seconds it takes to read; NaN where it is not known."""
    longer: Whole
    """By item: the slot of two with the longer response, or -1."""
    is_gold: Flags
    """By item."""
    rows: tuple[Whole, Whole, Whole, Floats, NDArray[Any]]
    """Of each value: the answer, the question's place, the slot, the number (NaN: none), and a word (None: none)."""

    def of(self, question: Question) -> Said:
        """What was said to a question, so that it can be compared."""
        answer, slot, value, word = self._rows(question)
        told = ~numpy.isnan(value)
        if question.kind == "compare":
            bad = word == "both_bad"
            value = numpy.where(bad, 4.0, value) - 4
            kept = told | bad
            return Said(self.item[answer[kept]], answer[kept], value[kept], "ordinal")
        if question.kind == "rank":
            return self._pairs(answer[told], slot[told], value[told])
        unit = self.item[answer] * (MAX_RESPONSES + 1) + slot + 1
        return Said(unit[told], answer[told], value[told], LEVELS.get(question.kind, "nominal"))

    def cannot_tell(self, question: Question) -> float:
        """The share of those asked who could not tell."""
        answer, _, value, word = self._rows(question)
        silent = numpy.isnan(value) & (word != "both_bad") & (word != "all_bad") & (word != "text")
        asked = distinct(answer)
        return distinct(answer[silent]) / asked if asked else 0.0

    def only(self, kept: Flags) -> Votes:
        """The same with fewer answers."""
        place = numpy.cumsum(kept) - 1
        answer, question, slot, value, word = self.rows
        there = kept[answer]
        fields = {
            name: getattr(self, name)[kept] for name in ("number", "item", "person", "submitted", "seconds", "first")
        }
        rows = (place[answer[there]], question[there], slot[there], value[there], word[there])
        return replace(self, **fields, rows=rows)

    @cached_property
    def by_answer(self) -> dict[int, list[int]]:
        """The places of each answer's values."""
        found: dict[int, list[int]] = {}
        for place, answer in enumerate(self.rows[0].tolist()):
            found.setdefault(answer, []).append(place)
        return found

    def said_by_slots(self, answer: int, slots: int) -> dict[str, Any]:
        """One answer by the questions' keys, its seats being the slots."""
        _, question, slot, value, word = self.rows
        values: list[Value] = []
        for place in self.by_answer.get(answer, []):
            number = None if numpy.isnan(value[place]) else float(value[place])
            told = None if word[place] in (None, "text") else str(word[place])
            key = self.questions[question[place]].key
            held = {"text": told} if told in ("both_bad", "all_bad") else {"cannot_tell": told}
            values.append(Value(key, int(slot[place]), number, **held))
        return said(self.questions, range(slots), values)

    def _rows(self, question: Question) -> tuple[Whole, Whole, Floats, NDArray[Any]]:
        answer, which, slot, value, word = self.rows
        mine = which == self.questions.index(question)
        return answer[mine], slot[mine], value[mine], word[mine]

    def _pairs(self, answer: Whole, slot: Whole, rank: Floats) -> Said:
        """A ranking as all pairs of its responses."""
        order = numpy.lexsort((slot, answer))
        answer, slot, rank = answer[order], slot[order], rank[order]
        units: list[Whole] = []
        answers: list[Whole] = []
        values: list[Floats] = []
        for apart in range(1, MAX_RESPONSES):
            same = numpy.flatnonzero(answer[apart:] == answer[:-apart]) if len(answer) > apart else numpy.zeros(0, int)
            if not len(same):
                break
            pair = (self.item[answer[same]] * _PAIRS + slot[same]) * _PAIRS + slot[same + apart]
            units.append(pair)
            answers.append(answer[same])
            values.append(numpy.sign(rank[same] - rank[same + apart]))
        if not units:
            return Said(answer, answer, rank, "ordinal")
        return Said(numpy.concatenate(units), numpy.concatenate(answers), numpy.concatenate(values), "ordinal")


def read(c: Connection, project: str, *, aside: bool = True) -> Votes:
    """The answers of a project that count.

    Args:
        aside: whether what was set aside is left out.
    """
    questions = questions_of(c, project)
    columns = _JUDGMENTS.columns(c, {"p": project})
    number, item, submitted, active, first = (numpy.array(columns[place], numpy.int64) for place in (0, 1, 4, 5, 6))
    people: dict[str, int] = {name: code for code, name in enumerate(dict.fromkeys(columns[2]))}
    person = numpy.array([people[name] for name in columns[2]], numpy.int64)
    kept = _last(item, person) & numpy.array(columns[3], bool)
    if aside:
        for row in c.execute(_ASIDE, {"p": project}):
            if row.account in people:
                kept &= (person != people[row.account]) | (submitted < row.since)
    numbers, code = numpy.unique(item[kept], return_inverse=True)
    facts = _ITEMS.columns(c, {"p": project})
    asked, reading, longer, is_gold = (
        numpy.array(column, kind) for column, kind in zip(facts, (numpy.int64, float, float, bool), strict=True)
    )
    # Every item of which something counts has been answered, and so is there.
    order = numpy.argsort(asked)
    place = order[numpy.searchsorted(asked, numbers, sorter=order)]
    return Votes(
        questions=questions, people=tuple(people), items=numbers, number=number[kept], item=code, person=person[kept],
        submitted=submitted[kept], seconds=active[kept] / 1000, first=first[kept],
        reading=reading[place], longer=numpy.nan_to_num(longer[place], nan=-1).astype(numpy.int64),
        is_gold=is_gold[place], rows=_values(c, project, questions, number[kept]),
    )  # fmt: skip


def distinct(codes: Whole) -> int:
    """How many different ones there are among codes from 0: counted, which is far quicker than sorted or hashed."""
    return int(numpy.count_nonzero(numpy.bincount(codes)))


def _last(item: Whole, person: Whole) -> Flags:
    """Which are the last of their person about their item; they come in the order in which they were said."""
    last = numpy.zeros(len(item), bool)
    if len(item):
        key = item * (int(person.max()) + 1) + person
        _, back = numpy.unique(key[::-1], return_index=True)
        last[len(item) - 1 - back] = True
    return last


def _values(
    c: Connection, project: str, questions: Sequence[Question], number: Whole
) -> tuple[Whole, Whole, Whole, Floats, NDArray[Any]]:
    places = {question.key: place for place, question in enumerate(questions)}
    columns = _VALUES.columns(c, {"p": project})
    judgment, slot = (numpy.array(columns[column], numpy.int64) for column in (0, 2))
    which = numpy.array([places[key] for key in columns[1]], numpy.int64)
    value = numpy.array(columns[3], float)
    word = numpy.empty(len(value), object)
    word[:] = columns[4]
    answer = numpy.minimum(numpy.searchsorted(number, judgment), max(0, len(number) - 1))
    there = number[answer] == judgment if len(number) else numpy.zeros(len(judgment), bool)
    return answer[there], which[there], slot[there], value[there], word[there]


def gold_of(c: Connection, project: str) -> dict[int, tuple[dict[str, Any], int]]:
    """The known answers of a project's gold items by number, and how many responses each has."""
    return {row[0]: (json.loads(row[1]), int(row[2])) for row in _GOLD.all(c, {"p": project})}


_J, _I, _V = schema.judgment.c, schema.item.c, schema.judgment_value.c
_IS_ANSWER = case((_J.kind.in_([literal_column("'answer'"), literal_column("'correction'")]), 1), else_=0)
# The first seat stands first in "[1,0]": no JSON is read for it.
_FIRST = case((_J.shown.like(literal_column("'[0%'")), 0), (_J.shown.like(literal_column("'[1%'")), 1), else_=-1)
_JUDGMENTS = Prepared(
    select(
        _J.number, _J.item, _J.account, _IS_ANSWER.label("answered"), _J.submitted, _J.active_ms, _FIRST.label("first")
    )
    .where(_J.project == bindparam("p"))
    .order_by(_J.number)
)
_ITEMS = Prepared(
    select(_I.number, _I.reading, _I.longer, case((_I.gold.is_(None), 0), else_=1).label("gold"))
    .where(_I.project == bindparam("p"), _I.done > literal_column("0"))
)  # fmt: skip
_WORD = case(
    (_V.cannot_tell.is_not(None), _V.cannot_tell),
    (_V.text.in_([literal_column("'both_bad'"), literal_column("'all_bad'")]), _V.text),
    (_V.text.is_not(None), literal_column("'text'")),
)
_VALUES = Prepared(
    select(_V.judgment, _V.question, _V.slot, _V.num, _WORD.label("word"))
    .where(_J.project == bindparam("p"), _V.judgment == _J.number)
)  # fmt: skip
_SLOTS = (
    select(literal_column("count(*)")).select_from(schema.item_response)
    .where(schema.item_response.c.item == _I.number).scalar_subquery()
)  # fmt: skip
_GOLD = Prepared(
    select(_I.number, _I.gold, _SLOTS.label("slots")).where(
        _I.project == bindparam("p"), _I.lane == literal_column(str(schema.GOLD)), _I.gold.is_not(None)
    )
)
_ASIDE = select(schema.set_aside.c.account, schema.set_aside.c.since).where(
    schema.set_aside.c.project == bindparam("p"), schema.set_aside.c.lifted_at.is_(None)
)
