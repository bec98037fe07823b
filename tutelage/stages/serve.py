"""a model -> an API and a chat page, for as long as it runs

``tutelage serve runs/first/ppo`` serves without a run: serving makes nothing that another stage could start from.
Answers and feedback are kept in ``answers.jsonl`` and ``feedback.jsonl`` beside the model.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field
from rich.console import Console

from tutelage.errors import SettingsError
from tutelage.run import Run, content_hash
from tutelage.settings import Input
from tutelage.web.completions import answers_beside

MAKES = "service"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is served."""

    model: Annotated[Path, Input("model")]
    """The model to serve."""
    host: str = "127.0.0.1"
    """The address to listen on. The default is reached from this machine alone; there are no accounts."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """The port to listen on; 0 takes a free one."""
    answers: Path | None = None
    """Where answers are kept, with feedback beside them; by default answers.jsonl beside the model's folder."""


def execute(recipe: Recipe, run: Run) -> None:
    """Serves until stopped by Ctrl-C."""
    serve(recipe.model, recipe.host, recipe.port, recipe.answers or answers_beside(recipe.model), run.note)


def serve(
    model_path: Path, host: str, port: int, answers: Path | None, note: Callable[[str], None] | None = None
) -> None:
    """Serves a model until Ctrl-C.

    Args:
        answers: where answers are kept, with feedback beside them; None keeps neither.
        note: tells the user a line; the standard error if None.

    Raises:
        SettingsError: the address is taken, or is none of this machine's.
        ModelError: the folder is no model.
    """
    note = note or Console(stderr=True, highlight=False).print
    # The address is taken before anything is loaded: a busy port should not cost a minute.
    with listen(host, port) as listening:
        import uvicorn

        from tutelage.inference.engine import Engine
        from tutelage.web.app import application

        address, port = listening.getsockname()[:2]
        model = Engine.load(model_path)
        local = ipaddress.ip_address(address).is_loopback
        hosts = ["127.0.0.1", "localhost", "::1", address, host] if local else None
        content = content_hash(model_path) if model_path.exists() else ""
        app = application(model, answers, model_hash=content, hosts=hosts)
        shown = f"[{address}]" if ":" in address else address
        note(f"{model.name} answers at http://{shown}:{port}/")
        note(f"For programs, in OpenAI's protocol: http://{shown}:{port}/v1")
        if not local:
            note("Everyone who reaches this address can use the model: there are no accounts.")
        note("Ctrl-C stops it.")
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        # The server stops in an orderly way first, and then passes the Ctrl-C on.
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
        note("Stopped.")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address of this machine.

    Raises:
        SettingsError: the address is taken, or is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise SettingsError(f"host {host!r}: {error.strerror}: write 127.0.0.1 for this machine alone") from None
    listening = socket.socket(family, kind, protocol)
    try:
        # A port that was just given up may be taken again at once; one that is in use may not.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise SettingsError(f"port {port} on {host}: {_why(error)}") from None
    return listening


def _why(error: OSError) -> str:
    match error:
        case PermissionError():
            return "not allowed: take a port above 1023, such as --port 8000"
        case OSError(errno=98 | 48):
            return "another program is listening there: give another --port, or stop that program"
        case _:
            return f"{error.strerror}: is this an address of this machine? write 127.0.0.1 for it alone"
