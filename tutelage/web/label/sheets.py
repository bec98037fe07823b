"""One item as its holder's page shows it, read with few and ready-made statements: it is read for every judgement."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select

from tutelage.web.database import Transaction
from tutelage.web.prepared import Prepared
from tutelage.web.queue import Lease, Queue, Taken, given_on_day, over_a_wire
from tutelage.web.refusal import Refusal
from tutelage.web.schema import draft, item, item_response, membership, project, prompt, response, seat


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What stands on the page."""

    messages: Sequence[dict[str, Any]]
    responses: tuple[str, ...]
    """By seats."""
    draft: str | None
    rev: int
    answered: int
    """How many items this person has been given here, ever; this one among them."""
    left_today: int | None
    """How many more they may have today, after this one; None: as many as they like."""


def sheet(c: Connection, account: str, project: str, lease: Lease, now: int) -> Sheet:
    """The item that a lease is about.

    Raises:
        Refusal: "lease_lost": it ended meanwhile.
    """
    return _of_day(_SHEET.all(c, {"i": lease.item, "a": account, "p": project}), lease, now)


def coming(t: Transaction, queue: Queue, account: str, project: str) -> Callable[[], tuple[Lease, Sheet] | None]:
    """The item that this person holds, or the next one; for when the transaction is through.

    Raises:
        Refusal: as `Queue.claim`, now or then.
    """
    if over_a_wire(t):
        taken = queue.taking(t, account, project)
        return lambda: _taken(taken())
    lease = queue.claiming(t, account, project)
    if lease is None:
        return lambda: None
    rows = _SHEET.all(t.connection, {"i": lease.item, "a": account, "p": project})
    return lambda: (lease, _of_day(rows, lease, t.at))


def _taken(taken: Taken | None) -> tuple[Lease, Sheet] | None:
    if taken is None:
        return None
    return taken.lease, _sheet(taken.rows, taken.lease, taken.rows[0].given_today, taken.daily_cap)


def _of_day(rows: Sequence[Any], lease: Lease, now: int) -> Sheet:
    if not rows:
        raise Refusal("lease_lost", "this item went to someone else; your draft is kept")
    return _sheet(rows, lease, given_on_day(rows[0], now)[1], rows[0].daily_cap)


def _sheet(rows: Sequence[Any], lease: Lease, given: int, cap: int | None) -> Sheet:
    row, texts = rows[0], {row.slot: row.text for row in rows}
    return Sheet(
        messages=json.loads(row.messages), responses=tuple(texts[slot] for slot in lease.shown), draft=row.body,
        rev=row.rev or 0, answered=row.given, left_today=None if cap is None else cap - given,
    )  # fmt: skip


_SHEET = Prepared(
    select(
        item_response.c.slot, response.c.text, prompt.c.messages, draft.c.body, draft.c.rev, membership.c.given,
        membership.c.day, membership.c.given_today, project.c.daily_cap,
    )
    .select_from(item)
    .join(prompt, prompt.c.number == item.c.prompt)
    .join(seat, (seat.c.item == item.c.number) & (seat.c.account == bindparam("a")))
    .join(membership, (membership.c.project == item.c.project) & (membership.c.account == seat.c.account))
    .join(project, project.c.id == item.c.project)
    .join(item_response, item_response.c.item == item.c.number)
    .join(response, response.c.number == item_response.c.response)
    .outerjoin(draft, (draft.c.item == item.c.number) & (draft.c.account == seat.c.account))
    .where(item.c.id == bindparam("i"), item.c.project == bindparam("p"))
)  # fmt: skip
