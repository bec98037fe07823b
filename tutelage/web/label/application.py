"""The labelling site as an application: each request goes through the gate, then through its route's permission."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.routing import Route as Served
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from tutelage.errors import TutelageError
from tutelage.web.chat import Language, preferred
from tutelage.web.label import (
    api,
    board,
    data,
    entrance,
    items,
    judging,
    keys,
    learning,
    making,
    people,
    sampling,
    talking,
)
from tutelage.web.label.gate import SAFE, Fences, bearer, new_visitor, same, visitor_csrf
from tutelage.web.label.rendering import page
from tutelage.web.label.services import Site
from tutelage.web.label.visit import Permission, Route, Visit, check, read_body
from tutelage.web.projects import allowed
from tutelage.web.refusal import DatabaseError, Refusal
from tutelage.web.sessions import Session

ROUTES: tuple[Route, ...] = (
    *judging.ROUTES, *entrance.ROUTES, *learning.ROUTES, *making.ROUTES, *board.ROUTES, *people.ROUTES, *items.ROUTES,
    *data.ROUTES, *keys.ROUTES, *api.ROUTES, *sampling.ROUTES, *talking.ROUTES,
)  # fmt: skip
LANGUAGES: tuple[Language, ...] = ("en", "zh")

_STATIC = Path(__file__).parents[1] / "static"
_log = logging.getLogger(__name__)


def application(site: Site, routes: Sequence[Route] = ROUTES) -> ASGIApp:
    """The app of a site. It closes nothing: the database is the caller's.

    Raises:
        SettingsError: a route that does not say who may use it.
    """
    check(routes)
    served: list[BaseRoute] = [
        Served(route.path, _endpoint(site, route), methods=[route.method]) for route in routes
    ]  # fmt: skip
    served.append(Mount("/static", _Static(directory=_STATIC)))

    # The fences stand around everything, also around what answers for a fault of ours.
    app = Starlette(routes=served, exception_handlers={HTTPException: _missing(site), Exception: _fault(site)})
    app.router.redirect_slashes = False
    return Fences(app, site.gate.secure)


class _Static(StaticFiles):
    """Our own files: looked at again each time, so that a new version is seen at once."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _endpoint(site: Site, route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        visit = Visit(site, request, language_of(request, None), csrf="")
        try:
            renewed = await _let_in(site, route, visit)
            response = await route.endpoint(visit)
        except Refusal as refusal:
            return refused(visit, route.page, refusal)
        except DatabaseError as error:
            _log.warning("%s", error)
            return _failed(visit, route.page, 503)
        except TutelageError as error:
            return refused(visit, route.page, Refusal("bad_input", str(error)))
        if renewed is not None:
            site.gate.set_cookie(response, site.gate.session_cookie, renewed.token)
        elif visit.held_session is visit.held_key is None and visit.request.method in SAFE:
            _set_visitor(site, visit, response)
        return response

    return serve


async def _let_in(site: Site, route: Route, visit: Visit) -> Session | None:
    """Checks who asks from where, and reads what they send; a session whose token has been replaced.

    Raises:
        Refusal: they may not.
    """
    request, renewed = visit.request, None
    site.gate.check_host(request.headers)
    if route.permission.key is not None:
        # No browser sends a key by itself, so neither an origin nor a word is asked for; and no cookie counts.
        secret = bearer(request.headers)
        visit.held_key = await asyncio.to_thread(site.keys.holder, secret, visit.project, route.permission.key)
        visit.form, visit.body = await read_body(request, route.takes)
        return None
    if route.method not in SAFE:
        site.gate.check_origin(request.headers)
    token = request.cookies.get(site.gate.session_cookie, "")
    if token:
        with contextlib.suppress(Refusal):
            visit.held_session = await site.sessions.found(token)
            # Not within a POST: the page that sent it has the old word for its forms.
            if visit.session.renew and route.method in SAFE:
                renewed = visit.held_session = await asyncio.to_thread(site.sessions.renew, token)
    if visit.held_session is not None:
        visit.csrf = visit.held_session.csrf
        visit.language = language_of(request, visit.held_session)
    else:
        visitor = request.cookies.get(site.gate.visitor_cookie, "")
        request.state.visitor = visitor if 16 <= len(visitor) <= 64 and visitor.isascii() else new_visitor()
        visit.csrf = visitor_csrf(request.state.visitor)
    await _permit(site, route.permission, visit)
    if route.method not in SAFE:
        visit.form, visit.body = await read_body(request, route.takes)
        given = visit.form.pop("csrf", "") if route.takes == "form" else request.headers.get("x-csrf", "")
        if not same(visit.csrf, given):
            raise Refusal("stale_page", "this page is old: load it again")
    return renewed


async def _permit(site: Site, permission: Permission, visit: Visit) -> None:
    if not permission.session:
        return
    if visit.held_session is None:
        raise Refusal("sign_in", "sign in first")
    if permission.maker and not visit.session.owner:
        raise Refusal("not_allowed", "only people who may make projects come here")
    if permission.inside:
        right = permission.right
        if right is None:
            visit.held_member = await asyncio.to_thread(site.accounts.member, visit.account, visit.project)
        else:
            visit.held_member = await site.read(lambda c: allowed(c, visit.account, visit.project, right))


def language_of(request: Request, session: Session | None) -> Language:
    """What was chosen here, else what the account says, else what the browser asks for."""
    chosen = request.cookies.get("language", session.locale if session else "")
    for language in LANGUAGES:
        if chosen == language:
            return language
    return preferred(request.headers.get("accept-language", ""))


def refused(visit: Visit, as_page: bool, refusal: Refusal) -> Response:
    """What was refused, as a page or for a script."""
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    if not as_page:
        body = {"code": refusal.code, "message": str(refusal), "retry_after": refusal.retry_after}
        return JSONResponse(body, refusal.status, headers)
    if refusal.code == "sign_in" and visit.request.method in SAFE:
        path = visit.request.url.path
        return RedirectResponse("/sign-in" if path == "/" else f"/sign-in?next={quote(path)}", 303, headers)
    visit.held_member = None
    response = page(visit, "refused", refusal.status, code=refusal.code, message=str(refusal))
    response.headers.update(headers)
    return response


def _failed(visit: Visit, as_page: bool, status: int) -> Response:
    headers = {"Retry-After": "2"} if status == 503 else {}
    code = "busy" if status == 503 else "fault"
    if not as_page:
        return JSONResponse({"code": code, "message": "nothing of this was kept", "retry_after": 2}, status, headers)
    visit.held_member = None
    response = page(visit, "refused", status, code=code, message="")
    response.headers.update(headers)
    return response


def _set_visitor(site: Site, visit: Visit, response: Response) -> None:
    if visit.request.cookies.get(site.gate.visitor_cookie, "") != visit.request.state.visitor:
        site.gate.set_cookie(response, site.gate.visitor_cookie, visit.request.state.visitor, None)


def _missing(site: Site) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def missing(request: Request, error: Exception) -> Response:
        """No such page, or not by this method."""
        assert isinstance(error, HTTPException)
        visit = Visit(site, request, language_of(request, None), csrf="")
        return page(visit, "refused", error.status_code, code="unknown", message="")

    return missing


def _fault(site: Site) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def fault(request: Request, _error: Exception) -> Response:
        """A fault of ours: the log has the traceback, the visitor has none of it."""
        return _failed(Visit(site, request, language_of(request, None), csrf=""), True, 500)

    return fault
