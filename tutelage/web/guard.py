"""What every request and every response goes through: who may ask, and what a browser may do with the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tutelage.web.protocol import ApiError

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as a server sends them."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def with_headers(send: Send, headers: Sequence[tuple[bytes, bytes]]) -> Send:
    """Sends on, with those of the headers that an answer does not set itself."""

    async def fenced(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", ()))
            names = {name.lower() for name, _ in given}
            message["headers"] = given + [header for header in headers if header[0] not in names]
        await send(message)

    return fenced


_ENCODED = encoded(HEADERS)


class Guard:
    """Refuses what a page of another site sends, and sets the headers that keep our page to itself.

    A server on the loopback address is open to every page in the user's browser. Such a page cannot hide where it is
    from (``Origin``) nor under which name it calls us (``Host``).
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        fenced = with_headers(send, _ENCODED)
        refusal = self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, fenced)
            return
        body = json.dumps(refusal.body).encode()
        length = str(len(body)).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", length)]
        await fenced({"type": "http.response.start", "status": refusal.status, "headers": head})
        await fenced({"type": "http.response.body", "body": body})

    def _refusal(self, headers: Headers) -> ApiError | None:
        host = headers.get("host", "")
        if self._hosts is not None and _name(host) not in self._hosts:
            return ApiError(403, f"not served under the name {host!r}", code="unknown_host")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return ApiError(403, f"a page of {origin} may not ask here", code="other_origin")
        return None


def _name(host: str) -> str:
    """The name in a ``Host`` header, without its port; an IPv6 address keeps no brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
