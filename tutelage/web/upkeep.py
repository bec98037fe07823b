"""What is done to a labelling database from outside, while people judge: looked through, copied, exported, restored.

Each function does one thing and gives the lines that a person is told.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, inspect, select
from sqlalchemy.exc import DBAPIError

from tutelage.errors import SettingsError
from tutelage.run import sync
from tutelage.web import audit, choosing, intake, judgments, schema, snapshots
from tutelage.web.answers import Question
from tutelage.web.counting import Query
from tutelage.web.database import Database, address
from tutelage.web.ids import plain
from tutelage.web.projects import NewProject, Projects
from tutelage.web.refusal import DatabaseError, Refusal


def verify(where: str | Path, anchor: str = "") -> list[str]:
    """Walks the log and all judgements.

    Args:
        anchor: "ROW:HASH" as an earlier verification told it; the log must still go through it.

    Raises:
        DatabaseError: something has been changed, with the first place of it.
    """
    noted = None
    if anchor:
        row, colon, hash = anchor.partition(":")
        if not colon or not row.isdigit():
            raise SettingsError(f"anchor {anchor!r}: ROW:HASH, as verify told it")
        noted = audit.Link(int(row), hash)
    with Database(where) as database:

        def look(c: Connection) -> tuple[audit.Finding, str]:
            return audit.verify(c, noted), judgments.verify(c)

        finding, changed = database.read(look)
    if finding.fault or changed:
        raise DatabaseError(f"{_name(where)}: {finding.fault or changed}")
    return [
        f"{finding.rows} rows of the log hold, and every judgement is as it was given.",
        f"Note this elsewhere, and give it as the anchor next time: {finding.end.seq}:{finding.end.hash}",
    ]


def backup(where: str | Path, target: Path) -> list[str]:
    """A copy while people judge: whole, at one moment, beside and then renamed.

    Raises:
        SettingsError: something is at the target already, or PostgreSQL's own program for it is missing.
        DatabaseError: the copy could not be made.
    """
    target = Path(target)
    if target.exists():
        raise SettingsError(f"{target}: is there already: name another file")
    path, url = address(where)
    if path is None:
        beside = target.with_name(target.name + ".tmp")
        _server_program("pg_dump", url, "--format=custom", "--no-owner", f"--file={beside}")
        sync(beside)
        os.replace(beside, target)
    else:
        if not path.is_file():
            raise SettingsError(f"{path}: no such database")
        with Database(where) as database:
            database.backup(target)
    return [f"{target}: {target.stat().st_size} bytes"]


def restore(source: Path, where: str | Path) -> list[str]:
    """Puts a copy where there is no database yet, and looks it through.

    Raises:
        SettingsError: no such copy, or a database is there already.
        DatabaseError: the copy is none, or is damaged.
    """
    source = Path(source)
    if not source.is_file():
        raise SettingsError(f"{source}: no such file")
    target, url = address(where)
    if target is None:
        _refuse_full(url)
        _server_program("pg_restore", url, "--no-owner", "--exit-on-error", "--single-transaction", str(source))
    else:
        if target.exists():
            raise SettingsError(f"{target}: a database is there already: move it away first")
        beside = target.with_name(target.name + ".tmp")
        shutil.copyfile(source, beside)
        beside.chmod(0o600)
        try:
            with contextlib.closing(sqlite3.connect(beside)) as copy:
                (found,) = copy.execute("pragma integrity_check").fetchone()
        except sqlite3.DatabaseError as error:
            found = str(error)
        if found != "ok":
            beside.unlink()
            raise DatabaseError(f"{source}: no sound copy: {found}")
        for leftover in ("-wal", "-shm"):
            beside.with_name(beside.name + leftover).unlink(missing_ok=True)
        sync(beside)
        os.replace(beside, target)
    return [f"{_name(where)}: restored", *verify(where)]


def projects(where: str | Path) -> list[str]:
    """The projects of a database: id, state and name."""
    with Database(where) as database:
        held = schema.project.c
        rows = database.read(lambda c: c.execute(select(held.id, held.state, held.name).order_by(held.created)).all())
    return [f"{row.id}  {row.state:7} {row.name}" for row in rows]


def snapshot(where: str | Path, project: str, name: str, folder: Path, query: Query | None = None) -> list[str]:
    """Makes a snapshot of a project and writes the folder that `collect` takes.

    Raises:
        Refusal: no such project, or nothing was judged.
        RecordError: something is at the folder already.
    """
    if Path(folder).exists():
        raise SettingsError(f"{folder}: is there already: a snapshot is never changed: name another place")
    with Database(where) as database:
        project = _project(database, project)
        id = snapshots.make(database, _owner(database, project), project, name, query or Query())
        snapshots.write(database, id, Path(folder))
        head = snapshots.header(database, id)
    return [
        f"{folder}: {head.items} items, {head.answers} answers of {head.people} people, {head.sha256[:16]}",
        f"tutelage collect --judge votes --votes {folder} --output ...",
    ]


def export(where: str | Path, project: str, name: str, shape: str, target: Path) -> list[str]:
    """Writes a snapshot, by its name or id (the newest if none is given), in the shape of others.

    Raises:
        Refusal: no such project, snapshot or shape.
    """
    target = Path(target)
    beside = target.with_name(target.name + ".tmp")
    with Database(where) as database:
        project = _project(database, project)
        listed = database.read(lambda c: snapshots.listed(c, project))
        found = next((info for info in listed if name in ("", info.id, info.name)), None)
        if found is None:
            raise Refusal("unknown", f"there is no snapshot {name!r}: there are {', '.join(i.name for i in listed)}")
        pieces = snapshots.export(database, found.id, shape)
        with beside.open("wb") as file:
            for piece in pieces:
                file.write(piece)
    sync(beside)
    os.replace(beside, target)
    return [f"{target}: {found.items} items of {found.name}, {target.stat().st_size} bytes"]


def take_in(where: str | Path, run: Path, owner: str = "", ask: int = 0) -> str:
    """Makes a project of what `collect` with `judge: people` wrote, once; gives its id.

    Args:
        owner: the account whose project it is; without it, the first that may make projects.
        ask: so many of its items, chosen by what each is worth; 0: all.

    Raises:
        SettingsError: no such run, or nobody there who may own it.
    """
    run = Path(run)
    if not (run / "project.json").is_file() or not (run / "items.jsonl").is_file():
        raise SettingsError(f"{run}: no project to be judged: `tutelage collect --judge people` writes one")
    held: dict[str, Any] = json.loads((run / "project.json").read_text(encoding="utf-8"))
    mark = json.loads((run / "done").read_text(encoding="utf-8"))["hash"] if (run / "done").is_file() else str(run)
    with Database(where) as database:
        known = _made_from(database, mark)
        if known:
            return known
        items = list(intake.items(run / "items.jsonl", need=held.get("overlap", 1)))
        if ask:
            try:
                choosing.check(items, ask)
            except Refusal as refusal:
                raise SettingsError(f"{run}: {refusal}") from None
        account = owner or _first_owner(database)
        questions = tuple(Question(**question) for question in held["questions"])
        made = Projects(database).make(
            account,
            NewProject(
                name=held["name"], kind=held["kind"], questions=questions, guideline=held["guideline"], gold_share=0,
                settings={"made_from": mark, "overlap": held.get("overlap", 1)},
            ),
        )  # fmt: skip
        if ask:
            choosing.by_worth(Projects(database), account, made, items, ask)
        else:
            Projects(database).add_items(account, made, items)
        return made


def _made_from(database: Database, mark: str) -> str:
    held = schema.project.c
    rows = database.read(lambda c: c.execute(select(held.id, held.settings)).all())
    return next((row.id for row in rows if json.loads(row.settings).get("made_from") == mark), "")


def _first_owner(database: Database) -> str:
    account = schema.account.c
    wanted = select(account.id).where(account.owner, account.status == "active").order_by(account.created, account.id)
    found = database.read(lambda c: c.scalar(wanted.limit(1)))
    if found is None:
        raise SettingsError("nobody is there yet: `tutelage label owner` makes a link for the first")
    return str(found)


def _project(database: Database, project: str) -> str:
    """A project's id, from its id or its name."""
    held = schema.project.c
    rows = database.read(lambda c: c.execute(select(held.id, held.name).order_by(held.created.desc())).all())
    found = next((row.id for row in rows if plain(project) == row.id or project == row.name), None)
    if found is None:
        raise Refusal("unknown", f"there is no project {project!r}: there are {', '.join(row.name for row in rows)}")
    return str(found)


