"""What reviewers decide about items, and whose answers are set aside. Both can be taken back, and neither deletes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select, update

from tutelage.web import schema
from tutelage.web.accounts import membership
from tutelage.web.answers import MAX_NOTE, clean, kept
from tutelage.web.audit import canonical, digest
from tutelage.web.database import Database, Transaction
from tutelage.web.ids import new_id, plain
from tutelage.web.items import EVERYBODY
from tutelage.web.projects import allowed, questions_of
from tutelage.web.queue import release
from tutelage.web.refusal import Refusal

Decided = Literal["decide", "send_back", "gold"]


class Decisions:
    """Deciding."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decide(
        self, by: str, project: str, item: str, kind: Decided, said: Mapping[str, Any], note: str = "", *,
        origin: str = "",
    ) -> str:  # fmt: skip
        """Decides an item: ``decide`` gives its answer and closes it, ``gold`` makes that answer a known one that
        others are tested with, ``send_back`` opens it again and asks one person more.

        Args:
            said: by the questions' keys, the responses in their own order; empty to send back.

        Raises:
            Refusal: not theirs to do, no such item here, or "bad_input".
        """

        def work(t: Transaction) -> str:
            allowed(t.connection, by, project, "adjudicate")
            row = _item(t.connection, project, item)
            if kind != "send_back":
                slots = select(func.count()).select_from(schema.item_response)
                count = t.connection.scalar(slots.where(schema.item_response.c.item == row.number)) or 0
                kept(questions_of(t.connection, project), range(count), said)
            self._apply(t, project, row, kind, said)
            new = {
                "id": new_id(t.at), "item": row.number, "project": project, "account": by, "kind": kind,
                "said": canonical({} if kind == "send_back" else said), "note": clean(note, MAX_NOTE, "note"),
                "at": t.at,
            }  # fmt: skip
            t.connection.execute(insert(schema.decision), new)
            detail = canonical({"kind": kind})
            t.log(by, "item.decide", item, detail=detail, content=digest(new), origin=origin)
            return str(new["id"])

        return self._database.write(work)

    def _apply(self, t: Transaction, project: str, row: Any, kind: Decided, said: Mapping[str, Any]) -> None:
        item = schema.item
        change = update(item).where(item.c.number == row.number)
        match kind:
            case "decide":
                t.connection.execute(change.values(state="closed"))
            case "send_back":
                need = row.need if row.taken < row.need else row.taken + 1
                t.connection.execute(change.values(state="open", need=need))
                release(t, project, row.number)
            case "gold":
                values = {"gold": json.dumps(dict(said)), "lane": schema.GOLD, "need": EVERYBODY, "state": "open"}
                # To the end of its new lane first: two items never stand at one place.
                release(t, project, row.number)
                t.connection.execute(change.values(values))

    def set_aside(self, by: str, project: str, account: str, since: int, reason: str, *, origin: str = "") -> str:
        """Leaves out what somebody has said since a time; gives the id with which it is taken back.

        Raises:
            Refusal: not theirs to do, or no such person.
        """

        def work(t: Transaction) -> str:
            allowed(t.connection, by, project, "manage_people")
            membership(t.connection, account, project)
            row = {
                "id": new_id(t.at), "project": project, "account": account, "since": since,
                "reason": clean(reason, MAX_NOTE, "reason"), "made_by": by, "at": t.at,
            }  # fmt: skip
            t.connection.execute(insert(schema.set_aside), row)
            detail = canonical({"since": since, "id": row["id"]})
            t.log(by, "answers.set_aside", f"{project}/{account}", detail=detail, origin=origin)
            return str(row["id"])

        return self._database.write(work)

    def lift(self, by: str, project: str, id: str, *, origin: str = "") -> None:
        """Counts again what was set aside.

        Raises:
            Refusal: not theirs to do, or not set aside.
        """

        def work(t: Transaction) -> None:
            allowed(t.connection, by, project, "manage_people")
            table = schema.set_aside
            here = (table.c.id == plain(id)) & (table.c.project == project) & table.c.lifted_at.is_(None)
            done = t.connection.execute(update(table).where(here).values(lifted_by=by, lifted_at=t.at))
            if done.rowcount != 1:
                raise Refusal("unknown", "this is not set aside")
            t.log(by, "answers.lift", project, detail=canonical({"id": id}), origin=origin)

        self._database.write(work)


def _item(c: Connection, project: str, item: str) -> Any:
    here = (schema.item.c.id == plain(item)) & (schema.item.c.project == plain(project))
    row = c.execute(select(schema.item).where(here)).one_or_none()
    if row is None:
        raise Refusal("unknown", "there is no such item")
    return row
