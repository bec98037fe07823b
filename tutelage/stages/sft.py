"""conversations -> chat model, by imitating the answers

Only the assistant's words and the token that ends its turn are learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from tutelage.instruction import formats
from tutelage.model import checkpoint, device
from tutelage.model.adapters import Lora, adapt
from tutelage.run import Run
from tutelage.settings import Input
from tutelage.training import samples
from tutelage.training.batches import Reading, conversation, fitting, flat, plan, rows
from tutelage.training.likelihood import likelihoods, self_check
from tutelage.training.optimizer import Learning
from tutelage.training.trainer import Trainer

MAKES = "model"


@dataclass(frozen=True, kw_only=True)
class Recipe(Learning, Lora, Reading):
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
    where = device.prepare(recipe.seed)
    model, chat = checkpoint.load(recipe.model)
    records = formats.conversations(recipe.conversations)
    records, examples = fitting(
        records,
        lambda record, length: conversation(record, chat, length, last_only=recipe.train_on == "last"),
        recipe,
        checkpoint.context(model),
        recipe.conversations,
        run,
    )
    sizes = [example.tokens for example in examples]
    steps = plan(sizes, recipe.batch_tokens, recipe.num_train_epochs, recipe.seed)

    policy = adapt(model, recipe, "causal", recipe.seed)
    self_check(policy, flat(examples[:2]).to(where))
    policy.train()
    trainer = Trainer(run, policy, recipe, steps=len(steps))
    for step in trainer.steps():
        supervised = sum(examples[i].supervised for i in steps[step])
        for _, batch in rows(steps[step], examples, recipe.max_batch_tokens, where):
            found = likelihoods(policy, batch)
            accuracy = found.likeliest.sum() / supervised
            trainer.backward(imitation_loss(found.chosen, supervised), accuracy=accuracy, tokens=len(batch.ids))
        trainer.update()
    policy.eval()
    samples.keep(run, policy, chat, recipe.model, [record.prompt for record in records])
