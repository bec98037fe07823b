"""One model, one thread, and a line in front of it.

A model is not thread-safe, so one worker thread uses it and everyone else waits. Whole answers that are drawn in the
same way are computed together; a streamed one has the model to itself. The line is short: who finds it full is told
when to come again, which is kinder than a minute of silence.

All methods belong to one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tutelage.inference.language_model import LanguageModel, Reply, Sampling
from tutelage.records import Message
from tutelage.web.completions import AnswersLog


class FullError(Exception):
    """The line is full; ``retry_after`` says in how many seconds to come again."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"busy: come again in {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the model is asked."""

    id: str
    prompt: tuple[Message, ...]
    sampling: Sampling
    seeded: bool
    """Whether the seed was asked for. If it was not, the desk draws one."""
    choices: int = 1
    """How many answers are wanted; they are drawn differently."""


@dataclass(eq=False, slots=True)
class Whole:
    """A place in the line for whole answers."""

    question: Question
    replies: asyncio.Future[list[Reply]]

    def leave(self) -> None:
        """The asker has gone."""
        self.replies.cancel()

    @property
    def gone(self) -> bool:
        return self.replies.cancelled()


@dataclass(eq=False, slots=True)
class Streamed:
    """A place in the line for an answer in pieces."""

    question: Question
    pieces: asyncio.Queue[str | Reply | BaseException | None] = field(default_factory=lambda: asyncio.Queue())
    left: threading.Event = field(default_factory=threading.Event)

    async def next(self) -> str | Reply | None:
        """The next piece of text; at the end the whole `Reply`, or None if the model gives none.

        Raises:
            TutelageError: the model refuses the prompt.
        """
        piece = await self.pieces.get()
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def leave(self) -> None:
        """The reader has gone: the model stops at the next piece."""
        self.left.set()

    @property
    def gone(self) -> bool:
        return self.left.is_set()


@dataclass(eq=False, slots=True)
class Errand:
    """A place in the line for other work that needs the model's thread."""

    work: Callable[[], Any]
    result: asyncio.Future[Any]

    def leave(self) -> None:
        """The asker has gone."""
        self.result.cancel()

    @property
    def gone(self) -> bool:
        return self.result.cancelled()


class Desk:
    """The line and the thread. `work` runs for as long as anyone may ask."""

    def __init__(self, model: LanguageModel, log: AnswersLog, room: int = 32, together: int = 16) -> None:
        self._model = model
        self._log = log
        self._room = room
        self._together = together
        self._line: deque[Whole | Streamed | Errand] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._serving: list[Whole | Streamed | Errand] = []
        self._seconds = 1.0
        self._done: asyncio.Future[Any] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    def ask(self, question: Question) -> Whole:
        """A place for whole answers.

        Raises:
            FullError: no room.
        """
        place = Whole(question, asyncio.get_running_loop().create_future())
        self._enter([place])
        return place

    def stream(self, questions: Sequence[Question]) -> list[Streamed]:
        """Places for streamed answers, one a question, served in order.

        Raises:
            FullError: not enough room for all of them.
        """
        places = [Streamed(question) for question in questions]
        self._enter(places)
        return places

    def run(self, work: Callable[[], Any]) -> Errand:
        """A place for other work on the model's thread.

        Raises:
            FullError: no room.
        """
        errand = Errand(work, asyncio.get_running_loop().create_future())
        self._enter([errand])
        return errand

    async def settled(self, id: str, timeout: float = 5) -> None:
        """Waits, if this very answer is being given, until it has ended and is in the log.

        Who stops an answer may judge it before the model has noticed.
        """
        serving = [place for place in self._serving if not isinstance(place, Errand) and place.question.id == id]
        if serving and self._done is not None:
            await asyncio.wait([self._done], timeout=timeout)

    async def work(self) -> None:
        """Serves the line until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._serving = await self._next()
                began = time.monotonic()
                match self._serving:
                    case [Streamed() as place]:
                        done = loop.run_in_executor(self._thread, self._pour, place, loop)
                    case [Errand() as place]:
                        done = loop.run_in_executor(self._thread, place.work)
                    case places:
                        wholes = [place for place in places if isinstance(place, Whole)]
                        done = loop.run_in_executor(self._thread, self._answer, wholes)
                self._done = done
                # Waits without raising: a fault of the model is the asker's to hear, not the line's to die of.
                await asyncio.wait([done])
                spent = (time.monotonic() - began) / len(self._serving)
                self._hand_over(self._serving, done)
                self._serving = []
                self._seconds = 0.7 * self._seconds + 0.3 * spent
        finally:
            self._closed = True
            for place in [*self._line, *self._serving]:
                place.leave()
                if isinstance(place, Streamed):
                    place.pieces.put_nowait(RuntimeError("the desk is closed"))
            if self._done is not None and not self._done.done():
                # A stopped stream still writes what had come into the log.
                await asyncio.wait([self._done], timeout=3)
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _enter(self, places: Sequence[Whole | Streamed | Errand]) -> None:
        if self._closed:
            raise RuntimeError("the desk is closed")
        for place in [place for place in self._line if place.gone]:
            self._line.remove(place)
        if len(self._line) + len(places) > self._room:
            raise FullError(min(60, max(1, math.ceil(self._seconds * len(self._line)))))
        self._line.extend(places)
        self._arrived.set()

    async def _next(self) -> list[Whole | Streamed | Errand]:
        """The first in the line who is still there, and everyone who can be answered with them."""
        while True:
            while not self._line:
                self._arrived.clear()
                await self._arrived.wait()
            first = self._line.popleft()
            if first.gone:
                continue
            if not isinstance(first, Whole):
                return [first]
            batch = [first]
            for other in list(self._line):
                room = self._together - sum(place.question.choices for place in batch)
                if isinstance(other, Whole) and not other.gone and fits(first.question, other.question, room):
                    batch.append(other)
                    self._line.remove(other)
            return [*batch]

    def _answer(self, places: list[Whole]) -> list[list[Reply]]:
        """The answers to each place."""
        sampling = _with_seed(places[0].question)
        questions = [place.question for place in places]
        rows = iter(self._model.replies([q.prompt for q in questions for _ in range(q.choices)], sampling))
        replies = [list(itertools.islice(rows, question.choices)) for question in questions]
        for question, choices in zip(questions, replies, strict=True):
            for number, reply in enumerate(choices):
                id = choice_id(question.id, number)
                self._log.keep(id, question.prompt, reply.text, reply.finish_reason, sampling)
        return replies

    def _pour(self, place: Streamed, loop: asyncio.AbstractEventLoop) -> Reply | None:
        question = place.question
        sampling = _with_seed(question)
        pieces = self._model.reply(question.prompt, sampling)
        text: list[str] = []
        whole: Reply | None = None
        reason: Literal["stop", "length", "cancelled"] = "cancelled"
        while not place.gone:
            try:
                piece = next(pieces)
            except StopIteration as end:
                # A generator may return the Reply: it knows how it ended and how many tokens that took.
                whole = end.value if isinstance(end.value, Reply) else None
                reason = whole.finish_reason if whole else "stop"
                break
            text.append(piece)
            loop.call_soon_threadsafe(place.pieces.put_nowait, piece)
        pieces.close()
        self._log.keep(question.id, question.prompt, "".join(text), reason, sampling)
        return whole

    def _hand_over(self, places: Sequence[Whole | Streamed | Errand], done: asyncio.Future[Any]) -> None:
        error = done.exception()
        for number, place in enumerate(places):
            match place:
                case Streamed():
                    place.pieces.put_nowait(error or done.result())
                case Whole() if not place.gone:
                    _settle(place.replies, error, lambda number=number: done.result()[number])
                case Errand() if not place.gone:
                    _settle(place.result, error, done.result)
                case _:
                    pass


def fits(first: Question, other: Question, room: int) -> bool:
    """Whether a question can be answered in the batch that the first one begins, with room for so many answers.

    The draw must be the same but for its seed. A batch has one seed, and the same seed gives the same answers to the
    one that begins it: so a question that asks for a seed begins a batch, and others join those that do not care.
    """
    same = replace(first.sampling, seed=0) == replace(other.sampling, seed=0)
    return same and other.choices <= room and (not other.seeded or other.sampling.temperature == 0)


def choice_id(id: str, number: int) -> str:
    """The id of one of several answers to one question: the first one has the question's own."""
    return f"{id}.{number}" if number else id


def _with_seed(question: Question) -> Sampling:
    return question.sampling if question.seeded else replace(question.sampling, seed=secrets.randbits(31))


def _settle(future: asyncio.Future[Any], error: BaseException | None, result: Callable[[], Any]) -> None:
    if error is None:
        future.set_result(result())
    else:
        future.set_exception(error)
