"""Linear layers by oneDNN: the same numbers and gradients as by torch's own call."""

import copy
from collections import Counter
from pathlib import Path

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import nn

from tutelage.inference.engine import Engine
from tutelage.inference.language_model import Sampling
from tutelage.model import device, forward, products
from tutelage.model.attention import Layout, Tree
from tutelage.model.chat import Chat
from tutelage.training import footprint, likelihood
from tutelage.training.batches import flat

pytestmark = pytest.mark.skipif(not device._onednn_is_right(), reason="torch has no oneDNN here")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """oneDNN is taken whatever the processor and the size; counts how often."""
    found: Counter[str] = Counter()
    inner = products.linear

    def counted(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        found["served" if products._served(states, weight) else "left"] += 1
        return inner(states, weight, bias)

    monkeypatch.setattr(device, "onednn", lambda: True)
    monkeypatch.setattr(products, "ROWS", 1)
    monkeypatch.setattr(products, "NUMBERS", 1)
    monkeypatch.setattr(products, "linear", counted)
    return found


@pytest.mark.parametrize("shape", [(300, 65), (1, 300, 65), (2, 3, 65), (1, 65)])
@pytest.mark.parametrize("biased", [False, True])
def test_values_and_gradients(shape: tuple[int, ...], biased: bool, calls: Counter[str]) -> None:
    torch.manual_seed(1)
    layer = nn.Linear(65, 130, bias=biased)
    plain = copy.deepcopy(layer)
    products.settle(layer)
    states, same = (torch.randn(shape, generator=torch.Generator().manual_seed(2)).requires_grad_() for _ in range(2))
    ours, theirs = layer(states), plain(same)
    assert (ours - theirs).abs().max() < 1e-5
    upstream = torch.randn_like(ours)
    ours.backward(upstream)
    theirs.backward(upstream)
    pairs = [(states.grad, same.grad), (layer.weight.grad, plain.weight.grad)]
    pairs += [(layer.bias.grad, plain.bias.grad)] if biased else []
    for one, two in pairs:
        assert one is not None
        assert (one - two).norm() < 1e-5 * two.norm()
    assert calls == {"served": 2}


@pytest.mark.parametrize("frozen", ["states", "weight"])
def test_nothing_is_made_or_kept_for_what_is_frozen(frozen: str, calls: Counter[str]) -> None:
    layer = nn.Linear(64, 80, bias=False)
    products.settle(layer)
    states = torch.randn(9, 64, requires_grad=frozen == "weight")
    layer.weight.requires_grad_(frozen == "states")
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        out = layer(states)
    assert [list(one.shape) for one in kept] == [[9, 64] if frozen == "states" else [80, 64]]
    out.sum().backward()
    assert (states.grad is None) == (frozen == "states")
    assert (layer.weight.grad is None) == (frozen == "weight")
    assert calls == {"served": 2 - (frozen == "states")}


@pytest.mark.parametrize("architecture", ["qwen2", "gemma2", "llama"])
@pytest.mark.parametrize("again", [False, True])
def test_a_whole_model(architecture: str, again: bool, calls: Counter[str]) -> None:
    """Also where layers are computed again in the backward pass."""
    model = tiny.make_model(architecture).train()
    plain = copy.deepcopy(model)
    products.settle(model)
    if again:
        footprint.checkpoint_activations(model)
        footprint.checkpoint_activations(plain)
    batch = flat([tiny.example([9, 8, 50], [30, 31, 6], [40, 6]), tiny.example([], [7, 20, 21, 6])])
    found = tiny.gradients(-likelihood.token_log_probabilities(model, batch).mean(), model)
    assert calls["served"] > 14 * (2 + again)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "onednn", lambda: False)
        calls.clear()
        expected = tiny.gradients(-likelihood.token_log_probabilities(plain, batch).mean(), plain)
        assert not calls["served"]
    assert tiny.worst(found, expected) < 1e-5


def test_a_reference_takes_it_and_generation_does_not(calls: Counter[str], tokenizer_folder: Path) -> None:
    model = tiny.make_model("qwen3")
    products.settle(model)
    ids = torch.arange(12) + 30
    with torch.no_grad():
        layout = Layout((Tree(0, 0, (12,)),))
        read = forward.hidden_states(model, ids, torch.arange(12), layout)
        assert calls["served"] == 14
        calls.clear()
        plain = model.get_decoder()(
            input_ids=ids[None], position_ids=torch.arange(12)[None], use_cache=False, layout=layout
        ).last_hidden_state[0]  # fmt: skip
        assert not calls
    assert (read - plain).abs().max() < 1e-5
    Engine(model, Chat.load(tokenizer_folder), "toy").generate([[30, 31, 32]], Sampling(max_new_tokens=3))
    assert not calls


def test_half_precision_is_torchs_own(calls: Counter[str]) -> None:
    layer = nn.Linear(64, 80)
    products.settle(layer)
    states = torch.randn(9, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(states).dtype == torch.bfloat16
    assert not calls
    double = nn.Linear(64, 80).double()
    products.settle(double)
    assert "forward" not in vars(double)


def test_small_ones_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "onednn", lambda: True)
    large, small = nn.Linear(512, 256), nn.Linear(512, 128)
    products.settle(nn.ModuleList([large, small]))
    assert "forward" in vars(large)
    assert "forward" not in vars(small)
    assert products._served(torch.ones(1, 128, 512), large.weight)
    assert not products._served(torch.ones(1, 127, 512), large.weight)


def test_the_mode_ends_and_nests() -> None:
    assert not getattr(products._reading, "now", False)
    with products.reading():
        with products.reading():
            assert products._reading.now
        assert products._reading.now
    assert not products._reading.now


def test_the_same_bits_twice(calls: Counter[str]) -> None:
    torch.manual_seed(3)
    states, weight = torch.randn(500, 384), torch.randn(1024, 384)
    assert torch.equal(products.linear(states, weight), products.linear(states, weight))
    assert (products.linear(states, weight) - F.linear(states, weight)).abs().max() < 1e-3
    assert calls == {"served": 3}
