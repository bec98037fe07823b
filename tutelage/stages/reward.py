"""comparisons -> reward model, by Bradley-Terry or Plackett-Luce

The reward is a linear head on the hidden state of a response's last token, which is the one that ends its turn: the
same in training, in evaluation and in PPO. All responses of a prompt are in one step, as branches that share it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tutelage.errors import RecordError, SelfCheckError
from tutelage.instruction import formats
from tutelage.model import checkpoint, device
from tutelage.model.adapters import Adapting, adapt
from tutelage.run import Run
from tutelage.sentences import counted
from tutelage.settings import Input
from tutelage.training.batches import Batch, Example, Reading, answers, fitting, flat, fullness, plan, rows
from tutelage.training.held_out import Judged, divided
from tutelage.training.lanes import Losses
from tutelage.training.likelihood import scores
from tutelage.training.optimizer import Learning
from tutelage.training.trainer import Trainer

MAKES = "reward"


@dataclass(frozen=True, kw_only=True)
class Recipe(Learning, Adapting, Reading, Judged):
    model: Annotated[Path, Input("model")]
    """The chat model whose body the reward model takes."""
    comparisons: Annotated[Path, Input("comparisons")]
    """Whom people, a model or a rule preferred: a collect run, or a file in any of the usual shapes."""
    loss: Literal["bradley_terry", "plackett_luce"] = "bradley_terry"
    """Over all pairs of a ranking, or over the ranking as a whole."""
    center_rewards_coefficient: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the mean squared reward, which keeps rewards near 0."""
    batch_size: Annotated[int, Field(gt=0)] = 16
    """Prompts of a step, each with all its responses."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4


def bradley_terry_loss(better: Tensor, worse: Tensor, margin: float = 0.0) -> Tensor:
    """(N,) -log sigma(r_better - r_worse - margin), in nats, of (N,) rewards.

    Source: Ouyang et al. 2022, arXiv 2203.02155, equation 1; the margin is that of Touvron et al. 2023, arXiv
    2307.09288, equation 2.
    """
    return -F.logsigmoid(better - worse - margin)


def plackett_luce_loss(rewards: Tensor) -> Tensor:
    """() the negative log-likelihood, in nats, of a ranking; rewards (K,) from best to worst, no ties.

    -sum over k < K of r_k - log sum over j >= k of exp r_j. With K = 2 it is the Bradley-Terry loss.
    Source: Plackett 1975; Ouyang et al. 2022 use the pairwise form instead.
    """
    remaining = torch.logcumsumexp(rewards.flip(0), 0).flip(0)
    return (remaining - rewards)[:-1].sum()


def ranking_loss(rewards: Tensor, ranks: tuple[int, ...], loss: str) -> tuple[Tensor, int, int]:
    """The loss of one prompt's (K,) rewards under its ranks; with the pairs in the right order, and the pairs.

    Pairs of a prompt are averaged, as in Ouyang et al. 2022; tied pairs say nothing. Plackett-Luce takes ties away by
    averaging over the pairs instead, where there are any.
    """
    places = range(len(ranks))
    pairs = [(a, b) for a, b in itertools.product(places, places) if ranks[a] < ranks[b]]
    better, worse = rewards[[a for a, _ in pairs]], rewards[[b for _, b in pairs]]
    right = int((better > worse).sum())
    if loss == "plackett_luce" and len(set(ranks)) == len(ranks):
        return plackett_luce_loss(rewards[sorted(places, key=lambda place: ranks[place])]), right, len(pairs)
    return bradley_terry_loss(better, worse).mean(), right, len(pairs)


def execute(recipe: Recipe, run: Run) -> None:
    """Trains, normalises and saves the reward model."""
    where = device.prepare(recipe.seed, recipe.bf16)
    body, chat = checkpoint.load_scorer(recipe.model, new_head=True, bits=recipe.quantization_bit)
    torch.manual_seed(recipe.seed)
    width = int(body.config.get_text_config().hidden_size)
    body.score.weight.data.normal_(0, (width + 1) ** -0.5)  # pyright: ignore  Stiennon et al. 2020
    scorer = adapt(body, recipe, "score", recipe.seed)

    found = formats.comparisons(recipe.comparisons)
    telling = [record for record in found if record.pairs()]
    if not telling:
        raise RecordError(f"{recipe.comparisons}: every comparison is a tie: there is nothing to learn")
    pairs = counted(sum(len(record.pairs()) for record in telling), "pair")
    run.note(f"{pairs}; all ties: {len(found) - len(telling):,}")
    records, examples = fitting(
        telling, lambda record, length: answers(record.prompt, record.responses, chat, length, record.id),
        recipe, checkpoint.context(scorer), recipe.comparisons, run,
    )  # fmt: skip
    sizes = [example.tokens for example in examples]
    learned, held_out = divided(recipe, [tuple(one.prompt) for one in examples], recipe.seed, recipe.comparisons)
    steps = plan(sizes, recipe.batch_size, recipe.num_train_epochs, recipe.seed, by_count=True, among=learned)
    _self_check(scorer, examples[0], where)
    run.note(fullness(steps, sizes, recipe.max_batch_tokens))
    trainer = Trainer(run, scorer, recipe, steps=len(steps), longest=max(sizes))

    def losses(row: list[int], batch: Batch, step: Sequence[int]) -> Losses:
        rewards = scores(scorer, batch)
        found: list[Tensor] = []
        right = 0
        for place, i in enumerate(row):
            given = rewards[batch.example == place]
            loss, hits, _ = ranking_loss(given, records[i].ranks, recipe.loss)
            found.append(loss + recipe.center_rewards_coefficient * given.square().mean())
            right += hits
        pairs = sum(len(records[i].pairs()) for i in step)
        yield torch.stack(found).sum() / len(step), {"accuracy": right / pairs, "tokens": len(batch.ids)}

    for step in trainer.steps():
        trainer.learn(steps[step], examples, losses)
        trainer.update()
        trainer.judge(held_out, examples, losses, recipe.eval_steps)
    trainer.take_best()

    _normalise(scorer, [examples[i] for i in learned], recipe.max_batch_tokens, where)
    checkpoint.save(scorer, chat, run.folder)


def _self_check(scorer: torch.nn.Module, example: Example, where: torch.device) -> None:
    """A response's reward is the same in its tree and alone.

    Raises:
        SelfCheckError: it is not.
    """
    with torch.no_grad():
        together = scores(scorer, flat([example]).to(where))
        alone = [scores(scorer, flat([Example(example.prompt, [branch])]).to(where)) for branch in example.branches]
    difference = device.apart(together, torch.cat(alone))
    if not difference < (1e-3 if device.exact() else 0.1 * max(1.0, float(together.abs().max()))):
        raise SelfCheckError(f"self-check: rewards of branches differ by {difference:.3g} from rewards computed alone")


def _normalise(scorer: torch.nn.Module, examples: list[Example], limit: int, where: torch.device) -> None:
    """Mean 0 and deviation 1 over the responses it was trained on, kept in the config as reward_mean and reward_std."""
    given: list[Tensor] = []
    with torch.no_grad():
        for _, batch in rows(range(min(len(examples), 512)), examples, limit, where):
            given.append(scores(scorer, batch))
    every = torch.cat(given).double()
    config = checkpoint.base(scorer).config
    config.reward_mean = float(every.mean())  # pyright: ignore[reportAttributeAccessIssue]
    config.reward_std = float(every.std())  # pyright: ignore[reportAttributeAccessIssue]
