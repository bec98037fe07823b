"""What the adapters and LISA add to a state: killed at any moment, they end with the same bytes."""

from pathlib import Path
from typing import Any

import pytest
import tiny
from dying import check_deaths

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
    check_deaths("sft", tmp_path, values, ["learning 4", "saving 5"])
