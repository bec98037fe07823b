"""From one version of the database's schema to another, up and down."""

from __future__ import annotations

from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from tutelage.web.refusal import DatabaseError

NOTHING = "base"
"""The version before the first."""


def up(connection: Connection) -> None:
    """Brings the schema to the newest version, within the connection's transaction.

    Raises:
        DatabaseError: it is at a version that this program does not know.
    """
    scripts = _scripts()
    _run(connection, lambda held, _: scripts._upgrade_revs("head", held))  # pyright: ignore[reportPrivateUsage]


def down(connection: Connection, version: str = NOTHING) -> None:
    """Takes the schema back to an older version; what that one did not have is dropped.

    Raises:
        DatabaseError: it is at a version that this program does not know.
    """
    scripts = _scripts()
    _run(connection, lambda held, _: scripts._downgrade_revs(version, held))  # pyright: ignore[reportPrivateUsage]


def current(connection: Connection) -> str | None:
    """The version that a database is at; None where there is none yet."""
    with EnvironmentContext(Config(), _scripts()) as environment:
        environment.configure(connection=connection)
        return environment.get_context().get_current_revision()


def _run(connection: Connection, steps: Any) -> None:
    scripts = _scripts()
    held = current(connection)
    if held is not None and held not in {script.revision for script in scripts.walk_revisions()}:
        raise DatabaseError(f"database at schema {held}: made by a newer version: install that, or restore a backup")
    with EnvironmentContext(Config(), scripts) as environment:
        # One transaction for all steps: a database is never left between two versions.
        environment.configure(connection=connection, fn=steps, transactional_ddl=True, transaction_per_migration=False)
        environment.run_migrations()


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", "tutelage.web:migrations")
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)
