"""Who judges what next.

Items wait in lanes, each at a position that no other has. A person goes along a lane and never back; so the next item
for them is the first that waits beyond where they are, which an index over the waiting items gives at once, however
many there are. Whatever becomes free again (a lease that ran out, a skip) goes to the end of its lane, beyond everyone.

A `seat` is a person's place at an item: leased, answered or skipped. The database counts the seats of an item and
refuses one too many. A lease ends when somebody comes for it after its time, not before: who is late and alone is not
too late.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import update

from tutelage.web import schema
from tutelage.web.accounts import RIGHTS
from tutelage.web.audit import canonical
from tutelage.web.database import Ahead, Database, Transaction
from tutelage.web.ids import plain
from tutelage.web.queue_statements import (
    ADD_SEAT,
    ADVANCE,
    DROP_SEAT,
    EXPIRED,
    MOVE,
    MY_LEASE,
    MY_SEAT,
    PASS,
    PICK,
    REDATE,
    WHO,
)  # fmt: skip
from tutelage.web.queue_wire import TAKE, array, see
from tutelage.web.refusal import Refusal
from tutelage.web.sessions import DAY, SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An item that is someone's for a while."""

    item: str
    token: str
    """Comes back with the judgement. It is worth nothing in anyone else's hands."""
    expires: int
    """When others may have it, in microseconds since 1970."""
    shown: tuple[int, ...]
    """The slot at each seat. Not for the page: there, seats are all there is."""
    guideline: int
    """The version of the guideline that is stamped on the judgement."""


class Queue:
    """The lines in front of the people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, account: str, project: str) -> Lease | None:
        """The item that this person holds, or the next one; None when nothing is left for them.

        Raises:
            Refusal: "unknown", "not_allowed", "paused", "not_qualified", "guideline" (there is a new version to read)
                or "daily_cap".
        """
        # A lease that has run out is swept whether or not this person gets one: what was written may stay.
        ahead = Ahead(account, lambda t: see(t.connection, t.at, account, project=project))
        return self._database.write(lambda t: self.claiming(t, account, project), whole=True, ahead=ahead)

    def claiming(self, t: Transaction, account: str, project: str) -> Lease | None:
        """`claim`, as work for the writer."""
        if over_a_wire(t):
            taken = self.taking(t, account, project)()
            return None if taken is None else taken.lease
        who = may_judge(t, account, project)
        _sweep(t, project, who.lease_seconds * SECOND)
        held = MY_LEASE.first(t.connection, {"a": account, "p": project})
        if held is not None:
            return lease_of(held)
        check_cap(who, t.at)
        passed = passed_by(who)
        for lane in _lanes(who, account):
            found = PICK.first(t.connection, {"p": project, "l": lane, "beyond": passed[lane], "a": account})
            if found is not None:
                break
        else:
            return None
        passed[lane] = found.position
        lease, seat, member = grant(t.at, who, account, project, Waiting(*found), passed)
        ADD_SEAT.run(t.connection, seat)
        PASS.run(t.connection, member)
        return lease

    def taking(self, t: Transaction, account: str, project: str) -> Callable[[], Taken | None]:
        """`claim` on a server, as work for the writer: what it gives, for when it has come.

        Raises:
            Refusal: as `claim`; "daily_cap" comes from what it gives.
        """
        who = _judging((t.seen or see(t.connection, t.at, account, project=project)()).who)
        if who.late:
            _sweep(t, project, who.lease_seconds * SECOND)
        today, so_far = given_on_day(who, t.at)
        lanes = () if _is_capped(who, so_far) else _lanes(who, account)
        rows = TAKE.later(
            t.connection,
            {
                "a": account, "p": project, "secret": who.secret, "lanes": array(lanes),
                "passed": array(passed_by(who).values()), "token": secrets.token_urlsafe(12), "now": t.at,
                "expires": t.at + who.lease_seconds * SECOND, "guideline": who.guideline, "given": who.given,
                "today": today, "so_far": so_far,
            },
        )  # fmt: skip

        def taken() -> Taken | None:
            found = rows()
            if found:
                return Taken(lease=lease_of(found[0]), rows=found, daily_cap=who.daily_cap)
            check_cap(who, t.at)
            return None

        return taken

    def renew(self, account: str, item: str, token: str) -> int:
        """Keeps a lease for its whole length from now; gives its new end.

        Raises:
            Refusal: "lease_lost".
        """

        def work(t: Transaction) -> int:
            seat = leased(t, account, item, token)
            expires = t.at + seat.lease_seconds * SECOND
            here = (schema.seat.c.item == seat.item) & (schema.seat.c.account == account)
            t.connection.execute(update(schema.seat).where(here).values(expires=expires))
            return expires

        return self._database.write(work)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An item that waits."""

    number: int
    id: str
    position: int
    slots: int
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a server gives who claims."""

    lease: Lease
    rows: list[Any]
    """A row for each response: its slot and text, and beside them what stands on the page once."""
    daily_cap: int | None


def over_a_wire(t: Transaction) -> bool:
    """Whether the database is a server, for which `queue_wire` has statements of its own."""
    return t.connection.dialect.name == "postgresql"


def release(t: Transaction, project: str, item: int) -> None:
    """Puts an item at the end of its lane, so that everyone comes by it again.

    Whatever makes an item free that was not must call this: nobody looks behind them.
    """
    tail = ADVANCE.scalar(t.connection, {"p": project})
    MOVE.run(t.connection, {"i": item, "to": tail})


def may_judge(t: Transaction, account: str, project: str) -> Any:
    """Somebody's place in a project, where they may judge now."""
    return _judging(WHO.first(t.connection, {"a": account, "p": plain(project)}))


