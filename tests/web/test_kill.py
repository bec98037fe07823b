"""Whatever moment the server is killed at: what was acknowledged is there, once, and the log holds."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from site_of_tests import Site, opened

PEOPLE = 8


def kill_while_writing(site: Site, project: str, where: Path | str, tag: str, seconds: float) -> list[tuple[str, str]]:
    """What a process acknowledged before it was killed: who, and the key."""
    program = str(Path(__file__).with_name("writing.py"))
    people = site.rows("select account from membership where role = 'annotator' order by account")
    names = ",".join(row[0] for row in people)
    command = [sys.executable, program, str(where), project, names, tag]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONWARNINGS": "error"}) as process:
        assert process.stdout
        try:
            first = process.stdout.readline()
            time.sleep(seconds)
        finally:
            process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    assert first, "it wrote nothing"
    whole = (first + rest).decode().split("\n")[:-1]  # a line that was cut was not read by anyone
    return [(account, key) for account, key in (line.split("\t") for line in whole)]


def kills(where: Path | str, times: int) -> None:
    dice = random.Random(11)
    with opened(where) as site:
        anna = site.person("anna")
        project = site.project(anna, lease_seconds=1)
        site.fill(anna, project, 3000 + 600 * times, need=3)  # more than a fast machine can judge in the time
        site.annotators(project, PEOPLE)
        acknowledged: list[tuple[str, str]] = []
        for number in range(times):
            acknowledged += kill_while_writing(site, project, where, f"round {number}", dice.uniform(0.05, 0.6))
        held = site.rows("select account, idem from judgment where kind = 'answer'")
        assert len(held) == len(set(held))
        assert set(acknowledged) <= set(held)
        assert len(acknowledged) > 3 * times
        site.sound()
        # A new server goes on where the dead one stopped: what it left leased is given to others.
        site.clock.now = time.time_ns() // 1000 + 60 * 10**6
        ((one,),) = site.rows("select max(account) from membership where role = 'annotator'")
        assert site.queue.claim(one, project) is not None
        site.sound()
    if not isinstance(where, str):
        with contextlib.closing(sqlite3.connect(where)) as connection:
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


def test_three_kills(where: Path | str):
    kills(where, 3)


@pytest.mark.slow
def test_fifty_kills(where: Path | str):
    kills(where, 50)
