"""A served labelling site for the tests, and visitors with cookies who ask it things."""

from __future__ import annotations

import contextlib
import html
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import argon2
import httpx
import site_of_tests
import uvicorn

from tutelage.web.label.application import application
from tutelage.web.label.services import Site
from tutelage.web.models import Models
from tutelage.web.sessions import Session

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""One for all visitors: reading the system's certificates takes longer than most tests."""
HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class House(site_of_tests.Site):
    """A site with people and projects, and its pages at an address."""

    def __init__(self, where: Path | str, port: int = 0, models: Models | None = None) -> None:
        super().__init__(where)
        self.listening = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.clients: list[httpx.Client] = []
        self.label = Site(self.database, self.url, HASHER, models)

    def visitor(self, session: Session | None = None, **headers: str) -> Visitor:
        visitor = Visitor(self.url, session, headers)
        self.clients.append(visitor.client)
        return visitor

    def owner(self, name: str = "Olga") -> Visitor:
        return self.visitor(self.person(name))


class Visitor:
    """A browser without eyes: cookies, and the word that forms bring back."""

    def __init__(self, url: str, session: Session | None = None, headers: dict[str, str] | None = None) -> None:
        self.client = httpx.Client(base_url=url, headers={"Origin": url, **(headers or {})}, timeout=20, verify=_NO_TLS)
        self.session = session
        self.csrf = session.csrf if session else ""
        if session:
            self.client.cookies.set("session", session.token)

    @property
    def account(self) -> str:
        assert self.session is not None
        return self.session.account

    def get(self, path: str, **headers: str) -> httpx.Response:
        answer = self.client.get(path, headers=headers)
        found = re.search(r'name="csrf" value="(\w+)"', answer.text)
        if found:
            self.csrf = found[1]
        return answer

    def form(self, path: str, **fields: str) -> httpx.Response:
        return self.client.post(path, data={"csrf": self.csrf, **fields})

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return self.client.post(path, json={} if body is None else body, headers={"X-CSRF": self.csrf, **headers})

    def file(self, path: str, name: str, content: bytes, **more: str) -> httpx.Response:
        return self.client.post(path, params={"name": name, **more}, content=content, headers={"X-CSRF": self.csrf})

    def answer(self, project: str, item: dict[str, Any], said: Any, **more: Any) -> httpx.Response:
        """Submits what a person says about an item that `claim` gave."""
        body = {"project": project, "item": item["item"], "token": item["token"], "said": said}
        return self.post("/seats/submit", {**body, "idem": f"key {time.monotonic_ns()}", **more})

    def claim(self, project: str) -> dict[str, Any]:
        return self.post("/seats/claim", {"project": project}).json()


def task_of(page: httpx.Response) -> dict[str, Any]:
    """What the page gives its script."""
    found = re.search(r'data-task="([^"]*)"', page.text)
    assert found, page.text
    return json.loads(html.unescape(found[1]))


@contextlib.contextmanager
def served(where: Path | str, models: Models | None = None) -> Iterator[House]:
    house = House(where, models=models)
    config = uvicorn.Config(
        application(house.label), log_config=None, access_log=False, timeout_graceful_shutdown=2, server_header=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [house.listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield house
    finally:
        for client in house.clients:
            client.close()
        server.should_exit = True
        thread.join(10)
        house.listening.close()
        house.database.close()
