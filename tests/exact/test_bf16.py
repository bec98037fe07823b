"""bf16 on a CPU: the same learning to rounding, in matrix products alone, and only where the processor can."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from tutelage.errors import SettingsError
from tutelage.model import checkpoint, device
from tutelage.run import read_done, read_metrics
from tutelage.stages import dpo, kto, ppo, pretrain, reward, sft
from tutelage.training.batches import flat
from tutelage.training.likelihood import token_log_probabilities


@pytest.fixture(autouse=True)
def float32_again() -> Iterator[None]:
    yield
    device.prepare(1)


needs_bf16 = pytest.mark.skipif(
    not device.probe() or torch.cuda.is_available(), reason="this processor cannot multiply in bfloat16"
)


@needs_bf16
@pytest.mark.parametrize("architecture", ["qwen3", "gpt2", "gemma2", "llama"])
def test_matrix_products_alone(architecture: str) -> None:
    """The likelihood differs a little and is float32; the gradients are float32, and point where they should."""
    model = tiny.make_model(architecture)
    batch = flat([tiny.example([9, 8], [30, 31, 6], [40, 6]), tiny.example([], [9, 12, 13, 14])])
    found: list[Any] = []
    for bf16 in (False, True):
        device.prepare(1, bf16)
        nats = token_log_probabilities(model, batch)
        found.append((nats.detach(), tiny.gradients(-nats.sum(), model)))
    device.prepare(1)
    (exact, gradients), (rounded, others) = found
    assert rounded.dtype == torch.float32
    assert 1e-6 < float((exact - rounded).abs().max()) < 0.1
    one, two = (torch.cat([value.flatten() for value in part.values()]) for part in (gradients, others))
    assert two.dtype == torch.float32
    assert float(torch.cosine_similarity(one, two, dim=0)) > 0.999


@needs_bf16
@pytest.mark.parametrize("stage", [pretrain, sft, reward, dpo, kto])
def test_every_stage_learns_as_in_float32(
    stage: Any, model_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    values: dict[str, Any] = {"max_length": 60, "model": model_folder, "batch_size": 8, "num_train_epochs": 2}
    if stage is pretrain:
        texts = tiny.jsonl(tmp_path / "texts.jsonl", tiny.documents(24))
        values = {
            "documents": texts, "tokenizer": tokenizer_folder, "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_length": 40, "batch_tokens": 200,
        }  # fmt: skip
    elif stage is sft:
        del values["batch_size"]
        values |= {"conversations": tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations(24)), "batch_tokens": 250}
    elif stage is kto:
        values["verdicts"] = tiny.jsonl(tmp_path / "verdicts.jsonl", tiny.verdicts(24))
    else:
        values["comparisons"] = tiny.jsonl(tmp_path / "votes.jsonl", tiny.comparisons(24))
    for name, bf16 in (("exact", False), ("rounded", True), ("again", True)):
        tiny.run_stage(stage, tmp_path / name, **values, bf16=bf16)
    exact, rounded = (
        [row["loss"] for row in read_metrics(tmp_path / name) if "loss" in row] for name in ("exact", "rounded")
    )
    assert exact != rounded
    assert rounded == pytest.approx(exact, rel=0.02, abs=0.02)
    files = [read_done(tmp_path / name)["files"]["model.safetensors"] for name in ("rounded", "again")]
    assert files[0] == files[1]
    saved = tiny.tensors(
        checkpoint.load_scorer(tmp_path / "rounded")[0] if stage is reward else checkpoint.load(tmp_path / "rounded")[0]
    )
    assert all(value.dtype == torch.float32 for value in saved.values())


def test_ppo_refuses_it(model_folder: Path, tmp_path: Path) -> None:
    talks = tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations(8))
    with pytest.raises(SettingsError, match=r"^bf16: on a CPU answers are drawn in float32"):
        tiny.run_stage(
            ppo, tmp_path / "ppo", model=model_folder, prompts=talks, reward_function="x.py:y", bf16=True
        )  # fmt: skip
