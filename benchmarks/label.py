"""Load on the labelling site as it is served: people who claim, read and judge over HTTP without a pause.

Each of them has an account, a session and the word of their pages. A submission is one request: the session is looked
up, the word and the origin are checked, the answer is validated, written, chained into the log and synced to the disk;
its answer brings the next item with its texts rendered. The driver is a process of its own.

python benchmarks/label.py --people 50 --seconds 20
python benchmarks/label.py --people 20 --beside PYTHON    # and Label Studio in its own environment, one after the other
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import uvloop

TEXT = (
    "A **set** keeps each value once and has no order; looking one up takes the same time however many there are.\n\n"
    '```python\nseen = {"a", "b"}\n"a" in seen\n```\n\n- adding twice changes nothing\n- `frozenset` cannot change\n'
)


@dataclass
class Result:
    """What one run measured."""

    name: str
    seconds: float = 0.0
    submit: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    driver: float = 0.0
    """Seconds of the processor that the driver took."""
    note: str = ""

    def line(self) -> str:
        """A row of JSON; times in milliseconds."""

        def quantile(values: list[float], share: float) -> float | None:
            return round(1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))], 1) if values else None

        row = {
            "benchmark": "label", "side": self.name,
            "submissions_per_second": round(len(self.submit) / self.seconds, 1),
            "submit_p50": quantile(self.submit, 0.5), "submit_p95": quantile(self.submit, 0.95),
            "page_p95": quantile(self.pages, 0.95), "errors": len(self.errors), "note": self.note,
        }  # fmt: skip
        return json.dumps(row | ({"first_error": self.errors[0]} if self.errors else {}), ensure_ascii=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=0, help="submissions a second in all; 0: as fast as they come")
    parser.add_argument("--items", type=int, default=40_000)
    parser.add_argument("--need", type=int, default=1)
    parser.add_argument("--where", help="an empty PostgreSQL database; without it, SQLite in a temporary folder")
    parser.add_argument("--beside", help="the Python of an environment in which label-studio is installed")
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drive:
        uvloop.run(drive(json.loads(Path(args.drive).read_text())))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(ours(Path(folder), args).line(), flush=True)
        if args.beside:
            print(theirs(Path(folder), args).line(), flush=True)


def ours(folder: Path, args: argparse.Namespace) -> Result:
    """Serves a site in a process of its own and drives it from another."""
    where = args.where or str(folder / "label.db")
    project, people = prepare(where, args.people, args.items, args.need)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "tutelage", "label", "--database", where, "--port", str(port)],
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        until_up(f"{url}/health", server)
        before = processor(server.pid)
        plan = {"port": port, "project": project, "people": people, "seconds": args.seconds, "rate": args.rate}
        path = folder / "plan.json"
        path.write_text(json.dumps(plan))
        done = subprocess.run(
            [sys.executable, __file__, "--drive", str(path)], check=True, capture_output=True, text=True
        )
        result = Result("tutelage label", **json.loads(done.stdout))
        used = processor(server.pid) - before
    finally:
        server.terminate()
        server.wait(20)
    site, driver = (1000 * seconds / max(1, len(result.submit)) for seconds in (used, result.driver))
    result.note = (
        f"the server's processor {site:.2f} ms each, the driver's {driver:.2f}; {sound(where, len(result.submit))}"
    )
    return result


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def prepare(where: str, people: int, items: int, need: int) -> tuple[str, list[tuple[str, str]]]:
    """A project with items, and people with a session: its token, and the word of their forms."""
    import sqlalchemy as sa

    from tutelage.records import Message
    from tutelage.web import schema
    from tutelage.web.answers import Question
    from tutelage.web.database import Database, Transaction
    from tutelage.web.items import NewItem, NewResponse
    from tutelage.web.projects import NewProject, Projects
    from tutelage.web.sessions import Session, begin

    names = [f"person {number}" for number in range(people)]

    def settle(t: Transaction) -> list[Session]:
        rows = [
            {"id": name, "name": name, "status": "active", "owner": True, "locale": "en", "created": t.at}
            for name in names
        ]
        t.connection.execute(sa.insert(schema.account), rows)
        return [begin(t, name, name, True, "en", "") for name in names]

    with Database(where) as database:
        sessions = database.write(settle)
        projects = Projects(database)
        new = NewProject(
            name="load", kind="compare", questions=(Question(key="better", kind="compare"),), guideline="Be fair.",
            gold_share=0.0, lease_seconds=600,
        )  # fmt: skip
        project = projects.make(names[0], new)
        projects.add_items(
            names[0], project,
            (
                NewItem(
                    prompt=(Message(role="user", content=f"What is a set? Question {number}."),), need=need,
                    responses=(NewResponse(text=f"{TEXT}\n{number}"), NewResponse(text=f"It is a list. {number}")),
                )
                for number in range(items)
            ),
        )  # fmt: skip

        def join(t: Transaction) -> None:
            member = {"project": project, "role": "annotator", "state": "active", "guideline_read": 1}
            t.connection.execute(sa.insert(schema.membership), [{**member, "account": name} for name in names[1:]])

        database.write(join)
    return project, [(session.token, session.csrf) for session in sessions]


def sound(where: str, submitted: int) -> str:
    """What the database says afterwards."""
    import sqlalchemy as sa

    from tutelage.web import audit
    from tutelage.web.database import Database

    with Database(where) as database:
        over = database.read(lambda c: c.scalar(sa.text("select count(*) from item where done > need")))
        twice = database.read(
            lambda c: (
                c.scalar(
                    sa.text(
                        "select count(*) from (select item from judgment group by item having count(*) > "
                        "(select need from item where number = judgment.item))"
                    )
                )
                if c.dialect.name == "sqlite"
                else 0
            )
        )
        kept = database.read(lambda c: c.scalar(sa.text("select count(*) from judgment"))) or 0
        log = database.read(audit.verify).fault or "holds"
    return f"kept {kept} of {submitted} acknowledged, {over} items with too many, {twice} judged twice, log {log}"


class Line:
    """One connection that stays open; as little of HTTP as it takes, so that the driver is not what is measured."""

    def __init__(self, port: int, *headers: str) -> None:
        self._port = port
        given = (f"Host: 127.0.0.1:{port}", "Content-Type: application/json", *headers)
        self._head = "".join(f"{header}\r\n" for header in given)

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        raw = b"" if body is None else json.dumps(body).encode()
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length, head
        return int(head[9:12]), await self._reader.readexactly(int(length[1]))


async def drive(plan: dict[str, Any]) -> None:
    """Everybody at once, for so many seconds; writes what was measured."""
    result = Result("")
    origin = f"Origin: http://127.0.0.1:{plan['port']}"
    lines = [
        Line(plan["port"], origin, f"Cookie: session={token}", f"X-CSRF: {word}") for token, word in plan["people"]
    ]
    for line in lines:
        await line.open()
    spent = time.process_time()
    given = await asyncio.gather(*(open_page(line, plan, result) for line in lines))
    start = time.monotonic()
    end = start + plan["seconds"]
    await asyncio.gather(
        *(judge(number, *one, plan, end, result) for number, one in enumerate(zip(lines, given, strict=True)))
    )
    result.seconds, result.driver = time.monotonic() - start, time.process_time() - spent
    result.errors = result.errors[:20]
    json.dump({name: getattr(result, name) for name in ("seconds", "submit", "pages", "errors", "driver")}, sys.stdout)


async def open_page(line: Line, plan: dict[str, Any], result: Result) -> dict[str, Any]:
    """The page of the task, and the first item. Nobody judges before everybody has theirs."""
    project = plan["project"]
    start = time.monotonic()
    status, page = await line.ask("GET", f"/p/{project}/task")
    result.pages.append(time.monotonic() - start)
    if status != 200 or b"data-task" not in page:
        result.errors.append(f"page {status}")
    return json.loads((await line.ask("POST", "/seats/claim", {"project": project}))[1])


async def judge(
    number: int, line: Line, given: dict[str, Any], plan: dict[str, Any], end: float, result: Result
) -> None:
    """One person. At a given rate each submission has its time, and counts from then on, also if it had to wait."""
    project, pause = plan["project"], len(plan["people"]) / plan["rate"] if plan["rate"] else 0.0
    count = 0
    due = time.monotonic() + pause * number / len(plan["people"])
    while time.monotonic() < end and given["state"] == "item":
        count += 1
        body = {
            "project": project, "item": given["item"], "token": given["token"], "idem": f"load {number} {count}",
            "said": {"better": 1 + count % 7}, "active_ms": 1000, "client": "load",
        }  # fmt: skip
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        start = due if pause else time.monotonic()
        due += pause
        status, raw = await line.ask("POST", "/seats/submit", body)
        result.submit.append(time.monotonic() - start)
        if status != 201:
            result.errors.append(f"{status} {raw[:200]!r}")
            return
        given = json.loads(raw)["next"]


def until_up(url: str, server: subprocess.Popen[Any], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.3)
    raise SystemExit(f"{url}: nobody answers")


# Label Studio ---------------------------------------------------------------------------------------------------------

STUDIO_TOKEN = "0123456789abcdef0123456789abcdef01234567"
CONFIG = (
    '<View><Text name="prompt" value="$prompt"/><Text name="a" value="$a"/><Text name="b" value="$b"/>'
    '<Choices name="better" toName="prompt"><Choice value="a"/><Choice value="b"/></Choices></View>'
)


ACCOUNTS = """
import json, os, sys
import label_studio
sys.path.insert(0, os.path.dirname(label_studio.__file__))
os.environ["DJANGO_SETTINGS_MODULE"] = "core.settings.label_studio"
import django
django.setup()
from organizations.models import Organization
from rest_framework.authtoken.models import Token
from users.models import User
home, tokens = Organization.objects.first(), []
for number in range(int(sys.argv[1])):
    user = User.objects.create_user(f"person{number}@example.org", "a long password", username=f"person{number}")
    home.add_user(user)
    user.active_organization = home
    user.save()
    tokens.append(Token.objects.get_or_create(user=user)[0].key)
