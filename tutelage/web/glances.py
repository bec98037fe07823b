"""Short questions to a server, each of one statement: those that wait at the same time are asked together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from tutelage.web.prepared import Prepared, in_line

_Question = tuple[Prepared, Mapping[str, Any], "Future[Any]"]


class Glances:
    """A thread with a connection of its own, which is made when it is first needed and again when it is lost."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._line: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="database glances", daemon=True)
        self._thread.start()

    def ask(self, statement: Prepared, values: Mapping[str, Any]) -> Future[Any]:
        """The first row, or None; or the `DBAPIError` that it ended in."""
        future: Future[Any] = Future()
        self._line.put((statement, values, future))
        return future

    def close(self) -> None:
        """Answers what was asked, then ends."""
        self._line.put(None)
        self._thread.join()

    def _work(self) -> None:
        last = False
        while not last:
            some = [self._line.get()]
            while not self._line.empty():
                some.append(self._line.get())
            last = None in some
            asked = [one for one in some if one and one[2].set_running_or_notify_cancel()]
            try:
                self._answer(asked)
            except DBAPIError:
                self._one_by_one(asked)
        self._drop()

    def _one_by_one(self, asked: Sequence[_Question]) -> None:
        """After a fault: the server may have gone meanwhile and come back, or one question is at fault."""
        for one in asked:
            try:
                self._answer([one])
            except DBAPIError as error:
                one[2].set_exception(error)

    def _answer(self, asked: Sequence[_Question]) -> None:
        if not asked:
            return
        try:
            if self._connection is None:
                self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            with in_line(self._connection):
                looks = [statement.later(self._connection, values) for statement, values, _ in asked]
            rows = [next(iter(look()), None) for look in looks]
        except DBAPIError:
            self._drop()
            raise
        for (_, _, future), row in zip(asked, rows, strict=True):
            future.set_result(row)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
