"""Statements that are run for every item anybody judges: put into words once, then given to the driver as they are.

SQLAlchemy's own way costs some five times what SQLite takes for the statement itself. Only plain types (text, numbers)
go through here, which need no turning.
"""

from __future__ import annotations

import contextlib
from collections import namedtuple
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, Executable
from sqlalchemy.exc import DBAPIError

_AT_A_TIME = 500
"""Rows; Python looks for garbage after 700 new objects."""


class Prepared:
    """A statement with named parameters."""

    def __init__(self, core: Executable) -> None:
        self.core: Any = core
        self._words: dict[str, _Words] = {}

    def first(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """The first row, whose columns are its attributes, or None."""
        words = self._for(connection)
        with _Cursor(connection, words.text) as cursor:
            cursor.execute(words.text, words.bound(values))
            row = cursor.fetchone()
        return None if row is None else words.row(*row)

    def all(self, connection: Connection, values: Mapping[str, Any]) -> list[Any]:
        """All rows."""
        words = self._for(connection)
        with _Cursor(connection, words.text) as cursor:
            cursor.execute(words.text, words.bound(values))
            return [words.row(*row) for row in cursor.fetchall()]

    def later(self, connection: Connection, values: Mapping[str, Any]) -> Callable[[], list[Any]]:
        """All rows, for when the transaction is through: until then a server has not been waited for."""
        if connection.dialect.name != "postgresql":
            rows = self.all(connection, values)
            return lambda: rows
        words = self._for(connection)
        with _Cursor(connection, words.text, kept=True) as cursor:
            cursor.execute(words.text, words.bound(values))
        return lambda: [words.row(*row) for row in cursor.fetchall()]

    def columns(self, connection: Connection, values: Mapping[str, Any]) -> list[list[Any]]:
        """All rows, a sequence for each column: the quick way, where there are very many."""
        words = self._for(connection)
        with _Cursor(connection, words.text) as cursor:
            cursor.execute(words.text, words.bound(values))
            columns: list[list[Any]] = [[] for _ in cursor.description]
            # In pieces that are gone before the garbage collector would look at them.
            while rows := cursor.fetchmany(_AT_A_TIME):
                for column, piece in zip(columns, zip(*rows, strict=True), strict=True):
                    column.extend(piece)
            return columns

    def scalar(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """The first column of the first row, or None."""
        row = self.first(connection, values)
        return None if row is None else row[0]

    def run(self, connection: Connection, *values: Mapping[str, Any]) -> None:
        """Runs it once for each of these, for what it does."""
        words = self._for(connection)
        with _Cursor(connection, words.text) as cursor:
            if len(values) == 1:
                cursor.execute(words.text, words.bound(values[0]))
            else:
                cursor.executemany(words.text, [words.bound(one) for one in values])

    def _for(self, connection: Connection) -> _Words:
        name = connection.dialect.name
        if name not in self._words:
            self._words[name] = _Words(self.core, connection.dialect)
        return self._words[name]


@contextlib.contextmanager
def in_line(connection: Connection) -> Generator[None]:
    """Sends prepared statements to a server one after the other, and waits only for those whose rows are looked at.

    A statement that fails is told of at the next that is waited for, or at the end. SQLAlchemy's own statements are
    out of place here: it looks for an answer that is not there yet.
    """
    if connection.dialect.name != "postgresql":
        yield
        return
    base = connection.dialect.loaded_dbapi.Error
    driver: Any = connection.connection.driver_connection
    try:
        with driver.pipeline():
            yield
    except base as error:
        raise DBAPIError.instance("pipeline", None, error, base, dialect=connection.dialect) from error


def say(connection: Connection, text: str) -> None:
    """Runs a statement that has neither values nor rows."""
    with _Cursor(connection, text) as cursor:
        cursor.execute(text)


class _Words:
    """A statement in the words of one kind of database."""

    def __init__(self, core: Any, dialect: Dialect) -> None:
        compiled = core.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        self.text = str(compiled)
        self._names: Sequence[str] | None = compiled.positiontup
        self._fixed: dict[str, Any] = {name: value for name, value in compiled.params.items() if value is not None}
        columns = core.exported_columns.keys() if hasattr(core, "exported_columns") else []
        self.row: Any = namedtuple("Row", columns, rename=True)  # pyright: ignore[reportUntypedNamedTuple]

    def bound(self, values: Mapping[str, Any]) -> Any:
        """The parameters as the driver takes them: in order, or by name."""
        if self._fixed:
            values = {**self._fixed, **values}
        return values if self._names is None else [values[name] for name in self._names]


class _Cursor:
    """A driver's cursor, whose errors come as SQLAlchemy's, so that they are handled in one place."""

    def __init__(self, connection: Connection, text: str, kept: bool = False) -> None:
        self._dialect = connection.dialect
        self._text = text
        self._kept = kept
        self._cursor: Any = connection.connection.cursor()

    def __enter__(self) -> Any:
        return self._cursor

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self._kept:
            self._cursor.close()
        base = self._dialect.loaded_dbapi.Error
        if isinstance(error, base):
            raise DBAPIError.instance(self._text, None, error, base, dialect=self._dialect) from error
