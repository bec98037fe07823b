"""Base weights in 4 and 8 bits beneath LoRA; the numbers need bitsandbytes, which only the extra brings."""

import importlib.util
from pathlib import Path

import pytest
import tiny
import torch

from tutelage.errors import MissingExtraError, ModelError, SettingsError
from tutelage.model import checkpoint, quantization
from tutelage.model.adapters import Adapting, adapt
from tutelage.stages import sft
from tutelage.training.batches import flat
from tutelage.training.likelihood import token_log_probabilities
from tutelage.training.reference import _model_hash  # pyright: ignore[reportPrivateUsage]

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # of peft, called here
    pytest.mark.filterwarnings("ignore:MatMul8bitLt"),
]
here = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
ROW = flat([tiny.example([9, 8, 41], [30, 31, 32, 6], [40, 6])])


@pytest.fixture(scope="module")
def folder(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(
        tmp_path_factory.mktemp("even") / "model", tokenizer_folder, "llama", hidden_size=128, head_dim=64,
        intermediate_size=128, initializer_range=0.05,
    )  # fmt: skip


def test_what_it_needs_is_told(monkeypatch: pytest.MonkeyPatch, model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="quantization_bit: quantised weights cannot be trained: give lora_rank"):
        adapt(tiny.make_model("llama"), Adapting(quantization_bit=4), "causal", seed=1)
    monkeypatch.setattr(quantization.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"quantization_bit 8 needs .*: pip install 'tutelage\[quantization\]'"):
        checkpoint.load(model_folder, bits=8)
    model, chat = checkpoint.load(model_folder)
    checkpoint.save(adapt(model, Adapting(lora_rank=2), "causal", seed=1), chat, tmp_path / "adapter")
    with pytest.raises(ModelError, match="an adapter has no weights to quantise"):
        checkpoint.load(tmp_path / "adapter", bits=4)


@here
@pytest.mark.parametrize("bits", [4, 8])
def test_near_the_whole_model_and_gradients_pass(bits: int, folder: Path, tmp_path: Path) -> None:
    whole, _ = checkpoint.load(folder)
    model, chat = checkpoint.load(folder, bits=bits)
    held = [sum(w.numel() * w.element_size() for w in one.model.layers.parameters()) for one in (model, whole)]  # pyright: ignore
    assert held[0] < (0.2 if bits == 4 else 0.35) * held[1]
    with torch.no_grad():
        one, two = token_log_probabilities(model, ROW), token_log_probabilities(whole, ROW)
    assert 0 < float((one - two).abs().max()) < 0.5
    assert _model_hash(model) != _model_hash(whole)
    adapted = adapt(model, Adapting(lora_rank=2), "causal", seed=1)
    token_log_probabilities(adapted, ROW).sum().backward()
    found = {name: w.grad for name, w in adapted.named_parameters() if "lora_B" in name}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in found.values())
    checkpoint.save(adapted, chat, tmp_path / "adapter")
    again, _ = checkpoint.load(tmp_path / "adapter")
    with torch.no_grad():
        assert torch.equal(token_log_probabilities(again, ROW), two)  # B is 0; the base is whole again


@here
@pytest.mark.parametrize("bits", [4, 8])
def test_the_loss_falls(bits: int, folder: Path, tmp_path: Path) -> None:
    talks = tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations())
    rows = tiny.run_stage(
        sft, tmp_path / "sft", model=folder, conversations=talks, lora_rank=4, quantization_bit=bits,
        batch_tokens=120, num_train_epochs=4, learning_rate=0.02,
    )  # fmt: skip
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]


@pytest.mark.gpu
@here
@pytest.mark.parametrize("bits", [4, 8])
def test_on_a_card(bits: int, folder: Path, tmp_path: Path) -> None:
    test_near_the_whole_model_and_gradients_pass(bits, folder, tmp_path)
    test_the_loss_falls(bits, folder, tmp_path)
