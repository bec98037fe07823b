"""Snapshots: what people had said at one moment, kept as it was, hashed, and never changed.

The rows are read from one view of the database, some hundreds at a time, and put back beside it compressed; so a
snapshot of a million items needs no more memory than one of ten, and what is said meanwhile is not in it. The same
answers asked for in the same way make the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select

from tutelage.feedback import exchange, snapshot
from tutelage.feedback.snapshot import Asked, Header, Row
from tutelage.web import schema
from tutelage.web.answers import clean
from tutelage.web.audit import canonical
from tutelage.web.counting import AT_A_TIME, Query, counted
from tutelage.web.database import Database, Transaction
from tutelage.web.ids import new_id, plain
from tutelage.web.projects import allowed, questions_of
from tutelage.web.refusal import Refusal

PLAIN = Query()
"""All that counts, and nothing else."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a snapshot would hold."""

    items: int
    answers: int
    people: int
    decided: int


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot that was made."""

    id: str
    name: str
    sha256: str
    items: int
    answers: int
    at: int
    author: str
    """The name of who made it."""
    parent: str | None
    query: dict[str, Any]

    @property
    def rows(self) -> int:
        """Its lines, one an item."""
        return self.items


@dataclass(frozen=True, slots=True)
class Difference:
    """What two snapshots differ in, by items."""

    added: int
    removed: int
    changed: int
    same: int


def preview(c: Connection, project: str, query: Query) -> Counts:
    """What a snapshot made now would hold."""
    items = answers = decided = 0
    people: set[str] = set()
    for row in counted(c, project, query):
        items += 1
        answers += len(row.answers)
        decided += row.decided is not None
        people |= {opinion.rater for opinion in row.answers}
    return Counts(items, answers, len(people), decided)


def make(database: Database, by: str, project: str, name: str, query: Query = PLAIN, *, origin: str = "") -> str:
    """Makes a snapshot; gives its id.

    Raises:
        Refusal: not theirs to make, no name, or nothing to hold.
    """
    name = clean(name.strip(), 200, "name")
    if not name:
        raise Refusal("bad_input", "name: none: say what it is for")
    if not 0 <= query.held_out_share < 1:
        raise Refusal("bad_input", f"held_out_share {query.held_out_share}: from 0 to below 1")
    id = new_id(database.clock())

    def look(c: Connection) -> tuple[Header, int, int]:
        allowed(c, by, project, "export")
        hashed, people = hashlib.sha256(), set[str]()
        items = answers = place = 0
        upto = int(c.scalar(select(func.max(schema.judgment.c.number)).where(_of(project))) or 0)
        for piece in _pieces(counted(c, project, query)):
            body = "".join(snapshot.line(row) for row in piece).encode()
            hashed.update(body)
            items, answers = items + len(piece), answers + sum(len(row.answers) for row in piece)
            people.update(opinion.rater for row in piece for opinion in row.answers)
            part = {"snapshot": id, "place": place, "body": gzip.compress(body, mtime=0)}
            # The writer is another connection: what is read here stays as it was.
            database.write(lambda t, part=part: t.connection.execute(insert(schema.snapshot_part), part) and None)
            place += 1
        return _header(c, project, name, query, (items, answers, len(people)), hashed.hexdigest()), upto, place

    head, upto, places = database.read(look)
    if not places:
        raise Refusal("bad_input", "nothing of this project is asked for: there are no such answers")

    def work(t: Transaction) -> None:
        allowed(t.connection, by, project, "export")
        row = {
            "id": id, "project": project, "name": name, "header": canonical(asdict(head)), "sha256": head.sha256,
            "upto": upto, "items": head.items, "answers": head.answers, "parent": _latest(t.connection, project),
            "made_by": by, "at": t.at,
        }  # fmt: skip
        t.connection.execute(insert(schema.snapshot), row)
        t.log(by, "snapshot.make", project, detail=canonical({"snapshot": id}), content=head.sha256, origin=origin)

    database.write(work)
    return id


def listed(c: Connection, project: str) -> tuple[SnapshotInfo, ...]:
    """A project's snapshots, newest first."""
    held, author = schema.snapshot.c, schema.account.c.name
    wanted = (
        select(schema.snapshot, author.label("author"))
        .where(held.project == plain(project), schema.account.c.id == held.made_by)
        .order_by(held.number.desc())
    )
    return tuple(
        SnapshotInfo(
            row.id, row.name, row.sha256, row.items, row.answers, row.at, row.author, row.parent,
            json.loads(row.header)["query"],
        )
        for row in c.execute(wanted)
    )  # fmt: skip


