"""A request that has been let in, and the table of those that may be: every route says who may use it."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from tutelage.errors import SettingsError
from tutelage.web.accounts import Member, Right
from tutelage.web.chat import Language
from tutelage.web.keys import KeyHolder, Scope
from tutelage.web.label.gate import SAFE
from tutelage.web.label.services import Site
from tutelage.web.refusal import Refusal
from tutelage.web.sessions import Session, origin_of

MAX_BODY = 1024 * 1024
MAX_DEPTH = 32
MAX_FIELDS = 200

Takes = Literal["", "form", "json", "file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Who may use a route."""

    session: bool = True
    """Only people who are signed in."""
    maker: bool = False
    """Only people who may make projects."""
    inside: bool = False
    """Only people who are in the project that the path names. For all others it does not exist."""
    right: Right | None = None
    """Only people whose role in it has this right."""
    key: Scope | None = None
    """Only programs with a key for this; no session counts."""


ANYONE = Permission(session=False)
SIGNED_IN = Permission()
MAKER = Permission(maker=True)
INSIDE = Permission(inside=True)


def may(right: Right) -> Permission:
    """Those inside a project who have a right."""
    return Permission(inside=True, right=right)


def keyed(scope: Scope) -> Permission:
    """Programs that have a project's key for something."""
    return Permission(session=False, inside=True, key=scope)


@dataclass(slots=True)
class Visit:
    """Who asks what."""

    site: Site
    request: Request
    language: Language
    csrf: str
    held_session: Session | None = None
    held_member: Member | None = None
    held_key: KeyHolder | None = None
    form: dict[str, str] = field(default_factory=dict[str, str])
    body: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def session(self) -> Session:
        assert self.held_session is not None, "a route that asks for no session uses one"
        return self.held_session

    @property
    def account(self) -> str:
        """In whose name it is asked."""
        return self.held_key.account if self.held_key else self.session.account

    @property
    def member(self) -> Member:
        assert self.held_member is not None, "a route outside of projects uses a membership"
        return self.held_member

    @property
    def project(self) -> str:
        return self.request.path_params["project"]

    @property
    def address(self) -> str:
        return self.request.client.host if self.request.client else ""

    @property
    def origin(self) -> str:
        """What the audit log keeps of where it comes from: the address hashed, or which key it was."""
        return f"key {self.held_key.key}" if self.held_key else origin_of(self.address)

    def text(self, name: str, default: str | None = None, longest: int = 4000) -> str:
        """A text of a JSON body.

        Raises:
            Refusal: it is missing, or none.
        """
        value = self.body.get(name, default)
        if not isinstance(value, str) or len(value) > longest:
            raise Refusal("bad_input", f"{name}: a text of at most {longest} characters")
        return value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number of a JSON body.

        Raises:
            Refusal: it is none, or out of bounds.
        """
        value = self.body.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Refusal("bad_input", f"{name}: a whole number from {low} to {high}")
        return value


Endpoint = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked."""

    method: Literal["GET", "POST"]
    path: str
    permission: Permission
    endpoint: Endpoint
    takes: Takes = ""
    """In which form the body comes."""
    page: bool = True
    """Whether a refusal is a page for people; otherwise it is JSON for a page's own script."""


def check(routes: Sequence[Route]) -> None:
    """That every route says who may use it, and in which form it is asked.

    Raises:
        SettingsError: naming the first that does not.
    """
    seen: set[tuple[str, str]] = set()
    for route in routes:
        where = f"route {route.method} {route.path}"
        if not isinstance(route.permission, Permission):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"{where}: says nothing of who may use it: give it a permission")
        if route.permission.inside != ("{project}" in route.path):
            raise SettingsError(f"{where}: a permission inside a project and {{project}} in the path go together")
        if route.takes not in get_args(Takes) or (route.method in SAFE) == bool(route.takes):
            raise SettingsError(f"{where}: what is sent by POST has a form, what is got by GET has none")
        if (route.method, re.sub(r"\{\w+\}", "{}", route.path)) in seen:
            raise SettingsError(f"{where}: is there twice")
        seen.add((route.method, re.sub(r"\{\w+\}", "{}", route.path)))


async def read_body(request: Request, takes: Takes) -> tuple[dict[str, str], dict[str, Any]]:
    """The fields of a form, or an object of JSON. A file is left to its route.

    Raises:
        Refusal: "wrong_type", "too_large" or "bad_input".
    """
    if takes in ("", "file"):
        return {}, {}
    wanted = "application/json" if takes == "json" else "application/x-www-form-urlencoded"
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != wanted:
        raise Refusal("wrong_type", f"send {wanted}")
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_BODY:
            raise Refusal("too_large", f"at most {MAX_BODY} bytes")
        pieces.append(piece)
    raw = b"".join(pieces)
    return ({}, json_object(raw)) if takes == "json" else (form_fields(raw), {})


def form_fields(raw: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except ValueError:
        raise Refusal("bad_input", "the form cannot be read") from None


def json_object(raw: bytes) -> dict[str, Any]:
    """An object of JSON whose keys are there once, and which is not deep.

    Raises:
        Refusal: "bad_input".
    """
    if _depth(raw) > MAX_DEPTH:
        raise Refusal("bad_input", f"JSON of at most {MAX_DEPTH} levels")
    try:
        value = json.loads(raw, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal("bad_input", "the body is no JSON") from None
    if not isinstance(value, dict):
        raise Refusal("bad_input", "the body is no JSON object")
    return cast(dict[str, Any], value)


def _depth(raw: bytes) -> int:
    """How deep brackets stand in each other, as if none stood in a text: never too small."""
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return 0
    bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", raw)
    depth = deepest = 0
    for letter in re.findall(rb"[\[\]{}]", bare):
        depth += 1 if letter in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
