"""The statements of the queue, built once: they are run for every item that anybody judges."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, insert, literal_column, or_, select, update

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
IS_LEASED = seat.c.state == literal_column("'leased'")
# In the words of the partial index: it is only used where they stand.
_IS_WAITING = (item.c.taken < item.c.need) & (item.c.state == literal_column("'open'"))

STANDING = (
    select(
        membership.c.role, membership.c.state, membership.c.guideline_read, membership.c.passed_urgent,
        membership.c.passed_ordinary, membership.c.passed_gold, membership.c.given, membership.c.day,
        membership.c.given_today, project.c.state.label("project_state"), project.c.lease_seconds,
        project.c.daily_cap, project.c.gold_share, project.c.secret, project.c.guideline, project.c.guideline_major,
    )
    .where(membership.c.account == bindparam("a"), membership.c.project == bindparam("p"))
    .where(project.c.id == membership.c.project)
)  # fmt: skip
WHO = Prepared(STANDING)

EXPIRED = Prepared(
    select(seat.c.item, seat.c.account, seat.c.expires)
    .where(seat.c.project == bindparam("p"), IS_LEASED)
    .where(or_(seat.c.expires <= bindparam("now"), seat.c.expires > bindparam("latest")))
    .limit(100)
)

MY_LEASE = Prepared(
    select(item.c.id.label("item_id"), seat.c.token, seat.c.expires, seat.c.shown, seat.c.guideline)
    .where(seat.c.account == bindparam("a"), seat.c.project == bindparam("p"), IS_LEASED)
    .where(item.c.number == seat.c.item)
    .order_by(seat.c.turn.desc())
    .limit(1)
)

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


PICK = Prepared(
    select(item.c.number, item.c.id, item.c.position, _SLOTS.label("slots"), _REVISION.label("revision"))
    .where(item.c.project == bindparam("p"), item.c.lane == bindparam("l"), item.c.position > bindparam("beyond"))
    .where(_IS_WAITING, _MY_SEAT_THERE.correlate(item).is_(None))
    .order_by(item.c.position)
    .limit(1)
)
"""The first item of a lane that waits beyond a place and that this person has no seat at."""

ADD_SEAT = Prepared(insert(seat))
PASS = Prepared(
    update(membership)
    .where(membership.c.account == bindparam("a"), membership.c.project == bindparam("p"))
    .values(
        passed_urgent=bindparam("urgent"), passed_ordinary=bindparam("ordinary"), passed_gold=bindparam("gold"),
        given=bindparam("given"), day=bindparam("today"), given_today=bindparam("so_far"),
    )
)  # fmt: skip

PLACE = (
    select(
        seat, item.c.id.label("item_id"), item.c.state.label("item_state"), item.c.taken, item.c.need,
        membership.c.state.label("member_state"), project.c.lease_seconds,
    )
    .where(item.c.id == bindparam("i"), seat.c.item == item.c.number, seat.c.account == bindparam("a"))
    .where(membership.c.project == seat.c.project, membership.c.account == seat.c.account)
    .where(project.c.id == seat.c.project)
)  # fmt: skip
MY_SEAT = Prepared(PLACE)
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

KEY = select(
    judgment.c.id, judgment.c.kind, judgment.c.revision, judgment.c.asked, item.c.id.label("item_id")
).where(
    judgment.c.account == bindparam("a"), judgment.c.idem == bindparam("idem"), item.c.number == judgment.c.item
)  # fmt: skip
BY_KEY = Prepared(KEY)
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
