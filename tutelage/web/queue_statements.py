"""The statements of the queue, built once: they are run for every item that anybody judges.

A server answers each statement over a wire, and there the wire is what takes the time: so for PostgreSQL there is one
statement that sees all that a claim or a submission needs to know, and one that writes it all.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, delete, func, insert, literal_column, or_, select, text, true, update

from tutelage.web.prepared import Prepared
from tutelage.web.schema import (
    draft,
    item,
    item_response,
    judgment,
    judgment_value,
    membership,
    project,
    seat,
)  # fmt: skip

_MINE = (seat.c.item == bindparam("i")) & (seat.c.account == bindparam("a"))
_IS_LEASED = seat.c.state == literal_column("'leased'")
# In the words of the partial index: it is only used where they stand.
_IS_WAITING = (item.c.taken < item.c.need) & (item.c.state == literal_column("'open'"))

_WHO = (
    select(
        membership.c.role, membership.c.state, membership.c.guideline_read, membership.c.passed_urgent,
        membership.c.passed_ordinary, membership.c.passed_gold, membership.c.given, membership.c.day,
        membership.c.given_today, project.c.state.label("project_state"), project.c.lease_seconds,
        project.c.daily_cap, project.c.gold_share, project.c.secret, project.c.guideline, project.c.guideline_major,
    )
    .where(membership.c.account == bindparam("a"), membership.c.project == bindparam("p"))
    .where(project.c.id == membership.c.project)
)  # fmt: skip
WHO = Prepared(_WHO)

EXPIRED = Prepared(
    select(seat.c.item, seat.c.account, seat.c.expires)
    .where(seat.c.project == bindparam("p"), _IS_LEASED)
    .where(or_(seat.c.expires <= bindparam("now"), seat.c.expires > bindparam("latest")))
    .limit(100)
)

_MY_LEASE = (
    select(item.c.id.label("item_id"), seat.c.token, seat.c.expires, seat.c.shown, seat.c.guideline)
    .where(seat.c.account == bindparam("a"), seat.c.project == bindparam("p"), _IS_LEASED)
    .where(item.c.number == seat.c.item)
    .order_by(seat.c.turn.desc())
    .limit(1)
)
MY_LEASE = Prepared(_MY_LEASE)

# Not "not exists": for that a planner may scan all seats of this person, which are few only at first.
_MY_SEAT_THERE = (
    select(seat.c.item).where(seat.c.item == item.c.number, seat.c.account == bindparam("a")).scalar_subquery()
)
_SLOTS = select(func.count()).select_from(item_response).where(item_response.c.item == item.c.number).scalar_subquery()
_REVISION = (
    select(func.coalesce(func.max(judgment.c.revision), 0))
    .where(judgment.c.item == item.c.number, judgment.c.account == bindparam("a"))
    .scalar_subquery()
)


def _pick(lane: Any, beyond: Any) -> Any:
    """The first item of a lane that waits beyond a place and that this person has no seat at."""
    return (
        select(item.c.number, item.c.id, item.c.position, _SLOTS.label("slots"), _REVISION.label("revision"))
        .where(item.c.project == bindparam("p"), item.c.lane == lane, item.c.position > beyond)
        .where(_IS_WAITING, _MY_SEAT_THERE.correlate(item).is_(None))
        .order_by(item.c.position)
        .limit(1)
    )


PICK = Prepared(_pick(bindparam("l"), bindparam("beyond")))

ADD_SEAT = Prepared(insert(seat))
PASS = Prepared(
    update(membership)
    .where(membership.c.account == bindparam("a"), membership.c.project == bindparam("p"))
    .values(
        passed_urgent=bindparam("urgent"), passed_ordinary=bindparam("ordinary"), passed_gold=bindparam("gold"),
        given=bindparam("given"), day=bindparam("today"), given_today=bindparam("so_far"),
    )
)  # fmt: skip

_MY_SEAT = (
    select(
        seat, item.c.id.label("item_id"), item.c.state.label("item_state"), item.c.taken, item.c.need,
        membership.c.state.label("member_state"), project.c.lease_seconds,
    )
    .where(item.c.id == bindparam("i"), seat.c.item == item.c.number, seat.c.account == bindparam("a"))
    .where(membership.c.project == seat.c.project, membership.c.account == seat.c.account)
    .where(project.c.id == seat.c.project)
)  # fmt: skip
MY_SEAT = Prepared(_MY_SEAT)
CHANGE_SEAT = Prepared(
    update(seat)
    .where(_MINE)
    .values(
        state=bindparam("to_state"), revision=bindparam("to_revision"), token=bindparam("to_token"),
        expires=bindparam("to_expires"), turn=bindparam("to_turn"),
    )
)  # fmt: skip
REDATE = Prepared(update(seat).where(_MINE).values(expires=bindparam("to_expires")))
SETTINGS = Prepared(select(project.c.settings).where(project.c.id == bindparam("p")))
DROP_SEAT = Prepared(delete(seat).where(_MINE))
DROP_DRAFT = Prepared(delete(draft).where(draft.c.item == bindparam("i"), draft.c.account == bindparam("a")))

ADVANCE = Prepared(
    update(project).where(project.c.id == bindparam("p")).values(tail=project.c.tail + 1).returning(project.c.tail)
)
MOVE = Prepared(update(item).where(item.c.number == bindparam("i")).values(position=bindparam("to")))

_BY_KEY = select(
    judgment.c.id, judgment.c.kind, judgment.c.revision, judgment.c.asked, item.c.id.label("item_id")
).where(
    judgment.c.account == bindparam("a"), judgment.c.idem == bindparam("idem"), item.c.number == judgment.c.item
)  # fmt: skip
BY_KEY = Prepared(_BY_KEY)
ADD_JUDGMENT = Prepared(
    insert(judgment)
    .values({name: bindparam(name) for name in judgment.c.keys() if name != "number"})  # noqa: SIM118  no mapping
    .returning(judgment.c.number)
)
ADD_VALUES = Prepared(insert(judgment_value))
VALUES = Prepared(
    select(judgment_value).where(judgment_value.c.judgment == bindparam("j")).order_by(judgment_value.c.slot)
)

LAST = Prepared(
    select(judgment.c.number, judgment.c.submitted, judgment.c.shown, judgment.c.note, item.c.id.label("item_id"))
    .where(judgment.c.account == bindparam("a"), judgment.c.project == bindparam("p"))
    .where(item.c.number == judgment.c.item, seat.c.item == judgment.c.item, seat.c.account == judgment.c.account)
    .where(seat.c.revision == judgment.c.revision, seat.c.state != literal_column("'leased'"))
    .order_by(judgment.c.number.desc())
    .limit(1)
)
OTHERS_SINCE = Prepared(select(func.count(judgment.c.account.distinct())).where(
    judgment.c.item == bindparam("i"), judgment.c.number > bindparam("n"), judgment.c.account != bindparam("a"),
    judgment.c.kind == literal_column("'answer'"),
))  # fmt: skip

# For PostgreSQL -------------------------------------------------------------------------------------------------------

LANES = ("urgent", "ordinary", "gold")
"""By their numbers."""


def _see_claim() -> Any:
    """Who asks, whether a lease has run out, the item they hold, and the next item of each lane."""
    who = _WHO.add_columns(
        select(text("1"))
        .select_from(seat)
        .where(seat.c.project == bindparam("p"), _IS_LEASED)
        .where(
            or_(
                seat.c.expires <= bindparam("now"),
                seat.c.expires > bindparam("now") + project.c.lease_seconds * literal_column("1000000"),
            )
        )
        .exists()
        .label("late")
    )
    passed = (membership.c.passed_urgent, membership.c.passed_ordinary, membership.c.passed_gold)
    held = _MY_LEASE.lateral("held")
    found = who.add_columns(*(column.label(f"held_{column.name}") for column in held.c))
    joined = membership.join(project, project.c.id == membership.c.project).outerjoin(held, true())
    for number, (lane, beyond) in enumerate(zip(LANES, passed, strict=True)):
        next_one = _pick(literal_column(str(number)), beyond).lateral(lane)
        found = found.add_columns(*(column.label(f"{lane}_{column.name}") for column in next_one.c))
        joined = joined.outerjoin(next_one, true())
    return found.select_from(joined)


SEE_CLAIM = Prepared(_see_claim())
WRITE_CLAIM = Prepared(
    text(
        f"""
        with seated as (
            insert into seat ({", ".join(seat.c.keys())}) values ({", ".join(f":{name}" for name in seat.c.keys())})
        )
        update membership set passed_urgent = :urgent, passed_ordinary = :ordinary, passed_gold = :gold,
            given = :given, day = :today, given_today = :so_far
        where account = :a and project = :p
        """  # noqa: SIM118  the names are the table's own
    )
)


def _see_submission() -> Any:
    """The judgement that came with this key before, and the seat."""
    one = select(literal_column("1").label("one")).subquery("one")
    key, place = _BY_KEY.lateral("key"), _MY_SEAT.lateral("place")
    columns = [column.label(f"key_{column.name}") for column in key.c]
    columns += [column.label(f"seat_{column.name}") for column in place.c]
    return select(*columns).select_from(one.outerjoin(key, true()).outerjoin(place, true()))


SEE_SUBMISSION = Prepared(_see_submission())
_KEPT = [name for name in judgment.c.keys() if name != "number"]  # noqa: SIM118  no mapping
WRITE_JUDGMENT = Prepared(
    text(
        f"""
        with kept as (
            insert into judgment ({", ".join(_KEPT)}) values ({", ".join(f":{name}" for name in _KEPT)})
            returning number
        ), said as (
            insert into judgment_value (judgment, question, slot, num, text, cannot_tell)
            select kept.number, v.question, v.slot, v.num, v.text, v.cannot_tell from kept, unnest(
                cast(:questions as text[]), cast(:slots as smallint[]), cast(:nums as double precision[]),
                cast(:texts as text[]), cast(:cannots as text[])
            ) as v (question, slot, num, text, cannot_tell)
        ), dropped as (
            delete from draft where item = :item and account = :account and :undrafted
        )
        update seat set state = :to_state, revision = :revision, token = :to_token, expires = :to_expires,
            turn = :to_turn
        where item = :item and account = :account
        """
    )
)
