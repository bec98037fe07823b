"""``tutelage label``: the labelling site for as long as it runs, and what is done to its database from outside."""

from __future__ import annotations

import argparse
import contextlib
import gc
import ipaddress
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from rich.console import Console

from tutelage.errors import ModelError, SettingsError
from tutelage.inference.language_model import LanguageModel
from tutelage.sentences import counted
from tutelage.stages.serve import listen


def main(given: Sequence[str]) -> None:
    """What ``tutelage label`` was asked for."""
    what = given[0] if given and given[0] in _ACTIONS else "serve"
    options = _parser(what).parse_args(given[1:] if given and given[0] == what else given)
    _ACTIONS[what][1](options)


def serve(
    database: str, host: str, port: int, url: str = "", note: Callable[[str], None] | None = None, *,
    runs: Path = Path("runs"), folders: Sequence[Path] = (),
) -> None:  # fmt: skip
    """Serves the labelling site until Ctrl-C.

    Args:
        database: the path of an SQLite file, made if it is missing, or postgresql://...
        url: how people reach the site, where that is not the address that it listens on.
        note: tells the user a line; the standard error if None.
        runs: the folder whose models the owners of projects may ask, by their place in it.
        folders: more models, by their folders' names.

    Raises:
        SettingsError: the address is taken, or passwords would go over a network in the clear.
        ModelError: one of the folders is no model.
        DatabaseError: the database cannot be opened.
    """
    note = note or Console(stderr=True, highlight=False).print
    known = partial(models, runs, folders)
    found = known()
    with listen(host, port) as listening:
        address, port = listening.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        url = _checked(url, ipaddress.ip_address(address).is_loopback) or f"http://{shown}:{port}"
        import uvicorn

        from tutelage.web.database import Database
        from tutelage.web.label.application import application
        from tutelage.web.label.services import Site
        from tutelage.web.models import Models

        with Database(database) as opened, contextlib.closing(Models(known, load)) as asked:
            site = Site(opened, url, models=asked)
            note(f"The labelling site is at {url}/")
            if found:
                note(f"Its owners may ask {counted(len(found), 'model')}: {', '.join(sorted(found))}")
            if not site.has_people():
                note("Nobody is there yet. tutelage label owner --database ... makes a link for the first.")
            note("Ctrl-C stops it.")
            # The loop and the database's writer share one interpreter: neither may keep the other waiting for 5 ms.
            sys.setswitchinterval(0.0005)
            # What is there by now stays: looking through all of it for garbage would keep everybody waiting for 0.1 s.
            gc.collect()
            gc.freeze()
            behind = url.startswith("https:")
            config = uvicorn.Config(
                application(site), log_config=None, log_level="warning", access_log=False, server_header=False,
                timeout_graceful_shutdown=5, proxy_headers=behind, forwarded_allow_ips="127.0.0.1,::1",
            )  # fmt: skip
            # The server stops in an orderly way first, and then passes the Ctrl-C on.
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listening])
        note("Stopped.")


def invite_owner(database: str, url: str, host: str, port: int) -> str:
    """A one-time link for someone who may make projects. It is the only way to the first account."""
    from tutelage.web.database import Database
    from tutelage.web.label.services import Site

    base = _checked(url, True) or f"http://{host}:{port}"
    with Database(database) as opened:
        return f"{base}/invite/{Site(opened, base).accounts.invite_owner()}"


def models(runs: Path, folders: Sequence[Path] = ()) -> dict[str, Path]:
    """The models that may be asked: finished runs by their place under ``runs``, and folders by their names.

    Raises:
        ModelError: one of the folders is no model.
        SettingsError: two of them have one name.
    """
    found = {str(path.relative_to(runs)): path for path in _under(runs)}
    for folder in folders:
        name = folder.resolve().name
        if not _answers(folder):
            raise ModelError(f"{folder}: no model that answers: give a run that made a model, or a Hugging Face folder")
        if found.get(name, folder) != folder:
            raise SettingsError(f"{folder}: {found[name]} has this name already: give one of them another")
        found[name] = folder
    return found


def load(path: Path) -> LanguageModel:
    """The model of a folder, as `tutelage serve` loads it.

    Raises:
        ModelError: the folder is no model.
    """
    from tutelage.inference.engine import Engine

    return Engine.load(path)


def _under(runs: Path) -> Iterator[Path]:
    """The models among a folder's finished runs, those of its courses too."""
    for done in [*runs.glob("*/done"), *runs.glob("*/*/done")]:
        if _answers(done.parent):
            yield done.parent


def _answers(folder: Path) -> bool:
    """Whether a folder holds a language model, and not one that gives rewards."""
    adapter, config = (_read(folder / name) for name in ("adapter_config.json", "config.json"))
    scores = any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ())
    return bool(adapter or config) and not scores and adapter.get("task_type") != "SEQ_CLS"


def _read(file: Path) -> Mapping[str, Any]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast(Mapping[str, Any], held) if isinstance(held, dict) else {}


