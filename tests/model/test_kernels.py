"""Liger's kernels in a model's place for its own functions: the same numbers."""

from pathlib import Path

import pytest
import tiny
import torch
from interpreted import KNOWN, kernels_here, needs_liger

from tutelage.errors import ModelError
from tutelage.model import checkpoint, kernels
from tutelage.training import likelihood
from tutelage.training.batches import flat

pytestmark = [needs_liger, pytest.mark.both]
WHERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("architecture", KNOWN)
def test_the_model_is_the_same(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.make_model(architecture).to(WHERE)  # pyright: ignore
    batch = flat([tiny.example([9, 8, 50], [30, 31, 6], [40, 6]), tiny.example([], [7, 20, 21, 6])]).to(WHERE)
    plain = -likelihood.token_log_probabilities(model, batch).mean()
    expected = tiny.gradients(plain, model)
    kernels_here(monkeypatch)
    kernels.fuse(model)
    assert {type(part).__name__ for part in model.modules() if "forward" in vars(part)}  # something was replaced
    fused = -likelihood.token_log_probabilities(model, batch).mean()
    assert abs(float((fused - plain).detach())) < 1e-5
    assert tiny.worst(tiny.gradients(fused, model), expected) < 1e-5


def test_an_unknown_architecture_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels_here(monkeypatch)
    model = tiny.make_model("gpt2")
    kernels.fuse(model)
    assert not any("forward" in vars(part) for part in model.modules())


def test_another_activation_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Liger's gated feed-forward always takes SiLU."""
    kernels_here(monkeypatch)
    kernels.fuse(tiny.make_model("qwen2").to(WHERE))  # pyright: ignore
    model = tiny.make_model("qwen2", hidden_act="relu").to(WHERE)  # pyright: ignore
    kernels.fuse(model)
    replaced = {name.rpartition(".")[2] for name, part in model.named_modules() if "forward" in vars(part)}
    assert replaced == {"input_layernorm", "post_attention_layernorm", "norm"}


def test_other_numbers_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels_here(monkeypatch)
    monkeypatch.setattr(kernels, "_parts", lambda _: {"swiglu": True, "fused_linear_cross_entropy": False})
    model = tiny.make_model("qwen2", hidden_act="relu").to(WHERE)  # pyright: ignore
    with pytest.raises(ModelError, match="TUTELAGE_KERNELS=torch"):
        kernels.fuse(model)


def test_a_loaded_model_has_them_and_is_saved_as_it_was(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = checkpoint.load(model_folder)
    kernels_here(monkeypatch)
    model, chat = checkpoint.load(model_folder)
    assert any("forward" in vars(part) for part in model.modules())
    checkpoint.save(model, chat, tmp_path / "saved")
    after, _ = checkpoint.load(tmp_path / "saved")
    assert all(torch.equal(one, two) for one, two in zip(before.parameters(), after.parameters(), strict=True))
