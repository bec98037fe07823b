"""Scorers on the base weights of a policy that has LoRA: each is an adapter beside the policy's, and a head.

So policy, reference (all adapters off), value network and reward model hold one set of base weights between them.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftConfig, PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig

from tutelage.errors import ModelError
from tutelage.model import adapters, bases, bottleneck, checkpoint, forward
from tutelage.model.attention import Cache, Layout

VALUE, REWARD = "beside_value", "beside_reward"


class Scorer(nn.Module):
    """One scalar for each token, as a ``*ForSequenceClassification`` with one label gives it."""

    def __init__(self, policy: PeftModel, name: str, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.lender = (policy,)  # in a tuple, so that its weights are not taken for the scorer's own
        weight = cast(Tensor, checkpoint.base(policy).get_input_embeddings().weight)
        width = int(config.get_text_config().hidden_size)
        self.score = nn.Linear(width, 1, bias=False, device=weight.device, dtype=weight.dtype)
        nn.init.zeros_(self.score.weight)

    def hidden_states(self, ids: Tensor, positions: Tensor, layout: Layout | Cache) -> Tensor:
        """(T, width) as `tutelage.model.forward.hidden_states`, with this scorer's adapter on."""
        with self.turned():
            return forward.hidden_states(self.lender[0], ids, positions, layout)

    def turned(self) -> Any:
        """The policy's model with this scorer's adapter on instead of its own: also for the backward pass."""
        return adapters.turned(self.lender[0], self.name)


def value_network(policy: PeftModel, reward: nn.Module | None, seed: int) -> Scorer:
    """A scorer to be trained, with a head of 0; its adapter begins as that of a shared reward model, or as nothing."""
    like = REWARD if isinstance(reward, Scorer) else "default"
    config = copy.deepcopy(cast(LoraConfig, policy.peft_config[like]))
    torch.manual_seed(seed)
    _add(policy, VALUE, config)
    weights = dict(policy.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            if _belongs(name, VALUE):
                weight.requires_grad_(True)
                if like == REWARD:
                    weight.copy_(weights[name.replace(VALUE, REWARD)])
    value = Scorer(policy, VALUE, checkpoint.base(policy).config)
    value.score.requires_grad_(True)
    return value.eval()


def reward_model(policy: PeftModel, folder: Path, model: Path) -> Scorer | None:
    """The reward model of a folder on the policy's base; None if it is not LoRA on the very weights of ``model``.

    Raises:
        ModelError: the adapter is damaged.
    """
    if not (folder / bases.FILE).exists() or not checkpoint.is_adapter(folder):
        return None
    if not model.is_dir() or checkpoint.is_adapter(model) or bottleneck.is_adapter(model):
        return None
    known = json.loads((folder / bases.FILE).read_text(encoding="utf-8"))
    config: Any = PeftConfig.from_pretrained(str(folder))
    if known.get("weights") != bases.weights_hash(model) or not isinstance(config, LoraConfig):
        return None
    config.modules_to_save, config.task_type = None, "CAUSAL_LM"
    _add(policy, REWARD, config)
    weights = load_file(folder / "adapter_model.safetensors")
    heads = [name for name in weights if name.endswith("score.weight")]
    scorer = Scorer(policy, REWARD, AutoConfig.from_pretrained(str(folder)))
    if len(heads) != 1 or weights[heads[0]].shape != scorer.score.weight.shape:
        raise ModelError(f"{folder}: not a reward model: it has no score head: give what the reward stage made")
    with torch.no_grad():
        scorer.score.weight.copy_(weights.pop(heads[0]))
    result: Any = set_peft_model_state_dict(policy, weights, REWARD)
    lacking = [name for name in result.missing_keys if _belongs(name, REWARD)]
    if lacking or result.unexpected_keys:
        raise ModelError(f"{folder}: its adapter does not fit its base: see {[*lacking, *result.unexpected_keys][0]}")
    return scorer.requires_grad_(False).eval()


def _add(policy: PeftModel, name: str, config: LoraConfig) -> None:
    """A further adapter; what was trainable stays so, and the new one is not."""
    trained = {id(weight): weight.requires_grad for weight in policy.parameters()}
    with adapters.quiet_peft():
        policy.add_adapter(name, config)
    for weight in policy.parameters():
        weight.requires_grad_(trained.get(id(weight), False))
    policy.eval()


def _belongs(name: str, adapter: str) -> bool:
    return adapter in name.split(".")
