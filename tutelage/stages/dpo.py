"""comparisons -> policy, without a reward model: direct preference optimization

The reference is the model before the first step; its log-probabilities are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tutelage.errors import RecordError
from tutelage.instruction import formats
from tutelage.model import checkpoint, device
from tutelage.model.adapters import Adapting, adapt
from tutelage.records import Comparison, Message
from tutelage.run import Run
from tutelage.sentences import counted
from tutelage.settings import Input
from tutelage.training import reference, samples
from tutelage.training.batches import Batch, Reading, answers, fitting, flat, fullness, plan
from tutelage.training.held_out import Judged, divided
from tutelage.training.lanes import Losses
from tutelage.training.likelihood import self_check, token_log_probabilities
from tutelage.training.optimizer import Learning
from tutelage.training.trainer import Trainer

MAKES = "model"


@dataclass(frozen=True, kw_only=True)
class Recipe(Learning, Adapting, Reading, Judged):
    model: Annotated[Path, Input("model")]
    """The model to start from; a frozen copy of it is the reference."""
    comparisons: Annotated[Path, Input("comparisons")]
    """Pairs or rankings: a collect run, or a file in any of the usual shapes."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Pull towards the reference; larger stays closer. Beta of equation 7."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of the pairs that are taken to be labelled the wrong way round."""
    nll_coefficient: Annotated[float, Field(ge=0)] = 0.0
    """Weight of imitating the chosen response as well, per token; keeps its likelihood up."""
    pairs_per_prompt: Annotated[int, Field(gt=0)] = 1
    """Of a ranking of K, how many pairs are learned: those furthest apart in rank come first."""
    batch_size: Annotated[int, Field(gt=0)] = 32
    """Pairs of a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5


def dpo_loss(policy_margin: Tensor, reference_margin: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """(N,) -log sigma(beta (policy_margin - reference_margin)), in nats; smoothed over both labels if asked.

    A margin is log p(chosen) - log p(rejected), (N,), in nats, each a sum over the response's tokens and its end.
    Source: Rafailov et al. 2023, arXiv 2305.18290, equation 7; smoothing: Mitchell 2023, "conservative DPO".
    """
    logits = beta * (policy_margin - reference_margin)
    return -(1 - label_smoothing) * F.logsigmoid(logits) - label_smoothing * F.logsigmoid(-logits)


def pairs_of(record: Comparison, limit: int) -> list[tuple[tuple[Message, ...], tuple[str, str]]]:
    """A ranking's prompt with (chosen, rejected), for the pairs furthest apart in rank, ``limit`` at most."""
    apart = sorted(record.pairs(), key=lambda pair: record.ranks[pair[0]] - record.ranks[pair[1]])
    return [(record.prompt, (record.responses[a], record.responses[b])) for a, b in apart[:limit]]


def execute(recipe: Recipe, run: Run) -> None:
    """Tunes and saves the policy."""
    where = device.prepare(recipe.seed, recipe.bf16)
    model, chat = checkpoint.load(recipe.model, bits=recipe.quantization_bit)
    records = formats.comparisons(recipe.comparisons)
    found = [(*pair, record.id) for record in records for pair in pairs_of(record, recipe.pairs_per_prompt)]
    if not found:
        raise RecordError(f"{recipe.comparisons}: every comparison is a tie: there is nothing to learn")
    _, pairs = fitting(
        found, lambda pair, length: answers(pair[0], pair[1], chat, length, pair[2]), recipe, checkpoint.context(model),
        recipe.comparisons, run,
    )  # fmt: skip
    sizes = [pair.tokens for pair in pairs]
    learned, held_out = divided(recipe, [tuple(pair.prompt) for pair in pairs], recipe.seed, recipe.comparisons)
    steps = plan(sizes, recipe.batch_size, recipe.num_train_epochs, recipe.seed, by_count=True, among=learned)

    self_check(model, flat(pairs[:2]).to(where))
    # Before an adapter is added or a weight moves, the model is its own reference.
    known = reference.response_log_probabilities(run, model, pairs, recipe.max_batch_tokens).to(where)
    policy = adapt(model, recipe, "causal", recipe.seed)
    reference.self_check(policy, pairs[0], known[0])
    run.note(
        f"{counted(len(pairs), 'pair')} of {counted(len(records), 'comparison')}, "
        f"{len(found) - len(pairs):,} too long, {counted(len(steps), 'step')}"
    )
    run.note(fullness(steps, sizes, recipe.max_batch_tokens))
    trainer = Trainer(run, policy, recipe, steps=len(steps), longest=max(sizes))

    def losses(row: list[int], batch: Batch, step: Sequence[int]) -> Losses:
        tokens = token_log_probabilities(policy, batch)
        chosen, rejected = batch.per_branch(tokens).view(-1, 2).unbind(1)
        before = known[row]
        found = dpo_loss(chosen - rejected, before[:, 0] - before[:, 1], recipe.beta, recipe.label_smoothing)
        loss = found.sum() / len(step)
        if recipe.nll_coefficient:
            lengths = batch.per_branch(torch.ones_like(tokens)).view(-1, 2)[:, 0]
            loss = loss - recipe.nll_coefficient * (chosen / lengths).sum() / len(step)
        gain = (chosen - before[:, 0] - rejected + before[:, 1]).detach()
        yield (
            loss,
            {
                "accuracy": (gain > 0).float().sum() / len(step),
                "margin": recipe.beta * gain.sum() / len(step),
                "chosen_logps": chosen.sum() / len(step),
                "rejected_logps": rejected.sum() / len(step),
                "tokens": len(batch.ids),
            },
        )

    for step in trainer.steps():
        trainer.learn(steps[step], pairs, losses)
        trainer.update()
        trainer.judge(held_out, pairs, losses, recipe.eval_steps)
    trainer.take_best()
    samples.keep(run, policy, chat, recipe.model, [record.prompt for record in records])
