import contextlib
import importlib
import itertools
import sqlite3
import stat
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tutelage.errors import MissingExtraError, SettingsError
from tutelage.web import audit, migrate, schema
from tutelage.web.database import Database, Transaction
from tutelage.web.prepared import Prepared
from tutelage.web.refusal import DatabaseError


def add_model(name: str):
    """Work that adds one row, and says so in the log."""

    def work(transaction: Transaction) -> str:
        values = {"name": name, "sha256": "", "licence": "", "cut_off": ""}
        transaction.connection.execute(sa.insert(schema.model), values)
        transaction.log("somebody", "model.add", name)
        return name

    return work


def names(database: Database) -> list[str]:
    return database.read(
        lambda connection: list(connection.scalars(sa.select(schema.model.c.name).order_by(schema.model.c.number)))
    )


def logged(database: Database) -> list[str]:
    return database.read(
        lambda connection: list(connection.scalars(sa.select(schema.audit.c.object).order_by(schema.audit.c.seq)))
    )


def test_what_was_written_is_read_here_and_after_opening_again(where: Path | str):
    with Database(where) as database:
        assert database.write(add_model("one")) == "one"
        assert names(database) == ["one"]
    with Database(where) as database:
        assert names(database) == ["one"]
        assert database.read(audit.verify).rows == 1


def test_what_fails_leaves_nothing_and_its_neighbours_stay(where: Path | str):
    class OddError(Exception):
        pass

    def fails(transaction: Transaction) -> None:
        add_model("bad")(transaction)
        raise OddError

    with Database(where) as database:
        gate = threading.Event()
        database.submit(lambda _: gate.wait(10))  # holds the writer, so that the next ones share a commit
        futures: list[Future[object]] = [database.submit(add_model("before"))]
        broken = database.submit(fails)
        doubled = database.submit(add_model("before"))
        futures.append(database.submit(add_model("after")))
        gate.set()
        wait([*futures, broken, doubled])
        assert [future.result() for future in futures] == ["before", "after"]
        assert isinstance(broken.exception(), OddError)
        assert isinstance(doubled.exception(), sa.exc.IntegrityError)
        assert names(database) == logged(database) == ["before", "after"]
        assert database.read(audit.verify).fault == ""


def test_work_without_a_savepoint_that_fails_does_not_take_the_others_along(where: Path | str):
    """The database refuses a statement of one: all are done again, each behind a savepoint, and once."""
    row = {"name": "", "sha256": "", "licence": "", "cut_off": ""}
    insert = Prepared(sa.insert(schema.model).values({name: sa.bindparam(name) for name in row}))

    def whole(name: str):
        def work(t: Transaction) -> str:
            if not name:
                raise ValueError("said before anything was written")
            insert.run(t.connection, {**row, "name": name})
            t.log("somebody", "model.add", name)
            return name

        return work

    with Database(where) as database:
        gate = threading.Event()
        database.submit(lambda _: gate.wait(10))
        futures: list[Future] = [database.submit(whole(name), whole=True) for name in ("a", "b", "a", "", "c")]
        futures.append(database.submit(add_model("d")))
        gate.set()
        wait(futures, 10)
        told = [future.exception() or future.result() for future in futures]
        assert told[:2] == ["a", "b"]
        assert isinstance(told[2], sa.exc.IntegrityError)
        assert isinstance(told[3], ValueError)
        assert told[4:] == ["c", "d"]
        assert names(database) == logged(database) == ["a", "b", "c", "d"]
        assert database.read(audit.verify).fault == ""


def test_those_who_wait_share_one_commit(where: Path | str):
    commits: list[int] = []
    with Database(where) as database:
        sa.event.listen(database._writer, "commit", lambda _: commits.append(1))
        gate = threading.Event()
        held = database.submit(lambda _: gate.wait(10))
        futures = [database.submit(add_model(str(number))) for number in range(50)]
        gate.set()
        wait([held, *futures])
        assert len(commits) <= 2
        assert names(database) == [str(number) for number in range(50)]


