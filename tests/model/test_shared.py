"""Policy, reference, reward and value on one set of base weights: each gives what it would give alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import nn

from tutelage.model import adapters, checkpoint, shared
from tutelage.model.adapters import Adapting, adapt
from tutelage.stages import ppo, reward
from tutelage.training import footprint
from tutelage.training.batches import flat
from tutelage.training.likelihood import hidden_states, scalar_outputs, scores, token_log_probabilities

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft, called here
ROW = flat([tiny.example([9, 8, 41], [30, 31, 32, 6], [40, 6])])


@pytest.fixture(scope="module")
def reward_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model of rank 3, trained a little."""
    folder = tmp_path_factory.mktemp("reward")
    votes = tiny.jsonl(folder / "votes.jsonl", tiny.comparisons(8))
    tiny.run_stage(
        reward, folder / "reward", model=model_folder, comparisons=votes, lora_rank=3, learning_rate=0.02,
        num_train_epochs=3,
    )  # fmt: skip
    return folder / "reward"


def policy_of(folder: Path, **settings: Any) -> Any:
    model, _ = checkpoint.load(folder)
    policy = adapt(model, Adapting(lora_rank=2, **settings), "causal", seed=1)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in policy.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn_like(weight)
    return policy


def said(policy: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return token_log_probabilities(policy, ROW)


def test_a_shared_reward_model_gives_the_scores_of_its_own(model_folder: Path, reward_folder: Path) -> None:
    policy = policy_of(model_folder)
    before = said(policy)
    trained = {name for name, weight in policy.named_parameters() if weight.requires_grad}
    scorer = shared.reward_model(policy, reward_folder, model_folder)
    assert scorer is not None
    with torch.no_grad():
        alone = scores(checkpoint.load_scorer(reward_folder)[0], ROW)
        assert (scores(scorer, ROW) - alone).abs().max() < 1e-5
    assert alone.abs().max() > 0.01
    assert torch.equal(said(policy), before)
    assert {name for name, weight in policy.named_parameters() if weight.requires_grad} == trained
    assert scorer.config.reward_std == json.loads((reward_folder / "config.json").read_text())["reward_std"]  # pyright: ignore


def test_a_reward_model_on_other_weights_is_not_shared(
    model_folder: Path, reward_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    other = tiny.write_model(tmp_path / "other", tokenizer_folder, "qwen3", seed=4)
    assert shared.reward_model(policy_of(other), reward_folder, other) is None
    assert shared.reward_model(policy_of(model_folder), model_folder, model_folder) is None


@pytest.mark.parametrize("checkpointed", [False, True])
def test_each_learns_its_own(checkpointed: bool, model_folder: Path, reward_folder: Path) -> None:
    policy = policy_of(model_folder)
    own = {name for name, weight in policy.named_parameters() if weight.requires_grad}
    base = said_off(policy)
    scorer = shared.reward_model(policy, reward_folder, model_folder)
    value = shared.value_network(policy, scorer, seed=2)
    if checkpointed:
        footprint.checkpoint_activations(policy)
    with torch.no_grad():
        assert torch.equal(scalar_outputs(value, ROW, ROW.sources), torch.zeros(len(ROW.sources)))
        value.score.weight.copy_(scorer.score.weight)  # pyright: ignore
        assert torch.equal(scores(value, ROW), scores(scorer, ROW))  # pyright: ignore
    before = said(policy)
    token_log_probabilities(policy, ROW).sum().backward()
    found = {name for name, weight in policy.named_parameters() if weight.grad is not None}
    assert found == own
    policy.zero_grad()
    with value.turned():
        scalar_outputs(value, ROW, ROW.sources).square().sum().backward()
    found = {name: weight.grad for name, weight in policy.named_parameters() if weight.grad is not None}
    assert found
    assert all(shared.VALUE in name for name in found)
    assert value.score.weight.grad is not None
    assert sum(float(gradient.abs().sum()) for gradient in found.values()) > 0
    expected = _alone(policy, value, [weight for name, weight in policy.named_parameters() if name in found])
    for gradient, wanted in zip(found.values(), expected, strict=True):
        assert torch.allclose(gradient, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(said(policy), before)
    assert torch.equal(said_off(policy), base)


def _alone(policy: Any, value: shared.Scorer, weights: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The gradients of the same loss, of each branch alone and with peft's own switch."""
    trained = [(weight, weight.requires_grad) for weight in policy.parameters()]
    policy.set_adapter(shared.VALUE)
    total = torch.zeros(())
    for ids in ([9, 8, 41, 30, 31, 32, 6], [9, 8, 41, 40, 6]):
        hidden = hidden_states(policy, flat([tiny.example([], ids)]))
        total = total + value.score(hidden[2 : len(ids) - 1]).square().sum()
    found = torch.autograd.grad(total, weights)
    policy.set_adapter("default")
    for weight, was in trained:
        weight.requires_grad_(was)
    return found


def said_off(policy: Any) -> torch.Tensor:
    with adapters.off(policy):
        return said(policy)


def test_ppo_holds_one_set_of_base_weights(
    monkeypatch: pytest.MonkeyPatch, model_folder: Path, reward_folder: Path, tmp_path: Path
) -> None:
    talks = tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations())
    whole: list[Any] = []
    monkeypatch.setattr(checkpoint, "load_scorer", lambda *given, **_: whole.append(given))
    rows = tiny.run_stage(
        ppo, tmp_path / "ppo", model=model_folder, prompts=talks, reward=reward_folder, lora_rank=2, iterations=3,
        batch_size=16, mini_batch_size=8, max_new_tokens=6, learning_rate=3e-3, missing_eos_penalty=0.0,
    )  # fmt: skip
    assert whole == []
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert rows[0]["ratio_error"] < 1e-4
    assert rows[-1]["kl"] > 1e-3
    names = load_file(tmp_path / "ppo" / "adapter_model.safetensors")
    assert names
    assert not any("beside" in name or "score" in name for name in names)
    assert (tmp_path / "ppo" / "adapter_config.json").exists()
    assert not (tmp_path / "ppo" / shared.VALUE).exists()