print(json.dumps(tokens))
"""
"""Makes people in Label Studio's own environment: its interface gives nobody's token but one's own."""


def theirs(folder: Path, args: argparse.Namespace) -> Result:
    """Label Studio as it installs, with one account for each person: next task, then its annotation."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = folder / "studio"
    data.mkdir()
    quiet = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data), "COLLECT_ANALYTICS": "False", "LATEST_VERSION_CHECK": "False",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "DEBUG": "False",
    }  # fmt: skip
    studio = Path(args.beside).with_name("label-studio")
    server = subprocess.Popen(
        [
            str(studio), "start", "--init", "-b", "--no-browser", "--internal-host", "127.0.0.1", "-p", str(port),
            "--username", "load@example.org", "--password", "a long password", "--user-token", STUDIO_TOKEN,
            "--data-dir", str(data), "--agree-fix-sqlite",
        ],
        env={**os.environ, **quiet}, stdout=(folder / "studio.log").open("w"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        until_up(f"http://127.0.0.1:{port}/health", server)
        made = subprocess.run(
            [args.beside, "-c", ACCOUNTS, str(args.people)], env={**os.environ, **quiet}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            sys.exit(f"Label Studio: no accounts: {made.stderr[-2000:]}")
        return asyncio.run(_drive_studio(port, json.loads(made.stdout.splitlines()[-1]), args.seconds))
    finally:
        server.terminate()
        server.wait(30)


async def _drive_studio(port: int, tokens: Sequence[str], seconds: float) -> Result:
    result = Result("Label Studio", seconds=seconds)

    async def call(line: Line, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        status, raw = await line.ask(method, path, body)
        return status, json.loads(raw) if raw[:1] in (b"{", b"[") else None

    def line(token: str) -> Line:
        return Line(port, f"Authorization: Token {token}")

    owner = line(STUDIO_TOKEN)
    await owner.open()
    _, project = await call(
        owner, "POST", "/api/projects", {"title": "load", "label_config": CONFIG, "maximum_annotations": 1}
    )
    tasks = [{"data": {"prompt": f"question {n}", "a": TEXT, "b": "It is a list."}} for n in range(2000)]
    await call(owner, "POST", f"/api/projects/{project['id']}/import", tasks)
    answered: list[int] = []
    end = time.monotonic() + seconds

    async def work(token: str) -> None:
        mine = line(token)
        await mine.open()
        while time.monotonic() < end:
            start = time.monotonic()
            status, task = await call(mine, "GET", f"/api/projects/{project['id']}/next")
            if status != 200:
                result.errors.append(f"next {status}")
                await asyncio.sleep(0.1)
                continue
            choice = {"from_name": "better", "to_name": "prompt", "type": "choices", "value": {"choices": ["a"]}}
            status, _ = await call(mine, "POST", f"/api/tasks/{task['id']}/annotations", {"result": [choice]})
            if status == 201:
                result.submit.append(time.monotonic() - start)
                answered.append(task["id"])
            else:
                result.errors.append(f"annotation {status}")

    start = time.monotonic()
    outcomes: Sequence[Any] = await asyncio.gather(*(work(token) for token in tokens), return_exceptions=True)
    result.seconds = time.monotonic() - start
    result.errors += [repr(outcome) for outcome in outcomes if isinstance(outcome, BaseException)]
    result.note = (
        f"{len(answered) - len(set(answered))} tasks judged twice; {len(set(tokens))} accounts; "
        f"median {statistics.median(result.submit or [float('nan')]):.2f} s for next and submit together"
    )
    return result


if __name__ == "__main__":
    main()
