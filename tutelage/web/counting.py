"""What counts of a project's answers: its items, their responses, and what was said of them, as rows of a snapshot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, select

from tutelage.feedback import snapshot
from tutelage.feedback.snapshot import Candidate, Given, Opinion, Row
from tutelage.web import schema
from tutelage.web.answers import kept
from tutelage.web.projects import questions_of

AT_A_TIME = 400
"""Items in one piece: few enough for one statement's parameters."""
HELD_OUT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a snapshot is to hold."""

    min_answers: int = 1
    """Items with fewer are left out."""
    guideline_from: int = 0
    """Answers given under an older version of the guideline are left out."""
    gold: bool = False
    """Whether answers to gold items are there; no training record is made of them."""
    set_aside: bool = False
    """Whether what was set aside is there nevertheless."""
    uniform_only: bool = False
    """Only items that were drawn evenly: what is measured on them is not biased by any rule."""
    held_out_share: float = HELD_OUT
    """Of the prompts."""


def counted(c: Connection, project: str, query: Query) -> Iterator[Row]:
    """The rows of a project that are asked for, by the items' numbers."""
    item = schema.item.c
    aside = [] if query.set_aside else list(c.execute(_ASIDE.where(schema.set_aside.c.project == project)))
    last = -1
    while True:
        wanted = (
            select(schema.item, schema.prompt.c.messages, schema.prompt.c.language, schema.prompt.c.source,
                   schema.prompt.c.split)
            .where(item.project == project, item.number > last, schema.prompt.c.number == item.prompt)
            .where((item.done > 0) | (item.state == "closed"))
            .order_by(item.number).limit(AT_A_TIME)
        )  # fmt: skip
        found = c.execute(wanted).all()
        if not found:
            return
        last = found[-1].number
        chosen = [
            row
            for row in found
            if (query.gold or row.lane != schema.GOLD) and (not query.uniform_only or row.sampled in ("all", "uniform"))
        ]
        yield from _filled(c, project, chosen, query, aside)


def _filled(c: Connection, project: str, items: Sequence[Any], query: Query, aside: Sequence[Any]) -> Iterator[Row]:
    numbers = [row.number for row in items]
    candidates = _candidates(c, numbers)
    opinions = _opinions(c, numbers, query, aside)
    decided = _decided(c, project, numbers, candidates)
    for row in items:
        answers = tuple(opinions.get(row.number, ()))
        word = decided.get(row.number)
        if len(answers) < query.min_answers and word is None:
            continue
        prompt = snapshot.prompt_of(json.loads(row.messages), row.id)
        split = "held_out" if row.split == "held_out" else snapshot.split_of(prompt, query.held_out_share)
        yield Row(
            item=row.id, prompt=prompt, responses=tuple(candidates.get(row.number, ())), answers=answers,
            decided=word, language=row.language, source=row.source, split=split, sampled=row.sampled,
            p_select=row.p_select, gold=row.lane == schema.GOLD,
        )  # fmt: skip


def _candidates(c: Connection, numbers: Sequence[int]) -> dict[int, list[Candidate]]:
    place, response, model = schema.item_response.c, schema.response.c, schema.model.c
    wanted = (
        select(place.item, response.text, response.sampling, model.name, model.sha256, model.licence)
        .join_from(schema.item_response, schema.response, place.response == response.number)
        .outerjoin(schema.model, model.number == response.model)
        .where(place.item.in_(numbers)).order_by(place.item, place.slot)
    )  # fmt: skip
    found: dict[int, list[Candidate]] = {}
    for row in c.execute(wanted):
        found.setdefault(row.item, []).append(
            Candidate(
                text=row.text, model=row.name or "", model_sha256=row.sha256 or "", licence=row.licence or "",
                sampling=json.loads(row.sampling),
            )
        )  # fmt: skip
    return found


def _opinions(c: Connection, numbers: Sequence[int], query: Query, aside: Sequence[Any]) -> dict[int, list[Opinion]]:
    judgment, seat, value = schema.judgment.c, schema.seat.c, schema.judgment_value.c
    wanted = (
        select(schema.judgment)
        .where(judgment.item.in_(numbers), seat.item == judgment.item, seat.account == judgment.account)
        .where(seat.revision == judgment.revision, seat.state == "answered")
        .where(judgment.guideline >= query.guideline_from).order_by(judgment.number)
    )  # fmt: skip
    counted = [
        row
        for row in c.execute(wanted)
        if not any(row.account == one.account and row.submitted >= one.since for one in aside)
    ]
    said: dict[int, list[Given]] = {}
    for start in range(0, len(counted), AT_A_TIME):
        mine = [row.number for row in counted[start : start + AT_A_TIME]]
        values = select(schema.judgment_value).where(value.judgment.in_(mine))
        for row in c.execute(values.order_by(value.judgment, value.question, value.slot)):
            said.setdefault(row.judgment, []).append(
                Given(question=row.question, slot=row.slot, num=row.num, text=row.text, cannot_tell=row.cannot_tell)
            )
    found: dict[int, list[Opinion]] = {}
    for row in counted:
        found.setdefault(row.item, []).append(
            Opinion(
                id=row.id, rater=row.account, values=tuple(said.get(row.number, ())), guideline=row.guideline,
                shown=tuple(json.loads(row.shown)), seconds=row.active_ms / 1000, submitted=row.submitted,
                rule=row.conflict_rule, note=row.note,
            )
        )  # fmt: skip
    return found


def _decided(
    c: Connection, project: str, numbers: Sequence[int], candidates: dict[int, list[Candidate]]
) -> dict[int, Opinion]:
    """The last decision about each item, unless it was sent back since."""
    decision = schema.decision
    wanted = select(decision).where(decision.c.item.in_(numbers)).order_by(decision.c.number)
    found: dict[int, Opinion] = {}
    questions = None
    for row in c.execute(wanted):
        if row.kind != "decide":
            if row.kind == "send_back":
                found.pop(row.item, None)
            continue
        questions = questions or questions_of(c, project)
        values = kept(questions, range(len(candidates.get(row.item, ()))), json.loads(row.said))
        given = tuple(Given(**asdict(value)) for value in values)
        found[row.item] = Opinion(id=row.id, rater=row.account, values=given, submitted=row.at, note=row.note)
    return found


_ASIDE = select(schema.set_aside.c.account, schema.set_aside.c.since).where(schema.set_aside.c.lifted_at.is_(None))
