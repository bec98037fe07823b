"""Bottlenecks: nothing at first, alone in training, and the same model again from the disk, whoever stands on it."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tutelage.errors import ModelError
from tutelage.inference.engine import Engine
from tutelage.inference.language_model import Sampling
from tutelage.model import bottleneck, checkpoint
from tutelage.model.adapters import Adapting, adapt
from tutelage.stages import dpo, ppo, reward, sft
from tutelage.training.batches import flat
from tutelage.training.likelihood import scores, token_log_probabilities

IDS = [3, 20, 41, 9, 6, 4, 77, 150, 6]
NARROW = Adapting(bottleneck_size=5)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft, called here
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def ours(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return token_log_probabilities(model, flat([tiny.example(IDS[:4], IDS[4:])]))


def stirred(model: Any) -> Any:
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("architecture", [*tiny.ARCHITECTURES, "qwen3_moe"])
def test_any_decoder_takes_them(
    architecture: str, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "ARCHITECTURES", {"qwen3_moe": EXPERTS, **tiny.ARCHITECTURES})
    folder = tiny.write_model(tmp_path / "base", tokenizer_folder, architecture)
    model, chat = checkpoint.load(folder)
    before = ours(model)
    base = tiny.tensors(model)
    adapt(model, NARROW, "causal", seed=1)
    assert torch.equal(ours(model), before)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert sum(".bottlenecks." in name for name in trained) == 2 * 2 * 4
    assert all(".bottlenecks." in name or "norm" in name or ".ln_" in name for name in trained)
    assert trained - {name for name in trained if ".bottlenecks." in name}  # norms too
    after = ours(stirred(model))
    assert (after - before).abs().max() > 0.01
    assert all(torch.equal(base[n], w) for n, w in model.named_parameters() if n in base and n not in trained)
    with checkpoint.reference(model, None) as reference:
        assert torch.equal(ours(reference), before)
    assert torch.equal(ours(model), after)
    assert torch.equal(ours(copy.deepcopy(model)), after)
    checkpoint.save(model, chat, tmp_path / "narrow")
    assert not list((tmp_path / "narrow").glob("model*"))
    again, _ = checkpoint.load(tmp_path / "narrow")
    assert (ours(again) - after).abs().max() < 1e-6
    assert not any(weight.requires_grad for weight in again.parameters())


def test_how_many_weights_and_what_they_do(model_folder: Path) -> None:
    """2 m d + m + d weights each, two a block; and up(gelu(down(h))) is what is added to attention's output."""
    model, _ = checkpoint.load(model_folder)
    settings = Adapting(bottleneck_size=5, bottleneck_norms=False, layers_to_transform=(1,))
    stirred(adapt(model, settings, "causal", seed=1))
    assert sum(w.numel() for w in model.parameters() if w.requires_grad) == 2 * (2 * 5 * 32 + 5 + 32)
    seen: dict[str, torch.Tensor] = {}
    block: Any = model.model.layers[1]  # pyright: ignore
    one = block.mlp.bottlenecks[0]
    block.mlp.down_proj.register_forward_hook(lambda _m, _i, output: seen.update(before=output))
    block.mlp.register_forward_hook(lambda _m, _i, output: seen.update(after=output))
    ours(model)
    x = seen["before"]
    middle = x @ one.down.weight.T + one.down.bias
    middle = middle * (1 + torch.erf(middle / 2**0.5)) / 2
    assert torch.allclose(seen["after"], x + middle @ one.up.weight.T + one.up.bias, atol=1e-5)


def test_it_can_be_stood_on(model_folder: Path, tmp_path: Path) -> None:
    """By more bottlenecks, by LoRA and by training of everything; each saved and loaded again."""
    model, chat = checkpoint.load(model_folder)
    checkpoint.save(stirred(adapt(model, NARROW, "causal", seed=1)), chat, tmp_path / "narrow")
    start = ours(model)
    settings = {
        "twice": Adapting(bottleneck_size=3, bottleneck_norms=False),
        "lora": Adapting(lora_rank=2),
        "whole": Adapting(),
    }
    for name, one in settings.items():
        base, chat = checkpoint.load(tmp_path / "narrow")
        adapted = adapt(base, one, "causal", seed=2)
        assert torch.equal(ours(adapted), start)
        after = ours(stirred(adapted))
        assert (after - start).abs().max() > 0.01
        if name != "whole":
            with checkpoint.reference(adapted, None) as reference:
                assert torch.equal(ours(reference), start)
        checkpoint.save(adapted, chat, tmp_path / name)
        assert (tmp_path / name / "model.safetensors").exists() == (name != "twice")
        assert (ours(checkpoint.load(tmp_path / name)[0]) - after).abs().max() < 1e-5
    sizes = json.loads((tmp_path / "twice" / bottleneck.CONFIG).read_text())["sizes"]
    assert sizes["0.attention"] == sizes["1.feed_forward"] == [5, 3]


