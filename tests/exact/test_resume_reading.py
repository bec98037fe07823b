"""A base model that is killed while it is encoded for, or reads, ends with the same bytes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from dying import check_deaths, finished, killed, untimed

from tutelage.corpus import shards


@pytest.fixture
def values(tokenizer_folder: Path, tmp_path: Path) -> dict[str, Any]:
    documents = [replace(one, source=f"s{i % 3}") for i, one in enumerate(tiny.documents())]
    texts = tiny.jsonl(tmp_path / "texts.jsonl", documents)
    return {
        "documents": str(texts), "tokenizer": str(tokenizer_folder), "hidden_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 4, "max_length": 24, "batch_tokens": 100, "max_batch_tokens": 50, "copy_share": 0.2,
        "weights": {"s1": 2.4, "s2": 0.5}, "num_train_epochs": 1.5, "save_seconds": 0,
    }  # fmt: skip


def test_killed_in_the_middle_of_an_epoch_it_ends_the_same(values: dict[str, Any], tmp_path: Path) -> None:
    check_deaths("pretrain", tmp_path, values, ["learning 2", "saving 3", "finishing"])


def test_documents_are_encoded_once_unless_their_tokens_are_damaged(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "cut" / "run"
    whole = finished("pretrain", tmp_path / "whole" / "run", values)
    killed("pretrain", path, {**values, "save_seconds": 1000}, "learning 5")  # there is no state yet
    folder = path.with_name("run.partial") / "checkpoint" / "tokens"
    shards.verify(folder)
    made = (folder / "index.json").stat().st_mtime_ns
    killed("pretrain", path, values, "learning 5")
    assert (folder / "index.json").stat().st_mtime_ns == made
    file = next(folder.glob("*.tokens"))
    file.write_bytes(file.read_bytes()[::-1])
    killed("pretrain", path, values, "learning 7")
    assert (folder / "index.json").stat().st_mtime_ns > made
    assert "its checksum is not the index's" in (path.with_name("run.partial") / "log.txt").read_text()
    assert finished("pretrain", path, values)["files"] == whole["files"]
    assert untimed(path) == untimed(tmp_path / "whole" / "run")
