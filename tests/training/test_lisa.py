"""LISA: blocks drawn evenly, nothing else moved or remembered, and a backward pass that stops where it may."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import PreTrainedModel

from tutelage.errors import SettingsError
from tutelage.model.adapters import Adapting, adapt
from tutelage.stages import sft
from tutelage.training.batches import flat
from tutelage.training.likelihood import token_log_probabilities
from tutelage.training.lisa import Drawn, Lisa
from tutelage.training.optimizer import Learning, Optimizers

ROW = flat([tiny.example([9, 8, 41], [30, 31, 32, 6], [40, 6])])
EMBEDDINGS = "model.embed_tokens.weight"


def six(**changes: Any) -> PreTrainedModel:
    return tiny.make_model("qwen3", num_hidden_layers=6, **changes).requires_grad_(True)


def block_of(name: str) -> int | None:
    return int(name.split(".")[2]) if name.startswith("model.layers.") else None


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    model.zero_grad()
    (-token_log_probabilities(model, ROW).mean()).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("sampling", ["exact", "bernoulli"])
def test_every_block_is_drawn_as_often(sampling: Any) -> None:
    drawn = Drawn(six(), Lisa(lisa_layers=2, lisa_interval=5, lisa_sampling=sampling), seed=3)
    periods = [drawn.chosen(5 * period) for period in range(600)]
    counts = Counter(block for chosen in periods for block in chosen)
    spread = (600 * 1 / 3 * 2 / 3) ** 0.5
    assert all(abs(counts[block] - 200) < 4 * spread for block in range(6)), counts
    sizes = {len(chosen) for chosen in periods}
    assert sizes == {2} if sampling == "exact" else len(sizes) > 3
    again = Drawn(six(), Lisa(lisa_layers=2, lisa_interval=5, lisa_sampling=sampling), seed=3)
    assert [again.chosen(5 * period + 4) for period in range(600)] == periods
    other = Drawn(six(), Lisa(lisa_layers=2, lisa_interval=5, lisa_sampling=sampling), seed=4)
    assert [other.chosen(5 * period) for period in range(600)] != periods


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_only_what_is_drawn_moves_and_is_remembered(optimizer: Any) -> None:
    model = six()
    drawn = Drawn(model, Lisa(lisa_layers=2, lisa_interval=3), seed=1)
    optimizers = Optimizers(model, Learning(optimizer=optimizer, learning_rate=0.01))
    moved: set[int] = set()
    for step in range(9):
        before = tiny.tensors(model)
        with drawn.live(step, optimizers):
            found = gradients(model)
        assert {block_of(name) for name in found} == {None, *drawn.chosen(step)}
        optimizers.step(1.0)
        after = tiny.tensors(model)
        changed = {name for name in after if not torch.equal(after[name], before[name])} - {"lm_head.weight"}
        assert changed == set(found)
        remembered = {name.partition("/")[0] for name in optimizers.state()}
        assert remembered == set(found)
        moved |= drawn.chosen(step)
        assert all(weight.requires_grad for weight in model.parameters())
    assert len(moved) > 2


def test_what_comes_back_begins_anew() -> None:
    model = six()
    drawn = Drawn(model, Lisa(lisa_layers=3, lisa_interval=2), seed=1)
    optimizers = Optimizers(model, Learning())
    for step in range(12):
        with drawn.live(step, optimizers):
            gradients(model)
        optimizers.step(1.0)
        steps = {name: int(value) for name, value in optimizers.state().items() if name.endswith("/step")}
        for name, count in steps.items():
            block = block_of(name)
            since = step + 1
            while block is not None and since > 0 and block in drawn.chosen(since - 1):
                since -= 1
            assert count == step + 1 - (since if block is not None else 0)


@pytest.mark.parametrize("embeddings", [True, False])
def test_gradients_are_those_of_training_everything(embeddings: bool) -> None:
    model = six()
    whole = gradients(model)
    drawn = Drawn(model, Lisa(lisa_layers=2, lisa_embeddings=embeddings), seed=1)
    optimizers = Optimizers(model, Learning())
    with drawn.live(0, optimizers):
        found = gradients(model)
    assert (EMBEDDINGS in found) == embeddings
    assert tiny.worst(found, {name: whole[name] for name in found}) == 0
    assert "model.norm.weight" in found


@pytest.mark.parametrize("embeddings", [True, False])
def test_the_backward_pass_stops_at_the_lowest_that_is_trained(embeddings: bool) -> None:
    model = six()
    drawn = Drawn(model, Lisa(lisa_layers=2, lisa_embeddings=embeddings), seed=1)
    step = next(step for step in range(0, 1000, 20) if min(drawn.chosen(step)) > 1)
    differentiable: list[bool] = []
    for block in model.model.layers:  # pyright: ignore
        block.register_forward_hook(lambda _module, _inputs, output: differentiable.append(output.requires_grad))
    with drawn.live(step, Optimizers(model, Learning())):
        gradients(model)
    lowest = 0 if embeddings else min(drawn.chosen(step))
    assert differentiable == [number >= lowest for number in range(6)]


def test_without_it_all_is_trained() -> None:
    model = six()
    with Drawn(model, Lisa(), seed=1).live(0, Optimizers(model, Learning())):
        assert len(gradients(model)) == len(list(model.parameters()))


def test_the_loss_falls(model_folder: Path, tmp_path: Path) -> None:
    talks = tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations())
    rows = tiny.run_stage(
        sft, tmp_path / "sft", model=model_folder, conversations=talks, lisa_layers=1, lisa_interval=3,
        batch_tokens=120, num_train_epochs=4, learning_rate=0.01,
    )  # fmt: skip
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]


def test_what_it_cannot_do_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="lisa_layers: 7: the model has 6 blocks"):
        Drawn(six(), Lisa(lisa_layers=7), seed=1)
    adapted = adapt(six(), Adapting(lora_rank=2), "causal", seed=1)
    with pytest.raises(SettingsError, match="lisa_layers: LISA trains the model's own weights: leave out the adapter"):
        Drawn(adapted, Lisa(lisa_layers=1), seed=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match="lisa_layers: LISA runs in one process"):
        Drawn(six(), Lisa(lisa_layers=1), seed=1)