def _owner(database: Database, project: str) -> str:
    """Who whoever runs the server speaks for."""
    held = schema.membership.c
    owners = select(held.account).where(held.project == project, held.role == "owner", held.state == "active")
    return str(database.read(lambda c: c.scalar(owners.order_by(held.account).limit(1))) or "")


def _server_program(name: str, url: URL, *options: str) -> None:
    """Runs one of PostgreSQL's programs on a database."""
    program = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None
    )
    if program is None:
        raise SettingsError(f"{name}: not installed: it comes with PostgreSQL's client programs")
    # The address goes by the environment: a command line is for everyone to read.
    place = {
        "PGHOST": url.host, "PGPORT": url.port and str(url.port), "PGUSER": url.username, "PGDATABASE": url.database,
        "PGPASSWORD": url.password and str(url.password),
    }  # fmt: skip
    environment = {**os.environ, **{key: str(value) for key, value in place.items() if value}}
    target = ["--dbname", url.database or ""] if name == "pg_restore" else []
    done = subprocess.run([program, *target, *options], env=environment, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise DatabaseError(f"{name}: {said}")


def _refuse_full(url: URL) -> None:
    """Nothing is restored over a database that holds something."""
    engine = create_engine(url)
    try:
        if inspect(engine).get_table_names():
            raise SettingsError(f"{_called(url)}: it holds tables already: restore into an empty database")
    except DBAPIError as error:
        raise DatabaseError(f"{_called(url)}: cannot be opened: {error.orig}") from None
    finally:
        engine.dispose()


def _name(where: str | Path) -> str:
    path, url = address(where)
    return str(path) if path else _called(url)


def _called(url: URL) -> str:
    """What a database is called in a message: without its password."""
    return url.render_as_string(hide_password=True)
