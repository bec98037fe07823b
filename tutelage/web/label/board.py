"""The owner's board: how it goes, what it costs, and what should be looked at."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, select
from starlette.responses import Response

from tutelage.web import board, schema
from tutelage.web.label.rendering import page
from tutelage.web.label.visit import Route, Visit, may


async def board_page(visit: Visit) -> Response:
    now = visit.site.database.clock()

    def look(c: Connection) -> dict[str, Any]:
        row = c.execute(select(schema.project).where(schema.project.c.id == visit.project)).one()
        member, person = schema.membership, schema.account
        names = select(person.c.id, person.c.name).where(
            person.c.id == member.c.account, member.c.project == visit.project
        )  # fmt: skip
        return {
            "project_name": row.name, "state": row.state, "labels": json.loads(row.settings).get("labels", {}),
             "figures": board.board(c, visit.project, now),
            "names": {row.id: row.name for row in c.execute(names)},
        }  # fmt: skip

    return page(visit, "board", project=visit.project, **await visit.site.study(look))


ROUTES = (Route("GET", "/p/{project}/board", may("see_board"), board_page),)
