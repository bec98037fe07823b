"""The items of a project, for those who review: the most disputed first, all answers side by side, and a decision."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any, cast

from sqlalchemy import Connection, select
from starlette.responses import JSONResponse, Response

from tutelage.web import board, schema
from tutelage.web.answers import Value, said
from tutelage.web.ids import plain
from tutelage.web.label.rendering import page, rendered
from tutelage.web.label.visit import Route, Visit, may
from tutelage.web.label.words import script_words
from tutelage.web.projects import questions_of
from tutelage.web.refusal import Refusal

PAGE = 50
FILTERS = ("disputed", "flagged", "open", "closed", "gold", "all")


async def items_page(visit: Visit) -> Response:
    wanted = visit.request.query_params.get("show", "disputed")
    which = wanted if wanted in FILTERS else "disputed"
    given = visit.request.query_params.get("page", "0")
    number = int(given) if given.isascii() and given.isdigit() and len(given) < 7 else 0

    def look(c: Connection) -> dict[str, Any]:
        name = c.scalar(select(schema.project.c.name).where(schema.project.c.id == visit.project))
        measures: dict[str, Any] = {}
        if which == "disputed":
            found = board.disputed(c, visit.project, PAGE + 1, number * PAGE)
            measures = {one.item: one for one in found}
            rows = _by_id(c, visit.project, list(measures))
        else:
            rows = _some(c, visit.project, which, number)
        return {"project_name": name, "rows": rows[:PAGE], "more": len(rows) > PAGE, "measures": measures}

    values = await visit.site.study(look)
    return page(visit, "items", project=visit.project, which=which, number=number, filters=FILTERS, **values)


async def item_page(visit: Visit) -> Response:
    """One item with everything that was said about it; people and models go by letters."""
    id = visit.request.path_params["item"]

    def look(c: Connection) -> dict[str, Any]:
        row = c.execute(
            select(schema.item, schema.prompt.c.messages)
            .where(schema.item.c.id == plain(id), schema.item.c.project == visit.project)
            .where(schema.prompt.c.number == schema.item.c.prompt)
        ).one_or_none()
        if row is None:
            raise Refusal("unknown", "there is no such item")
        project = c.execute(select(schema.project).where(schema.project.c.id == visit.project)).one()
        texts = (
            select(schema.response.c.text)
            .where(schema.item_response.c.item == row.number)
            .where(schema.response.c.number == schema.item_response.c.response)
            .order_by(schema.item_response.c.slot)
        )
        questions = questions_of(c, visit.project)
        responses = list(c.scalars(texts))
        table = schema.decision
        decided = c.execute(select(table).where(table.c.item == row.number).order_by(table.c.number.desc())).all()
        flags = c.execute(
            select(schema.flag).where(schema.flag.c.item == row.number).order_by(schema.flag.c.at)
        ).all()  # fmt: skip
        return {
            "project_name": project.name, "item": row, "messages": json.loads(row.messages), "responses": responses,
            "questions": questions, "said": _all_said(c, row.number, questions, len(responses)),
            "decided": decided, "flags": flags, "settings": json.loads(project.settings),
        }  # fmt: skip

    found = await visit.site.read(look)
    settings = found.pop("settings")
    task = {
        "project": visit.project, "mode": "decide", "csrf": visit.csrf, "account": visit.account,
        "questions": [asdict(question) for question in found["questions"]], "labels": settings.get("labels", {}),
        "rules": settings.get("conflict_rules", []), "skips": [], "flags": [], "doubts": [], "lease_seconds": 0,
        "daily_cap": None, "words": script_words(visit.language),
        "given": {
            "item": id,
            "messages": [
                {"role": message["role"], "raw": message["content"], "html": rendered(message["content"])}
                for message in found["messages"]
            ],
            "responses": [{"raw": text, "html": rendered(text)} for text in found["responses"]],
        },
    }  # fmt: skip
    return page(visit, "item", project=visit.project, task=task, labels=settings.get("labels", {}), **found)


async def decide(visit: Visit) -> Response:
    kind = visit.text("kind", longest=20)
    given = visit.body.get("said", {})
    if kind not in ("decide", "send_back", "gold") or not isinstance(given, dict):
        raise Refusal("bad_input", "kind: decide, send_back or gold, with what is said")
    id = await asyncio.to_thread(
        visit.site.decisions.decide, visit.account, visit.project, visit.request.path_params["item"],
        kind, cast(dict[str, Any], given), visit.text("note", ""),
        origin=visit.origin,
    )  # fmt: skip
    return JSONResponse({"decision": id}, 201)


def _all_said(c: Connection, item: int, questions: Any, slots: int) -> list[dict[str, Any]]:
    """The last word of each person, by slots, in the order in which they came."""
    judgment, seat, value = schema.judgment, schema.seat, schema.judgment_value
    rows = c.execute(
        select(judgment)
        .where(judgment.c.item == item, seat.c.item == item, seat.c.account == judgment.c.account)
        .where(seat.c.revision == judgment.c.revision, seat.c.state != "leased")
        .order_by(judgment.c.number)
    ).all()
    values: dict[int, list[Value]] = {}
    for row in c.execute(select(value).where(value.c.judgment.in_([row.number for row in rows]))):
        values.setdefault(row.judgment, []).append(
            Value(row.question, row.slot, row.num, row.text, row.cannot_tell)
        )  # fmt: skip
    return [
        {
            "who": chr(ord("P") + place) if place < 11 else str(place + 1), "kind": row.kind, "note": row.note,
            "reason": row.reason, "rule": row.conflict_rule, "submitted": row.submitted, "guideline": row.guideline,
            "said": said(questions, range(slots), values.get(row.number, [])),
        }
        for place, row in enumerate(rows)
    ]  # fmt: skip


_COLUMNS = (
    schema.item.c.id, schema.item.c.number, schema.item.c.lane, schema.item.c.need, schema.item.c.taken,
    schema.item.c.done, schema.item.c.state, schema.prompt.c.messages,
)  # fmt: skip


def _by_id(c: Connection, project: str, ids: list[str]) -> list[dict[str, Any]]:
    """Items in the order of their ids as given."""
    rows = c.execute(
        select(*_COLUMNS).where(schema.item.c.id.in_(ids), schema.item.c.project == project)
        .where(schema.prompt.c.number == schema.item.c.prompt)
    )  # fmt: skip
    found = {row.id: _shown(row) for row in rows}
    return [found[id] for id in ids if id in found]


def _some(c: Connection, project: str, which: str, number: int) -> list[dict[str, Any]]:
    item = schema.item.c
    wanted = select(*_COLUMNS).where(item.project == project, schema.prompt.c.number == item.prompt)
    match which:
        case "open":
            wanted = wanted.where(item.state == "open", item.done < item.need, item.lane != schema.GOLD)
        case "closed":
            wanted = wanted.where((item.state == "closed") | (item.done >= item.need))
        case "gold":
            wanted = wanted.where(item.lane == schema.GOLD)
        case "flagged":
            wanted = wanted.where(item.number.in_(select(schema.flag.c.item).distinct()))
        case _:
            pass
    rows = c.execute(wanted.order_by(item.number).limit(PAGE + 1).offset(number * PAGE))
    return [_shown(row) for row in rows]


def _shown(row: Any) -> dict[str, Any]:
    messages = json.loads(row.messages)
    return {
        "id": row.id, "text": messages[-1]["content"][:300], "gold": row.lane == schema.GOLD, "need": row.need,
        "done": row.done, "held": row.taken - row.done, "state": row.state,
    }  # fmt: skip


ROUTES = (
    Route("GET", "/p/{project}/items", may("see_items"), items_page),
    Route("GET", "/p/{project}/items/{item}", may("see_items"), item_page),
    Route("POST", "/p/{project}/items/{item}", may("adjudicate"), decide, takes="json", page=False),
)
