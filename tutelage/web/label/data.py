"""What leaves the site, and the record of what was done: snapshots, their exports, and the audit log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, or_, select
from starlette.responses import RedirectResponse, Response, StreamingResponse

from tutelage.feedback.exchange import SHAPES
from tutelage.web import audit, judgments, schema, snapshots
from tutelage.web.counting import Query
from tutelage.web.label.rendering import page
from tutelage.web.label.visit import Route, Visit, may
from tutelage.web.refusal import Refusal

PAGE = 100


async def data_page(visit: Visit) -> Response:
    """The snapshots, what one made now would hold, and what two of them differ in."""
    older, newer = (visit.request.query_params.get(name, "") for name in ("older", "newer"))

    def look(c: Connection) -> dict[str, Any]:
        listed = snapshots.listed(c, visit.project)
        known = {info.id for info in listed}
        both = older in known and newer in known and older != newer
        return {
            "project_name": _name(c, visit.project), "listed": listed,
            "counts": _figures(snapshots.preview(c, visit.project, Query())),
            "difference": _figures(snapshots.difference(c, older, newer)) if both else None,
        }  # fmt: skip

    found = await visit.site.study(look)
    return page(visit, "data", project=visit.project, shapes=SHAPES, older=older, newer=newer, **found)


async def make_snapshot(visit: Visit) -> Response:
    form = visit.form
    least = form.get("min_answers", "1")
    if not (least.isascii() and least.isdigit() and 1 <= int(least[:6]) <= 1000):
        raise Refusal("bad_input", "min_answers: a number from 1 to 1000")
    query = Query(
        min_answers=int(least), gold=form.get("gold") == "yes", set_aside=form.get("set_aside") == "yes",
        uniform_only=form.get("uniform_only") == "yes",
    )  # fmt: skip
    await visit.site.slowly(
        snapshots.make, visit.site.database, visit.account, visit.project, form.get("name", ""), query
    )  # fmt: skip
    return RedirectResponse(f"/p/{visit.project}/data", 303)


async def export(visit: Visit) -> Response:
    """A snapshot in the shape of others, as a stream."""
    id, name = visit.request.path_params["snapshot"], visit.request.path_params["shape"]
    shape = SHAPES.get(name)
    listed = await visit.site.read(lambda c: snapshots.listed(c, visit.project))
    if shape is None or not any(info.id == id for info in listed):
        raise Refusal("unknown", "there is no such snapshot")
    pieces = snapshots.export(visit.site.database, id, name)
    # The first piece is made before the answer begins, so that a refusal still has its own status.
    first = await asyncio.to_thread(next, pieces, b"")
    headers = {"Content-Disposition": f'attachment; filename="{shape.file_name}"'}
    return StreamingResponse(_streamed(first, pieces), media_type=shape.media_type, headers=headers)


async def log_page(visit: Visit) -> Response:
    return await _log(visit, None)


async def verify(visit: Visit) -> Response:
    """Walks the whole log and all judgements, and says what it found."""

    def look(c: Connection) -> dict[str, Any]:
        finding = audit.verify(c)
        return {
            "rows": finding.rows, "fault": finding.fault or judgments.verify(c), "seq": finding.end.seq,
            "hash": finding.end.hash,
        }  # fmt: skip

    return await _log(visit, await visit.site.study(look))


async def _log(visit: Visit, finding: dict[str, Any] | None) -> Response:
    before = visit.request.query_params.get("before", "")
    limit = int(before) if before.isascii() and before.isdigit() and len(before) < 16 else 2**62

    def look(c: Connection) -> dict[str, Any]:
        return {"project_name": _name(c, visit.project), "rows": _entries(c, visit.project, limit)}

    found = await visit.site.study(look)
    rows = found["rows"]
    return page(
        visit, "log", project=visit.project, finding=finding, more=len(rows) > PAGE,
        **{**found, "rows": rows[:PAGE]},
    )  # fmt: skip


def _entries(c: Connection, project: str, before: int) -> list[dict[str, Any]]:
    """What the log says of this project: of itself, its people here, its items and judgements; newest first."""
    log, person = schema.audit.c, schema.account
    items = select(schema.item.c.id).where(schema.item.c.project == project)
    said = select(schema.judgment.c.id).where(schema.judgment.c.project == project)
    here = or_(
        log.object == project, log.object.startswith(f"{project}/", autoescape=True),
        log.object.in_(items) & log.action.like("item.%"), log.object.in_(said) & log.action.like("judgment.%"),
    )  # fmt: skip
    rows = c.execute(
        select(schema.audit, person.c.name)
        .outerjoin(person, person.c.id == log.actor)
        .where(here, log.seq < before)
        .order_by(log.seq.desc())
        .limit(PAGE + 1)
    )
    return [
        {
            "seq": row.seq, "at": row.at, "actor": row.name or row.actor[-6:], "action": row.action,
            "object": row.object, "detail": json.loads(row.detail) if row.detail else {}, "origin": row.origin,
            "hash": row.hash,
        }
        for row in rows
    ]  # fmt: skip


async def _streamed(first: bytes, rest: Iterator[bytes]) -> AsyncIterator[bytes]:
    piece = first
    while piece:
        yield piece
        piece = await asyncio.to_thread(next, rest, b"")


def _figures(found: Any) -> dict[str, int | str]:
    """What can be shown in one word each."""
    return {name: value for name, value in asdict(found).items() if isinstance(value, int | str)}


def _name(c: Connection, project: str) -> str:
    return c.scalar(select(schema.project.c.name).where(schema.project.c.id == project)) or ""


ROUTES = (
    Route("GET", "/p/{project}/data", may("export"), data_page),
    Route("POST", "/p/{project}/data", may("export"), make_snapshot, takes="form"),
    Route("GET", "/p/{project}/data/{snapshot}/{shape}", may("export"), export),
    Route("GET", "/p/{project}/log", may("manage_project"), log_page),
    Route("POST", "/p/{project}/log/verify", may("manage_project"), verify, takes="form"),
)
