"""The models that a site may ask, and the process beside it in which they answer.

A model computes for seconds, and may take its process along when it fails. So models live in one of their own, which
is started at the first question, holds the last few models, and goes when nobody has asked for a while; the site keeps
answering meanwhile. Questions wait in one line. Those that are drawn in the same way are answered together.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import secrets
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutelage.errors import ModelError, SettingsError, TutelageError
from tutelage.inference.language_model import LanguageModel, Reply, Sampling
from tutelage.records import Message
from tutelage.run import content_hash
from tutelage.web.refusal import Refusal

KEPT = 2
"""Models that are held in memory at a time."""
TOGETHER = 64
"""Answers that are computed together, at most; one question may want more."""
IDLE = 600.0
"""Seconds after which the memory of models that nobody asks is given back."""

Prompt = Sequence[Message]
Load = Callable[[Path], LanguageModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """An answer, and all that is needed to draw it again."""

    text: str
    model: str
    model_sha256: str
    """The content of the model's folder when it was loaded."""
    sampling: dict[str, Any]
    """The settings, with the seed of the batch and the answer's place in it."""


@dataclass(eq=False, slots=True)
class _Asked:
    """A place in the line."""

    name: str
    path: Path
    prompts: Sequence[Prompt]
    sampling: Sampling
    seeded: bool
    drawn: Future[list[Drawn]]

    def joins(self, first: _Asked, room: int) -> bool:
        """Whether it can be answered in the batch that another begins, which has that one's seed."""
        same = self.path == first.path and replace(self.sampling, seed=0) == replace(first.sampling, seed=0)
        return same and not self.seeded and len(self.prompts) <= room


class Models:
    """Models by their names.

    Args:
        known: which there are now, and where; looked at for every question.
        load: makes a model of a folder. It is called in the other process, so it stands in a module by its name.
    """

    def __init__(self, known: Callable[[], Mapping[str, Path]], load: Load) -> None:
        self._known = known
        self._load = load
        self._line: deque[_Asked] = deque()
        self._arrived = threading.Condition()
        self._thread: threading.Thread | None = None
        self._process: Any = None
        self._pipe: Any = None
        self._closed = False

    def names(self) -> list[str]:
        """Which models can be asked."""
        return sorted(self._known())

    def check(self, names: Sequence[str]) -> None:
        """That all of these are there.

        Raises:
            Refusal: naming the first that is not, and those that are.
        """
        self._places(names)

    def ask(
        self, name: str, prompts: Sequence[Prompt], sampling: Sampling, seed: int | None = None
    ) -> Future[list[Drawn]]:
        """One answer to each prompt, in order, some time later; equal prompts are answered differently.

        Without a seed one is drawn. The future raises SettingsError where a prompt does not fit the model's context,
        and ModelError where there is no model, or it fails.

        Raises:
            Refusal: there is no such model.
        """
        [path] = self._places([name])
        drawn: Future[list[Drawn]] = Future()
        sampling = replace(sampling, seed=secrets.randbits(31) if seed is None else seed)
        with self._arrived:
            if self._closed:
                raise ModelError(f"{name}: the site is closing")
            self._line.append(_Asked(name, path, prompts, sampling, seed is not None, drawn))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="models", daemon=True)
                self._thread.start()
            self._arrived.notify()
        return drawn

    def _places(self, names: Sequence[str]) -> list[Path]:
        there = self._known()
        for name in names:
            if name not in there:
                others = ", ".join(sorted(there))
                why = f"there are {others}" if others else "there are none: see `tutelage label --help`"
                raise Refusal("bad_input", f"model {name!r}: not here: {why}")
        return [there[name] for name in names]

    def close(self) -> None:
        """Ends the process; whoever waits is told."""
        with self._arrived:
            self._closed = True
            self._arrived.notify()
            process = self._process
        if process is not None:
            process.terminate()
        if self._thread is not None:
            self._thread.join(10)

    def _work(self) -> None:
        while True:
            batch = self._next()
            if batch is None:
                break
            self._answer([asked for asked in batch if asked.drawn.set_running_or_notify_cancel()])
        self._stop()
        for asked in self._line:
            asked.drawn.set_exception(ModelError(f"{asked.name}: the site is closing"))

    def _next(self) -> list[_Asked] | None:
        """The first in the line, and those who can be answered with it; None when the site closes."""
        with self._arrived:
            while not self._line and not self._closed:
                if not self._arrived.wait(IDLE) and not self._line:
                    self._stop()
            if self._closed:
                return None
            batch = [self._line.popleft()]
            for other in list(self._line):
                if other.joins(batch[0], TOGETHER - sum(len(asked.prompts) for asked in batch)):
                    batch.append(other)
                    self._line.remove(other)
            return batch

    def _answer(self, batch: Sequence[_Asked]) -> None:
        if not batch:
            return
        first = batch[0]
        try:
            prompts = [prompt for asked in batch for prompt in asked.prompts]
            sha256, replies = self._exchange(first, prompts)
        except SettingsError as error:
            if len(batch) == 1:
                first.drawn.set_exception(error)
            for asked in batch if len(batch) > 1 else ():
                self._answer([asked])  # one's long prompt is nobody else's matter
            return
        except TutelageError as error:
            for asked in batch:
                asked.drawn.set_exception(error)
            return
        place = 0
        for asked in batch:
            drawn = [
                Drawn(
                    text=reply.text.strip(), model=first.name, model_sha256=sha256,
                    sampling=_kept(first.sampling, reply, number),
                )
                for number, reply in enumerate(replies[place : place + len(asked.prompts)], start=place)
            ]  # fmt: skip
            place += len(asked.prompts)
            asked.drawn.set_result(drawn)

    def _exchange(self, asked: _Asked, prompts: Sequence[Prompt]) -> tuple[str, list[Reply]]:
        """What the other process says.

        Raises:
            SettingsError: a prompt is too long.
            ModelError: no model, or the process has ended.
        """
        try:
            self._start()
            self._pipe.send((asked.path, prompts, asked.sampling))
            kind, answer = self._pipe.recv()
        except (EOFError, OSError):
            code = self._stop()
            raise ModelError(
                f"{asked.name}: the process in which models answer has ended ({code}): is there memory enough for it?"
            ) from None
        if kind == "answered":
            return answer
        raise SettingsError(answer) if kind == "long" else ModelError(answer)

    def _start(self) -> None:
        with self._arrived:
            if self._closed:
                raise EOFError
            if self._process is not None and self._process.is_alive():
                return
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._load), name="models", daemon=True)
            self._process.start()
            theirs.close()

    def _stop(self) -> int | None:
        """Ends the process; gives how it ended."""
        if self._process is None:
            return None
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.join(1)
        self._process.terminate()
        self._process.join(10)
        code, self._process = self._process.exitcode, None
        return code


