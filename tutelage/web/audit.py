"""The log of what was done: only ever added to, each row chained to the one before by its hash.

A row that is edited, taken out, put in or moved breaks the chain at its place. Rows cut off at the end break it at the
`chain` table; who rewrites that as well is found by a hash that was noted elsewhere before (``anchor``).

The log names people by their id alone, so that their data can be erased and the log stay whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select, text, update

from tutelage.web.prepared import Prepared, in_line
from tutelage.web.schema import audit, chain

BEGINNING = "0" * 64
"""What stands in place of a hash before the first row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What happened: who did what to which object."""

    at: int
    """Microseconds since 1970. The order is by ``seq``: a clock may go back."""
    actor: str
    action: str
    object: str
    detail: str = ""
    """JSON, without a person's data."""
    content: str = ""
    """The SHA-256 of what the object then was."""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """The end of a chain."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What `verify` found."""

    rows: int
    """How many rows hold, from the first on."""
    end: Link
    """The last of these: note it somewhere else, and give it as ``anchor`` next time."""
    fault: str = ""
    """The first thing wrong, with its row; empty if the whole chain holds."""


def hold(connection: Connection) -> Link:
    """The end of the log, held until the transaction ends: whoever else wants to write waits."""
    return Link(*_HOLD.first(connection, {}))


def extend(connection: Connection, end: Link, entries: Sequence[Entry]) -> Link:
    """Adds the entries after the end that is held; gives the new end."""
    rows: list[dict[str, object]] = []
    for entry in entries:
        seq = end.seq + 1
        hash = link(seq, entry, end.hash)
        rows.append(
            {
                "seq": seq, "at": entry.at, "actor": entry.actor, "action": entry.action, "object": entry.object,
                "detail": entry.detail, "content": entry.content, "origin": entry.origin, "prev": end.hash,
                "hash": hash,
            }
        )  # fmt: skip
        end = Link(seq, hash)
    if rows:
        with in_line(connection):
            if connection.dialect.name == "postgresql":
                _ADD_ALL.run(connection, {"rows": json.dumps(rows, ensure_ascii=False)})
            else:
                _ADD.run(connection, *rows)
            _MOVE.run(connection, {"to_seq": end.seq, "to_hash": end.hash})
    return end


def link(seq: int, entry: Entry, prev: str) -> str:
    """The hash of a row: of all that is in it, and of the row before."""
    held = (entry.at, entry.actor, entry.action, entry.object, entry.detail, entry.content, entry.origin)
    return digest([seq, *held, prev])


def canonical(value: Sequence[object] | Mapping[str, object]) -> str:
    """JSON in the one way that is hashed: sorted keys, no spaces, letters as they are."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Sequence[object] | Mapping[str, object]) -> str:
    """The SHA-256 of a value, in hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def verify(connection: Connection, anchor: Link | None = None) -> Finding:
    """Walks the whole log, in constant memory.

    Args:
        connection: a view of the database that does not change meanwhile.
        anchor: an end that was noted before; the log must still go through it.
    """
    end = Link(0, BEGINNING)
    met = anchor is None or anchor == end
    stream = connection.execution_options(yield_per=1000)
    with stream.execute(select(audit).order_by(audit.c.seq)) as rows:
        for row in rows:
            entry = Entry(
                at=row.at, actor=row.actor, action=row.action, object=row.object, detail=row.detail,
                content=row.content, origin=row.origin,
            )  # fmt: skip
            fault = ""
            if row.seq != end.seq + 1:
                fault = f"row {end.seq + 1} is missing: the next one is {row.seq}"
            elif row.prev != end.hash:
                fault = f"row {row.seq} does not follow row {end.seq}"
            elif row.hash != link(row.seq, entry, row.prev):
                fault = f"row {row.seq} has been changed"
            if fault:
                return Finding(end.seq, end, fault)
            end = Link(row.seq, row.hash)
            met = met or end == anchor
    noted = Link(*connection.execute(_END).one())
    if noted != end:
        return Finding(end.seq, end, f"the log ends at row {end.seq}, and was longer or other: it ended at {noted.seq}")
    if anchor is not None and not met:
        return Finding(end.seq, end, f"the log does not go through row {anchor.seq} as it was noted")
    return Finding(end.seq, end)


_END = select(chain.c.seq, chain.c.hash)
_HOLD = Prepared(_END.with_for_update())
_ADD = Prepared(insert(audit))
_ADD_ALL = Prepared(
    text("insert into audit select * from json_populate_recordset(cast(null as audit), cast(:rows as json))")
)
"""On PostgreSQL all rows are one statement."""
_MOVE = Prepared(update(chain).values(seq=bindparam("to_seq"), hash=bindparam("to_hash")))
