"""The database of the labelling site: one writer, many readers, and nothing said before it is on the disk.

All writing goes through one thread. What waits while a commit is under way goes into the next one together, each piece
behind a savepoint of its own; every asker is answered after that commit. So fifty people cost a few syncs a second,
and no two of them ever write at once. The audit log grows in the same transaction.

SQLite (the default) keeps a write-ahead log and syncs it at every commit. PostgreSQL, by its address, is used in the
same way; several servers may share it, and take turns at the end of the audit log.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tutelage.errors import MissingExtraError, SettingsError

try:
    import sqlalchemy as sa
except ModuleNotFoundError:
    raise MissingExtraError("sqlalchemy", "label", "the labelling site") from None
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tutelage.web import audit, migrate
from tutelage.web.audit import Entry
from tutelage.web.prepared import Prepared, in_line, say
from tutelage.web.refusal import DatabaseError

TOGETHER = 256
"""Pieces of work in one commit, at most."""
READERS = 8
"""Connections for reading, at most."""
BUSY_MS = 10_000
"""How long to wait for another process that writes to the same SQLite file."""

PLANS = " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off"
"""For the writer, whose statements are all found by an index: a plan is made once, and is not one for tables that were
empty when it was made."""

T = TypeVar("T")


@dataclass(slots=True)
class Transaction:
    """What a piece of work writes with."""

    connection: Connection
    at: int
    """Now, in microseconds since 1970: the same for all of this piece of work."""
    entries: list[Entry]

    def log(
        self, actor: str, action: str, object: str, *, detail: str = "", content: str = "", origin: str = ""
    ) -> None:
        """Adds a row to the audit log, if this piece of work succeeds."""
        self.entries.append(
            Entry(
                at=self.at, actor=actor, action=action, object=object, detail=detail, content=content, origin=origin
            )
        )  # fmt: skip


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Callable[[Transaction], T]
    future: Future[T]
    whole: bool


class _Broken(Exception):
    """A piece of work without a savepoint failed in the database, and took the others of its commit along."""


class Database:
    """An open database, at the newest schema.

    Args:
        where: the path of an SQLite file, made if it is missing, or an address ``postgresql://...``.
        clock: gives the time in microseconds since 1970.

    Raises:
        SettingsError: no such kind of database, or a folder that is missing.
        MissingExtraError: PostgreSQL without its package.
        DatabaseError: it cannot be opened, or was made by a newer version of this program.
    """

    def __init__(self, where: Path | str, clock: Callable[[], int] | None = None) -> None:
        self.clock = clock or (lambda: time.time_ns() // 1000)
        self.path, url = address(where)
        self._name = str(self.path) if self.path else url.render_as_string(hide_password=True)
        self._writer = _sqlite(url, "begin immediate") if self.path else _postgres(url, 1, {}, PLANS)
        self._reader = (
            _sqlite(url, "begin", readonly=True)
            if self.path
            else _postgres(url, READERS, {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"})
        )
        self._alone = self._reader if self.path else self._reader.execution_options(isolation_level="AUTOCOMMIT")
        self._eye: Connection | None = None
        self._eye_lock = threading.Lock()
        self._line: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._door = threading.Lock()
        self._open = True
        try:
            with self._writer.begin() as connection:
                migrate.up(connection)
            self._eye = self._reader.connect() if self.path else None
        except DBAPIError as error:
            self._dispose()
            raise DatabaseError(f"{self._name}: cannot be opened: {_reason(error)}") from None
        except BaseException:
            self._dispose()
            raise
        self._thread = threading.Thread(target=self._work, name="database writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Transaction], T], *, whole: bool = False) -> Future[T]:
        """Hands work to the writer; the future is done when what it wrote is durable, or when it has been undone.

        The work runs in the writer's thread and keeps everyone waiting: it should be short, and only write. It may run
        a second time, after all that it did was undone.

        Args:
            whole: what the work has written when it raises may stay, and it uses prepared statements alone. Then it
                needs no savepoint, which costs as much as two statements, and waits for nothing but what it reads;
                should the database refuse one of its statements, all of the commit is done again with savepoints.

        Raises:
            DatabaseError: the database is closed.
        """
        future: Future[T] = Future()
        with self._door:
            if not self._open:
                raise DatabaseError(f"{self._name}: closed")
            self._line.put(_Job(work, future, whole))
        return future

    def write(self, work: Callable[[Transaction], T], *, whole: bool = False) -> T:
        """Does the work and waits until it is durable; see `submit`.

        Raises:
            DatabaseError: closed, or the disk or the server refuses.
        """
        return self.submit(work, whole=whole).result()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Does the work on a view of the database that does not change meanwhile.

        Raises:
            DatabaseError: the database cannot be read.
        """
        try:
            with self._reader.connect() as connection:
                return work(connection)
        except DBAPIError as error:
            raise DatabaseError(f"{self._name}: cannot be read: {_reason(error)}") from error

    def glance(self, statement: Prepared, values: Mapping[str, Any]) -> Any:
        """The first row of one statement, or None, without a transaction around it.

        Where the database is in this process it takes no longer than handing the question to another thread.

        Raises:
            DatabaseError: the database cannot be read.
        """
        try:
            if self._eye is not None:
                with self._eye_lock:
                    return statement.first(self._eye, values)
            with self._alone.connect() as connection:
                return statement.first(connection, values)
        except DBAPIError as error:
            raise DatabaseError(f"{self._name}: cannot be read: {_reason(error)}") from error

    def backup(self, target: Path) -> None:
        """A copy of an SQLite database while it is in use: beside, then renamed. To restore it, open it.

        Raises:
            SettingsError: PostgreSQL, which has a program of its own for this.
        """
        if self.path is None:
            raise SettingsError(f"{self._name}: PostgreSQL is backed up by pg_dump")
        beside = target.with_name(target.name + ".tmp")
        beside.unlink(missing_ok=True)
        os.close(os.open(beside, os.O_CREAT | os.O_WRONLY, 0o600))
        with (
            contextlib.closing(sqlite3.connect(self.path)) as source,
            contextlib.closing(sqlite3.connect(beside)) as to,
        ):
            source.backup(to)
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)

    def close(self) -> None:
        """Finishes what was handed in, then closes."""
        with self._door:
            was_open, self._open = self._open, False
        if was_open:
            self._line.put(None)
        self._thread.join()
        self._dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _dispose(self) -> None:
        if self._eye is not None:
            self._eye.close()
        self._writer.dispose()
        self._reader.dispose()

    def _work(self) -> None:
        """The writer's thread."""
        last = False
        while not last:
            jobs = [self._line.get()]
            with contextlib.suppress(queue.Empty):
                while len(jobs) < TOGETHER:
                    jobs.append(self._line.get_nowait())
            last = None in jobs
            taken = [job for job in jobs if job and job.future.set_running_or_notify_cancel()]
            if taken:
                self._commit(taken)

    def _commit(self, jobs: list[_Job[Any]], careful: bool = False) -> None:
        """One transaction for all of them; then, and not before, the answers."""
        outcomes: list[tuple[Any, BaseException | None]] = []
        entries: list[Entry] = []
        try:
            with self._writer.begin() as connection:
                end = audit.hold(connection)
                for plainly, some in itertools.groupby(jobs, key=lambda job: job.whole and not careful):
                    if plainly:
                        outcomes += self._plainly(connection, some, entries)
                    else:
                        outcomes += [self._attempt(connection, job, entries) for job in some]
                audit.extend(connection, end, entries)
        except _Broken:
            self._commit(jobs, careful=True)
            return
        except SQLAlchemyError as error:
            refusal = DatabaseError(f"{self._name}: cannot be written: {_reason(error)}")
            refusal.__cause__ = error
            outcomes = [(None, refusal) for _ in jobs]
        except BaseException as error:  # noqa: BLE001  a fault of ours must not leave the askers waiting for ever
            outcomes = [(None, error) for _ in jobs]
        for job, (result, error) in zip(jobs, outcomes, strict=True):
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(error)

    def _plainly(
        self, connection: Connection, jobs: Iterable[_Job[Any]], entries: list[Entry]
    ) -> list[tuple[Any, BaseException | None]]:
        """Pieces of work without savepoints, their statements one after the other without waiting."""
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            with in_line(connection):
                for job in jobs:
                    transaction = Transaction(connection, self.clock(), [])
                    try:
                        outcomes.append((job.work(transaction), None))
                    except DBAPIError:
                        raise
                    except BaseException as error:  # noqa: BLE001  whatever it is, it is the asker's
                        outcomes.append((None, error))
                    entries += transaction.entries
        except DBAPIError as error:
            raise _Broken from error
        return outcomes

    def _attempt(
        self, connection: Connection, job: _Job[Any], entries: list[Entry]
    ) -> tuple[Any, BaseException | None]:
        """The work behind a savepoint: what fails leaves nothing, and the others go on."""
        transaction = Transaction(connection, self.clock(), [])
        say(connection, "savepoint job")
        try:
            result = job.work(transaction)
        except BaseException as error:  # noqa: BLE001  whatever it is, it is the asker's
            try:
                say(connection, "rollback to savepoint job")
            except DBAPIError:
                raise error from None  # a full disk or a lost server takes the whole transaction, and is the reason
            return None, error
        say(connection, "release savepoint job")
        entries += transaction.entries
        return result, None


