"""The site as it is served, killed under load: what a browser was told is kept is there, once, and the log holds."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from site_of_tests import Site, opened

from tutelage.web.sessions import Session, begin

PEOPLE, KILLS = 8, 4


class Judge:
    """A browser that judges without a pause, and sends again what it got no answer to."""

    def __init__(self, port: int, project: str, session: Session) -> None:
        self.port, self.project, self.session = port, project, session
        self.told: dict[str, str] = {}
        """The judgement's id by the key that it was sent with."""
        self.pending: dict[str, Any] | None = None
        self.again = 0
        self.faults: list[str] = []

    def work(self) -> None:
        """Until the server is gone."""
        with (
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as line,
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            following = self.send(line) if self.pending else self.ask(line, "/seats/claim", {})[1]
            while following.get("state") == "item":
                key = f"{self.session.account} {len(self.told)}"
                self.pending = {
                    "item": following["item"], "token": following["token"], "idem": key, "said": {"better": 3},
                }  # fmt: skip
                following = self.send(line)

    def send(self, line: http.client.HTTPConnection) -> dict[str, Any]:
        assert self.pending
        status, answer = self.ask(line, "/seats/submit", self.pending)
        if status != 201:
            self.faults.append(f"{status} {answer}")
            return {}
        self.told[self.pending["idem"]] = answer["receipt"]["judgment"]
        self.again += answer["receipt"]["again"]
        self.pending = None
        return answer["next"]

    def ask(self, line: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        headers = {
            "Cookie": f"session={self.session.token}", "X-CSRF": self.session.csrf, "Content-Type": "application/json",
            "Origin": f"http://127.0.0.1:{self.port}",
        }  # fmt: skip
        line.request("POST", path, json.dumps({"project": self.project, **body}), headers)
        answer = line.getresponse()
        return answer.status, json.loads(answer.read())


@contextlib.contextmanager
def serving(where: Path | str, port: int, folder: Path) -> Iterator[None]:
    """The command itself; killed at the end, in the middle of whatever it does."""
    command = [sys.executable, "-m", "tutelage", "label", "--database", str(where), "--port", str(port)]
    with subprocess.Popen(
        command, cwd=folder, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONWARNINGS": "error"}
    ) as process:
        try:
            end = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert process.poll() is None, "it has ended"
                assert time.monotonic() < end, "it does not answer"
                time.sleep(0.05)
            yield
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def signed_in(site: Site, people: list[str]) -> list[Session]:
    return site.database.write(lambda t: [begin(t, person, person, False, "en", "") for person in people])


@pytest.mark.slow
def test_what_was_acknowledged_survives_each_kill(where: Path | str, tmp_path: Path):
    dice = random.Random(5)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with opened(where) as site:
        site.clock.now = time.time_ns() // 1000
        anna = site.person("anna")
        project = site.project(anna)
        site.fill(anna, project, 8000, need=2)
        judges = [Judge(port, project, session) for session in signed_in(site, site.annotators(project, PEOPLE))]
        for _ in range(KILLS):
            before = sum(len(judge.told) for judge in judges)
            threads = [threading.Thread(target=judge.work) for judge in judges]
            with serving(where, port, tmp_path):
                for thread in threads:
                    thread.start()
                while sum(len(judge.told) for judge in judges) < before + PEOPLE:
                    time.sleep(0.01)
                time.sleep(dice.uniform(0, 0.8))
            for thread in threads:
                thread.join(60)
            assert [fault for judge in judges for fault in judge.faults] == []
            kept = {row[0]: row[1] for row in site.rows("select idem, id from judgment")}
            assert site.rows("select count(*) from judgment") == [(len(kept),)]
            for judge in judges:
                assert judge.told.items() <= kept.items()
            # What is there and was not acknowledged is what the browsers have not heard about yet.
            unheard = {judge.pending["idem"] for judge in judges if judge.pending}
            assert set(kept) - {key for judge in judges for key in judge.told} <= unheard
            site.sound()
        assert sum(len(judge.told) for judge in judges) >= KILLS * PEOPLE
