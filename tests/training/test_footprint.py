"""What training takes: the estimate beside the measure, an error in time, and layers that are computed again."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoConfig, AutoModelForCausalLM

from tutelage.errors import RoomError, SettingsError
from tutelage.model.adapters import Adapting, adapt
from tutelage.model.attention import NAME
from tutelage.run import Run
from tutelage.training import footprint
from tutelage.training.batches import flat
from tutelage.training.likelihood import token_log_probabilities
from tutelage.training.lisa import Lisa
from tutelage.training.optimizer import Learning, Optimizers
from tutelage.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class LisaLearning(Learning, Lisa):
    """Settings with LISA."""


ROW = [tiny.example([3, 20, 41, 9, 6, 4], [77, 150, 6], [9, 6]), tiny.example([], [9, 8, 7, 6, 20])]


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2", "gemma2"])
@pytest.mark.parametrize("training", [True, False])
def test_layers_computed_again_give_the_same_gradients(architecture: str, training: bool) -> None:
    """With dropout, where there is some: its random numbers are drawn again as they were."""
    changes: dict[str, Any] = {"attn_pdrop": 0.2, "resid_pdrop": 0.2} if architecture == "gpt2" else {}
    found: list[dict[str, torch.Tensor]] = []
    for again in (False, True):
        model = tiny.make_model(architecture, **changes).double().train(training)
        if again:
            footprint.checkpoint_activations(model)
            assert next(footprint.layers(model)).training
            dropouts = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
            assert all(module.training == training for module in dropouts)
        torch.manual_seed(4)
        found.append(tiny.gradients(-token_log_probabilities(model, flat(ROW)).sum(), model))
    assert tiny.worst(*found) < 1e-12
    assert max(float(value.abs().max()) for value in found[0].values()) > 0.1
    if training and architecture == "gpt2":  # the test of the test: dropout is on
        model = tiny.make_model(architecture, **changes).double()
        calm = tiny.gradients(-token_log_probabilities(model, flat(ROW)).sum(), model)
        assert tiny.worst(found[0], calm) > 1e-3


def test_dropout_stays_off_where_layers_are_computed_again() -> None:
    """OPT's layers drop out by their own mode, in which they must be only for being computed again."""
    shape: dict[str, Any] = {**tiny.SHAPE, "dropout": 0.5, "word_embed_proj_dim": 32, "ffn_dim": 64}
    found: list[dict[str, torch.Tensor]] = []
    for again in (False, True):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("opt", **shape), attn_implementation=NAME)
        model.double().eval()
        if again:
            footprint.checkpoint_activations(model)
        found.append(tiny.gradients(-token_log_probabilities(model, flat(ROW)).sum(), model))
    assert tiny.worst(*found) < 1e-12


def test_an_adapter_learns_the_same_with_layers_computed_again() -> None:
    found: list[dict[str, torch.Tensor]] = []
    for again in (False, True):
        model = adapt(tiny.make_model("qwen3"), Adapting(lora_rank=2), "causal", seed=1)
        if again:
            footprint.checkpoint_activations(model)
        found.append(tiny.gradients(-token_log_probabilities(model, flat(ROW)).sum(), model))
    assert tiny.worst(*found) < 1e-6


def test_a_model_without_layers_is_refused() -> None:
    model = tiny.make_model("qwen3")
    model.model.layers = torch.nn.ModuleList()  # pyright: ignore
    with pytest.raises(SettingsError, match="gradient_checkpointing: Qwen3ForCausalLM has no layers that can"):
        footprint.checkpoint_activations(model)


