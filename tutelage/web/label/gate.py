"""What every request to the labelling site goes through: by which name it calls, from which page, with which cookie.

A page of another site can make a browser send anything but these three together: our own origin, a cookie that only we
can have set, and a word that stands in our pages alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tutelage.web import guard
from tutelage.web.refusal import Refusal

SAFE = frozenset({"GET", "HEAD"})
SESSION_LASTS = 14 * 24 * 3600
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

HEADERS: Mapping[str, str] = {
    **guard.HEADERS,
    # Without any referrer a browser calls the origin of our own forms "null".
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_SECURE = {"Strict-Transport-Security": "max-age=31536000"}


class Gate:
    """The site's own name and its cookies.

    Args:
        url: how people reach the site. With https its cookies are ``__Host-`` and secure; without, it is for this
            machine alone.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.secure = parts.scheme == "https"
        self._origin = f"{parts.scheme}://{parts.netloc}".lower()
        self._hosts = {(parts.hostname or "").lower(), *(() if self.secure else _LOOPBACK)}
        prefix = "__Host-" if self.secure else ""
        self.session_cookie = f"{prefix}session"
        self.visitor_cookie = f"{prefix}visitor"

    def check_host(self, headers: Headers) -> None:
        """That the site is called by its own name.

        Raises:
            Refusal: "other_origin".
        """
        try:
            name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        except ValueError:
            name = ""
        if name not in self._hosts:
            raise Refusal("other_origin", "not served under this name")

    def check_origin(self, headers: Headers) -> None:
        """That what changes something was sent by a page of ours; one of the two headers must be there.

        Raises:
            Refusal: "other_origin".
        """
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        own = self._origin if self.secure else f"http://{headers.get('host', '').lower()}"
        if site not in (None, "same-origin") or (site is None and origin is None):
            raise Refusal("other_origin", "this was not sent by a page of this site")
        if origin is not None and origin.lower() != own:
            raise Refusal("other_origin", "this was not sent by a page of this site")

    def set_cookie(self, response: Response, name: str, value: str, max_age: int | None = SESSION_LASTS) -> None:
        response.set_cookie(
            name, value, max_age=max_age, path="/", secure=self.secure, httponly=True, samesite="lax"
        )  # fmt: skip

    def drop_cookie(self, response: Response, name: str) -> None:
        response.delete_cookie(name, path="/", secure=self.secure, httponly=True, samesite="lax")


def bearer(headers: Headers) -> str:
    """The key that a program sends with ``Authorization: Bearer``; empty where there is none. Source: RFC 6750, 2.1."""
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""


def new_visitor() -> str:
    """What the cookie of someone holds who has not signed in."""
    return secrets.token_urlsafe(18)


def visitor_csrf(visitor: str) -> str:
    """What the forms of someone bring back who has not signed in."""
    return hashlib.sha256(f"visitor:{visitor}".encode(errors="replace")).hexdigest()


def same(wanted: str, given: str) -> bool:
    return hmac.compare_digest(wanted.encode(), given.encode(errors="replace"))


class Fences:
    """Sets the headers that keep our pages to themselves, on whatever is answered."""

    def __init__(self, app: ASGIApp, secure: bool) -> None:
        self._app = app
        self._headers = guard.encoded({**HEADERS, **(_SECURE if secure else {}), "Cache-Control": "no-store"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, guard.with_headers(send, self._headers))
