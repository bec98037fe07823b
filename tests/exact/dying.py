"""Stages in processes of their own, which die where they are told to."""

import importlib
import json
import os
import signal
from pathlib import Path
from typing import Any

from forks import forks

from tutelage import settings
from tutelage.run import Run, read_done, read_metrics
from tutelage.training import state
from tutelage.training.trainer import Trainer


def work(stage: str, path: str, values: dict[str, Any], death: str) -> None:
    """A stage in a process of its own, which may be told where to die."""

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    where, _, count = death.partition(" ")
    if where == "saving":  # the new state is written, the old one still in its place
        calls = [0]
        replace = os.replace

        def deadly(*given: Any) -> None:
            calls[0] += 1
            (die if calls[0] == int(count) else replace)(*given)

        state.os = type("", (), {"replace": staticmethod(deadly)})  # pyright: ignore
    if where == "learning":  # its numbers are written, its state is not
        log = Trainer.log

        def logged(self: Trainer, **numbers: Any) -> None:
            log(self, **numbers)
            if self.step == int(count):
                die()

        Trainer.log = logged
    module = importlib.import_module(f"tutelage.stages.{stage}")
    recipe = settings.check(module.Recipe, values, stage)
    with Run.begin(Path(path), stage, settings.plain(recipe), quiet=True) as run:
        module.execute(recipe, run)
        if where == "finishing":
            die()
        run.finish()


def start(stage: str, path: Path, values: dict[str, Any], death: str = "") -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    child = forks().Process(target=work, args=(stage, str(path), values, death))
    child.start()
    return child


def finished(stage: str, path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """A stage that may live to its end; gives what its run says of itself."""
    child = start(stage, path, values)
    child.join(60)
    assert child.exitcode == 0
    return read_done(path)


def killed(stage: str, path: Path, values: dict[str, Any], death: str) -> None:
    """A stage that dies, so that there is no run yet."""
    child = start(stage, path, values, death)
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert not path.exists()


def untimed(path: Path) -> list[str]:
    """The rows of a run's metrics without their speed."""
    return [json.dumps({**row, "tokens_per_second": 0}) for row in read_metrics(path)]


def check_deaths(stage: str, folder: Path, values: dict[str, Any], deaths: list[str]) -> None:
    """Fails unless a run that dies so often ends with the bytes of one that was left alone."""
    whole, cut = folder / "whole" / "run", folder / "cut" / "run"
    done = finished(stage, whole, values)
    for death in deaths:
        killed(stage, cut, values, death)
    assert finished(stage, cut, values)["files"] == done["files"]
    assert untimed(cut) == untimed(whole)
    assert len(untimed(whole)) > 8
