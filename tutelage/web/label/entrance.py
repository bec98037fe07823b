"""Coming in and going out: signing in, links that invite, the first page, and one's own account."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, func, select
from starlette.responses import JSONResponse, RedirectResponse, Response

from tutelage.web import schema
from tutelage.web.board import gold_accuracy
from tutelage.web.label.rendering import page
from tutelage.web.label.visit import ANYONE, SIGNED_IN, Route, Visit
from tutelage.web.refusal import Refusal
from tutelage.web.sessions import DAY, Session, hash_of

_SHOWN_AGAIN = ("sign_in", "slow_down", "weak_password", "bad_input", "bad_link")


async def sign_in_page(visit: Visit) -> Response:
    if visit.held_session is not None:
        return RedirectResponse("/", 303)
    return page(visit, "sign_in", next=_inside(visit.request.query_params.get("next", "/")), email="", refusal=None)


async def sign_in(visit: Visit) -> Response:
    form, site = visit.form, visit.site
    after = _inside(form.get("next", "/"))
    old = visit.request.cookies.get(site.gate.session_cookie, "")
    try:
        session = await site.slowly(
            site.sessions.sign_in, form.get("email", ""), form.get("password", "")[:1024], address=visit.address,
            old=old,
        )  # fmt: skip
    except Refusal as refusal:
        if refusal.code not in _SHOWN_AGAIN:
            raise
        response = page(
            visit, "sign_in", refusal.status, next=after, email=form.get("email", "")[:254], refusal=refusal
        )  # fmt: skip
        if refusal.retry_after is not None:
            response.headers["Retry-After"] = str(refusal.retry_after)
        return response
    return _come_in(visit, session, after)


async def sign_out(visit: Visit) -> Response:
    site = visit.site
    await asyncio.to_thread(site.sessions.sign_out, visit.session.token)
    response = RedirectResponse("/sign-in", 303)
    site.gate.drop_cookie(response, site.gate.session_cookie)
    return response


async def invite_page(visit: Visit) -> Response:
    link = await _link(visit, ("owner", "member"))
    return page(visit, "invite", link=link, email="", name="", refusal=None)


async def accept(visit: Visit) -> Response:
    form, site = visit.form, visit.site
    link = await _link(visit, ("owner", "member"))
    if visit.held_session is not None:
        await asyncio.to_thread(site.accounts.join, link["token"], visit.account, origin=visit.origin)
        return RedirectResponse(link["after"], 303)
    try:
        session = await site.slowly(
            site.accounts.accept, link["token"], form.get("email", ""), form.get("password", "")[:1024],
            name=form.get("name", ""), locale=visit.language, address=visit.address,
        )  # fmt: skip
    except Refusal as refusal:
        if refusal.code not in _SHOWN_AGAIN:
            raise
        shown = {"email": form.get("email", "")[:254], "name": form.get("name", "")[:80]}
        return page(visit, "invite", refusal.status, link=link, refusal=refusal, **shown)
    return _come_in(visit, session, link["after"])


async def reset_page(visit: Visit) -> Response:
    return page(visit, "reset", link=await _link(visit, ("reset",)), refusal=None)


async def reset(visit: Visit) -> Response:
    link = await _link(visit, ("reset",))
    try:
        await visit.site.slowly(
            visit.site.accounts.reset, link["token"], visit.form.get("password", "")[:1024], address=visit.address
        )  # fmt: skip
    except Refusal as refusal:
        if refusal.code not in _SHOWN_AGAIN:
            raise
        return page(visit, "reset", refusal.status, link=link, refusal=refusal)
    return RedirectResponse("/sign-in", 303)


async def home(visit: Visit) -> Response:
    now = visit.site.database.clock()
    projects = await visit.site.read(lambda c: _projects(c, visit.account, now))
    return page(visit, "home", projects=projects)


async def language(visit: Visit) -> Response:
    response = RedirectResponse(_inside(visit.form.get("next", "/")), 303)
    chosen = "zh" if visit.form.get("language") == "zh" else "en"
    visit.site.gate.set_cookie(response, "language", chosen, 365 * 24 * 3600)
    return response


async def account_page(visit: Visit) -> Response:
    return page(visit, "account")


async def own_data(visit: Visit) -> Response:
    """Everything that is known of this person, to take along."""
    found = await visit.site.read(lambda c: _own(c, visit.account))
    return JSONResponse(found, headers={"Content-Disposition": 'attachment; filename="my-data.json"'})


async def erase(visit: Visit) -> Response:
    """One's own wish alone: nobody erases another."""
    if visit.form.get("sure") != "yes":
        raise Refusal("bad_input", "tick the box first")
    await asyncio.to_thread(visit.site.accounts.erase, visit.account, by=visit.account, origin=visit.origin)
    response = RedirectResponse("/sign-in", 303)
    visit.site.gate.drop_cookie(response, visit.site.gate.session_cookie)
    return response


async def word(visit: Visit) -> Response:
    """The word that forms bring back, for a page that has been open for long."""
    return JSONResponse({"csrf": visit.csrf})


async def health(visit: Visit) -> Response:
    await visit.site.read(lambda c: c.scalar(select(schema.chain.c.seq)))
    return JSONResponse({"status": "ok"})


