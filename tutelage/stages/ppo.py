"""prompts + reward -> policy, by proximal policy optimization

Each iteration draws answers from the policy, rewards each at its last token, takes from every token's reward a share of
its divergence from the reference, and makes a few clipped updates of the policy and of a value network of its own.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from peft import PeftModel
from pydantic import Field
from torch import Tensor, nn

from tutelage.errors import RecordError, SelfCheckError, SettingsError
from tutelage.inference.engine import Engine, Rollout
from tutelage.inference.language_model import Sampling
from tutelage.instruction import formats
from tutelage.model import checkpoint, device, shared
from tutelage.model.adapters import Adapting, adapt
from tutelage.model.chat import Chat
from tutelage.model.shared import Scorer
from tutelage.records import Message
from tutelage.run import Run, processes
from tutelage.sentences import counted
from tutelage.settings import Input
from tutelage.training import samples
from tutelage.training.batches import Batch, Example, flat, plan
from tutelage.training.lanes import Losses
from tutelage.training.likelihood import likelihoods, scalar_outputs, self_check, token_log_probabilities
from tutelage.training.optimizer import Learning
from tutelage.training.rewards import by_function, by_model, grouped, reward_model
from tutelage.training.trainer import Trainer

MAKES = "model"


@dataclass(frozen=True, kw_only=True)
class Recipe(Learning, Adapting):
    model: Annotated[Path, Input("model")]
    """The model to start from; a frozen copy of it is the reference."""
    prompts: Annotated[Path, Input("conversations")]
    """What the policy is asked: conversations or prompts in any of the usual shapes; answers in them are ignored."""
    reward: Annotated[Path, Input("reward")] | None = None
    """A reward model: a reward run, or any *ForSequenceClassification folder with one label."""
    reward_function: str = ""
    """Instead of a reward model: "file.py:name" of a function of (prompts, responses) that gives one number each."""
    iterations: Annotated[int, Field(gt=0)] = 30
    """Rounds of drawing answers and learning from them."""
    batch_size: Annotated[int, Field(gt=0)] = 128
    """Answers of an iteration."""
    samples_per_prompt: Annotated[int, Field(gt=0)] = 4
    """Answers to each prompt among them; the prompt is computed once for all of them."""
    mini_batch_size: Annotated[int, Field(gt=0)] = 32
    """Answers of an update; those to one prompt stay together."""
    ppo_epochs: Annotated[int, Field(gt=0)] = 2
    """How often an iteration's answers are learned from."""
    init_kl_coef: Annotated[float, Field(ge=0)] = 0.05
    """Cost of a nat of divergence from the reference; the beginning one, if it is adaptive."""
    target_kl: Annotated[float, Field(gt=0)] | None = None
    """If given, the cost adapts so that an answer diverges by so many nats, summed over its tokens."""
    kl_horizon: Annotated[int, Field(gt=0)] = 10000
    """Answers over which the adaptive cost moves."""
    cliprange: Annotated[float, Field(gt=0)] = 0.2
    """How far a token's probability ratio may move before it stops to count."""
    cliprange_value: Annotated[float, Field(gt=0)] = 0.2
    """How far a value may move in an iteration before it stops to count."""
    vf_coef: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the value loss."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Discount of a token's reward for each token before it."""
    lam: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Lambda of generalized advantage estimation."""
    missing_eos_penalty: Annotated[float, Field(ge=0)] = 1.0
    """Taken from the reward of an answer that did not end by itself."""
    max_new_tokens: Annotated[int, Field(gt=0)] = 64
    """Longest answer, in tokens."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the answers; policy and reference are compared at the same one."""
    max_length: Annotated[int, Field(gt=1)] = 1024
    """Longest prompt and answer together; longer prompts are left out and counted."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    lr_scheduler_type: Literal["cosine", "linear", "wsd", "constant"] = "linear"
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """(N, T) advantages and (N, T) returns, both 0 outside the mask.

    rewards, values: (N, T). mask: (N, T), ones up to each answer's end. The value after the last token is 0.
    Source: Schulman et al. 2016, arXiv 1506.02438, equation 16.
    """
    advantages = torch.zeros_like(rewards)
    following = torch.zeros(len(rewards), dtype=rewards.dtype, device=rewards.device)
    running = torch.zeros_like(following)
    for step in reversed(range(rewards.shape[1])):
        inside = mask[:, step]
        delta = rewards[:, step] + gamma * following - values[:, step]
        running = (delta + gamma * lam * running) * inside
        advantages[:, step] = running
        following = values[:, step] * inside
    return advantages, (advantages + values) * mask


def whiten(values: Tensor) -> Tensor:
    """(N,) values with mean 0 and variance 1 (divided by N, not N - 1)."""
    return (values - values.mean()) * torch.rsqrt(values.var(correction=0) + 1e-8)


def policy_loss(ratio: Tensor, advantages: Tensor, cliprange: float) -> Tensor:
    """(N,) the clipped loss of each token; ratio and advantages are (N,).

    Source: Schulman et al. 2017, arXiv 1707.06347, equation 7.
    """
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - cliprange, 1 + cliprange))


def value_loss(values: Tensor, old: Tensor, returns: Tensor, cliprange: float) -> Tensor:
    """(N,) half the squared error of each value, or of the value clipped around the old one, whichever is larger.

    Source: the reference code of Schulman et al. 2017; Ziegler et al. 2019, arXiv 1909.08593.
    """
    clipped = old + (values - old).clamp(-cliprange, cliprange)
    return 0.5 * torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)


def adapted_kl_coef(coefficient: float, kl: float, target: float, count: int, horizon: int) -> float:
    """The KL coefficient after ``count`` answers that diverged by ``kl`` nats each.

    Source: Ziegler et al. 2019, arXiv 1909.08593, section 2.2.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * count / horizon)


