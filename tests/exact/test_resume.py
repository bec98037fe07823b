"""kill -9 at any moment, then the same command: the same bytes in the end as without."""

import importlib
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import tiny

from tutelage import settings
from tutelage.run import Run, read_done, read_metrics
from tutelage.training import state
from tutelage.training.trainer import Trainer

FORKS = multiprocessing.get_context("forkserver")  # imports once, and its children begin at once
FORKS.set_forkserver_preload(["tutelage.stages.ppo", "tutelage.stages.dpo", "tutelage.stages.sft"])

REWARD = "def length(prompts, responses): return [len(set(text)) / 10 for text in responses]\n"


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
    child = FORKS.Process(target=work, args=(stage, str(path), values, death))
    child.start()
    return child


@pytest.mark.parametrize("stage", ["sft", "dpo", "ppo"])
def test_killed_at_any_moment_it_ends_the_same(
    stage: str, gpt2_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    common: dict[str, Any] = {"save_seconds": 0, "max_length": 60}
    if stage == "sft":  # with dropout, and the best weights kept
        talks = tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations(48))
        values = {
            "model": str(gpt2_folder),
            "conversations": str(talks),
            "batch_tokens": 80,
            "num_train_epochs": 6,
            "eval_share": 0.2,
            "eval_steps": 2,
            "learning_rate": 0.02,
        }
    elif stage == "dpo":  # with an adapter
        votes = tiny.jsonl(tmp_path / "votes.jsonl", tiny.comparisons(48))
        values = {
            "model": str(model_folder), "comparisons": str(votes), "batch_size": 4, "num_train_epochs": 4,
            "lora_rank": 2, "lora_dropout": 0.1,
        }  # fmt: skip
    else:  # with a value network, two epochs and an adaptive cost
        (tmp_path / "reward.py").write_text(REWARD)
        talks = tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations(48))
        values = {
            "model": str(model_folder), "prompts": str(talks), "reward_function": f"{tmp_path / 'reward.py'}:length",
            "iterations": 12, "batch_size": 8, "mini_batch_size": 4, "max_new_tokens": 8, "target_kl": 0.1,
            "kl_horizon": 50,
        }  # fmt: skip
    values |= common

    child = start(stage, tmp_path / "whole" / "run", values)
    child.join(60)
    assert child.exitcode == 0
    whole = read_done(tmp_path / "whole" / "run")
    rows = read_metrics(tmp_path / "whole" / "run")
    steps = rows[-1]["step"] + 1
    assert steps > 8

    path = tmp_path / "cut" / "run"
    for death in ("learning 0", "learning 3", "saving 3", "learning 7", "finishing"):
        child = start(stage, path, values, death)
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        assert not path.exists()
    notes = (tmp_path / "cut" / "run.partial" / "log.txt").read_text()
    assert f"goes on from step 3 of {steps}" in notes

    rng = random.Random(stage)
    for _ in range(3):
        child = start(stage, tmp_path / "random" / "run", values)
        time.sleep(rng.uniform(0.1, 0.2 + whole["seconds"]))
        child.kill()
        child.join(60)
        if (tmp_path / "random" / "run").exists():
            break
    for place in (path, tmp_path / "random" / "run"):
        if not place.exists():
            child = start(stage, place, values)
            child.join(60)
            assert child.exitcode == 0
        assert read_done(place)["files"] == whole["files"]
        assert read_done(place)["hash"] == whole["hash"]
        again = read_metrics(place)
        assert [row["step"] for row in again if "split" not in row] == list(range(steps))
        for one, two in zip(rows, again, strict=True):
            assert json.dumps({**one, "tokens_per_second": 0}) == json.dumps({**two, "tokens_per_second": 0})
        assert not (place / "checkpoint").exists()
    assert "model.safetensors" in whole["files"] or "adapter_model.safetensors" in whole["files"]
