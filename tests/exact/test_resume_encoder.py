"""An encoder that is killed while it learns ends with the same bytes: masks and dropout go on where they were."""

import json
import signal
from pathlib import Path
from typing import Any

import tiny
from test_resume import start

from tutelage.run import read_done, read_metrics


def test_killed_in_the_middle_it_ends_the_same(tokenizer_folder: Path, tmp_path: Path) -> None:
    texts = tiny.jsonl(tmp_path / "texts.jsonl", tiny.documents())
    values: dict[str, Any] = {
        "documents": str(texts), "tokenizer": str(tokenizer_folder), "objective": "masked_token",
        "architecture": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "max_length": 64,
        "batch_tokens": 256, "max_batch_tokens": 128, "num_train_epochs": 2, "save_seconds": 0,
    }  # fmt: skip
    child = start("pretrain", tmp_path / "whole" / "run", values)
    child.join(60)
    assert child.exitcode == 0
    for death in ("learning 2", "saving 3", "finishing"):
        child = start("pretrain", tmp_path / "cut" / "run", values, death)
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
    child = start("pretrain", tmp_path / "cut" / "run", values)
    child.join(60)
    assert child.exitcode == 0
    assert read_done(tmp_path / "cut" / "run")["files"] == read_done(tmp_path / "whole" / "run")["files"]
    one, two = (
        [json.dumps({**row, "tokens_per_second": 0}) for row in read_metrics(tmp_path / place / "run")]
        for place in ("whole", "cut")
    )
    assert one == two
    assert len(one) > 8