def _checked(url: str, loopback: bool) -> str:
    """An address at which cookies are safe.

    Raises:
        SettingsError: it is none, or is reached over a network without encryption.
    """
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/")):
        raise SettingsError(f"url {url!r}: write it as https://label.example.org")
    local = parts.hostname in ("localhost", "127.0.0.1", "::1") if url else loopback
    if parts.scheme != "https" and not local:
        raise SettingsError(
            "passwords would go over the network in the clear: put a server with TLS in front, "
            "and name it with --url https://..."
        )
    return url.rstrip("/")


def _parser(what: str) -> argparse.ArgumentParser:
    known = ", ".join(f"{name} ({words})" for name, (words, _) in _ACTIONS.items() if name != "serve")
    parser = argparse.ArgumentParser(
        prog=f"tutelage label{'' if what == 'serve' else ' ' + what}", allow_abbrev=False,
        description=_ACTIONS[what][0],
        epilog=f"Also: tutelage label WHAT, one of {known}." if what == "serve" else None,
    )  # fmt: skip
    parser.add_argument(
        "--database", default="label.db", help="the path of an SQLite file, or postgresql://...; default: label.db"
    )
    if what in ("serve", "owner"):
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; default: this machine alone")
        parser.add_argument("--port", type=int, default=8001, help="0 takes a free one; default: 8001")
        parser.add_argument(
            "--url", default="", help="how people reach the site, behind a server with TLS: https://..."
        )
    if what == "serve":
        parser.add_argument(
            "--runs", type=Path, default=Path("runs"), help="whose models owners may ask for answers; default: runs"
        )
        parser.add_argument(
            "--model", type=Path, action="append", default=[], help="one more model, a run or a folder; may be repeated"
        )
    for name, words in _ARGUMENTS.get(what, {}).items():
        parser.add_argument(name, help=words, default="" if name.startswith("--") else None)
    return parser


def _serve(options: argparse.Namespace) -> None:
    serve(
        options.database, options.host, options.port, options.url, runs=options.runs, folders=options.model
    )  # fmt: skip


def _owner(options: argparse.Namespace) -> None:
    link = invite_owner(options.database, options.url, options.host, options.port)
    sys.stdout.write(f"{link}\nOpen it once, within seven days, while the site runs.\n")


def _tell(lines: Sequence[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _verify(options: argparse.Namespace) -> None:
    from tutelage.web import upkeep

    _tell(upkeep.verify(options.database, options.anchor))


def _backup(options: argparse.Namespace) -> None:
    from tutelage.web import upkeep

    _tell(upkeep.backup(options.database, Path(options.target)))


def _restore(options: argparse.Namespace) -> None:
    from tutelage.web import upkeep

    _tell(upkeep.restore(Path(options.source), options.database))


def _projects(options: argparse.Namespace) -> None:
    from tutelage.web import upkeep

    _tell(upkeep.projects(options.database))


def _project(options: argparse.Namespace) -> None:
    from tutelage.web import upkeep

    if options.ask and not (options.ask.isascii() and options.ask.isdigit()):
        raise SettingsError(f"--ask {options.ask}: how many items, as a number")
    _tell([upkeep.take_in(options.database, Path(options.run), ask=int(options.ask or 0))])


def _snapshot(options: argparse.Namespace) -> None:
    from tutelage.web import upkeep

    _tell(upkeep.snapshot(options.database, options.project, options.name, Path(options.folder)))


def _export(options: argparse.Namespace) -> None:
    from tutelage.web import upkeep

    _tell(upkeep.export(options.database, options.project, options.snapshot, options.shape, Path(options.target)))


_ARGUMENTS: dict[str, dict[str, str]] = {
    "verify": {"--anchor": "the end of the log as it was noted before, ROW:HASH"},
    "backup": {"target": "a file that is not there yet"},
    "restore": {"source": "a copy that backup made"},
    "project": {
        "run": "what `tutelage collect --judge people` wrote",
        "--ask": "so many of its items, chosen by what each is worth (`--rewards`); default: all",
    },
    "snapshot": {
        "project": "its id or name", "name": "what the snapshot is to be called",
        "folder": "where `tutelage collect` will find it",
    },
    "export": {
        "project": "its id or name", "shape": "preference, kto, reward, ranking, hh, arena, csv, ...",
        "target": "the file to be written", "--snapshot": "which, by name or id; default: the newest",
    },
}  # fmt: skip
"""What each action is told, beside the database."""
_ACTIONS: dict[str, tuple[str, Callable[[argparse.Namespace], None]]] = {
    "serve": ("the labelling site: people judge, owners see whether it can be trusted", _serve),
    "owner": ("a one-time link for someone who may make projects", _owner),
    "projects": ("the projects that are there", _projects),
    "project": ("answers that a course has collected become a project", _project),
    "snapshot": ("what was judged, as a folder that `collect` takes", _snapshot),
    "export": ("a snapshot in the shape of others", _export),
    "verify": ("whether the log and all judgements are as they were written", _verify),
    "backup": ("a whole copy while people judge", _backup),
    "restore": ("a copy becomes the database", _restore),
}
