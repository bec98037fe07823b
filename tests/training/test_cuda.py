"""On a card: bfloat16 weights with float32 copies, and the estimate of memory beside what is taken."""

from pathlib import Path

import pytest
import tiny
import torch

from tutelage.model import checkpoint
from tutelage.run import Run
from tutelage.stages import sft
from tutelage.training import footprint
from tutelage.training.batches import flat
from tutelage.training.likelihood import token_log_probabilities
from tutelage.training.optimizer import Learning
from tutelage.training.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_small_updates_of_bfloat16_weights_are_not_lost(model_folder: Path, tmp_path: Path) -> None:
    talks = tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations())
    rows = tiny.run_stage(
        sft, tmp_path / "sft", model=model_folder, conversations=talks, batch_tokens=120, num_train_epochs=20,
        learning_rate=5e-4,
    )  # fmt: skip
    losses = [row["loss"] for row in rows]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    model, _ = checkpoint.load(tmp_path / "sft")
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize("again", [False, True])
def test_the_estimate_beside_the_card(again: bool, tmp_path: Path) -> None:
    model = tiny.make_model(
        "qwen3", vocab_size=8192, hidden_size=512, num_hidden_layers=12, intermediate_size=1536, head_dim=64,
        num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=4096,
    ).to(torch.bfloat16).cuda().train()  # fmt: skip
    learning = Learning(max_batch_tokens=16_384, gradient_checkpointing=again)
    row = flat([tiny.example([], [5] * 2048) for _ in range(8)]).to(torch.device("cuda"))
    with Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run:
        before = torch.cuda.memory_allocated()
        trainer = Trainer(run, model, learning, steps=2)
        found = footprint.measure(model, learning)
        torch.cuda.reset_peak_memory_stats()
        for _ in trainer.steps():
            trainer.backward(-token_log_probabilities(model, row).mean())
            trainer.update()
        taken = torch.cuda.max_memory_allocated() - before
    assert 0.6 < found.needed / taken < 1.6, (found, taken)