@dataclass(slots=True)
class Experience:
    """An iteration's answers, ready to learn from. N answers, T tokens of the longest."""

    examples: list[Example]
    """One for each prompt."""
    places: list[list[int]]
    """The answers of each example, by their place among the N."""
    old: Tensor
    """(N, T) log-probabilities when drawn."""
    values: Tensor
    returns: Tensor
    advantages: Tensor
    mask: Tensor


def execute(recipe: Recipe, run: Run) -> None:
    """Trains and saves the policy.

    Raises:
        SettingsError: neither a reward model nor a function is given, or both; or one answer at a time.
    """
    if (recipe.reward is None) == (not recipe.reward_function):
        raise SettingsError("ppo: give either reward, a reward model, or reward_function")
    if max(1, recipe.batch_size // recipe.samples_per_prompt) * recipe.samples_per_prompt < 2:
        raise SettingsError("ppo: batch_size 1: rewards of one answer tell nothing: give 2 or more")
    if recipe.bf16 and device.device().type == "cpu":
        raise SettingsError("bf16: on a CPU answers are drawn in float32 and must be learned from in it: leave it out")
    where = device.prepare(recipe.seed)
    model, chat = checkpoint.load(recipe.model, bits=recipe.quantization_bit)
    prompts, messages = _prompts(recipe, chat, checkpoint.context(model), run)
    frozen = None if recipe.adapts else copy.deepcopy(model)
    policy = adapt(model, recipe, "causal", recipe.seed)
    scorer = reward_model(recipe.reward, recipe.model, chat, policy) if recipe.reward else None
    limit = recipe.max_batch_tokens
    score = by_model(scorer, chat, limit) if scorer else by_function(recipe.reward_function)
    value = _value_network(recipe, policy, scorer)
    both = nn.ModuleDict({"policy": policy, "value": value})
    per_iteration = max(1, recipe.batch_size // recipe.samples_per_prompt)
    passes = -(-recipe.iterations * per_iteration // len(prompts))
    order = [i for step in plan([1] * len(prompts), 1, passes, recipe.seed) for i in step]
    self_check(policy, flat(grouped(prompts, [Rollout(0, chat.answer("ready"))])).to(where))
    engine = Engine(policy, chat, run.path.name)
    memory: dict[str, Any] = {"kl_coef": recipe.init_kl_coef}
    longest = max(map(len, prompts)) + recipe.samples_per_prompt * recipe.max_new_tokens
    trainer = Trainer(run, both, recipe, steps=recipe.iterations, memory=memory, longest=longest)
    for step in trainer.steps():
        chosen = order[step * per_iteration : (step + 1) * per_iteration]
        sampling = Sampling(
            temperature=recipe.temperature, max_new_tokens=recipe.max_new_tokens, seed=recipe.seed * 1_000_003 + step
        )
        rollouts = engine.generate([prompts[i] for i in chosen], sampling, recipe.samples_per_prompt)
        asked = [chosen[rollout.prompt] for rollout in rollouts]
        texts = [engine.text(rollout, sampling) for rollout in rollouts]
        given = score([prompts[i] for i in chosen], [messages[i] for i in asked], rollouts, texts)
        kept = [place for place, one in enumerate(given) if one == one and abs(one) != float("inf")]
        if len(kept) < 2:
            raise RecordError(f"reward: {len(given) - len(kept)} of {len(given)} scores are not finite numbers")
        with checkpoint.reference(policy, frozen) as reference:
            answers = [rollouts[i] for i in kept]
            examples = grouped([prompts[i] for i in chosen], answers)
            scored = [given[i] for i in kept]
            experience = _experience(recipe, examples, answers, scored, reference, value, trainer)
        _learn(recipe, experience, policy, value, trainer, step)
        trainer.log(
            dropped=len(given) - len(kept),
            response_length=sum(len(r.ids) for r in answers) / len(answers),
            eos_rate=sum(r.stopped for r in answers) / len(answers),
            unique=len(set(texts)) / len(texts),
        )
    samples.keep(run, policy, chat, recipe.model, messages)


def places_of(examples: Sequence[Example]) -> list[list[int]]:
    """The places of each example's answers among all."""
    ends = list(itertools.accumulate(len(example.branches) for example in examples))
    return [list(range(end - len(example.branches), end)) for example, end in zip(examples, ends, strict=True)]


def _experience(
    recipe: Recipe, examples: list[Example], rollouts: list[Rollout], given: list[float], reference: nn.Module,
    value: nn.Module, trainer: Trainer,
) -> Experience:  # fmt: skip
    """Token rewards, values and advantages of an iteration's answers."""
    where, kl_coef = trainer.device, float(trainer.memory["kl_coef"])
    places = places_of(examples)
    longest = max(len(rollout.ids) for rollout in rollouts)
    old, behind, values, mask = (torch.zeros(len(rollouts), longest, device=where) for _ in range(4))

    def seen(_: list[int], batch: Batch) -> tuple[Tensor, Tensor]:
        theirs = token_log_probabilities(reference, batch, recipe.temperature)
        return theirs, scalar_outputs(value, batch, batch.sources)

    for row, (theirs, worth) in trainer.look(range(len(examples)), examples, seen):
        members = [i for number in row for i in places[number]]
        spans = [len(rollouts[i].ids) for i in members]
        for i, one, two in zip(members, theirs.split(spans), worth.split(spans), strict=True):
            behind[i, : len(one)], values[i, : len(two)], mask[i, : len(one)] = one, two, 1.0
    for i, rollout in enumerate(rollouts):
        old[i, : len(rollout.ids)] = torch.tensor(rollout.log_probabilities, device=where)
    divergence = (old - behind) * mask
    scored = torch.tensor(given, device=where)
    scored = scored - recipe.missing_eos_penalty * torch.tensor([not r.stopped for r in rollouts], device=where)
    rewards = -kl_coef * divergence
    ends = mask.sum(1).long() - 1
    rewards[torch.arange(len(rewards)), ends] += scored
    advantages, returns = generalized_advantages(rewards, values, mask, recipe.gamma, recipe.lam)
    inside = mask.bool()
    if float(scored.std()) < 1e-6 and kl_coef == 0:
        advantages = torch.zeros_like(advantages)  # nothing to tell answers apart by
    else:
        advantages[inside] = whiten(advantages[inside])
    spread = returns[inside].var(correction=0)
    kl = float(divergence.sum(1).mean())
    trainer.add(
        score=scored.mean(), score_std=scored.std(), kl=kl, kl_coef=kl_coef, tokens=sum(e.tokens for e in examples),
        explained_variance=1 - (returns[inside] - values[inside]).var(correction=0) / (spread + 1e-8),
    )  # fmt: skip
    if recipe.target_kl is not None:
        trainer.memory["kl_coef"] = adapted_kl_coef(kl_coef, kl, recipe.target_kl, len(rollouts), recipe.kl_horizon)
    return Experience(examples, places, old, values, returns, advantages, mask)


def _learn(
    recipe: Recipe, experience: Experience, policy: nn.Module, value: nn.Module, trainer: Trainer, step: int
) -> None:
    """`ppo_epochs` passes over the answers, in minibatches of a fresh order each."""
    count = len(experience.examples)
    size = max(1, min(recipe.mini_batch_size // recipe.samples_per_prompt, count))
    updates = recipe.ppo_epochs * len(plan([1] * count, size, 1, 0, by_count=True))
    drifts: list[float] = []

    def losses(row: list[int], batch: Batch, minibatch: Sequence[int]) -> Losses:
        tokens = float(experience.mask[[i for number in minibatch for i in experience.places[number]]].sum())
        loss, numbers, drift = _actor(recipe, experience, row, batch, policy)
        drifts.append(drift)
        yield loss / tokens, {name: value / tokens for name, value in numbers.items()}
        # One after the other: the activations of one are gone before those of the other come.
        with value.turned() if isinstance(value, Scorer) else contextlib.nullcontext():
            loss = _critic(recipe, experience, row, batch, value)
            yield recipe.vf_coef * loss / tokens, {"value_loss": loss / tokens}

    minibatches = plan([1] * count, size, recipe.ppo_epochs, recipe.seed * 1_000_003 + step, by_count=True)
    for number, minibatch in enumerate(minibatches):
        trainer.learn(minibatch, experience.examples, losses)
        if number == 0:
            _check_ratio(max(drifts))
            trainer.add(ratio_error=max(drifts))
        trainer.add(gradient_norm=trainer.apply() / updates)


def _actor(
    recipe: Recipe, experience: Experience, row: list[int], batch: Batch, policy: nn.Module
) -> tuple[Tensor, dict[str, Tensor], float]:
    """The policy's loss of some answers, summed over their tokens; sums to look at; and how far ratios are from 1."""
    members = [i for number in row for i in experience.places[number]]
    inside = experience.mask[members].bool()
    old, advantages = experience.old[members][inside], experience.advantages[members][inside]
    now = likelihoods(policy, batch, recipe.temperature, entropy=True)
    assert now.entropy is not None
    logged = now.chosen - old
    ratio = logged.exp()
    loss = policy_loss(ratio, advantages, recipe.cliprange).sum()
    with torch.no_grad():
        numbers = {
            "policy_loss": loss,
            "entropy": now.entropy.sum(),
            "clip_fraction": ((ratio - 1).abs() > recipe.cliprange).float().sum(),
            "approx_kl": (ratio - 1 - logged).sum(),
        }
    return loss, numbers, device.apart(now.chosen.detach(), old)


def _critic(recipe: Recipe, experience: Experience, row: list[int], batch: Batch, value: nn.Module) -> Tensor:
    """The value network's loss of some answers, summed over their tokens."""
    members = [i for number in row for i in experience.places[number]]
    inside = experience.mask[members].bool()
    worth = scalar_outputs(value, batch, batch.sources)
    before, returns = experience.values[members][inside], experience.returns[members][inside]
    return value_loss(worth, before, returns, recipe.cliprange_value).sum()


def _check_ratio(drift: float) -> None:
    """The first look at fresh answers must give the log-probabilities that were recorded when they were drawn.

    Raises:
        SelfCheckError: generation and training disagree.
    """
    limit = 1e-2 if device.exact() else 0.1
    if not drift < limit:
        raise SelfCheckError(
            f"self-check: log-probabilities recorded at generation differ by up to {drift:.3g} nats from training's "
            "before the first update: dropout is on, or a temperature differs"
        )


def _prompts(recipe: Recipe, chat: Chat, context: int, run: Run) -> tuple[list[list[int]], list[tuple[Message, ...]]]:
    """The prompts that leave room for an answer and its end, as ids and as messages."""
    found = [record.prompt for record in formats.prompts(recipe.prompts)]
    encoded = [(chat.prompt(messages), messages) for messages in found]
    length = min(recipe.max_length, context - 1)  # an answer that was cut is scored with its end put on
    kept = [(ids, messages) for ids, messages in encoded if len(ids) + recipe.max_new_tokens <= length]
    if not kept:
        limit = f"max_length {length}" if length == recipe.max_length else f"the model's context of {context}"
        raise RecordError(
            f"{recipe.prompts}: no prompt of {len(found)} leaves room for {recipe.max_new_tokens} tokens in {limit}: "
            "shorten them, or lower max_new_tokens"
        )
    run.note(f"{counted(len(kept), 'prompt')}, {len(found) - len(kept):,} too long")
    return [ids for ids, _ in kept], [messages for _, messages in kept]


def _value_network(recipe: Recipe, policy: nn.Module, reward: nn.Module | None) -> nn.Module:
    """The body of the reward model, or else of the policy, with a head that begins at 0.

    With LoRA it is an adapter on the policy's base weights, which begins as that of a reward model on the same.
    """
    if isinstance(policy, PeftModel) and processes() == 1:
        return shared.value_network(policy, reward, recipe.seed)
    value, _ = checkpoint.load_scorer(recipe.reward or recipe.model, trainable=True, new_head=True)
    nn.init.zeros_(value.score.weight)  # pyright: ignore
    return value
