"""conversations -> chat model, by imitating the answers

Only the assistant's words and the token that ends its turn are learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from tutelage.instruction import formats
from tutelage.model import checkpoint, device
from tutelage.model.adapters import Adapting, adapt
from tutelage.run import Run
from tutelage.settings import Input
from tutelage.training import samples
from tutelage.training.batches import Batch, Reading, conversation, fitting, flat, fullness, plan
from tutelage.training.held_out import Judged, divided
from tutelage.training.lanes import Losses
from tutelage.training.likelihood import likelihoods, self_check
from tutelage.training.lisa import Drawn, Lisa
from tutelage.training.optimizer import Learning
from tutelage.training.trainer import Trainer

MAKES = "model"


@dataclass(frozen=True, kw_only=True)
class Recipe(Learning, Adapting, Lisa, Reading, Judged):
    model: Annotated[Path, Input("model")]
    """The model to start from: a run, a Hugging Face folder or a hub id."""
    conversations: Annotated[Path, Input("conversations")]
    """What to imitate: an instruct run, or a file in any of the usual shapes."""
    train_on: Literal["all", "last"] = "all"
    """Whether every turn of the assistant is learned, or only the last of each conversation."""
    batch_tokens: Annotated[int, Field(gt=0)] = 8192
    """Tokens of a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3


def imitation_loss(log_probabilities: Tensor, supervised: int) -> Tensor:
    """() the negative log-likelihood, in nats, per learned token of the whole step.

    log_probabilities: (S,) of the learned tokens of one row. supervised: the learned tokens of all rows of the step, so
    that a long answer weighs more than a short one and the split into rows changes nothing.
    Source: Ouyang et al. 2022, arXiv 2203.02155, section 3.5.
    """
    return -log_probabilities.sum() / supervised


def execute(recipe: Recipe, run: Run) -> None:
    """Tunes and saves the chat model."""
    where = device.prepare(recipe.seed, recipe.bf16)
    model, chat = checkpoint.load(recipe.model, bits=recipe.quantization_bit)
    records = formats.conversations(recipe.conversations)
    records, examples = fitting(
        records,
        lambda record, length: conversation(record, chat, length, last_only=recipe.train_on == "last"),
        recipe,
        checkpoint.context(model),
        recipe.conversations,
        run,
    )
    learned, held_out = divided(recipe, [record.prompt for record in records], recipe.seed, recipe.conversations)
    sizes = [example.tokens for example in examples]
    steps = plan(sizes, recipe.batch_tokens, recipe.num_train_epochs, recipe.seed, among=learned)

    policy = adapt(model, recipe, "causal", recipe.seed)
    self_check(policy, flat(examples[:2]).to(where))
    policy.train()
    drawn = Drawn(policy, recipe, recipe.seed)
    run.note(fullness(steps, sizes, recipe.max_batch_tokens))
    trainer = Trainer(run, policy, recipe, steps=len(steps), longest=max(sizes))

    def losses(_: list[int], batch: Batch, step: Sequence[int]) -> Losses:
        supervised = sum(examples[i].supervised for i in step)
        found = likelihoods(policy, batch, alike=True)
        accuracy = found.likeliest.sum() / supervised
        yield imitation_loss(found.chosen, supervised), {"accuracy": accuracy, "tokens": len(batch.ids)}

    for step in trainer.steps():
        with drawn.live(step, trainer.optimizers):
            trainer.learn(steps[step], examples, losses)
        trainer.update()
        trainer.judge(held_out, examples, losses, recipe.eval_steps)
    trainer.take_best()
    policy.eval()
    samples.keep(run, policy, chat, recipe.model, [record.prompt for record in records])