def header(database: Database, id: str) -> Header:
    """The header of a snapshot.

    Raises:
        Refusal: there is none.
    """
    text = database.read(lambda c: c.scalar(select(schema.snapshot.c.header).where(schema.snapshot.c.id == plain(id))))
    if text is None:
        raise Refusal("unknown", "there is no such snapshot")
    return snapshot.header_of(json.loads(text), id)


def lines(database: Database, id: str) -> Iterator[str]:
    """A snapshot's lines, in order, one part of it in memory at a time."""
    part = schema.snapshot_part.c
    for place in range(2**31):
        wanted = select(part.body).where(part.snapshot == plain(id), part.place == place)
        body = database.read(lambda c, wanted=wanted: c.scalar(wanted))
        if body is None:
            return
        yield from gzip.decompress(body).decode().splitlines(keepends=True)


def rows(database: Database, id: str) -> Iterator[Row]:
    """A snapshot's rows."""
    return (snapshot.row_of(json.loads(line), id) for line in lines(database, id))


def write(database: Database, id: str, folder: Path) -> Path:
    """Writes the folder that `collect` takes; gives its path.

    Raises:
        Refusal: there is no such snapshot.
        RecordError: something is there already.
    """
    return snapshot.save(folder, header(database, id), lines(database, id))


def export(database: Database, id: str, shape: str) -> Iterator[bytes]:
    """A snapshot in the shape of others; see `exchange`.

    Raises:
        Refusal: no such snapshot or shape.
    """
    if shape not in exchange.SHAPES:
        raise Refusal("unknown", f"there is no shape {shape!r}")
    if shape == "snapshot":
        return (line.encode() for line in snapshot.one_file(header(database, id), lines(database, id)))
    return exchange.export(shape, header(database, id).questions, rows(database, id))


def difference(c: Connection, older: str, newer: str) -> Difference:
    """What two snapshots differ in."""
    before, after = _hashes(c, older), _hashes(c, newer)
    both = before.keys() & after.keys()
    same = sum(before[item] == after[item] for item in both)
    return Difference(len(after) - len(both), len(before) - len(both), len(both) - same, same)


def _hashes(c: Connection, id: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    part = schema.snapshot_part.c
    with c.execution_options(yield_per=4).execute(
        select(part.body).where(part.snapshot == plain(id)).order_by(part.place)
    ) as bodies:
        for (body,) in bodies:
            for line in gzip.decompress(body).splitlines():
                found[json.loads(line)["item"]] = hashlib.sha256(line).digest()
    return found


def _of(project: str) -> Any:
    return schema.judgment.c.project == project


def _latest(c: Connection, project: str) -> str | None:
    held = schema.snapshot.c
    newest = select(held.id).where(held.project == project).order_by(held.number.desc()).limit(1)
    return c.scalar(newest)


def _header(c: Connection, project: str, name: str, query: Query, counts: tuple[int, int, int], sha256: str) -> Header:
    guideline = schema.guideline.c
    versions = select(guideline.version, guideline.sha256).where(guideline.project == project)
    latest = _latest(c, project)
    parent = c.scalar(select(schema.snapshot.c.sha256).where(schema.snapshot.c.id == latest)) if latest else ""
    return Header(
        project=project, name=name, questions=_asked(c, project), query=asdict(query), items=counts[0],
        guidelines={str(row.version): row.sha256 for row in c.execute(versions.order_by(guideline.version))},
        answers=counts[1], people=counts[2], sha256=sha256, parent=parent or "",
    )  # fmt: skip


def _asked(c: Connection, project: str) -> tuple[Asked, ...]:
    return tuple(
        Asked(
            key=question.key, kind=question.kind, dimension=question.dimension, low=question.low, high=question.high,
            per_response=question.per_response,
        )
        for question in questions_of(c, project)
    )  # fmt: skip


def _pieces(found: Iterator[Row]) -> Iterator[list[Row]]:
    piece: list[Row] = []
    for row in found:
        piece.append(row)
        if len(piece) == AT_A_TIME:
            yield piece
            piece = []
    if piece:
        yield piece
