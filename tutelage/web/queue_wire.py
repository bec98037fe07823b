"""A claim and a submission on a server, where it is the wire that takes the time: as few statements as can be.

What a piece of work needs to know of its own person is asked for once, before, together with what all others of its
commit need. Whom the next item falls to is decided on the server, by a function that the migrations put there: so
nobody waits for an answer between two people's claims. A judgement is written in one statement, and only if the seat
is still there.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, literal_column, or_, select, text, true

from tutelage.web.ids import plain
from tutelage.web.prepared import Prepared
from tutelage.web.queue_statements import IS_LEASED, KEY, PLACE, STANDING
from tutelage.web.schema import judgment, project, seat

_LATE = (
    select(text("1"))
    .select_from(seat)
    .where(seat.c.project == bindparam("p"), IS_LEASED)
    .where(
        or_(
            seat.c.expires <= bindparam("now"),
            seat.c.expires > bindparam("now") + project.c.lease_seconds * literal_column("1000000"),
        )
    )
    .exists()
    .label("late")
)
_PARTS = {"key": KEY.lateral("key"), "place": PLACE.lateral("place"), "who": STANDING.add_columns(_LATE).lateral("who")}


def _see(*names: str) -> Prepared:
    """One row with the columns of these parts side by side; those of a part that is not there are empty."""
    joined: Any = select(literal_column("1").label("one")).subquery("one")
    for name in names:
        joined = joined.outerjoin(_PARTS[name], true())
    columns = [column.label(f"{name}_{column.name}") for name in names for column in _PARTS[name].c]
    return Prepared(select(*columns).select_from(joined))


_SEE_ALL, _SEE_SUBMISSION, _SEE_WHO = _see("key", "place", "who"), _see("key", "place"), _see("who")
_ROWS: dict[str, Any] = {
    name: namedtuple(name, part.c.keys())  # pyright: ignore[reportUntypedNamedTuple]
    for name, part in _PARTS.items()
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found; None what is not there, or was not asked for."""

    key: Any = None
    """The judgement that came with this key before."""
    place: Any = None
    """The seat."""
    who: Any = None
    """The membership and its project, and whether a lease has run out there."""


def see(
    connection: Connection, now: int, account: str, *, project: str | None = None,
    submission: tuple[str, str] | None = None,
) -> Callable[[], Seen]:  # fmt: skip
    """What there is to know, for when it has come.

    Args:
        project: to claim in.
        submission: the item, and the key.
    """
    values: dict[str, Any] = {"a": account}
    names = (("key", "place") if submission else ()) + (("who",) if project is not None else ())
    if submission:
        values |= {"i": plain(submission[0]), "idem": plain(submission[1])}
    if project is not None:
        values |= {"p": plain(project), "now": now}
    statement = {3: _SEE_ALL, 2: _SEE_SUBMISSION, 1: _SEE_WHO}[len(names)]
    rows = statement.later(connection, values)
    return lambda: _seen(rows()[0], names)


def array(numbers: Iterable[int]) -> str:
    """Numbers as the server writes an array."""
    return f"{{{','.join(map(str, numbers))}}}"


def _seen(row: Sequence[Any], names: Sequence[str]) -> Seen:
    found: dict[str, Any] = {}
    start = 0
    for name in names:
        kind = _ROWS[name]
        part = kind(*row[start : (start := start + len(kind._fields))])
        found[name] = None if part[0] is None else part
    return Seen(**found)


# Rows go over as JSON, and lists in the words of the server: the driver takes a hundred times as long for its arrays.
_KEPT = [name for name in judgment.c.keys() if name != "number"]  # noqa: SIM118  no mapping
WRITE_JUDGMENT = Prepared(
    text(
        f"""
        with moved as (
            update seat set state = :to_state, revision = :revision, token = :to_token, expires = :to_expires,
                turn = :to_turn
            where item = :item and account = :account
            returning item
        ), kept as (
            insert into judgment ({", ".join(_KEPT)}) values ({", ".join(f":{name}" for name in _KEPT)})
            returning number
        ), said as (
            insert into judgment_value (judgment, question, slot, num, text, cannot_tell)
            select kept.number, v.question, v.slot, v.num, v.text, v.cannot_tell
            from kept, json_to_recordset(cast(:said as json))
                as v (question text, slot smallint, num double precision, text text, cannot_tell text)
        ), dropped as (
            delete from draft where item = :item and account = :account and :undrafted
        )
        select 1 / count(*) from moved
        """
    )
)
"""Its last line fails where the seat is gone by now, and all of the commit with it."""

_TEXTS = """
    select slots.slot, response.text, prompt.messages, draft.body, draft.rev
    from item
    join prompt on prompt.number = item.prompt
    join item_response slots on slots.item = item.number
    join response on response.number = slots.response
    left join draft on draft.item = item.number and draft.account = :a
    where item.number = taken.item
"""
_TAKEN = ("item_id", "token", "expires", "shown", "guideline", "given", "given_today")
_SHOWN = ("slot", "text", "messages", "body", "rev")
TAKE = Prepared(
    text(
        f"""
        select {", ".join(f"taken.{name}" for name in _TAKEN)}, {", ".join(f"texts.{name}" for name in _SHOWN)}
        from take_seat(:a, :p, :secret, cast(:lanes as smallint[]), cast(:passed as bigint[]), :token,
            cast(:now as bigint), cast(:expires as bigint), cast(:guideline as integer), cast(:given as bigint),
            cast(:today as integer), cast(:so_far as integer)) taken
        left join lateral ({_TEXTS}) texts on true
        """
    ).columns(*(literal_column(name) for name in (*_TAKEN, *_SHOWN)))
)
"""The item that somebody holds, or the next of the lanes, now theirs: a row for each of its responses."""
