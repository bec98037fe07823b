"""The people of a project: their figures, their links and roles, and whose answers are set aside."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from sqlalchemy import Connection, select
from starlette.responses import JSONResponse, RedirectResponse, Response

from tutelage.web import board, schema
from tutelage.web.accounts import RIGHTS, Role, State
from tutelage.web.label.rendering import page
from tutelage.web.label.visit import Route, Visit, may
from tutelage.web.refusal import Refusal
from tutelage.web.sessions import DAY


async def people_page(visit: Visit) -> Response:
    return await _page(visit)


async def _page(visit: Visit, **shown: Any) -> Response:
    values = {"link": "", "link_for": "", "change": None, "about": "", "since": ""} | shown

    def look(c: Connection) -> dict[str, Any]:
        name = c.scalar(select(schema.project.c.name).where(schema.project.c.id == visit.project))
        invite = schema.invite
        links = c.execute(
            select(invite.c.role, invite.c.expires)
            .where(invite.c.project == visit.project, invite.c.used_by.is_(None))
            .where(invite.c.expires > visit.site.database.clock())
            .order_by(invite.c.expires)
        ).all()
        table = schema.set_aside
        aside = c.execute(
            select(table).where(table.c.project == visit.project, table.c.lifted_at.is_(None)).order_by(table.c.at)
        ).all()
        members = {row.account: row for row in _members(c, visit.project)}
        figures = {figure.account: figure for figure in board.people(c, visit.project)}
        return {
            "project_name": name, "links": links, "aside": aside, "members": members, "figures": figures,
            "roles": [role for role in RIGHTS if role not in ("owner", "manager") or visit.member.role == "owner"],
        }  # fmt: skip

    return page(visit, "people", project=visit.project, **values, **await visit.site.study(look))


async def invite(visit: Visit) -> Response:
    """A one-time link, shown once."""
    role = cast(Role, visit.form.get("role", ""))
    token = await asyncio.to_thread(
        visit.site.accounts.invite, visit.account, visit.project, role, origin=visit.origin
    )  # fmt: skip
    return await _page(visit, link=f"{visit.site.url}/invite/{token}", link_for=role)


async def help_with_password(visit: Visit) -> Response:
    token = await asyncio.to_thread(
        visit.site.accounts.invite_reset, visit.account, visit.project, visit.form.get("account", ""),
        origin=visit.origin,
    )  # fmt: skip
    return await _page(visit, link=f"{visit.site.url}/reset/{token}", link_for="reset")


async def change(visit: Visit) -> Response:
    """Another role, a pause, or the way back from it."""
    role, state = visit.form.get("role") or None, visit.form.get("state") or None
    await asyncio.to_thread(
        visit.site.accounts.set_member, visit.account, visit.project, visit.form.get("account", ""),
        role=cast(Role | None, role), state=cast(State | None, state), origin=visit.origin,
    )  # fmt: skip
    return RedirectResponse(f"/p/{visit.project}/people", 303)


async def quiz_again(visit: Visit) -> Response:
    await asyncio.to_thread(
        visit.site.quiz.again, visit.account, visit.project, visit.form.get("account", ""), origin=visit.origin
    )  # fmt: skip
    return RedirectResponse(f"/p/{visit.project}/people", 303)


async def what_if(visit: Visit) -> Response:
    """What would change if somebody's answers were set aside; nothing does yet."""
    account, since = visit.form.get("account", ""), _since(visit)
    await asyncio.to_thread(visit.site.accounts.member, account, visit.project)
    change = await visit.site.study(lambda c: board.what_if(c, visit.project, account, since))
    return await _page(visit, change=change, about=account, since=str(since))


async def set_aside(visit: Visit) -> Response:
    await asyncio.to_thread(
        visit.site.decisions.set_aside, visit.account, visit.project, visit.form.get("account", ""), _since(visit),
        visit.form.get("reason", ""), origin=visit.origin,
    )  # fmt: skip
    return RedirectResponse(f"/p/{visit.project}/people", 303)


async def lift(visit: Visit) -> Response:
    await asyncio.to_thread(
        visit.site.decisions.lift, visit.account, visit.project, visit.form.get("id", ""), origin=visit.origin
    )  # fmt: skip
    return RedirectResponse(f"/p/{visit.project}/people", 303)


async def confusion(visit: Visit) -> Response:
    """One person's figures in full, for the drawer."""
    account = visit.request.path_params["account"]
    await asyncio.to_thread(visit.site.accounts.member, account, visit.project)
    figures = await visit.site.study(lambda c: board.people(c, visit.project))
    found = next((figure for figure in figures if figure.account == account), None)
    if found is None:
        raise Refusal("unknown", "there is nothing to show")
    return JSONResponse({"account": account, "confusion": found.confusion})


def _members(c: Connection, project: str) -> list[Any]:
    member, person = schema.membership, schema.account
    return list(
        c.execute(
            select(member, person.c.name, person.c.email, person.c.status)
            .where(member.c.project == project, person.c.id == member.c.account)
            .order_by(member.c.role, person.c.name)
        ).all()
    )


def _since(visit: Visit) -> int:
    """A number of days ago, or a time in microseconds; nothing means from the beginning."""
    text = visit.form.get("since", "0") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 17):
        raise Refusal("bad_input", "since: a number")
    number = int(text)
    return visit.site.database.clock() - number * DAY if 0 < number <= 3650 else number


ROUTES = (
    Route("GET", "/p/{project}/people", may("manage_people"), people_page),
    Route("POST", "/p/{project}/people/invite", may("manage_people"), invite, takes="form"),
    Route("POST", "/p/{project}/people/reset", may("manage_people"), help_with_password, takes="form"),
    Route("POST", "/p/{project}/people/change", may("manage_people"), change, takes="form"),
    Route("POST", "/p/{project}/people/quiz", may("manage_people"), quiz_again, takes="form"),
    Route("POST", "/p/{project}/people/what-if", may("manage_people"), what_if, takes="form"),
    Route("POST", "/p/{project}/people/set-aside", may("manage_people"), set_aside, takes="form"),
    Route("POST", "/p/{project}/people/lift", may("manage_people"), lift, takes="form"),
    Route("GET", "/p/{project}/people/{account}", may("manage_people"), confusion, page=False),
)
