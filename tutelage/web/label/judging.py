"""Judging: the task page, and what its script asks for. All of it is about one's own seats.

What goes out here is what `seats` gives: texts by seats, one's own draft and answers. No model's name, no other
person's word, and nothing that tells a known answer from an unknown one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast, get_args

from sqlalchemy import Connection, select
from starlette.responses import JSONResponse, RedirectResponse, Response

from tutelage.records import Message
from tutelage.web import schema
from tutelage.web.answers import MAX_NOTE, CannotTell, Question
from tutelage.web.database import Ahead, Transaction
from tutelage.web.judgments import SKIP_REASONS, Receipt, Submission
from tutelage.web.label.rendering import page, rendered
from tutelage.web.label.services import Site
from tutelage.web.label.sheets import Sheet, coming, sheet
from tutelage.web.label.visit import INSIDE, SIGNED_IN, Route, Visit, may
from tutelage.web.label.words import script_words
from tutelage.web.projects import questions_of
from tutelage.web.queue import Lease
from tutelage.web.queue_wire import see
from tutelage.web.refusal import Refusal
from tutelage.web.seats import FLAG_REASONS, FlagReason
from tutelage.web.talk_rules import Rules, Standing, fresh

_LONGEST = 128


async def task_page(visit: Visit) -> Response:
    """The page on which items are judged; the script claims the first."""
    return page(visit, "task", **await _task(visit, "judge"))


async def correct_page(visit: Visit) -> Response:
    """The same page, with an answer of one's own that can be bettered."""
    item = visit.request.path_params["item"]
    history = await asyncio.to_thread(visit.site.seats.history, visit.account, visit.project)
    past = next((past for past in history if past.item == item), None)
    if past is None:
        raise Refusal("unknown", "there is no answer of yours to correct")
    shown = await asyncio.to_thread(visit.site.seats.show, visit.account, item)
    given = {
        "item": item, "said": past.said, "note": past.note, "open": past.open,
        **_texts(shown.messages, shown.responses),
    }  # fmt: skip
    return page(visit, "task", **await _task(visit, "correct", given))


async def preview_page(visit: Visit) -> Response:
    """What an annotator will see, before anybody judges; nothing that is said here is kept."""
    item = await visit.site.read(lambda c: _first(c, visit.project))
    rules = await asyncio.to_thread(visit.site.dialogues.rules, visit.project)
    if rules is not None:
        return page(visit, "task", **await _task(visit, "preview", _composer(fresh(rules), rules)))
    if item is None:
        return RedirectResponse(f"/p/{visit.project}/board", 303)
    return page(visit, "task", **await _task(visit, "preview", _texts(*item)))


async def history_page(visit: Visit) -> Response:
    history = await asyncio.to_thread(visit.site.seats.history, visit.account, visit.project)

    def look(c: Connection) -> dict[str, Any]:
        row = c.execute(select(schema.project).where(schema.project.c.id == visit.project)).one()
        labels = json.loads(row.settings).get("labels", {})
        return {"questions": questions_of(c, visit.project), "project_name": row.name, "labels": labels}

    return page(visit, "history", history=history, project=visit.project, **await visit.site.read(look))


async def claim(visit: Visit) -> Response:
    """The item that this person holds, or the next."""
    return JSONResponse(await following(visit, visit.text("project", longest=_LONGEST)))


async def submit(visit: Visit) -> Response:
    """Keeps an answer, and says what is next; 201 only after it is on the disk."""
    project = visit.text("project", longest=_LONGEST)
    new = Submission(
        item=visit.text("item", longest=_LONGEST), token=visit.text("token", longest=_LONGEST),
        idem=visit.text("idem", longest=_LONGEST), said=_said(visit), note=visit.text("note", "", MAX_NOTE),
        conflict_rule=visit.text("conflict_rule", "", 400), active_ms=visit.number("active_ms", 0, 0, 2**53),
        client=visit.text("client", "", 200),
    )  # fmt: skip
    site, account, key = visit.site, visit.account, (new.item, new.idem)
    if await _rules(visit, project) is not None:
        ahead = Ahead(account, lambda t: see(t.connection, t.at, account, submission=key))
        kept = await site.write(lambda t: site.judgments.submitting(t, account, new), ahead)
        return JSONResponse({"receipt": _receipt(kept), "next": await following(visit, project)}, 201)
    # One piece of work, so that one commit is waited for.
    kept, then = await site.write(
        lambda t: (site.judgments.submitting(t, account, new), _coming(site, t, account, project)),
        Ahead(account, lambda t: see(t.connection, t.at, account, project=project, submission=key)),
    )  # fmt: skip
    return JSONResponse({"receipt": _receipt(kept), "next": _shown(visit, then())}, 201)


async def skip(visit: Visit) -> Response:
    receipt = await asyncio.to_thread(
        visit.site.judgments.skip, visit.account, visit.text("item", longest=_LONGEST),
        visit.text("token", longest=_LONGEST), visit.text("idem", longest=_LONGEST),
        visit.text("reason", longest=_LONGEST), visit.text("note", "", MAX_NOTE),
    )  # fmt: skip
    then = await following(visit, visit.text("project", longest=_LONGEST))
    return JSONResponse({"receipt": _receipt(receipt), "next": then}, 201)


