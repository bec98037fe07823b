"""Ours: a stage, executed as the command line does it, and watched."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command line has it

from pace import Pace, rows

from tutelage import settings
from tutelage.run import Run
from tutelage.training import reference
from tutelage.training.batches import Example
from tutelage.training.trainer import Trainer


class Watched(Run):
    """A run whose steps keep the pace."""

    pace: Pace
    spent: list[float]
    """Seconds and processor seconds of the reference, and the examples it has read."""

    def progress(self, items: Any, description: str, *arguments: Any, **keywords: Any) -> Iterator[Any]:
        if description == "training":
            seconds, cpu_seconds, examples = self.spent
            self.pace.ready(seconds / max(1, examples), cpu_seconds / max(1, examples))
        yield from super().progress(items, description, *arguments, **keywords)

    def measure(self, step: int, **numbers: float | int | str) -> None:
        super().measure(step, **numbers)
        if self.stage == "ppo":
            self.pace.count(int(numbers["tokens"]), int(self.recipe["batch_size"]))
        self.pace.step(float(numbers["loss"]))


def watch_learning(pace: Pace, with_reference: bool) -> None:
    """Counts the examples that are learned from."""
    inner = Trainer.learn

    def counted(trainer: Trainer, chosen: Sequence[int], examples: Sequence[Example], losses: Any) -> None:
        inner(trainer, chosen, examples, losses)
        for example in (examples[i] for i in chosen):
            prompt = len(example.prompt)
            whole = [prompt + len(branch.ids) for branch in example.branches]
            squares = prompt**2 + sum(length**2 - prompt**2 for length in whole)
            pace.count(sum(whole), 1, example.tokens, example.supervised, squares, with_reference)

    Trainer.learn = counted  # pyright: ignore[reportAttributeAccessIssue]


def watch_reference(spent: list[float]) -> None:
    """Takes the time of the reference's log-probabilities, which are computed once, before the first step."""
    inner = reference.response_log_probabilities

    def timed(run: Run, model: Any, examples: Any, *arguments: Any, **keywords: Any) -> Any:
        began, cpu_began = time.perf_counter(), time.process_time()
        found = inner(run, model, examples, *arguments, **keywords)
        spent[0] += time.perf_counter() - began
        spent[1] += time.process_time() - cpu_began
        spent[2] = len(examples)
        return found

    reference.response_log_probabilities = timed


def watch_phases(pace: Pace, stage: Any) -> None:
    """Takes the time of the parts of a PPO iteration, by the wall."""
    phases: dict[str, float] = {}
    pace.more["phases"] = phases

    def timed(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def outer(*arguments: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            found = inner(*arguments, **keywords)
            phases[name] = phases.get(name, 0.0) + time.perf_counter() - began
            return found

        return outer

    stage.Engine.generate = timed("generate", stage.Engine.generate)
    stage._experience = timed("score", stage._experience)
    stage._learn = timed("learn", stage._learn)


def lower_case(_prompts: Any, responses: Sequence[str]) -> list[float]:
    """A reward that costs nothing: the share of lower-case letters."""
    return [sum(letter.islower() for letter in response) / max(1, len(response)) for response in responses]


def train(options: dict[str, Any], pace: Pace) -> None:
    """Executes a stage that trains until told to stop."""
    task = options["task"]
    stage = importlib.import_module(f"tutelage.stages.{task}")
    recipe = settings.check(stage.Recipe, options["recipe"], task)
    Watched.pace, Watched.spent = pace, [0.0, 0.0, 0]
    if task == "ppo":
        watch_phases(pace, stage)
    else:
        watch_learning(pace, with_reference=task in ("dpo", "kto"))
        watch_reference(Watched.spent)
    with Watched.begin(Path(options["run"]), task, settings.plain(recipe), quiet=True) as run:
        stage.execute(recipe, run)


def prepare(options: dict[str, Any], pace: Pace) -> None:
    """Cleans the same documents again and again; a sample is a document."""
    from tutelage.stages import prepare

    recipe = settings.check(prepare.Recipe, options["recipe"], "prepare")
    pace.ready()
    while True:
        with Run.begin(Path(options["run"]), "prepare", settings.plain(recipe), quiet=True) as run:
            prepare.execute(recipe, run)
        shutil.rmtree(run.folder)
        pace.count(0, options["samples"])
        pace.step()


def serve(options: dict[str, Any], pace: Pace) -> None:
    """Serves a model and asks it, eight requests at a time; a sample is a request, its tokens are those it wrote."""
    import uvicorn

    from tutelage.inference.engine import Engine
    from tutelage.stages.serve import listen
    from tutelage.web.app import application

    engine = Engine.load(Path(options["model"]))
    listening = listen("127.0.0.1", 0)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/chat/completions"
    server = uvicorn.Server(uvicorn.Config(application(engine, None), log_level="warning", access_log=False))
    threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
    asked = [row["prompt"] for row in rows(options["data"])]

    def ask(messages: Any) -> int:
        body = json.dumps({"model": engine.name, "messages": messages, "max_tokens": 32, "temperature": 0})
        request = Request(address, body.encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=300) as answer:
            return int(json.load(answer)["usage"]["completion_tokens"])

    pace.ready()
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, 1 << 30, 16):
            found = list(pool.map(ask, (asked[(start + i) % len(asked)] for i in range(16))))
            pace.count(sum(found), len(found))
            pace.step()


def main() -> None:
    """Does the task until told to stop."""
    options = json.loads(sys.argv[1])
    pace = Pace(options, "tutelage")
    {"prepare": prepare, "serve": serve}.get(options["task"], train)(options, pace)


if __name__ == "__main__":
    main()
