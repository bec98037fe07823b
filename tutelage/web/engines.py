"""How a database is opened: an SQLite file, or PostgreSQL by its address."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tutelage.errors import MissingExtraError, SettingsError
from tutelage.web.prepared import say
from tutelage.web.refusal import DatabaseError

READERS = 8
"""Connections for reading, at most."""
BUSY_MS = 10_000
"""How long to wait for another process that writes to the same SQLite file."""

PLANS = " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off"
"""For the writer, whose statements are all found by an index: a plan is made once, and is not one for tables that were
empty when it was made."""


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


def sqlite_engine(url: sa.URL, begin: str, readonly: bool = False) -> Engine:
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
        connection.execute("pragma wal_autocheckpoint = 0")
        if readonly:
            connection.execute("pragma query_only = on")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", lambda connection: say(connection, begin))
    if url.database:
        with contextlib.suppress(OSError):
            # Answers and password hashes are for nobody else on this machine. A fault is told when it is opened.
            os.close(os.open(url.database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return engine


def postgres_engine(url: sa.URL, connections: int, options: dict[str, Any], settings: str = "") -> Engine:
    try:
        import psycopg  # noqa: F401 # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise MissingExtraError("psycopg", "postgres", "a PostgreSQL database") from None
    return sa.create_engine(
        url, pool_size=connections, max_overflow=0, pool_pre_ping=True, execution_options=options,
        connect_args={"options": f"-c synchronous_commit=on -c timezone=UTC{settings}", "connect_timeout": 10},
    )  # fmt: skip


def reason(error: SQLAlchemyError) -> str:
    """What the database says, in one line."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return str(original).strip().splitlines()[0] if str(original).strip() else type(original).__name__
