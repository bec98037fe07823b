"""What the adapters and LISA add to a state: killed at any moment, they end with the same bytes."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny
from test_resume import start

from tutelage.run import read_done, read_metrics

METHODS: dict[str, dict[str, Any]] = {
    "lisa": {"lisa_layers": 1, "lisa_interval": 3},
    "lisa_blocks_alone": {"lisa_layers": 1, "lisa_interval": 2, "lisa_embeddings": False, "optimizer": "muon"},
    "bottleneck": {"bottleneck_size": 4},
}


@pytest.mark.parametrize("method", list(METHODS))
def test_killed_in_the_middle_it_ends_the_same(method: str, gpt2_folder: Path, tmp_path: Path) -> None:
    talks = tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations(48))
    values: dict[str, Any] = {
        "model": str(gpt2_folder), "conversations": str(talks), "batch_tokens": 80, "num_train_epochs": 2,
        "save_seconds": 0, "max_length": 60, **METHODS[method],
    }  # fmt: skip
    child = start("sft", tmp_path / "whole" / "run", values)
    child.join(60)
    assert child.exitcode == 0
    for death in ("learning 4", "saving 5"):
        child = start("sft", tmp_path / "cut" / "run", values, death)
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
    child = start("sft", tmp_path / "cut" / "run", values)
    child.join(60)
    assert child.exitcode == 0
    assert read_done(tmp_path / "cut" / "run")["files"] == read_done(tmp_path / "whole" / "run")["files"]
    one, two = (
        [json.dumps({**row, "tokens_per_second": 0}) for row in read_metrics(tmp_path / place / "run")]
        for place in ("whole", "cut")
    )
    assert one == two
    assert len(one) > 8