def _kept(sampling: Sampling, reply: Reply, place: int) -> dict[str, Any]:
    kept: dict[str, Any] = {
        "temperature": sampling.temperature, "top_p": sampling.top_p, "max_new_tokens": sampling.max_new_tokens,
        "seed": sampling.seed, "place": place,
    }  # fmt: skip
    return {**kept, "finish_reason": reply.finish_reason} if reply.finish_reason != "stop" else kept


def _serve(pipe: Any, load: Load) -> None:
    """The other process: answers until the pipe is closed. Ctrl-C is the site's to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)
    held: dict[tuple[Path, int], tuple[str, LanguageModel]] = {}
    while True:
        try:
            path, prompts, sampling = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            sha256, model = _held(held, path, load)
            said = ("answered", (sha256, model.replies(prompts, sampling)))
        except SettingsError as error:
            said = ("long", str(error))
        except TutelageError as error:
            said = ("failed", str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, the asker is told, and the next one is answered
            said = ("failed", f"{path.name}: {type(error).__name__}: {error}")
        pipe.send(said)


def _held(held: dict[tuple[Path, int], tuple[str, LanguageModel]], path: Path, load: Load) -> tuple[str, LanguageModel]:
    """A model with the hash of its folder; a folder that was made anew is loaded anew."""
    file = path / "done" if (path / "done").exists() else path
    key = (path, file.stat().st_mtime_ns)
    if key in held:
        held[key] = held.pop(key)
        return held[key]
    for other in [one for one in held if one[0] == path] + list(held):
        if other[0] == path or len(held) >= KEPT:
            held.pop(other, None)
    sha256 = content_hash(path)
    held[key] = (sha256, load(path))
    return held[key]
