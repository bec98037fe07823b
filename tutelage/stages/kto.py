"""verdicts -> policy, from good and bad answers alone: Kahneman-Tversky optimization"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tutelage.errors import RecordError
from tutelage.instruction import formats
from tutelage.model import checkpoint, device
from tutelage.model.adapters import Adapting, adapt
from tutelage.records import Verdict
from tutelage.run import Run
from tutelage.sentences import counted
from tutelage.settings import Input
from tutelage.training import reference, samples
from tutelage.training.batches import Batch, Branch, Example, Reading, answers, fitting, flat, fullness, plan
from tutelage.training.lanes import Losses
from tutelage.training.likelihood import self_check, token_log_probabilities
from tutelage.training.optimizer import Learning
from tutelage.training.trainer import Trainer

MAKES = "model"


@dataclass(frozen=True, kw_only=True)
class Recipe(Learning, Adapting, Reading):
    model: Annotated[Path, Input("model")]
    """The model to start from; a frozen copy of it is the reference."""
    verdicts: Annotated[Path, Input("comparisons")]
    """Answers called good or bad: a collect run, or a file in any of the usual shapes."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Pull towards the reference; larger stays closer."""
    desirable_weight: Annotated[float, Field(gt=0)] | None = None
    """Weight of good answers; by default as many times 1 as makes both classes weigh the same."""
    undesirable_weight: Annotated[float, Field(gt=0)] | None = None
    """Weight of bad answers; by default likewise. The rarer class is the one that is weighed up."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Verdicts of a step; the KL estimate needs at least two."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5


def kto_loss(log_ratios: Tensor, good: Tensor, kl: Tensor, beta: float, weights: tuple[float, float]) -> Tensor:
    """(N,) the loss of each verdict.

    log_ratios: (N,) log p_policy - log p_reference of the response, in nats. good: (N,) booleans. kl: () the mean log
    ratio of mismatched responses, cut at 0 and without gradient, in nats. weights: of good and of bad answers.
    Good: w (1 - sigma(beta (r - kl))); bad: w (1 - sigma(beta (kl - r))).
    Source: Ethayarajh et al. 2024, arXiv 2402.01306, equation 8 and section 4.1.
    """
    gain = beta * (log_ratios - kl.detach())
    return torch.where(good, weights[0] * (1 - torch.sigmoid(gain)), weights[1] * (1 - torch.sigmoid(-gain)))


def class_weights(recipe: Recipe, good: int, bad: int) -> tuple[float, float]:
    """(of good, of bad): as asked, or so that both classes weigh the same and the more frequent one weighs 1.

    Unbalanced classes make the policy shrink from all answers. Source: Ethayarajh et al. 2024, equation 8.
    """
    desirable = max(1.0, bad / good) if recipe.desirable_weight is None else recipe.desirable_weight
    undesirable = max(1.0, good / bad) if recipe.undesirable_weight is None else recipe.undesirable_weight
    return desirable, undesirable


def execute(recipe: Recipe, run: Run) -> None:
    """Tunes and saves the policy."""
    where = device.prepare(recipe.seed, recipe.bf16)
    model, chat = checkpoint.load(recipe.model, bits=recipe.quantization_bit)
    records = formats.verdicts(recipe.verdicts)
    kept, examples = fitting(
        records, lambda record, length: answers(record.prompt, [record.response], chat, length, record.id),
        recipe, checkpoint.context(model), recipe.verdicts, run,
    )  # fmt: skip
    mismatched = _mismatched(recipe, kept, examples, min(recipe.max_length, checkpoint.context(model)))
    good = torch.tensor([record.good for record in kept], device=where)
    if bool(good.all()) or not bool(good.any()):
        raise RecordError(f"{recipe.verdicts}: every verdict is {'good' if bool(good.all()) else 'bad'}: it needs both")
    sizes = [a.tokens + b.tokens for a, b in zip(examples, mismatched, strict=True)]
    steps = plan(sizes, recipe.batch_size, recipe.num_train_epochs, recipe.seed, by_count=True)
    alone = sum(len(step) < 2 for step in steps)
    if alone:
        left = counted(alone, "step")
        run.note(f"{left} of {len(steps):,} would have one verdict, which has no KL estimate: left out")
        steps = [step for step in steps if len(step) >= 2]
        if not steps:
            raise RecordError(f"{recipe.verdicts}: no step has two verdicts: give more, or raise num_train_epochs")

    self_check(model, flat(examples[:2]).to(where))
    both = [
        Example(one.prompt, [*one.branches, *other.branches]) for one, other in zip(examples, mismatched, strict=True)
    ]
    found = reference.response_log_probabilities(run, model, both, recipe.max_batch_tokens)
    known, astray = found.to(where).unbind(1)
    policy = adapt(model, recipe, "causal", recipe.seed)
    reference.self_check(policy, examples[0], known[:1])
    weights = class_weights(recipe, int(good.sum()), int((~good).sum()))
    run.note(f"good: {int(good.sum()):,} of {len(kept):,}, with weight {weights[0]:.2f} against {weights[1]:.2f}")
    run.note(fullness(steps, [example.tokens for example in examples], recipe.max_batch_tokens))
    trainer = Trainer(run, policy, recipe, steps=len(steps), longest=max(example.tokens for example in examples))

    def drift(row: list[int], batch: Batch) -> Tensor:
        return batch.per_branch(token_log_probabilities(policy, batch)) - astray[row]

    def losses(kl: Tensor, row: list[int], batch: Batch, step: Sequence[int]) -> Losses:
        ratios = batch.per_branch(token_log_probabilities(policy, batch)) - known[row]
        count = int(good[step].sum())
        yield (
            kto_loss(ratios, good[row], kl, recipe.beta, weights).sum() / len(step),
            {
                "reward_desirable": recipe.beta * ratios[good[row]].sum() / max(1, count),
                "reward_undesirable": recipe.beta * ratios[~good[row]].sum() / max(1, len(step) - count),
                "tokens": len(batch.ids),
            },
        )

    for step in trainer.steps():
        found = trainer.look(steps[step], mismatched, drift)
        kl = torch.cat([one for _, one in found]).mean().clamp(min=0)
        trainer.learn(steps[step], examples, partial(losses, kl))
        trainer.update(kl=kl)
    samples.keep(run, policy, chat, recipe.model, [record.prompt for record in kept])


def _mismatched(recipe: Recipe, kept: list[Verdict], examples: list[Example], length: int) -> list[Example]:
    """Each prompt with the response of another prompt, for the KL estimate: the next in a shuffled ring.

    length: of both together, in tokens, at most; a longer response is cut.
    """
    order = list(range(len(kept)))
    random.Random(recipe.seed).shuffle(order)
    mismatched = list(examples)
    for place, this in enumerate(order):
        others = (order[(place + step) % len(order)] for step in range(1, len(order)))
        other = next((i for i in others if kept[i].prompt != kept[this].prompt), None)
        if other is None:
            raise RecordError(f"{recipe.verdicts}: all verdicts share one prompt: the KL estimate needs two")
        (response,) = examples[other].branches
        room = length - len(examples[this].prompt)
        mismatched[this] = Example(examples[this].prompt, [Branch(response.ids[:room], response.trained[:room])])
    return mismatched
