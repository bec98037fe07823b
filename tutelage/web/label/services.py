"""What the routes of the labelling site share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import argon2
from sqlalchemy import Connection, select

from tutelage.errors import ModelError
from tutelage.inference.language_model import LanguageModel
from tutelage.web import schema
from tutelage.web.accounts import Accounts
from tutelage.web.database import Ahead, Database, Transaction
from tutelage.web.dialogues import Dialogues
from tutelage.web.judgments import Judgments
from tutelage.web.keys import Keys
from tutelage.web.label.decisions import Decisions
from tutelage.web.label.gate import Gate
from tutelage.web.label.quiz import Quiz
from tutelage.web.models import Models
from tutelage.web.projects import Projects
from tutelage.web.queue import Queue
from tutelage.web.sampling import Samplings
from tutelage.web.seats import Seats
from tutelage.web.sessions import HASHER, Sessions

P = ParamSpec("P")
T = TypeVar("T")


def _no_model(path: Path) -> LanguageModel:
    raise ModelError(f"{path.name}: this site was started without models")


class Site:
    """An open database and all that is done with it.

    Args:
        url: how people reach the site.
        models: who may be asked for answers.
    """

    def __init__(
        self, database: Database, url: str, hasher: argon2.PasswordHasher = HASHER, models: Models | None = None
    ) -> None:
        self.database = database
        self.url = url.rstrip("/")
        self.gate = Gate(url)
        self._slow = ThreadPoolExecutor(2, thread_name_prefix="slow")
        self.sessions = Sessions(database, hasher)
        self.accounts = Accounts(database, self.sessions)
        self.projects = Projects(database)
        self.queue = Queue(database)
        self.judgments = Judgments(database)
        self.seats = Seats(database)
        self.keys = Keys(database)
        self.quiz = Quiz(database)
        self.decisions = Decisions(database)
        self.models = models or Models(dict, _no_model)
        self.samplings = Samplings(database, self.projects, self.models)
        self.dialogues = Dialogues(database, self.models)

    def has_people(self) -> bool:
        """Whether anybody has an account."""
        return self.database.read(lambda c: c.scalar(select(schema.account.c.id).limit(1))) is not None

    async def write(self, work: Callable[[Transaction], T], ahead: Ahead) -> T:
        """What a piece of judging gives, once it is on the disk; it is in the line before this is waited for.

        It uses prepared statements alone, and refuses before it writes.
        """
        loop = asyncio.get_running_loop()
        return await asyncio.wrap_future(self.database.submit(work, whole=True, ahead=ahead, loop=loop))

    async def slowly(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a long piece of work gives: hashing a password, statistics over everything, a whole file.

        It has threads of its own, so that those who judge never wait behind it.
        """
        return await asyncio.get_running_loop().run_in_executor(self._slow, partial(work, *args, **kwargs))

    async def study(self, work: Callable[[Connection], T]) -> T:
        """What a long look at the database gives."""
        return await self.slowly(self.database.read, work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.to_thread(self.database.read, work)