async def undo(visit: Visit) -> Response:
    project = visit.text("project", longest=_LONGEST)
    lease = await asyncio.to_thread(
        visit.site.judgments.undo, visit.account, project, visit.text("idem", longest=_LONGEST)
    )  # fmt: skip
    rules = visit.site.dialogues.rules(project) if visit.site.dialogues.known(project) else None
    talk = await asyncio.to_thread(visit.site.dialogues.standing, visit.account, project) if rules else None
    if rules and talk and talk.lease and talk.lease.item == lease.item:
        return JSONResponse(await _talking(visit, project, talk, rules))
    return JSONResponse(await _open(visit, project, lease))


async def correct(visit: Visit) -> Response:
    receipt = await asyncio.to_thread(
        visit.site.judgments.correct, visit.account, visit.text("item", longest=_LONGEST),
        visit.text("idem", longest=_LONGEST), _said(visit), conflict_rule=visit.text("conflict_rule", "", 400),
        note=visit.text("note", "", MAX_NOTE),
    )  # fmt: skip
    return JSONResponse({"receipt": _receipt(receipt)}, 201)


async def save_draft(visit: Visit) -> Response:
    draft = await asyncio.to_thread(
        visit.site.seats.save_draft, visit.account, visit.text("item", longest=_LONGEST),
        visit.text("token", longest=_LONGEST), visit.text("body", longest=200_000), visit.number("rev", 0, 0, 2**31),
    )  # fmt: skip
    return JSONResponse({"rev": draft.rev})


async def renew(visit: Visit) -> Response:
    expires = await asyncio.to_thread(
        visit.site.queue.renew, visit.account, visit.text("item", longest=_LONGEST),
        visit.text("token", longest=_LONGEST),
    )  # fmt: skip
    return JSONResponse({"seconds": _seconds(visit, expires)})


async def flag(visit: Visit) -> Response:
    reason = visit.text("reason", longest=_LONGEST)
    await asyncio.to_thread(
        visit.site.seats.flag, visit.account, visit.text("item", longest=_LONGEST), cast(FlagReason, reason),
        visit.text("note", "", MAX_NOTE),
    )  # fmt: skip
    return JSONResponse({"flagged": reason}, 201)


async def following(visit: Visit, project: str) -> dict[str, Any]:
    """What is next for this person; also where nothing is."""
    site, account, dialogues = visit.site, visit.account, visit.site.dialogues
    rules = await _rules(visit, project)
    try:
        if rules is not None:
            talk = await asyncio.to_thread(dialogues.standing, account, project)
            if talk is not None:
                return await _talking(visit, project, talk, rules)
    except Refusal as refusal:
        return _standstill(refusal)
    then = await site.write(
        lambda t: _coming(site, t, account, project),
        Ahead(account, lambda t: see(t.connection, t.at, account, project=project)),
    )  # fmt: skip
    found = _shown(visit, then())
    if found["state"] == "empty" and rules and await asyncio.to_thread(dialogues.may_begin, account, project):
        return _composer(fresh(rules), rules)
    return found


async def _rules(visit: Visit, project: str) -> Rules | None:
    """How a project's conversations go; None where its items are given."""
    dialogues = visit.site.dialogues
    if dialogues.known(project):
        return dialogues.rules(project)
    return await asyncio.to_thread(dialogues.rules, project)


def _coming(
    site: Site, t: Transaction, account: str, project: str
) -> Callable[[], tuple[Lease, Sheet] | dict[str, Any]]:
    """What is next for this person, as work for the writer."""
    try:
        found = coming(t, site.queue, account, project)
    except Refusal as refusal:
        still = _standstill(refusal)
        return lambda: still

    def then() -> tuple[Lease, Sheet] | dict[str, Any]:
        try:
            return found() or {"state": "empty"}
        except Refusal as refusal:
            return _standstill(refusal)

    return then


def _standstill(refusal: Refusal) -> dict[str, Any]:
    """Why nothing is next, where that is no fault.

    Raises:
        Refusal: it is one.
    """
    if refusal.code not in ("daily_cap", "guideline", "not_qualified", "paused"):
        raise refusal
    return {"state": refusal.code, "message": str(refusal)}


async def _talking(visit: Visit, project: str, talk: Standing, rules: Rules) -> dict[str, Any]:
    """Where this person is in a conversation: two answers to judge, or a turn to write."""
    if talk.lease is None:
        return _composer(talk, rules)
    return {**await _open(visit, project, talk.lease), "chat": _of_talk(talk, rules)}


def _composer(talk: Standing, rules: Rules) -> dict[str, Any]:
    return {"state": "chat", "messages": shown(talk.messages), "chat": _of_talk(talk, rules)}


def _of_talk(talk: Standing, rules: Rules) -> dict[str, Any]:
    return {
        "turn": talk.turn, "turns": rules.turns, "last": talk.last, "over": talk.turn > rules.turns,
        "chosen": talk.chosen is not None, "text": talk.text, "begun": talk.begun,
    }  # fmt: skip