def _come_in(visit: Visit, session: Session, after: str) -> Response:
    """To the first page with a cookie that nobody has seen before; what a visitor had is worth nothing any more."""
    response = RedirectResponse(after, 303)
    visit.site.gate.set_cookie(response, visit.site.gate.session_cookie, session.token)
    visit.site.gate.drop_cookie(response, visit.site.gate.visitor_cookie)
    return response


def _inside(path: str) -> str:
    """A path of this site, whatever was asked for: no address elsewhere, and no page that signs out."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and path.isascii()
    return path if plain and "\\" not in path and len(path) <= 300 else "/"


async def _link(visit: Visit, kinds: tuple[str, ...]) -> dict[str, Any]:
    """What a link promises.

    Raises:
        Refusal: "bad_link".
    """
    token = visit.request.path_params["link"]
    now = visit.site.database.clock()

    def look(c: Connection) -> dict[str, Any]:
        invite = schema.invite
        row = c.execute(
            select(invite, schema.project.c.name.label("project_name"))
            .outerjoin(schema.project, schema.project.c.id == invite.c.project)
            .where(invite.c.token_hash == hash_of(token))
        ).one_or_none()
        if row is None or row.used_by is not None or now >= row.expires or row.kind not in kinds:
            raise Refusal("bad_link", "this link does not work any more: ask for a new one")
        after = f"/p/{row.project}" if row.project else "/"
        return {"token": token, "kind": row.kind, "role": row.role, "project": row.project_name, "after": after}

    return await visit.site.read(look)


def _projects(c: Connection, account: str, now: int) -> list[dict[str, Any]]:
    """The projects somebody is in, and what there is for them to do."""
    member, project = schema.membership, schema.project
    rows = c.execute(
        select(member, project.c.name, project.c.state.label("project_state"), project.c.daily_cap,
               project.c.guideline, project.c.guideline_major)
        .where(member.c.account == account, project.c.id == member.c.project)
        .order_by(project.c.created.desc())
    )  # fmt: skip
    mine = select(schema.seat.c.project, func.count()).where(
        schema.seat.c.account == account, schema.seat.c.state == "answered"
    )
    answered: dict[str, int] = {row[0]: row[1] for row in c.execute(mine.group_by(schema.seat.c.project))}
    found: list[dict[str, Any]] = []
    for row in rows.all():
        given = row.given_today if row.day >= now // DAY else 0
        right, asked = gold_accuracy(c, row.project, account)
        found.append(
            {
                "id": row.project, "name": row.name, "role": row.role, "state": row.state,
                "project_state": row.project_state, "answered": answered.get(row.project, 0),
                "left_today": None if row.daily_cap is None else max(0, row.daily_cap - given),
                "to_read": row.guideline_read < row.guideline_major, "gold": (right, asked),
            }
        )  # fmt: skip
    return found


def _own(c: Connection, account: str) -> dict[str, Any]:
    person = c.execute(select(schema.account).where(schema.account.c.id == account)).one()
    judgment, value = schema.judgment, schema.judgment_value
    said = c.execute(
        select(judgment.c.id, judgment.c.kind, judgment.c.submitted, judgment.c.reason, judgment.c.note,
               value.c.question, value.c.slot, value.c.num, value.c.text, value.c.cannot_tell)
        .outerjoin(value, value.c.judgment == judgment.c.number)
        .where(judgment.c.account == account)
        .order_by(judgment.c.number, value.c.question, value.c.slot)
    )  # fmt: skip
    return {
        "id": person.id, "email": person.email, "name": person.name, "created": person.created,
        "judgements": [dict(row) for row in said.mappings()], "conversations": list(_own_turns(c, account)),
    }  # fmt: skip


def _own_turns(c: Connection, account: str) -> Iterator[dict[str, Any]]:
    """What somebody wrote in their conversations, the last turn of each being that of its last comparison."""
    talk = schema.dialogue.c
    rows = c.execute(
        select(talk.begun, talk.draft, schema.prompt.c.messages)
        .select_from(schema.dialogue)
        .outerjoin(schema.item, schema.item.c.number == talk.item)
        .outerjoin(schema.prompt, schema.prompt.c.number == schema.item.c.prompt)
        .where(talk.account == account)
        .order_by(talk.begun, talk.id)
    )
    for row in rows:
        turns = [turn["content"] for turn in json.loads(row.messages or "[]") if turn["role"] == "user"]
        yield {"begun": row.begun, "turns": turns, "draft": row.draft}


ROUTES = (
    Route("GET", "/", SIGNED_IN, home),
    Route("GET", "/sign-in", ANYONE, sign_in_page),
    Route("POST", "/sign-in", ANYONE, sign_in, takes="form"),
    Route("POST", "/sign-out", SIGNED_IN, sign_out, takes="form"),
    Route("GET", "/invite/{link}", ANYONE, invite_page),
    Route("POST", "/invite/{link}", ANYONE, accept, takes="form"),
    Route("GET", "/reset/{link}", ANYONE, reset_page),
    Route("POST", "/reset/{link}", ANYONE, reset, takes="form"),
    Route("POST", "/language", ANYONE, language, takes="form"),
    Route("GET", "/account", SIGNED_IN, account_page),
    Route("GET", "/account/data", SIGNED_IN, own_data),
    Route("POST", "/account/erase", SIGNED_IN, erase, takes="form"),
    Route("GET", "/word", SIGNED_IN, word, page=False),
    Route("GET", "/health", ANYONE, health, page=False),
)
