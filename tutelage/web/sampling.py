"""Prompts to items: named models answer them on the spot, and the answers go into a project's line as they come."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Literal

from tutelage.errors import SettingsError, TutelageError
from tutelage.inference.language_model import Sampling
from tutelage.web.answers import Question
from tutelage.web.audit import canonical
from tutelage.web.database import Database, Transaction
from tutelage.web.items import MAX_RESPONSES, NewItem, NewResponse
from tutelage.web.models import Drawn, Models
from tutelage.web.projects import Projects, allowed, questions_of
from tutelage.web.refusal import Refusal

GROUP = 16
"""Prompts that are answered in one go: others who ask a model wait no longer than that."""

State = Literal["running", "done", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Who is asked, and how often."""

    models: tuple[str, ...]
    answers: int
    """Of each model, to each prompt."""
    sampling: Sampling


@dataclass(slots=True)
class Job:
    """A sampling that is under way, or was the last of its project."""

    wanted: Wanted
    total: int
    """Prompts."""
    done: int = 0
    """Prompts that have been answered."""
    added: int = 0
    """Items that were made of them."""
    state: State = "running"
    message: str = ""
    """Why it failed."""
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def alike(self) -> int:
        """Prompts whose answers were too much the same to be judged."""
        return self.done - self.added


class Samplings:
    """The samplings of all projects, one at a time for each. They end with the site; what was added stays."""

    def __init__(self, database: Database, projects: Projects, models: Models) -> None:
        self._database = database
        self._projects = projects
        self._models = models
        self._jobs: dict[str, Job] = {}
        self._door = threading.Lock()

    def job(self, project: str) -> Job | None:
        """The project's last one."""
        return self._jobs.get(project)

    def stop(self, project: str) -> None:
        """Ends a sampling after the prompts that are being answered."""
        job = self._jobs.get(project)
        if job is not None:
            job.stopping.set()

    def start(self, by: str, project: str, prompts: Sequence[NewItem], wanted: Wanted, *, origin: str = "") -> Job:
        """Begins to answer prompts.

        Raises:
            Refusal: not theirs to fill; a model that is not there; answers that could not be judged as the project
                asks; a row that is no mere prompt; or one is under way.
        """
        questions = self._database.read(lambda c: questions_of(c, project))
        self._models.check(wanted.models)
        _check(questions, wanted, prompts)
        with self._door:
            held = self._jobs.get(project)
            if held is not None and held.state == "running":
                raise Refusal("full", f"{held.total} prompts are being answered: wait for them, or stop that")
            asked = {
                "models": wanted.models, "answers": wanted.answers, "prompts": len(prompts),
                "temperature": wanted.sampling.temperature, "seed": wanted.sampling.seed,
            }  # fmt: skip

            def work(t: Transaction) -> None:
                allowed(t.connection, by, project, "manage_project")
                t.log(by, "items.sample", project, detail=canonical(asked), origin=origin)

            self._database.write(work)
            job = self._jobs[project] = Job(wanted, len(prompts))

        def add(items: Sequence[NewItem]) -> None:
            self._projects.add_items(by, project, items, origin=origin)

        given = (job, prompts, _least(questions), add)
        threading.Thread(target=self._work, args=given, name=f"sampling {project}", daemon=True).start()
        return job

    def _work(
        self, job: Job, prompts: Sequence[NewItem], least: tuple[int, int], add: Callable[[Sequence[NewItem]], None]
    ) -> None:
        try:
            for start in range(0, len(prompts), GROUP):
                if job.stopping.is_set():
                    job.state = "stopped"
                    return
                group = prompts[start : start + GROUP]
                items = list(self._items(job.wanted, group, start, least))
                add(items)
                job.added += len(items)
                job.done += len(group)
            job.state = "done"
        except TutelageError as error:
            job.state, job.message = "failed", str(error)
        except BaseException:
            job.state, job.message = "failed", "the server failed: its log says why"
            raise

    def _items(self, wanted: Wanted, group: Sequence[NewItem], start: int, least: tuple[int, int]) -> list[NewItem]:
        """The items of some prompts; those whose answers are too much alike make none."""
        asked = [item.prompt for item in group for _ in range(wanted.answers)]
        drawing: list[Future[list[Drawn]]] = [
            self._models.ask(name, asked, wanted.sampling, _seed(wanted.sampling.seed, name, start))
            for name in wanted.models
        ]
        try:
            drawn = [one.result() for one in drawing]
        except SettingsError:
            raise self._too_long(wanted, group, start) from None
        found: list[NewItem] = []
        for place, item in enumerate(group):
            mine = [answers[place * wanted.answers : (place + 1) * wanted.answers] for answers in drawn]
            # One of each model first: where two are compared, they are of two models if there are two.
            different: dict[str, Drawn] = {}
            for one in itertools.chain.from_iterable(zip(*mine, strict=True)):
                if one.text:
                    different.setdefault(one.text, one)
            if len(different) >= least[0]:
                chosen = list(different.values())[: least[1]]
                found.append(replace(item, responses=tuple(response_of(one) for one in chosen)))
        return found

    def _too_long(self, wanted: Wanted, group: Sequence[NewItem], start: int) -> TutelageError:
        """Which of these prompts does not fit, in words."""
        shortest = replace(wanted.sampling, max_new_tokens=1)
        for number, item in enumerate(group, start=start + 1):
            for name in wanted.models:
                try:
                    self._models.ask(name, [item.prompt], shortest).result()
                except SettingsError as error:
                    return SettingsError(f"row {number}: {error}")
        return SettingsError(f"rows {start + 1} to {start + len(group)}: a prompt does not fit: shorten it")


def response_of(drawn: Drawn) -> NewResponse:
    """An answer as a project keeps it."""
    return NewResponse(
        text=drawn.text, model=drawn.model, model_sha256=drawn.model_sha256, sampling=drawn.sampling
    )  # fmt: skip


def _least(questions: Sequence[Question]) -> tuple[int, int]:
    """How many different answers an item needs, and how many it takes."""
    kinds = {question.kind for question in questions}
    if "compare" in kinds:
        return 2, 2
    return (2 if "rank" in kinds else 1), MAX_RESPONSES


def _check(questions: Sequence[Question], wanted: Wanted, prompts: Sequence[NewItem]) -> None:
    if not wanted.models or len(set(wanted.models)) < len(wanted.models):
        raise Refusal("bad_input", "models: name at least one, and each once")
    drawn = len(wanted.models) * wanted.answers
    least, _ = _least(questions)
    if not least <= drawn <= MAX_RESPONSES:
        raise Refusal("bad_input", f"{drawn} answers to each prompt: this project takes {least} to {MAX_RESPONSES}")
    if wanted.answers > 1 and wanted.sampling.temperature == 0:
        raise Refusal("bad_input", "temperature 0 gives the same answer every time: raise it, or ask for one answer")
    for number, item in enumerate(prompts, start=1):
        if item.responses or item.gold is not None:
            raise Refusal("bad_input", f"row {number}: has responses: give prompts alone, or add the file as it is")
        if item.prompt[-1].role == "assistant":
            raise Refusal("bad_input", f"row {number}: the prompt is what comes before the answer")


def _seed(seed: int, model: str, start: int) -> int:
    """What a model's answers to some prompts are drawn with: the same each time, and others for each."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{model}/{start}".encode()).digest()[:4], "big")
