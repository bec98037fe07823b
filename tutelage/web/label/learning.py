"""Before judging: the guideline, which is read in its newest version, and the quiz."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any, cast

from sqlalchemy import Connection, select
from starlette.responses import JSONResponse, RedirectResponse, Response

from tutelage.web import schema
from tutelage.web.label.quiz import ATTEMPTS
from tutelage.web.label.rendering import page, rendered
from tutelage.web.label.visit import INSIDE, Route, Visit, may
from tutelage.web.label.words import script_words
from tutelage.web.projects import questions_of
from tutelage.web.refusal import Refusal


async def front(visit: Visit) -> Response:
    """To where this person goes on: what is to be read, the quiz, the next item, or the board."""
    base = f"/p/{visit.project}"
    if visit.member.role not in ("annotator", "reviewer") and visit.member.may("see_board"):
        return RedirectResponse(f"{base}/board", 303)
    row = await visit.site.read(lambda c: _reading(c, visit.account, visit.project))
    if row.guideline_read < row.guideline_major:
        return RedirectResponse(f"{base}/guideline", 303)
    if visit.member.state == "training":
        return RedirectResponse(f"{base}/quiz", 303)
    return RedirectResponse(f"{base}/task", 303)


async def guideline_page(visit: Visit) -> Response:
    """The guideline in force, or an older version."""
    wanted = visit.request.query_params.get("version", "")

    def look(c: Connection) -> dict[str, Any]:
        row = _reading(c, visit.account, visit.project)
        number = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 9 else row.guideline
        guide = schema.guideline
        here = (guide.c.project == visit.project) & (guide.c.version == number)
        shown = c.execute(select(guide).where(here)).one_or_none()
        if shown is None:
            raise Refusal("unknown", "the guideline has no such version")
        versions = select(guide.c.version, guide.c.major, guide.c.published).where(guide.c.project == visit.project)
        return {
            "project_name": row.name, "shown": shown, "newest": row.guideline, "read": row.guideline_read,
            "to_read": row.guideline_read < row.guideline_major,
            "versions": c.execute(versions.order_by(guide.c.version.desc())).all(),
        }  # fmt: skip

    return page(visit, "guideline", project=visit.project, **await visit.site.read(look))


async def confirm(visit: Visit) -> Response:
    number = visit.form.get("version", "")
    if not (number.isascii() and number.isdigit() and len(number) < 9):
        raise Refusal("bad_input", "version: a number")
    await asyncio.to_thread(visit.site.projects.confirm_guideline, visit.account, visit.project, int(number))
    if visit.member.state == "training":
        await asyncio.to_thread(visit.site.quiz.qualify, visit.account, visit.project)
    return RedirectResponse(f"/p/{visit.project}", 303)


async def quiz_page(visit: Visit) -> Response:
    standing = await asyncio.to_thread(visit.site.quiz.standing, visit.account, visit.project)
    if standing.asked == 0 and await asyncio.to_thread(visit.site.quiz.qualify, visit.account, visit.project):
        return RedirectResponse(f"/p/{visit.project}/task", 303)
    asked = await asyncio.to_thread(visit.site.quiz.question, visit.account, visit.project)

    def look(c: Connection) -> tuple[Any, Any]:
        return _reading(c, visit.account, visit.project), questions_of(c, visit.project)

    row, questions = await visit.site.read(look)
    settings = json.loads(row.settings)
    given: dict[str, Any] | None = None
    if asked is not None:
        given = {
            "place": asked.place,
            "messages": [
                {"role": message["role"], "raw": message["content"], "html": rendered(message["content"])}
                for message in asked.messages
            ],
            "responses": [{"raw": text, "html": rendered(text)} for text in asked.responses],
        }  # fmt: skip
    task = {
        "project": visit.project, "mode": "quiz", "given": given, "csrf": visit.csrf, "account": visit.account,
        "questions": [asdict(question) for question in questions], "labels": settings.get("labels", {}),
        "rules": settings.get("conflict_rules", []),
        "skips": [], "flags": [], "doubts": [], "lease_seconds": 0, "daily_cap": None,
        "words": script_words(visit.language),
    }  # fmt: skip
    return page(
        visit, "quiz", project=visit.project, project_name=row.name, standing=standing, task=task,
        attempts=ATTEMPTS, questions=questions,
    )  # fmt: skip


async def quiz_answer(visit: Visit) -> Response:
    said = visit.body.get("said")
    if not isinstance(said, dict):
        raise Refusal("bad_input", "said: an object, by the questions' keys")
    marked = await asyncio.to_thread(
        visit.site.quiz.answer, visit.account, visit.project, visit.number("place", -1, 0, 1000),
        cast(dict[str, Any], said),
    )  # fmt: skip
    standing = asdict(marked.standing)
    return JSONResponse(
        {
            "right": marked.right, "wanted": marked.wanted, "explanation": rendered(marked.explanation),
            "standing": standing,
        },
        201,
    )  # fmt: skip


def _reading(c: Connection, account: str, project: str) -> Any:
    """A project, and how far somebody has read its guideline."""
    member, table = schema.membership, schema.project
    return c.execute(
        select(table.c.name, table.c.guideline, table.c.guideline_major, table.c.settings, member.c.guideline_read)
        .join(member, member.c.project == table.c.id)
        .where(table.c.id == project, member.c.account == account)
    ).one()  # fmt: skip


ROUTES = (
    Route("GET", "/p/{project}", INSIDE, front),
    Route("GET", "/p/{project}/guideline", INSIDE, guideline_page),
    Route("POST", "/p/{project}/guideline", INSIDE, confirm, takes="form"),
    Route("GET", "/p/{project}/quiz", may("judge"), quiz_page),
    Route("POST", "/p/{project}/quiz", may("judge"), quiz_answer, takes="json", page=False),
)
