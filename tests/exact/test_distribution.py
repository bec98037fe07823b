"""Two processes learn what one learns; a run may go on with another number of them."""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from forks import forks

from tutelage import settings
from tutelage.model import checkpoint
from tutelage.run import Run, read_metrics
from tutelage.training.trainer import Trainer


def work(stage: str, path: str, values: dict[str, Any], environment: dict[str, str], death: int | None) -> None:
    """One of the processes; it may be told to die when a step is written down."""
    os.environ.update(environment)
    log = Trainer.log

    def logged(self: Trainer, **numbers: Any) -> None:
        if environment["WORLD_SIZE"] == "2":  # each has its part of what is trained, and no more
            trained = list(self.optimizers.named.values())
            held = sum(weight.to_local().numel() for weight in trained)  # pyright: ignore
            assert held < 0.6 * sum(weight.numel() for weight in trained)
        log(self, **numbers)
        if self.step == death:
            os.kill(os.getpid(), signal.SIGKILL)

    Trainer.log = logged
    module = importlib.import_module(f"tutelage.stages.{stage}")
    recipe = settings.check(module.Recipe, values, stage)
    with Run.begin(Path(path), stage, settings.plain(recipe), quiet=True) as run:
        module.execute(recipe, run)
        run.finish()


def learn(stage: str, path: Path, values: dict[str, Any], processes: int, death: int | None = None) -> list[int | None]:
    """The exit codes of so many processes that do a stage together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children: list[Any] = []
    for rank in range(processes):
        environment = {
            "WORLD_SIZE": str(processes), "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }  # fmt: skip
        children.append(forks().Process(target=work, args=(stage, str(path), values, environment, death)))
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    return [child.exitcode for child in children]


def same(one: Path, two: Path, names: tuple[str, ...] = ("loss", "accuracy", "tokens", "gradient_norm")) -> None:
    """The same curves and weights, to 1e-5."""
    rows, others = ([row for row in read_metrics(path) if "split" not in row] for path in (one, two))
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    for row, other in zip(rows, others, strict=True):
        for name in names:
            assert row[name] == pytest.approx(other[name], abs=1e-5, rel=1e-5), (row["step"], name)
    assert tiny.worst(weights(one), weights(two)) < 1e-5


def weights(path: Path) -> dict[str, Any]:
    model, _ = checkpoint.load(path)
    return tiny.tensors(model)


def recipe(stage: str, model: Path, folder: Path, **values: Any) -> dict[str, Any]:
    common = {"model": str(model), "save_seconds": 0, "max_batch_tokens": 60, "learning_rate": 1e-3}
    if stage == "sft":  # an epoch ends with a step of one example, of which the second process gets none
        data = tiny.jsonl(folder / "talks.jsonl", tiny.conversations(25))
        return {**common, "conversations": str(data), "batch_tokens": 120, "num_train_epochs": 2, **values}
    if stage == "pretrain":
        data = tiny.jsonl(folder / "texts.jsonl", tiny.documents())
        return {
            "documents": str(data), "tokenizer": str(model), "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_length": 24, "batch_tokens": 96, "num_train_epochs": 1.5,
            "copy_share": 0.2, "learning_rate": 1e-3, "save_seconds": 0, "max_batch_tokens": 60, **values,
        }  # fmt: skip
    if stage == "kto":
        data = tiny.jsonl(folder / "verdicts.jsonl", tiny.verdicts(25))
        return {**common, "verdicts": str(data), "batch_size": 6, "num_train_epochs": 2, **values}
    if stage == "ppo":
        (folder / "reward.py").write_text("def short(prompts, given): return [len(set(r)) / 9 for r in given]\n")
        data = tiny.jsonl(folder / "talks.jsonl", tiny.conversations(25))
        return {
            **common, "prompts": str(data), "reward_function": f"{folder / 'reward.py'}:short", "iterations": 3,
            "batch_size": 12, "mini_batch_size": 6, "samples_per_prompt": 2, "max_new_tokens": 6, **values,
        }  # fmt: skip
    data = tiny.jsonl(folder / "votes.jsonl", tiny.comparisons(25))
    return {**common, "comparisons": str(data), "batch_size": 6, "num_train_epochs": 2, **values}


@pytest.mark.parametrize(
    ("stage", "values"),
    [
        ("sft", {}),
        ("sft", {"optimizer": "muon", "gradient_checkpointing": True}),
        ("dpo", {}),
        ("dpo", {"lora_rank": 2}),
        ("reward", {}),
        ("kto", {}),
        ("ppo", {}),
        ("ppo", {"bottleneck_size": 4, "learning_rate": 0.02}),
    ],
    ids=["sft", "sft-muon-checkpointing", "dpo", "dpo-lora", "reward", "kto", "ppo", "ppo-bottleneck"],
)
def test_two_processes_learn_what_one_learns(
    stage: str, values: dict[str, Any], model_folder: Path, tmp_path: Path
) -> None:
    given = recipe(stage, model_folder, tmp_path, **values)
    assert learn(stage, tmp_path / "one", given, 1) == [0]
    assert learn(stage, tmp_path / "two", given, 2) == [0, 0]
    if stage == "reward":
        rows, others = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
        assert [row["accuracy"] for row in rows] == pytest.approx([row["accuracy"] for row in others])
        config = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "two")]
        assert config[0]["reward_mean"] == pytest.approx(config[1]["reward_mean"], abs=1e-5)
    else:
        curves = {"kto": ("loss", "kl", "tokens", "gradient_norm"), "ppo": ("loss", "kl", "score", "gradient_norm")}
        same(tmp_path / "one", tmp_path / "two", curves.get(stage, ("loss", "accuracy", "tokens", "gradient_norm")))
    names = [sorted(file.name for file in (tmp_path / name).iterdir()) for name in ("one", "two")]
    assert names[0] == names[1]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(
    before: int, after: int, model_folder: Path, tmp_path: Path
) -> None:
    """Killed in the middle of an epoch. Muon too, whose momentum is spread as the weights are."""
    given = recipe("sft", model_folder, tmp_path, optimizer="muon", save_total_limit=2)
    assert learn("sft", tmp_path / "whole", given, 1) == [0]
    steps = len(read_metrics(tmp_path / "whole"))
    assert steps > 5
    assert set(learn("sft", tmp_path / "cut", given, before, death=3)) != {0}
    kept = sorted(folder.name for folder in (tmp_path / "cut.partial" / "checkpoint").iterdir())
    assert kept == ["step-2", "step-3"]
    parts = sorted(file.name for file in (tmp_path / "cut.partial" / "checkpoint" / "step-3").glob("*.safetensors"))
    assert parts == [f"{rank}-of-{before}.safetensors" for rank in range(before)]
    assert learn("sft", tmp_path / "cut", given, after) == [0] * after
    assert f"goes on from step 3 of {steps}" in (tmp_path / "cut" / "log.txt").read_text()
    same(tmp_path / "whole", tmp_path / "cut")


def test_reading_goes_on_with_another_number_of_processes(model_folder: Path, tmp_path: Path) -> None:
    """Killed in the middle of an epoch; the documents are encoded once."""
    given = recipe("pretrain", model_folder, tmp_path)
    assert learn("pretrain", tmp_path / "whole", given, 1) == [0]
    assert len(read_metrics(tmp_path / "whole")) > 10
    assert set(learn("pretrain", tmp_path / "cut", given, 2, death=3)) != {0}
    index = tmp_path / "cut.partial" / "checkpoint" / "tokens" / "index.json"
    written = index.stat().st_mtime_ns
    assert set(learn("pretrain", tmp_path / "cut", given, 1, death=8)) != {0}
    assert index.stat().st_mtime_ns == written
    assert learn("pretrain", tmp_path / "cut", given, 2) == [0, 0]
    same(tmp_path / "whole", tmp_path / "cut", ("loss", "tokens", "gradient_norm"))


def test_what_is_not_finite_in_one_process_stops_both(model_folder: Path, tmp_path: Path) -> None:
    given = recipe("sft", model_folder, tmp_path, learning_rate=1e38)
    codes = learn("sft", tmp_path / "two", given, 2)
    assert 0 not in codes
    assert None not in codes  # none hangs
    assert (tmp_path / "two.partial" / "checkpoint").is_dir()


@pytest.mark.slow
def test_torchrun_and_the_command_line(model_folder: Path, tmp_path: Path) -> None:
    given = recipe("sft", model_folder, tmp_path)
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tutelage", "sft", *flags, "--output", str(tmp_path / "two"), "--quiet"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "two" / "report.html").exists()
    assert learn("sft", tmp_path / "one", given, 1) == [0]
    same(tmp_path / "one", tmp_path / "two")
