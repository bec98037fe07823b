"""One item as its holder's page shows it, read with few and ready-made statements: it is read for every judgement."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select

from tutelage.web.prepared import Prepared
from tutelage.web.queue import Lease
from tutelage.web.refusal import Refusal
from tutelage.web.schema import draft, item, item_response, membership, project, prompt, response, seat
from tutelage.web.sessions import DAY


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
    return coming(c, account, project, lease, now)()


def coming(c: Connection, account: str, project: str, lease: Lease, now: int) -> Callable[[], Sheet]:
    """The same, for when the transaction is through in which it is asked for."""
    rows = _SHEET.later(c, {"i": lease.item, "a": account, "p": project})
    return lambda: _sheet(rows(), lease, now)


def _sheet(rows: Sequence[Any], lease: Lease, now: int) -> Sheet:
    if not rows:
        raise Refusal("lease_lost", "this item went to someone else; your draft is kept")
    row, texts = rows[0], {row.slot: row.text for row in rows}
    given = row.given_today if row.day >= now // DAY else 0
    return Sheet(
        messages=json.loads(row.messages), responses=tuple(texts[slot] for slot in lease.shown), draft=row.body,
        rev=row.rev or 0, answered=row.given, left_today=None if row.daily_cap is None else row.daily_cap - given,
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
