"""The keys of a project: made by those who manage it, shown once, and taken back."""

from __future__ import annotations

import asyncio
from typing import get_args

from sqlalchemy import select
from starlette.responses import RedirectResponse, Response

from tutelage.web import schema
from tutelage.web.keys import LONGEST, Scope
from tutelage.web.label.rendering import page
from tutelage.web.label.visit import Route, Visit, may
from tutelage.web.refusal import Refusal


async def keys_page(visit: Visit) -> Response:
    return await _page(visit)


async def _page(visit: Visit, secret: str = "") -> Response:
    listed = await asyncio.to_thread(visit.site.keys.listed, visit.account, visit.project)
    name = await visit.site.read(
        lambda c: c.scalar(select(schema.project.c.name).where(schema.project.c.id == visit.project))
    )
    now = visit.site.database.clock()
    in_use_first = sorted(listed, key=lambda one: one.revoked is not None or one.expires <= now)
    return page(
        visit, "keys", project=visit.project, project_name=name, listed=in_use_first, secret=secret,
        scopes=get_args(Scope), now=now, longest=LONGEST,
    )  # fmt: skip


async def make(visit: Visit) -> Response:
    """A new key; this answer is the only one that holds it."""
    days = visit.form.get("days", "90")
    if not (days.isascii() and days.isdigit() and len(days) <= 4):
        raise Refusal("bad_input", f"days: a number from 1 to {LONGEST}")
    scopes: list[Scope] = [scope for scope in get_args(Scope) if visit.form.get(scope) == "yes"]
    made = await asyncio.to_thread(
        visit.site.keys.make, visit.account, visit.project, visit.form.get("name", ""), scopes, int(days),
        origin=visit.origin,
    )  # fmt: skip
    return await _page(visit, made.secret)


async def revoke(visit: Visit) -> Response:
    await asyncio.to_thread(
        visit.site.keys.revoke, visit.account, visit.project, visit.form.get("key", ""), origin=visit.origin
    )  # fmt: skip
    return RedirectResponse(f"/p/{visit.project}/keys", 303)


ROUTES = (
    Route("GET", "/p/{project}/keys", may("manage_project"), keys_page),
    Route("POST", "/p/{project}/keys", may("manage_project"), make, takes="form"),
    Route("POST", "/p/{project}/keys/revoke", may("manage_project"), revoke, takes="form"),
)