def test_a_reward_model_and_answers(model_folder: Path, tmp_path: Path) -> None:
    votes = tiny.jsonl(tmp_path / "votes.jsonl", tiny.comparisons(8))
    tiny.run_stage(
        reward, tmp_path / "reward", model=model_folder, comparisons=votes, bottleneck_size=4, learning_rate=0.02,
        num_train_epochs=4,
    )  # fmt: skip
    one, _ = checkpoint.load_scorer(tmp_path / "reward")
    two, _ = checkpoint.load_scorer(tmp_path / "reward")
    batch = flat([tiny.example(IDS[:4], IDS[4:])])
    with torch.no_grad():
        assert torch.equal(scores(one, batch), scores(two, batch))
    assert one.score.weight.abs().sum() > 0  # pyright: ignore
    assert one.config.reward_std != 1.0
    talks = tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations())
    rows = tiny.run_stage(
        ppo, tmp_path / "ppo", model=model_folder, prompts=talks, reward=tmp_path / "reward", bottleneck_size=4,
        iterations=2, batch_size=8, mini_batch_size=4, max_new_tokens=4, learning_rate=0.01,
    )  # fmt: skip
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert rows[0]["ratio_error"] < 1e-4
    assert rows[1]["kl"] > 1e-5


def test_through_the_stages(model_folder: Path, tmp_path: Path) -> None:
    talks = tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations())
    votes = tiny.jsonl(tmp_path / "votes.jsonl", tiny.comparisons())
    rows = tiny.run_stage(
        sft, tmp_path / "sft", model=model_folder, conversations=talks, bottleneck_size=8, batch_tokens=120,
        num_train_epochs=4, learning_rate=0.02,
    )  # fmt: skip
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    rows = tiny.run_stage(
        dpo, tmp_path / "dpo", model=tmp_path / "sft", comparisons=votes, bottleneck_size=8, batch_size=8,
        num_train_epochs=3, learning_rate=0.01,
    )  # fmt: skip
    assert rows[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert rows[-1]["margin"] > 0.2
    engine = Engine.load(tmp_path / "dpo")
    said = engine.replies([(tiny.user("the cat?"),)], Sampling(temperature=0, max_new_tokens=5))
    assert said[0].completion_tokens > 0


def test_what_does_not_fit_is_named(model_folder: Path, tmp_path: Path) -> None:
    model, chat = checkpoint.load(model_folder)
    checkpoint.save(stirred(adapt(model, NARROW, "causal", seed=1)), chat, tmp_path / "narrow")

    def copied(name: str) -> Path:
        return Path(shutil.copytree(tmp_path / "narrow", tmp_path / name))

    weights = load_file(tmp_path / "narrow" / bottleneck.WEIGHTS)
    cut = copied("cut") / bottleneck.WEIGHTS
    cut.write_bytes(cut.read_bytes()[:-9])
    first, *rest = sorted(weights)
    save_file({name: weights[name] for name in rest}, copied("lacking") / bottleneck.WEIGHTS)
    save_file({**weights, first: weights[first][:1].clone()}, copied("shape") / bottleneck.WEIGHTS)
    (copied("broken") / bottleneck.CONFIG).write_text("{")
    config = json.loads((tmp_path / "narrow" / bottleneck.CONFIG).read_text())
    config["sizes"]["7.attention"] = [5]
    (copied("longer") / bottleneck.CONFIG).write_text(json.dumps(config))
    messages = {
        "cut": "cut: its bottlenecks cannot be loaded",
        "lacking": f"lacking: its bottlenecks are those of another model, or damaged: see {first}",
        "shape": f"shape: its bottlenecks are those of another model, or damaged: see {first}",
        "broken": "broken: its bottlenecks cannot be loaded",
        "longer": "longer: its bottlenecks are those of another model: it has a block 7",
    }
    for name, message in messages.items():
        with pytest.raises(ModelError, match=message):
            checkpoint.load(tmp_path / name)
