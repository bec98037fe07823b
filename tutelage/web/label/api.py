"""What programs may ask with a key: to add items, to read the board, to make a snapshot and to take it out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection
from starlette.responses import JSONResponse, Response

from tutelage.web import board, snapshots
from tutelage.web.counting import Query
from tutelage.web.label.data import export
from tutelage.web.label.making import add_items
from tutelage.web.label.visit import Route, Visit, keyed
from tutelage.web.refusal import Refusal


async def read_board(visit: Visit) -> Response:
    """The figures of the board; people are named by their accounts."""
    now = visit.site.database.clock()
    figures = await visit.site.study(lambda c: board.board(c, visit.project, now))
    return JSONResponse({"project": visit.project, **asdict(figures)})


async def list_snapshots(visit: Visit) -> Response:
    def look(c: Connection) -> list[dict[str, Any]]:
        kept = ("id", "name", "sha256", "items", "answers", "at")
        return [{name: getattr(info, name) for name in kept} for info in snapshots.listed(c, visit.project)]

    return JSONResponse({"snapshots": await visit.site.read(look)})


async def make_snapshot(visit: Visit) -> Response:
    query = Query(
        min_answers=visit.number("min_answers", 1, 1, 1000), gold=_flag(visit, "gold"),
        set_aside=_flag(visit, "set_aside"), uniform_only=_flag(visit, "uniform_only"),
    )  # fmt: skip
    made = await visit.site.slowly(
        snapshots.make, visit.site.database, visit.account, visit.project, visit.text("name", longest=200), query,
        origin=visit.origin,
    )  # fmt: skip
    return JSONResponse({"snapshot": made}, 201)


def _flag(visit: Visit, name: str) -> bool:
    value = visit.body.get(name, False)
    if not isinstance(value, bool):
        raise Refusal("bad_input", f"{name}: true or false")
    return value


ROUTES = (
    Route("POST", "/api/p/{project}/items", keyed("items"), add_items, takes="file", page=False),
    Route("GET", "/api/p/{project}/board", keyed("read"), read_board, page=False),
    Route("GET", "/api/p/{project}/snapshots", keyed("export"), list_snapshots, page=False),
    Route("POST", "/api/p/{project}/snapshots", keyed("export"), make_snapshot, takes="json", page=False),
    Route("GET", "/api/p/{project}/snapshots/{snapshot}/{shape}", keyed("export"), export, page=False),
)