def test_nobody_is_answered_before_the_commit(where: Path | str):
    """Whoever hears that it is done finds it with a connection of their own."""
    with Database(where) as database:
        seen: list[bool] = []

        def ask(number: int) -> None:
            database.write(add_model(str(number)))
            seen.append(str(number) in names(database))

        threads = [threading.Thread(target=ask, args=[number]) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [True] * 20


def test_two_servers_on_one_database_keep_one_chain(where: Path | str):
    with Database(where) as one, Database(where) as other:
        futures = [(one, other)[number % 2].submit(add_model(str(number))) for number in range(60)]
        wait(futures, 60)
        assert {future.result() for future in futures} == {str(number) for number in range(60)}
        found = one.read(audit.verify)
        assert (found.rows, found.fault) == (60, "")


def test_a_closed_database_says_so_and_loses_nothing(where: Path | str):
    database = Database(where)
    futures = [database.submit(add_model(str(number))) for number in range(30)]
    database.close()
    assert [future.result() for future in futures] == [str(number) for number in range(30)]
    with pytest.raises(DatabaseError, match="closed"):
        database.submit(add_model("late"))
    database.close()


def test_reading_cannot_write(where: Path | str):
    with Database(where) as database, pytest.raises(DatabaseError, match=r"read-?only"):
        database.read(lambda connection: add_model("x")(Transaction(connection, 0, [])))


@pytest.mark.parametrize("table", ["audit", "judgment", "judgment_value", "guideline"])
def test_what_is_only_added_to_cannot_be_changed(where: Path | str, table: str):
    columns = {column.name for column in schema.metadata.tables[table].columns}
    some = "text" if "text" in columns else "detail" if "detail" in columns else "note"
    with Database(where) as database:
        fill(database)
        for statement in (f"update {table} set {some} = 'other'", f"delete from {table}"):
            with pytest.raises(sa.exc.DBAPIError, match="only ever added to"):
                database.write(lambda t, statement=statement: t.connection.exec_driver_sql(statement))


def fill(database: Database) -> None:
    """One row in each of the tables that are only added to."""

    def work(transaction: Transaction) -> None:
        some = {sa.Text: "x", sa.Integer: 1, sa.BigInteger: 1, sa.SmallInteger: 1, sa.Boolean: True, sa.Float: 0.5}
        fixed = {
            "status": "active",
            "state": "open",
            "role": "owner",
            "kind": "answer",
            "need": 5,
            "taken": 0,
            "done": 0,
        }
        for table in ("account", "project", "guideline", "prompt", "item", "judgment", "judgment_value"):
            columns = schema.metadata.tables[table].columns
            row = {column.name: fixed.get(column.name, some[type(column.type)]) for column in columns}
            transaction.connection.execute(sa.insert(schema.metadata.tables[table]), row)
        transaction.log("x", "fill", "x")

    database.write(work)


def shape(connection: sa.Connection) -> list[object]:
    """All that the schema consists of, in a form to compare."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql("select type, name, sql from sqlite_master where name not like 'alembic%'")
        return sorted(tuple(row) for row in rows if "alembic" not in row.name)
    statements = (
        "select table_name, column_name, data_type, is_nullable, column_default from information_schema.columns "
        "where table_schema = 'public' and table_name <> 'alembic_version'",
        "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint "
        "where connamespace = 'public'::regnamespace and conname not like 'alembic%%'",
        "select tablename, indexname, indexdef from pg_indexes where schemaname = 'public' "
        "and tablename <> 'alembic_version'",
        "select tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal",
        "select proname, prosrc from pg_proc where pronamespace = 'public'::regnamespace",
    )
    return [sorted(tuple(row) for row in connection.exec_driver_sql(statement)) for statement in statements]


def test_up_down_and_up_again_is_the_same_schema(where: Path | str):
    with Database(where) as database:
        first = database.read(shape)
        assert database.read(migrate.current) == "0005"
        with database._writer.begin() as connection:
            migrate.down(connection)
        assert database.read(migrate.current) is None
        assert not any(database.read(shape))
        with database._writer.begin() as connection:
            migrate.up(connection)
        assert database.read(shape) == first
        database.write(add_model("one"))
        assert database.read(audit.verify).rows == 1


def test_the_migrations_make_the_tables_that_the_program_knows(where: Path | str):
    with Database(where) as database:
        assert database.read(lambda c: compare_metadata(MigrationContext.configure(c), schema.metadata)) == []

        def checks(connection: sa.Connection) -> set[str | None]:
            look = sa.inspect(connection)
            return {check["name"] for table in look.get_table_names() for check in look.get_check_constraints(table)}

        declared = {
            str(constraint.name)
            for table in schema.metadata.tables.values()
            for constraint in table.constraints
            if isinstance(constraint, sa.CheckConstraint)
        }
        assert database.read(checks) == declared


def test_a_database_of_a_newer_version_is_refused(where: Path | str):
    with Database(where) as database:
        database.write(lambda t: t.connection.exec_driver_sql("update alembic_version set version_num = '9999'"))
    with pytest.raises(DatabaseError, match="schema 9999: made by a newer version"):
        Database(where)


def test_sqlite_is_synced_at_every_commit_and_belongs_to_its_user(tmp_path: Path):
    with Database(tmp_path / "label.db") as database:
        with database._writer.connect() as connection:
            pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
            assert {name: connection.exec_driver_sql(f"pragma {name}").scalar() for name in pragmas} == pragmas
        assert stat.S_IMODE((tmp_path / "label.db").stat().st_mode) == 0o600


@pytest.mark.postgres
def test_postgresql_is_synced_at_every_commit(cluster):
    with Database(cluster.database()) as database, database._writer.connect() as connection:
        assert connection.exec_driver_sql("show synchronous_commit").scalar() == "on"


def test_a_full_disk_refuses_and_the_database_goes_on(tmp_path: Path):
    with Database(tmp_path / "label.db") as database:
        database.write(add_model("one"))
        with database._writer.connect() as connection:
            pages = connection.exec_driver_sql("pragma page_count").scalar()
            connection.exec_driver_sql(f"pragma max_page_count = {pages}")
        futures = [database.submit(add_model(f"{number}" * 2000)) for number in range(100)]
        wait(futures)
        errors = {str(future.exception()) for future in futures if future.exception()}
        assert errors == {f"{tmp_path}/label.db: cannot be written: database or disk is full"}
        kept = names(database)
        with database._writer.connect() as connection:
            connection.exec_driver_sql("pragma max_page_count = 1000000")
        assert database.write(add_model("room again")) == "room again"
        assert names(database) == [*kept, "room again"]
        assert database.read(audit.verify).fault == ""


@pytest.mark.postgres
def test_a_server_that_cuts_the_line_costs_one_refusal(cluster):
    with Database(cluster.database()) as database:
        database.write(add_model("one"))

        def cut(transaction: Transaction) -> None:
            transaction.connection.exec_driver_sql("select pg_terminate_backend(pg_backend_pid())")

        with pytest.raises(DatabaseError, match="cannot be written"):
            database.write(cut)
        database.write(add_model("two"))
        assert names(database) == ["one", "two"]


@pytest.mark.postgres
def test_a_server_that_restarts_under_load_loses_nothing_that_was_acknowledged():
    import cluster

    acknowledged: list[str] = []
    refused: list[str] = []
    over = threading.Event()

    def judge(database: Database, person: int) -> None:
        for number in itertools.count():
            if over.is_set():
                return
            try:
                acknowledged.append(database.write(add_model(f"{person} {number}")))
            except DatabaseError as error:
                refused.append(str(error))
                time.sleep(0.05)

    with cluster.running(synced=True) as server, Database(server.database()) as database:
        with ThreadPoolExecutor(4) as people:
            for person in range(4):
                people.submit(judge, database, person)
            for _ in range(2):
                time.sleep(0.5)
                before = len(acknowledged)
                server.restart()
            end = time.monotonic() + 20
            while len(acknowledged) <= before + 4 and time.monotonic() < end:
                time.sleep(0.05)
            over.set()
        assert refused
        assert all("cannot be written" in error for error in refused)
        assert len(acknowledged) > before + 4
        assert set(acknowledged) <= set(names(database))
        assert len(names(database)) == len(set(names(database)))
        assert database.read(audit.verify).fault == ""


def test_a_backup_of_a_database_in_use_opens(tmp_path: Path):
    with Database(tmp_path / "label.db") as database:
        futures = [database.submit(add_model(str(number))) for number in range(200)]
        database.backup(tmp_path / "copy.db")
        wait(futures)
    with Database(tmp_path / "copy.db") as copy:
        assert copy.read(audit.verify).fault == ""
        assert copy.read(audit.verify).rows == len(names(copy))
        copy.write(add_model("on"))
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("mysql://x/y", "write the path of a file, or postgresql://"),
        ("/nowhere/at/all/label.db", "no folder /nowhere/at/all: make it first"),
    ],
)
def test_an_address_that_is_none(where: str, words: str):
    with pytest.raises(SettingsError, match=words):
        Database(where)


def test_a_file_that_is_no_database(tmp_path: Path):
    (tmp_path / "label.db").write_text("I am a letter. " * 1000)
    with pytest.raises(DatabaseError, match="cannot be opened: file is not a database"):
        Database(tmp_path / "label.db")


def test_a_server_that_is_not_there():
    pytest.importorskip("psycopg")
    with pytest.raises(DatabaseError, match="cannot be opened") as caught:
        Database("postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("database", "sqlalchemy", "label"), ("sessions", "argon2", "label")],
)
def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch, module: str, package: str, extra: str):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"tutelage.web.{module}", raising=False)
    with pytest.raises(MissingExtraError, match=rf"needs the package {package}.*tutelage\[{extra}\]"):
        importlib.import_module(f"tutelage.web.{module}")


def test_postgresql_without_its_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"psycopg: pip install 'tutelage\[postgres\]'"):
        Database("postgresql://127.0.0.1:1/x")
