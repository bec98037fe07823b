"""Weights in bfloat16, as on a card: every stage learns as in float32, to rounding, and the same every time.

On a card itself: the same every time.
"""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from dying import check_deaths
from safetensors.torch import load_file

from tutelage.model import checkpoint, device, encoder
from tutelage.run import read_done, read_metrics
from tutelage.stages import dpo, kto, ppo, pretrain, reward, sft

CUDA = torch.cuda.is_available()
pytestmark = [
    pytest.mark.both,
    pytest.mark.skipif(not CUDA and not device.probe(), reason="this processor cannot multiply in bfloat16"),
]

ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"lora_rank": 2},
    "dora": {"lora_rank": 2, "use_dora": True},
    "bottleneck": {"bottleneck_size": 4},
}


def as_on_a_card(patch: pytest.MonkeyPatch) -> None:
    for module in (device, checkpoint, encoder):
        patch.setattr(module, "precision", lambda: torch.bfloat16)
    patch.setattr(device, "exact", lambda: False)


def ways(case: str, model: Path, tokenizer: Path, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A stage and its settings."""
    values: dict[str, Any] = {"max_length": 60, "model": model, "batch_size": 8, "num_train_epochs": 2}
    name, _, more = case.partition(" ")
    if name == "pretrain":
        values = {
            "documents": tiny.jsonl(folder / "texts.jsonl", tiny.documents(24)), "tokenizer": tokenizer,
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_length": 40, "batch_tokens": 200,
        }  # fmt: skip
        if more:
            values |= {"objective": more, "architecture": "bert"}
        return pretrain, values
    if name == "ppo":
        (folder / "reward.py").write_text("def length(prompts, responses): return [len(set(t)) for t in responses]")
        return ppo, {
            "model": model, "prompts": tiny.jsonl(folder / "talks.jsonl", tiny.conversations(16)), "max_length": 60,
            "reward_function": f"{folder / 'reward.py'}:length", "iterations": 2, "batch_size": 8, "mini_batch_size": 4,
            "max_new_tokens": 8, **ADAPTERS.get(more, {}),
        }  # fmt: skip
    if name == "kto":
        return kto, {**values, "verdicts": tiny.jsonl(folder / "verdicts.jsonl", tiny.verdicts(24))}
    if name in ("dpo", "reward"):
        votes = tiny.jsonl(folder / "votes.jsonl", tiny.comparisons(24))
        return (dpo if name == "dpo" else reward), {**values, "comparisons": votes, **ADAPTERS.get(more, {})}
    del values["batch_size"]
    talks = tiny.jsonl(folder / "talks.jsonl", tiny.conversations(24))
    special = {"lisa": {"lisa_layers": 1, "lisa_interval": 2}, "muon": {"optimizer": "muon"}}
    return sft, {**values, "conversations": talks, "batch_tokens": 250} | special.get(more, {}) | ADAPTERS.get(more, {})


@pytest.mark.parametrize(
    "case",
    [
        "pretrain", "pretrain masked_token", "sft", "sft lora", "sft dora", "sft bottleneck", "sft lisa", "sft muon",
        "reward", "reward lora", "dpo", "dpo lora", "kto", "ppo", "ppo lora",
    ],
)  # fmt: skip
def test_every_stage_learns_as_in_float32(
    case: str, model_folder: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, values = ways(case, model_folder, tokenizer_folder, tmp_path)
    if not CUDA:
        tiny.run_stage(stage, tmp_path / "exact", **values)
    as_on_a_card(monkeypatch)
    for name in ("rounded", "again"):
        tiny.run_stage(stage, tmp_path / name, **values)
    losses = {
        name: [row["loss"] for row in read_metrics(tmp_path / name) if "loss" in row]
        for name in ("exact", "rounded", "again")
        if (tmp_path / name).exists()
    }
    assert losses["rounded"] == losses["again"]
    if not CUDA:
        assert losses["rounded"] != losses["exact"]
        if stage is not ppo:  # which draws other answers
            assert losses["rounded"] == pytest.approx(losses["exact"], rel=0.03, abs=0.03)
    (file,) = (tmp_path / "rounded").glob("*.safetensors")
    done = [read_done(tmp_path / name)["files"][file.name] for name in ("rounded", "again")]
    assert done[0] == done[1]
    load = checkpoint.load_scorer if stage is reward else checkpoint.load
    assert case == "pretrain masked_token" or load(tmp_path / "rounded")[0].dtype == torch.bfloat16
    weights = load_file(file)
    assert {value.dtype for name, value in weights.items() if "lora" not in name} <= {torch.bfloat16}
    assert {value.dtype for name, value in weights.items() if "lora" in name} <= {torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not CUDA, reason="there is no CUDA device")
@pytest.mark.parametrize("case", ["sft", "dpo lora"])
def test_killed_on_a_card_it_ends_the_same(
    case: str, model_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    _, values = ways(case, model_folder, tokenizer_folder, tmp_path)
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    more = {"save_seconds": 0, "num_train_epochs": 6}
    check_deaths(case.partition(" ")[0], tmp_path, plain | more, ["learning 3", "saving 3"])