async def _open(visit: Visit, project: str, lease: Lease) -> dict[str, Any]:
    """An item that this person holds, as the page shows it."""
    account = visit.account
    found = await visit.site.read(lambda c: sheet(c, account, project, lease, visit.site.database.clock()))
    return _shown(visit, (lease, found))


def _shown(visit: Visit, then: tuple[Lease, Sheet] | dict[str, Any]) -> dict[str, Any]:
    """The same, as it was read; or why nothing is there."""
    if isinstance(then, dict):
        return then
    lease, found = then
    return {
        "state": "item", "item": lease.item, "token": lease.token, "seconds": _seconds(visit, lease.expires),
        **_answered(found), **_texts(found.messages, found.responses),
    }  # fmt: skip


def _answered(found: Sheet) -> dict[str, Any]:
    return {"draft": found.draft, "rev": found.rev, "answered": found.answered, "left_today": found.left_today}


def shown(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Turns, both as written and as shown."""
    return [{"role": turn.role, "raw": turn.content, "html": rendered(turn.content)} for turn in messages]


def _texts(messages: Sequence[Mapping[str, Any]], responses: Sequence[str]) -> dict[str, Any]:
    """A prompt and its answers, both as written and as shown."""
    return {
        "messages": shown([Message(**message) for message in messages]),
        "responses": [{"raw": text, "html": rendered(text)} for text in responses],
    }  # fmt: skip


async def _task(visit: Visit, mode: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the task page is made of."""
    project = visit.project

    def look(c: Connection) -> tuple[Any, tuple[Question, ...], str]:
        row = c.execute(select(schema.project).where(schema.project.c.id == project)).one()
        guide = schema.guideline.c
        text = c.scalar(select(guide.text).where(guide.project == project, guide.version == row.guideline))
        return row, questions_of(c, project), text or ""

    row, questions, guideline = await visit.site.read(look)
    settings = json.loads(row.settings)
    return {
        "project": project, "project_name": row.name, "mode": mode, "guideline": guideline,
        "guideline_version": row.guideline, "questions": questions,
        "task": {
            "project": project, "mode": mode, "given": given, "csrf": visit.csrf, "account": visit.account,
            "questions": [asdict(question) for question in questions],
            "labels": settings.get("labels", {}), "rules": settings.get("conflict_rules", []),
            "lease_seconds": row.lease_seconds, "daily_cap": row.daily_cap,
            "skips": list(SKIP_REASONS), "flags": list(FLAG_REASONS), "doubts": list(get_args(CannotTell)),
            "words": script_words(visit.language),
        },
    }  # fmt: skip


def _first(c: Connection, project: str) -> tuple[list[dict[str, Any]], list[str]] | None:
    """The first item of a project, in the order in which its responses stand."""
    item = schema.item
    row = c.execute(
        select(item.c.number, schema.prompt.c.messages)
        .where(item.c.project == project, schema.prompt.c.number == item.c.prompt)
        .order_by(item.c.number)
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    texts = (
        select(schema.response.c.text)
        .where(schema.item_response.c.item == row.number, schema.response.c.number == schema.item_response.c.response)
        .order_by(schema.item_response.c.slot)
    )
    return json.loads(row.messages), list(c.scalars(texts))


def _said(visit: Visit) -> dict[str, Any]:
    said = visit.body.get("said")
    if not isinstance(said, dict):
        raise Refusal("bad_input", "said: an object, by the questions' keys")
    return cast(dict[str, Any], said)


def _receipt(receipt: Receipt) -> dict[str, Any]:
    return {"judgment": receipt.judgment, "item": receipt.item, "kind": receipt.kind, "again": receipt.again}


def _seconds(visit: Visit, expires: int) -> int:
    """Seconds until then: a page's own clock may be anything."""
    return max(0, (expires - visit.site.database.clock()) // 1_000_000)


ROUTES = (
    Route("POST", "/seats/submit", SIGNED_IN, submit, takes="json", page=False),
    Route("POST", "/seats/claim", SIGNED_IN, claim, takes="json", page=False),
    Route("POST", "/seats/draft", SIGNED_IN, save_draft, takes="json", page=False),
    Route("POST", "/seats/renew", SIGNED_IN, renew, takes="json", page=False),
    Route("POST", "/seats/skip", SIGNED_IN, skip, takes="json", page=False),
    Route("POST", "/seats/undo", SIGNED_IN, undo, takes="json", page=False),
    Route("POST", "/seats/flag", SIGNED_IN, flag, takes="json", page=False),
    Route("POST", "/seats/correct", SIGNED_IN, correct, takes="json", page=False),
    Route("GET", "/p/{project}/task", may("judge"), task_page),
    Route("GET", "/p/{project}/history", INSIDE, history_page),
    Route("GET", "/p/{project}/history/{item}", may("judge"), correct_page),
    Route("GET", "/p/{project}/preview", may("manage_project"), preview_page),
)
