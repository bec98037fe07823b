"""What is counted of a model, and what is timed of it."""

import time
from pathlib import Path

import pytest
import tiny
import torch
from transformers import AutoConfig

from tutelage.model import checkpoint, device
from tutelage.model.attention import Layout, Tree
from tutelage.stages.pretrain import Recipe
from tutelage.training import pace
from tutelage.training.optimizer import Optimizers

RECIPE = Recipe(documents=Path("d"), tokenizer=Path("t"), optimizer="muon")
LAYOUT = Layout((Tree(0, 0, (4,)),))


@pytest.mark.parametrize(("architecture", "tied"), [("qwen3", True), ("llama", False), ("gpt2", True)])
def test_sizes_are_those_of_the_model_itself(architecture: str, tied: bool) -> None:
    shape = {**tiny.SHAPE, **tiny.ARCHITECTURES[architecture], "tie_word_embeddings": tied}
    config = AutoConfig.for_model(architecture, **shape)
    model = checkpoint.create(config, 0)
    found = pace.size(config, RECIPE, 16)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.embeddings == 300 * 32
    assert found.weights == sum(p.numel() * p.element_size() for p in model.parameters())
    optimizers = Optimizers(model, RECIPE)
    model(input_ids=torch.arange(4)[None], position_ids=torch.arange(4)[None], layout=LAYOUT).logits.sum().backward()
    optimizers.step(1.0)
    held = [v for o in optimizers.all for state in o.state.values() for v in state.values() if v.ndim]
    assert found.optimizer == sum(v.numel() * v.element_size() for v in held)


def test_on_a_card_weights_are_half_as_large_and_have_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AutoConfig.for_model("llama", **tiny.SHAPE)
    recipe = Recipe(documents=Path("d"), tokenizer=Path("t"))
    exact = pace.size(config, recipe, 16)
    monkeypatch.setattr(device, "precision", lambda: torch.bfloat16)
    found = pace.size(config, recipe, 16)
    assert found.weights == exact.weights / 2 == 2 * found.parameters
    assert found.gradients == exact.gradients == 4 * found.parameters
    assert found.optimizer == exact.optimizer + 4 * found.parameters == 12 * found.parameters


def test_an_update_on_a_card_has_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copies that are updated get theirs in the backward pass."""
    if not device.probe():
        pytest.skip("this processor cannot multiply in bfloat16")
    for module in (device, checkpoint):
        monkeypatch.setattr(module, "precision", lambda: torch.bfloat16)
    seen: list[int] = []
    clip = Optimizers.clip
    monkeypatch.setattr(
        Optimizers, "clip",
        lambda self, longest: (seen.append(sum(p.grad is not None for p in self.parameters)), clip(self, longest))[1],
    )  # fmt: skip
    config = AutoConfig.for_model("llama", **tiny.SHAPE)
    pace.steps(config, RECIPE, 16, 32, 0.01)
    assert set(seen) == {len(list(checkpoint.create(config, 0).parameters()))}


def test_work_is_that_of_the_matrices() -> None:
    """Llama by hand: four square projections with half as many key heads, three of the feed-forward, the head."""
    config = AutoConfig.for_model("llama", **tiny.SHAPE)
    inside = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    assert pace.size(config, RECIPE, 16).work == 6 * (inside + 300 * 32) + 6 * 2 * 32 * 16


def test_larger_models_take_longer() -> None:
    taken: list[pace.Steps] = []
    for width in (64, 256):
        config = AutoConfig.for_model("llama", **{**tiny.SHAPE, "hidden_size": width, "intermediate_size": 3 * width})
        began = time.perf_counter()
        taken.append(pace.steps(config, RECIPE, 64, 128, 0.1))
        assert time.perf_counter() - began < 20
    small, large = taken
    assert large.token > 2 * small.token > 0
    assert large.update > small.update > 0
    assert large.activations > 2 * small.activations > 0


def test_a_machine_has_some_speed() -> None:
    found = pace.machine()
    assert found.product > 1e8
    assert found.copying > 1e7
    assert found.free > 1 << 20
