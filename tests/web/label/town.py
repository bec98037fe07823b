"""A site whose every route is asked by somebody in every role."""

from __future__ import annotations

from typing import Any

import httpx
from house import House, Visitor
from site_of_tests import PASSWORD
from starlette.responses import Response

import tutelage.web.label.application as application
from tutelage.web.label.gate import visitor_csrf
from tutelage.web.label.visit import Route

EVERYONE = ("nobody", "stranger", "maker", "viewer", "annotator", "reviewer", "manager", "owner")
BY_SESSION = tuple(route for route in application.ROUTES if route.permission.key is None)
BY_KEY = tuple(route for route in application.ROUTES if route.permission.key is not None)
REACHED = 204


def name(route: Route) -> str:
    return f"{route.method} {route.path}"


class Town:
    """A house with one project and somebody in every role; its endpoints only say that they were reached."""

    def __init__(self, house: House) -> None:
        self.house = house
        owner = house.person("owner")
        self.project = house.project(owner)
        [self.item, *_] = house.fill(owner, self.project, 3)
        self.account = owner.account
        self.sessions: dict[str, Any] = {"nobody": None, "owner": owner, "maker": house.person("maker")}
        for role in ("viewer", "annotator", "reviewer", "manager"):
            self.sessions[role] = house.member(owner, self.project, role, role)  # type: ignore[arg-type]
        other = house.project(self.sessions["maker"])
        self.sessions["stranger"] = house.member(self.sessions["maker"], other, "stranger")
        for role, session in self.sessions.items():
            if session is not None:
                self.sessions[role] = house.sessions.sign_in(f"{role}@example.org", PASSWORD)

    def visitor(self, role: str, **headers: str) -> Visitor:
        visitor = self.house.visitor(self.sessions[role], **headers)
        if role == "nobody":
            visitor.client.cookies.set("visitor", "a" * 24)
            visitor.csrf = visitor_csrf("a" * 24)
        return visitor

    def path(self, route: Route, **changed: str) -> str:
        values = {
            "project": self.project, "item": self.item, "account": self.account, "link": "x" * 43,
            "snapshot": "0" * 26, "shape": "preference", **changed,
        }  # fmt: skip
        return route.path.format(**values)

    def ask(self, visitor: Visitor, route: Route, **changed: str) -> httpx.Response:
        path = self.path(route, **changed)
        if route.method == "GET":
            return visitor.client.get(path)
        return send(visitor, route, path)


def send(visitor: Visitor, route: Route, path: str, **headers: str) -> httpx.Response:
    """A body of the right kind, and the word where it belongs."""
    match route.takes:
        case "form":
            data = {"csrf": visitor.csrf} if visitor.csrf else {}
            return visitor.client.post(path, data={**data, "x": "y"}, headers=headers)
        case "json":
            return visitor.client.post(path, json={}, headers={"X-CSRF": visitor.csrf, **headers})
        case _:
            return visitor.client.post(path, content=b"x", headers={"X-CSRF": visitor.csrf, **headers})


async def reached(_visit: object) -> Response:
    return Response(status_code=REACHED)
