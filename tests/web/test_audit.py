from pathlib import Path

import pytest
import sqlalchemy as sa

from tutelage.web import audit, schema
from tutelage.web.audit import Link
from tutelage.web.database import Database

ROWS = 9


@pytest.fixture
def log(where: Path | str):
    """A log of nine rows, whose triggers are gone: as for somebody who has the file."""
    ticks = iter(range(10**6, 0, -7))  # a clock that only goes back
    with Database(where, clock=lambda: next(ticks)) as database:
        for number in range(ROWS):
            database.write(lambda t, number=number: t.log("anna", "did", f"thing {number}", detail='{"so": "蓝"}'))
        yield database


def tamper(database: Database, *statements: str) -> None:
    postgres = database.path is None
    off = ["set local session_replication_role = replica"] if postgres else [
        "drop trigger audit_no_update", "drop trigger audit_no_delete",
    ]  # fmt: skip

    with database._writer.begin() as connection:
        for statement in (*off, *statements):
            connection.exec_driver_sql(statement)


def test_a_whole_log_holds_though_the_clock_went_back(log: Database):
    found = log.read(audit.verify)
    assert (found.rows, found.fault, found.end.seq) == (ROWS, "", ROWS)
    times = log.read(
        lambda connection: list(connection.scalars(sa.select(schema.audit.c.at).order_by(schema.audit.c.seq)))
    )
    assert times == sorted(times, reverse=True)


def test_an_empty_log_holds(where: Path | str):
    with Database(where) as database:
        assert database.read(audit.verify) == audit.Finding(0, Link(0, audit.BEGINNING))


@pytest.mark.parametrize("column", ["at", "actor", "action", "object", "detail", "content", "origin", "prev", "hash"])
def test_an_edited_row_is_found(log: Database, column: str):
    tamper(log, f"update audit set {column} = {'5' if column == 'at' else repr('x')} where seq = 4")
    found = log.read(audit.verify)
    assert (found.rows, found.end.seq) == (3, 3)
    assert found.fault in ("row 4 has been changed", "row 4 does not follow row 3")


@pytest.mark.parametrize("seq", [1, 5])
def test_a_deleted_row_is_found(log: Database, seq: int):
    tamper(log, f"delete from audit where seq = {seq}")
    assert log.read(audit.verify).fault == f"row {seq} is missing: the next one is {seq + 1}"


def test_rows_cut_off_at_the_end_are_found(log: Database):
    tamper(log, "delete from audit where seq > 7")
    assert log.read(audit.verify).fault == "the log ends at row 7, and was longer or other: it ended at 9"


def test_an_inserted_row_is_found(log: Database):
    copy = "insert into audit select seq + 1, at, actor, action, object, detail, content, origin, prev, hash from audit"
    tamper(log, "delete from audit where seq = 9", f"{copy} where seq = 8")
    assert log.read(audit.verify).fault == "row 9 does not follow row 8"


def test_a_forged_row_at_the_end_is_found(log: Database):
    end = log.read(audit.verify).end
    entry = audit.Entry(at=1, actor="eve", action="did", object="it")
    with log._writer.begin() as connection:
        audit.extend(connection, end, [entry])
        connection.execute(sa.update(schema.chain).values(seq=end.seq, hash=end.hash))
    assert log.read(audit.verify).fault == "the log ends at row 10, and was longer or other: it ended at 9"


def test_rows_in_another_order_are_found(log: Database):
    tamper(
        log, "update audit set seq = -3 where seq = 3", "update audit set seq = 3 where seq = 4",
        "update audit set seq = 4 where seq = -3",
    )  # fmt: skip
    assert log.read(audit.verify).fault == "row 3 does not follow row 2"


def test_a_log_written_anew_is_found_by_an_end_that_was_noted(log: Database):
    noted = log.read(audit.verify).end
    log.write(lambda t: t.log("anna", "did", "more"))
    assert log.read(lambda connection: audit.verify(connection, noted)).fault == ""
    entries = [audit.Entry(at=1, actor="eve", action="did", object=str(number)) for number in range(12)]
    tamper(log, "delete from audit")
    with log._writer.begin() as connection:
        audit.extend(connection, Link(0, audit.BEGINNING), entries)
    assert log.read(audit.verify).fault == ""
    assert log.read(lambda c: audit.verify(c, noted)).fault == "the log does not go through row 9 as it was noted"


def test_a_hash_is_of_all_that_came_before():
    entry = audit.Entry(at=1, actor="a", action="b", object="c")
    assert audit.link(2, entry, "0" * 64) != audit.link(2, entry, "1" * 64)
    assert audit.link(2, entry, "0" * 64) != audit.link(3, entry, "0" * 64)
