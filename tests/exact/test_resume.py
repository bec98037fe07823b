"""kill -9 at any moment, then the same command: the same bytes in the end as without."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
from dying import finished, killed, start, untimed

from tutelage.run import read_done, read_metrics

REWARD = "def length(prompts, responses): return [len(set(text)) / 10 for text in responses]\n"


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

    whole = finished(stage, tmp_path / "whole" / "run", values)
    rows = untimed(tmp_path / "whole" / "run")
    steps = read_metrics(tmp_path / "whole" / "run")[-1]["step"] + 1
    assert steps > 8

    path = tmp_path / "cut" / "run"
    for death in ("learning 0", "learning 3", "saving 3", "learning 7", "finishing"):
        killed(stage, path, values, death)
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
        done = read_done(place) if place.exists() else finished(stage, place, values)
        assert done["files"] == whole["files"]
        assert done["hash"] == whole["hash"]
        assert [row["step"] for row in read_metrics(place) if "split" not in row] == list(range(steps))
        assert untimed(place) == rows
        assert not (place / "checkpoint").exists()
    assert "model.safetensors" in whole["files"] or "adapter_model.safetensors" in whole["files"]
