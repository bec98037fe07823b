"""A labelling site for the tests: a clock that we move, quick passwords, and a few people."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import argon2
import pytest
import sqlalchemy as sa

from tutelage.records import Message
from tutelage.web import audit, judgments, schema
from tutelage.web.accounts import Accounts, Role
from tutelage.web.answers import Question
from tutelage.web.database import Database
from tutelage.web.items import NewItem, NewResponse
from tutelage.web.judgments import Judgments, Receipt, Submission
from tutelage.web.projects import NewProject, Projects
from tutelage.web.queue import Lease, Queue
from tutelage.web.refusal import Refusal
from tutelage.web.seats import Seats
from tutelage.web.sessions import MINUTE, Session, Sessions

BETTER = Question(key="better", kind="compare")
START = 1_900_000_000_000_000
PASSWORD = "violet tram 58 sings"


class Clock:
    """Stands still until it is told to move, either way."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def pass_(self, minutes: float) -> None:
        self.now += int(minutes * MINUTE)


def refused(work, *args, **kwargs) -> Refusal:
    """The refusal that the work must end in."""
    with pytest.raises(Refusal) as caught:
        work(*args, **kwargs)
    return caught.value


def code(work, *args, **kwargs) -> str:
    """The code of the refusal that the work must end in."""
    return refused(work, *args, **kwargs).code


def new_item(number: int, **changes) -> NewItem:
    plain = {
        "prompt": (Message(role="user", content=f"question {number}"),),
        "responses": (NewResponse(text=f"left {number}"), NewResponse(text=f"right {number}")),
    }
    return NewItem(**{**plain, **changes})


class Site:
    def __init__(self, where: Path | str) -> None:
        self.clock = Clock()
        self.database = Database(where, self.clock)
        # As weak as it may be: what passwords cost is not what is tested.
        self.sessions = Sessions(self.database, argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.accounts = Accounts(self.database, self.sessions)
        self.projects = Projects(self.database)
        self.queue = Queue(self.database)
        self.judgments = Judgments(self.database)
        self.seats = Seats(self.database)
        self._keys = itertools.count()

    def person(self, name: str) -> Session:
        """Someone with an account, who is in no project."""
        link = self.accounts.invite_owner()
        return self.accounts.accept(link, f"{name}@example.org", PASSWORD, name=name)

    def member(self, by: Session, project: str, name: str, role: Role = "annotator") -> Session:
        """Someone who came into a project by a link."""
        link = self.accounts.invite(by.account, project, role)
        return self.accounts.accept(link, f"{name}@example.org", PASSWORD, name=name)

    def bare_project(self, owner: Session, id: str = "P") -> str:
        """A project of which there is no more than its row and its owner."""

        def work(t) -> None:
            t.connection.execute(
                sa.insert(schema.project),
                {
                    "id": id, "name": "p", "kind": "compare", "state": "open", "lease_seconds": 600, "gold_share": 0,
                    "settings": "{}", "secret": "s", "guideline": 0, "guideline_major": 0, "tail": 0, "created": t.at,
                },
            )  # fmt: skip
            member = {"project": id, "account": owner.account, "role": "owner", "state": "active", "guideline_read": 0}
            t.connection.execute(sa.insert(schema.membership), member)

        self.database.write(work)
        return id

    def project(self, owner: Session, **changes) -> str:
        """A project in which two answers are compared, and nothing is gold."""
        plain = {"name": "p", "kind": "compare", "questions": (BETTER,), "guideline": "Be fair.", "gold_share": 0.0}
        return self.projects.make(owner.account, NewProject(**{**plain, **changes}))

    def fill(self, owner: Session, project: str, count: int, **changes) -> list[str]:
        """Items "question 0", "question 1", ... with two answers each."""
        return self.projects.add_items(owner.account, project, [new_item(n, **changes) for n in range(count)])

    def annotators(self, project: str, count: int) -> list[str]:
        """The ids of people who are ready to judge."""

        def work(t) -> list[str]:
            ids = [f"person {project} {number}" for number in range(count)]
            for id in ids:
                person = {
                    "id": id, "email": None, "email_key": None, "name": id, "password": None, "status": "active",
                    "owner": False, "locale": "en", "created": t.at,
                }  # fmt: skip
                t.connection.execute(sa.insert(schema.account), person)
                member = {"project": project, "account": id, "role": "annotator", "state": "active"}
                t.connection.execute(sa.insert(schema.membership), {**member, "guideline_read": 1})
            return ids

        return self.database.write(work)

    def key(self) -> str:
        """A fresh key, as a page would make it up."""
        return f"key {next(self._keys):08}"

    def answer(self, account: str, lease: Lease | None, choice: object = 1, **changes) -> Receipt:
        assert lease is not None
        plain = {"item": lease.item, "token": lease.token, "idem": self.key(), "said": {"better": choice}}
        return self.judgments.submit(account, Submission(**{**plain, **changes}))

    def rows(self, statement: str) -> list[tuple]:
        return self.database.read(lambda c: [tuple(row) for row in c.execute(sa.text(statement))])

    def sound(self) -> None:
        """What must hold whatever has happened."""
        assert self.rows("select id from item where done > need or taken > need") == []
        assert self.rows(
            "select i.id from item i where taken <> (select count(*) from seat s where s.item = i.number "
            "and s.state <> 'skipped') or done <> (select count(*) from seat s where s.item = i.number "
            "and s.state = 'answered')"
        ) == []  # fmt: skip
        assert self.database.read(audit.verify).fault == ""
        assert self.database.read(judgments.verify) == ""

    def actions(self) -> list[str]:
        """What the log says was done."""
        ask = sa.select(schema.audit.c.action).order_by(schema.audit.c.seq)
        return self.database.read(lambda c: list(c.scalars(ask)))


@contextlib.contextmanager
def opened(where: Path | str) -> Iterator[Site]:
    site = Site(where)
    try:
        yield site
    finally:
        site.database.close()