def _judging(who: Any) -> Any:
    """The same, as it was found."""
    if who is None:
        raise Refusal("unknown", "there is no such project")
    if "judge" not in RIGHTS[who.role]:
        raise Refusal("not_allowed", f"a {who.role} does not judge")
    if who.project_state != "open" or who.state == "paused":
        raise Refusal("paused", "this project rests" if who.project_state != "open" else "you are paused here")
    if who.state != "active":
        raise Refusal("not_qualified", "first the guideline and its quiz")
    if who.guideline_read < who.guideline_major:
        raise Refusal("guideline", "the guideline has changed: read it first")
    return who


def check_cap(who: Any, now: int) -> None:
    """Raises: Refusal: "daily_cap"."""
    if _is_capped(who, given_on_day(who, now)[1]):
        raise Refusal("daily_cap", f"{who.daily_cap} items are enough for today: come back tomorrow")


def _is_capped(who: Any, so_far: int) -> bool:
    return who.daily_cap is not None and so_far >= who.daily_cap


def passed_by(who: Any) -> dict[int, int]:
    """How far somebody has come in each lane."""
    return {schema.URGENT: who.passed_urgent, schema.ORDINARY: who.passed_ordinary, schema.GOLD: who.passed_gold}


def grant(
    now: int, who: Any, account: str, project: str, item: Waiting, passed: Mapping[int, int]
) -> tuple[Lease, dict[str, Any], dict[str, Any]]:
    """An item in somebody's hands: the lease, and the rows of the seat and of the member that are to be written."""
    shown = shuffled(who.secret, account, item.id, item.slots)
    lease = Lease(
        item=item.id, token=secrets.token_urlsafe(12), expires=now + who.lease_seconds * SECOND, shown=shown,
        guideline=who.guideline,
    )  # fmt: skip
    seat = {
        "item": item.number, "account": account, "project": project, "state": "leased", "token": lease.token,
        "shown": canonical(shown), "guideline": lease.guideline, "granted": now, "expires": lease.expires,
        "turn": who.given + 1, "revision": item.revision,
    }  # fmt: skip
    today, so_far = given_on_day(who, now)
    member = {
        "a": account, "p": project, "urgent": passed[schema.URGENT], "ordinary": passed[schema.ORDINARY],
        "gold": passed[schema.GOLD], "given": who.given + 1, "today": today, "so_far": so_far + 1,
    }  # fmt: skip
    return lease, seat, member


def given_on_day(who: Any, now: int) -> tuple[int, int]:
    """The day, and how many items this person was given on it. A day that the clock has gone back to is no new one."""
    today = max(who.day, now // DAY)
    return today, who.given_today if today == who.day else 0


def _sweep(t: Transaction, project: str, length: int) -> None:
    """Takes back the leases whose time is over.

    None can last longer than a whole one from now. One that does was given before the clock went back, and is dated
    anew.
    """
    for row in EXPIRED.all(t.connection, {"p": project, "now": t.at, "latest": t.at + length}):
        if row.expires > t.at:
            REDATE.run(t.connection, {"i": row.item, "a": row.account, "to_expires": t.at + length})
        else:
            DROP_SEAT.run(t.connection, {"i": row.item, "a": row.account})
            release(t, project, row.item)


def _lanes(who: Any, account: str) -> tuple[int, ...]:
    """In which lanes to look, in order. Whether it is gold's turn is drawn, and the same if it is drawn again."""
    lanes = (schema.URGENT, schema.ORDINARY)
    draw = _draw(who.secret, account, "gold", who.given + 1)
    return (schema.GOLD, *lanes) if draw < who.gold_share else lanes


def shuffled(secret: str, account: str, item: str, slots: int) -> tuple[int, ...]:
    """The order in which this person sees the responses of this item: each as likely, the same every time."""
    return tuple(sorted(range(slots), key=lambda slot: _draw(secret, account, item, slot)))


def _draw(*parts: object) -> float:
    """A number in [0, 1) that only who knows the project's secret can foresee."""
    hashed = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(hashed[:6], "big") / 2**48


def leased(t: Transaction, account: str, item: str, token: str | None) -> Any:
    """The seat that a lease stands for."""
    return holding(MY_SEAT.first(t.connection, {"i": plain(item), "a": account}), token)


def holding(seat: Any, token: str | None) -> Any:
    """The same, as it was found."""
    if seat is None or seat.state != "leased" or (token is not None and seat.token != token):
        raise Refusal("lease_lost", "this item went to someone else; your draft is kept")
    if seat.member_state != "active":
        raise Refusal("paused", "you are paused here")
    return seat


def lease_of(seat: Any) -> Lease:
    return Lease(
        item=seat.item_id, token=seat.token, expires=seat.expires, shown=tuple(json.loads(seat.shown)),
        guideline=seat.guideline,
    )  # fmt: skip