def address(where: Path | str) -> tuple[Path | None, sa.URL]:
    """The path of an SQLite file, or None, and the address for SQLAlchemy."""
    text = str(where)
    if re.match(r"postgres(ql)?://", text):
        return None, sa.make_url(re.sub(r"^postgres(ql)?:", "postgresql+psycopg:", text))
    if "://" in text and not text.startswith("sqlite:///"):
        raise SettingsError(f"database {text.split('://')[0]}://...: write the path of a file, or postgresql://...")
    path = Path(text.removeprefix("sqlite:///"))
    if not path.parent.is_dir():
        raise SettingsError(f"database {path}: no folder {path.parent}: make it first")
    return path, sa.URL.create("sqlite", database=str(path))


def _sqlite(url: sa.URL, begin: str, readonly: bool = False) -> Engine:
    """An engine on a file, whose transactions begin as we say and not as the driver guesses."""
    pool_size = READERS + 1 if readonly else 1  # one is kept for glances
    engine = sa.create_engine(url, pool_size=pool_size, max_overflow=0, connect_args={"check_same_thread": False})

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        # In this order: the wait must be set before anything that can meet another process.
        connection.execute(f"pragma busy_timeout = {BUSY_MS}")
        (mode,) = connection.execute("pragma journal_mode = wal").fetchone()
        if mode != "wal":
            raise DatabaseError(f"{url.database}: its disk allows no write-ahead log: keep it on a local disk")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma journal_size_limit = 67108864")
        if readonly:
            connection.execute("pragma query_only = on")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    if url.database:
        with contextlib.suppress(OSError):
            # Answers and password hashes are for nobody else on this machine. A fault is told when it is opened.
            os.close(os.open(url.database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return engine


def _postgres(url: sa.URL, connections: int, options: dict[str, Any], settings: str = "") -> Engine:
    try:
        import psycopg  # noqa: F401 # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise MissingExtraError("psycopg", "postgres", "a PostgreSQL database") from None
    return sa.create_engine(
        url, pool_size=connections, max_overflow=0, pool_pre_ping=True, execution_options=options,
        connect_args={"options": f"-c synchronous_commit=on -c timezone=UTC{settings}", "connect_timeout": 10},
    )  # fmt: skip


def _reason(error: SQLAlchemyError) -> str:
    """What the database says, in one line."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return str(original).strip().splitlines()[0] if str(original).strip() else type(original).__name__