def counted(model: torch.nn.Module, tokens: int) -> int:
    """Bytes that autograd keeps for a row, layers that are computed again not counted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        token_log_probabilities(model, flat([tiny.example([], [5] * tokens)])).sum()
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_the_estimate(architecture: str) -> None:
    model = tiny.make_model(architecture, max_position_embeddings=1024, num_hidden_layers=12).train()
    numel = sum(parameter.numel() for parameter in model.parameters())
    random = torch.get_rng_state()
    found = footprint.measure(model, Learning(max_batch_tokens=512))
    assert torch.equal(torch.get_rng_state(), random)
    assert (found.weights, found.gradients, found.optimizer) == (4 * numel, 4 * numel, 8 * numel)
    assert 0.8 < found.activations * 512 / (counted(model, 512) * 13 / 12) < 1.2  # and a layer more
    footprint.checkpoint_activations(model)
    less = footprint.measure(model, Learning(max_batch_tokens=512, gradient_checkpointing=True))
    assert found.activations / 4 < less.activations < found.activations / 2
    assert next(footprint.layers(model)).gradient_checkpointing

    lisa = footprint.measure(model, LisaLearning(lisa_layers=1))
    blocks = sum(weight.numel() for layer in footprint.layers(model) for weight in layer.parameters())
    assert lisa.gradients == 4 * (numel - blocks * 11 // 12)
    assert lisa.optimizer == 2 * lisa.gradients

    muon = footprint.measure(model, Learning(optimizer="muon"))
    state = Optimizers(model, Learning(optimizer="muon"))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.step(1.0)
    held = sum(value.numel() * 4 for value in state.state().values() if value.ndim)
    assert muon.optimizer == held

    small = adapt(tiny.make_model(architecture), Adapting(lora_rank=2), "causal", seed=1)
    lora = footprint.measure(small, Learning())
    assert lora.gradients + lora.optimizer < 0.3 * (found.gradients + found.optimizer)
    low = tiny.make_model("qwen3").to(torch.bfloat16)
    numel = sum(parameter.numel() for parameter in low.parameters())
    assert footprint.measure(low, Learning()).optimizer == 12 * numel
    blocks = sum(weight.numel() for layer in footprint.layers(low) for weight in layer.parameters())
    lisa = footprint.measure(low, LisaLearning(lisa_layers=1))
    assert lisa.optimizer == 8 * (numel - blocks // 2) + 4 * numel  # what rests has a copy all the same


def test_too_little_memory_is_told_before_the_first_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = tiny.make_model("qwen3")
    needed = footprint.measure(model, Learning())

    def refused(free: int, **values: Any) -> str:
        monkeypatch.setattr(footprint, "available", lambda _: free)
        with (
            Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run,
            pytest.raises(RoomError, match="run: training needs") as error,
        ):
            Trainer(run, model, Learning(**values), steps=1)
        return str(error.value)

    room = needed.needed - needed.activations * 1000
    assert refused(room).endswith("are free: lower max_batch_tokens to 1048, or set gradient_checkpointing")
    assert refused(1000).endswith("are free: set gradient_checkpointing")
    assert refused(1000, gradient_checkpointing=True).endswith("take a smaller model")
    monkeypatch.setattr(footprint, "available", lambda _: room)
    with (
        Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run,
        pytest.raises(RoomError, match="longest example has 3000 tokens and there is room for"),
    ):
        Trainer(run, model, Learning(), steps=1, longest=3000)
    assert footprint.measure(model, Learning(), longest=3000).tokens == 3000
    monkeypatch.setattr(footprint, "available", lambda _: needed.needed)
    monkeypatch.setattr(footprint, "limit", lambda _: None)
    with Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run:
        Trainer(run, model, Learning(), steps=1)
        assert "memory: weights 0 MB, gradients 0 MB" in (run.folder / "log.txt").read_text()


@pytest.mark.parametrize("version", [1, 2])
def test_what_a_container_leaves(version: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit, usage, files = footprint.VERSION_1 if version == 1 else footprint.VERSION_2
    (tmp_path / "a" / "b").mkdir(parents=True)
    for place, most in (("a", "9000000"), ("a/b", "max" if version == 2 else str(1 << 62))):
        (tmp_path / place / limit).write_text(f"{most}\n")
        (tmp_path / place / usage).write_text("5000000\n")
        (tmp_path / place / "memory.stat").write_text(f"{files} 1000000\nother 3\n")
    line = "0::/a/b" if version == 2 else "4:memory:/a/b"
    (tmp_path / "cgroup").write_text(f"7:cpu:/\n{line}\n")
    monkeypatch.setattr(footprint, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(footprint, f"ROOT_{version}", tmp_path)
    assert min(footprint._containers()) == 5_000_000
    assert footprint.available(torch.device("cpu")) == 5_000_000
    monkeypatch.setattr(footprint, "GROUPS", tmp_path / "nothing")
    assert footprint.available(torch.device("cpu")) > 5_000_000


GREEDY = """
import torch
from pathlib import Path
from tutelage import course
from tutelage.training import footprint

class Stage:
    @staticmethod
    def execute(recipe, run):
        footprint.limit(200_000_000)
        kept = [torch.ones(10_000_000) for _ in range(100)]
with course._Exhausted(Path("runs/sft")):
    Stage.execute(None, None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_what_takes_more_memory_ends_in_words() -> None:
    found = subprocess.run([sys.executable, "-c", GREEDY], capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 1
    assert (
        found.stderr.strip()
        .splitlines()[-1]
        .startswith("tutelage.errors.RoomError: runs/sft: there is no more memory: end other programs, or lower")
    )
