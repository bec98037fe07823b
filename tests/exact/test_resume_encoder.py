"""An encoder that is killed while it learns ends with the same bytes: masks and dropout go on where they were."""

from pathlib import Path
from typing import Any

import tiny
from dying import check_deaths


def test_killed_in_the_middle_it_ends_the_same(tokenizer_folder: Path, tmp_path: Path) -> None:
    texts = tiny.jsonl(tmp_path / "texts.jsonl", tiny.documents())
    values: dict[str, Any] = {
        "documents": str(texts), "tokenizer": str(tokenizer_folder), "objective": "masked_token",
        "architecture": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "max_length": 64,
        "batch_tokens": 256, "max_batch_tokens": 128, "num_train_epochs": 2, "save_seconds": 0,
    }  # fmt: skip
    check_deaths("pretrain", tmp_path, values, ["learning 2", "saving 3", "finishing"])
