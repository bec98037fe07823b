"""A PostgreSQL of our own for the tests: in a temporary folder, on the loopback address, gone afterwards."""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from tutelage.web import audit, schema
from tutelage.web.database import Database


def program(name: str) -> str | None:
    """Where one of PostgreSQL's programs is; Debian keeps them out of the path."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(debian[-1]) if debian else None)


def why_not() -> str:
    """Why there can be no cluster here; empty if there can."""
    if program("initdb") is None or program("pg_ctl") is None:
        return "PostgreSQL's initdb is not installed"
    if os.geteuid() == 0 and not any(entry.pw_name == "postgres" for entry in pwd.getpwall()):
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


class Cluster:
    """A running server with one database, which each test finds as if it were new."""

    def __init__(self, address: str, restart: Callable[[], None]) -> None:
        self._address = f"{address}/label"
        self.restart = restart
        """Ends the server as a power cut would, and starts it again."""
        with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
            connection.execute("create database label")
        self._fresh: list[object] = []

    def database(self) -> str:
        """The address of the database: at the newest schema, with nothing in it and nobody in it."""
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = 'label' and pid <> pg_backend_pid()"
            )
            if not self._fresh or self._shape(connection) != self._fresh:
                connection.execute("drop schema public cascade")
                connection.execute("create schema public")
                Database(self._address).close()
                self._fresh = self._shape(connection)
            # Emptied and not made anew, which costs files by the hundred; and by one who stands above the triggers.
            connection.execute("set session_replication_role = replica")
            for table in schema.metadata.tables:
                connection.execute(f"delete from {table}")  # pyright: ignore
            for (sequence,) in connection.execute("select sequencename from pg_sequences").fetchall():
                connection.execute(f"alter sequence {sequence} restart")  # pyright: ignore
            connection.execute("insert into chain (one, seq, hash) values (1, 0, %s)", [audit.BEGINNING])
        return self._address

    def _shape(self, connection: psycopg.Connection) -> list[object]:
        """What a test may have left other than it was: tables, triggers that are on, and the version."""
        asked = (
            "select tablename from pg_tables where schemaname = 'public' order by 1",
            "select tgname, tgenabled from pg_trigger where not tgisinternal order by 1",
        )
        found: list[object] = [connection.execute(text).fetchall() for text in asked]
        if ("alembic_version",) in connection.execute(asked[0]).fetchall():
            found.append(connection.execute("select version_num from alembic_version").fetchall())
        return found


@contextlib.contextmanager
def running(*, synced: bool = False) -> Iterator[Cluster]:
    """A cluster for as long as it is wanted.

    Args:
        synced: whether it syncs to the disk; what the tests look at does not outlive the server.
    """
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    assert initdb
    assert pg_ctl
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))
    asuser = {}
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        asuser = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid, "extra_groups": []}
    password = secrets.token_hex(16)
    (folder / "password").write_text(password)
    if asuser:
        shutil.chown(folder / "password", "postgres")
    data = folder / "data"

    def do(*command: str) -> None:
        # Its words go to a file: a server that inherits a pipe keeps it open for ever.
        with open(folder / "said", "w") as said:
            done = subprocess.run(
                command, stdout=said, stderr=said, cwd=folder, env={"PATH": os.environ["PATH"]}, **asuser
            )
        assert done.returncode == 0, (folder / "said").read_text()

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c max_connections=60"
    options += "" if synced else " -c fsync=off -c full_page_writes=off"
    try:
        do(
            initdb, "-D", str(data), "-U", "tutor", "-A", "scram-sha-256", "--pwfile", str(folder / "password"),
            "-E", "UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
        do(pg_ctl, "-D", str(data), "-w", "-o", options, "-l", str(folder / "log"), "start")
        try:
            again = (pg_ctl, "-D", str(data), "-w", "-m", "immediate", "-o", options, "-l", str(folder / "log"))
            yield Cluster(f"postgresql://tutor:{password}@127.0.0.1:{port}", lambda: do(*again, "restart"))
        finally:
            do(pg_ctl, "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
