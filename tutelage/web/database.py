"""The database of the labelling site: one writer, many readers, and nothing said before it is on the disk.

All writing goes through one thread. What waits while a commit is under way goes into the next one together, each piece
behind a savepoint of its own; every asker is answered after that commit. So fifty people cost a few syncs a second,
and no two of them ever write at once. The audit log grows in the same transaction.

SQLite (the default) keeps a write-ahead log and syncs it at every commit. PostgreSQL, by its address, is used in the
same way; several servers may share it, and take turns at the end of the audit log.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tutelage.errors import MissingExtraError, SettingsError

try:
    from sqlalchemy import Connection
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError
except ModuleNotFoundError:
    raise MissingExtraError("sqlalchemy", "label", "the labelling site") from None

from tutelage.web import audit, migrate
from tutelage.web.audit import Entry
from tutelage.web.checkpoints import TAKE_OVER, Checkpoints
from tutelage.web.engines import PLANS, READERS, address, postgres_engine, reason, sqlite_engine
from tutelage.web.glances import Glances
from tutelage.web.prepared import Prepared, in_line, say
from tutelage.web.refusal import DatabaseError

TOGETHER = 256
"""Pieces of work in one commit, at most."""
PATIENCE = 0.1
"""Seconds that the writer waits for an event loop to come to its work."""

T = TypeVar("T")


@dataclass(slots=True)
class Transaction:
    """What a piece of work writes with."""

    connection: Connection
    at: int
    """Now, in microseconds since 1970: the same for all of this piece of work."""
    entries: list[Entry]
    seen: Any = None
    """What was asked for ahead; None where nothing was, or where it may not hold any more."""

    def log(
        self, actor: str, action: str, object: str, *, detail: str = "", content: str = "", origin: str = ""
    ) -> None:
        """Adds a row to the audit log, if this piece of work succeeds."""
        self.entries.append(
            Entry(
                at=self.at, actor=actor, action=action, object=object, detail=detail, content=content, origin=origin
            )
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a piece of work asks of a server before it begins, together with what all others of its commit ask."""

    key: str
    """What it is about: two pieces of work with one key are not asked for together."""
    look: Callable[[Transaction], Callable[[], Any]]


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Callable[[Transaction], T]
    future: Future[T]
    whole: bool
    ahead: Ahead | None
    loop: asyncio.AbstractEventLoop | None


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
        self._writer = sqlite_engine(url, "begin immediate") if self.path else postgres_engine(url, 1, {}, PLANS)
        self._reader = (
            sqlite_engine(url, "begin", readonly=True)
            if self.path
            else postgres_engine(url, READERS, {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"})
        )
        self._glances: Glances | None = None
        self._eye: Connection | None = None
        self._checkpoints: Checkpoints | None = None
        self._eye_lock = threading.Lock()
        self._line: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._door = threading.Lock()
        self._open = True
        try:
            with self._writer.begin() as connection:
                migrate.up(connection)
            if self.path:
                self._eye, self._checkpoints = self._reader.connect(), Checkpoints(self.path)
            else:
                self._glances = Glances(self._reader)
        except DBAPIError as error:
            self._dispose()
            raise DatabaseError(f"{self._name}: cannot be opened: {reason(error)}") from None
        except BaseException:
            self._dispose()
            raise
        self._thread = threading.Thread(target=self._work, name="database writer", daemon=True)
        self._thread.start()

    def submit(
        self, work: Callable[[Transaction], T], *, whole: bool = False, ahead: Ahead | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Future[T]:  # fmt: skip
        """Hands work to the writer; the future is done when what it wrote is durable, or when it has been undone.

        The work runs in the writer's thread and keeps everyone waiting: it should be short, and only write. It may run
        a second time, after all that it did was undone.

        Args:
            whole: what the work has written when it raises may stay, and it uses prepared statements alone. Then it
                needs no savepoint, which costs as much as two statements, and waits for nothing but what it reads;
                should the database refuse one of its statements, all of the commit is done again with savepoints.
            ahead: what whole work finds in `Transaction.seen`, if it has come over a wire. The work must find out
                itself whether others of its commit have changed that since, other than those with its key.
            loop: the running event loop of the asker. Whole work is done in its thread, where it has the interpreter
                to itself: two threads that want it at once wait for each other at every statement. What waits for the
                disk or a server stays with the writer.

        Raises:
            DatabaseError: the database is closed.
        """
        future: Future[T] = Future()
        with self._door:
            if not self._open:
                raise DatabaseError(f"{self._name}: closed")
            self._line.put(_Job(work, future, whole, ahead, loop))
        return future

    def write(self, work: Callable[[Transaction], T], *, whole: bool = False, ahead: Ahead | None = None) -> T:
        """Does the work and waits until it is durable; see `submit`.

        Raises:
            DatabaseError: closed, or the disk or the server refuses.
        """
        return self.submit(work, whole=whole, ahead=ahead).result()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Does the work on a view of the database that does not change meanwhile.

        Raises:
            DatabaseError: the database cannot be read.
        """
        try:
            with self._reader.connect() as connection:
                return work(connection)
        except DBAPIError as error:
            raise DatabaseError(f"{self._name}: cannot be read: {reason(error)}") from error

    def glance(self, statement: Prepared, values: Mapping[str, Any]) -> Any:
        """The first row of one statement, or None, without a transaction around it.

        Where the database is in this process it takes no longer than handing the question to another thread.

        Raises:
            DatabaseError: the database cannot be read.
        """
        try:
            if self._glances is not None:
                return self._glances.ask(statement, values).result()
            assert self._eye is not None
            with self._eye_lock:
                return statement.first(self._eye, values)
        except DBAPIError as error:
            raise DatabaseError(f"{self._name}: cannot be read: {reason(error)}") from error

    async def peek(self, statement: Prepared, values: Mapping[str, Any]) -> Any:
        """`glance`, while the event loop goes on.

        Raises:
            DatabaseError: the database cannot be read.
        """
        if self._glances is None:
            return self.glance(statement, values)
        try:
            return await asyncio.wrap_future(self._glances.ask(statement, values))
        except DBAPIError as error:
            raise DatabaseError(f"{self._name}: cannot be read: {reason(error)}") from error

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
        if self._checkpoints is not None:
            self._checkpoints.close()
        if self._eye is not None:
            self._eye.close()
        if self._glances is not None:
            self._glances.close()
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
                self._tidy()

    def _tidy(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.wake()
            if self._checkpoints.long:
                self._checkpoints.long = False
                with contextlib.suppress(DBAPIError), self._writer.connect() as connection:
                    say(connection, TAKE_OVER)

    def _commit(self, jobs: list[_Job[Any]], careful: bool = False) -> None:
        """One transaction for all of them; then, and not before, the answers."""
        outcomes: list[tuple[Any, BaseException | None]] = []
        entries: list[Entry] = []
        try:
            with self._writer.begin() as connection:
                end = audit.hold(connection)
                for plainly, some in itertools.groupby(jobs, key=lambda job: job.whole and not careful):
                    if plainly:
                        outcomes += self._plainly(connection, [*some], entries)
                    else:
                        outcomes += [self._attempt(connection, job, entries) for job in some]
                audit.extend(connection, end, entries)
        except _Broken:
            self._commit(jobs, careful=True)
            return
        except SQLAlchemyError as error:
            refusal = DatabaseError(f"{self._name}: cannot be written: {reason(error)}")
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
        self, connection: Connection, jobs: Sequence[_Job[Any]], entries: list[Entry]
    ) -> list[tuple[Any, BaseException | None]]:
        """Pieces of work without savepoints, their statements one after the other without waiting."""

        def work() -> list[tuple[Any, BaseException | None]]:
            outcomes: list[tuple[Any, BaseException | None]] = []
            for job, transaction in pairs:
                try:
                    outcomes.append((job.work(transaction), None))
                except DBAPIError:
                    raise
                except BaseException as error:  # noqa: BLE001  whatever it is, it is the asker's
                    outcomes.append((None, error))
                entries.extend(transaction.entries)
            return outcomes

        try:
            with in_line(connection):
                pairs = self._looked_ahead(connection, jobs)
                return _in_its_loop(work, jobs)
        except DBAPIError as error:
            raise _Broken from error

    def _looked_ahead(self, connection: Connection, jobs: Sequence[_Job[Any]]) -> list[tuple[_Job[Any], Transaction]]:
        """Each piece of work with its transaction, and what it has asked for ahead in that."""
        pairs = [(job, Transaction(connection, self.clock(), [])) for job in jobs]
        if self.path is None:
            looks: dict[str, tuple[Transaction, Callable[[], Any]]] = {}
            for job, transaction in pairs:
                if job.ahead is None:
                    break
                if job.ahead.key not in looks:
                    looks[job.ahead.key] = (transaction, job.ahead.look(transaction))
            for transaction, look in looks.values():
                transaction.seen = look()
        return pairs

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


def _in_its_loop(work: Callable[[], T], jobs: Sequence[_Job[Any]]) -> T:
    """What the work gives: done in the thread of the jobs' event loop if that comes to it soon, and here otherwise."""
    loop = jobs[0].loop
    if loop is None or any(job.loop is not loop for job in jobs):
        return work()
    done: Future[T] = Future()

    def run() -> None:
        if done.set_running_or_notify_cancel():
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001  it is raised again where it is waited for
                done.set_exception(error)

    try:
        loop.call_soon_threadsafe(run)
    except RuntimeError:
        return work()  # the loop is closed
    wait([done], PATIENCE)
    return work() if done.cancel() else done.result()
