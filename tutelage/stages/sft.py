"""conversations -> chat model, by imitating the answers

Only the assistant's words and the token that ends its turn are learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tutelage.instruction import formats
from tutelage.model import checkpoint, device
from tutelage.model.adapters import Lora, adapt
from tutelage.run import Run
from tutelage.settings import Input
from tutelage.training import samples
from tutelage.training.batches import Lengths, conversation, fitting, flat, micro, plan
from tutelage.training.likelihood import likelihoods, self_check
from tutelage.training.optimizer import Learning
from tutelage.training.trainer import Trainer

MAKES = "model"


@dataclass(frozen=True, kw_only=True)
class Recipe(Learning, Lora, Lengths):
    model: Annotated[Path, Input("model")]
    """The model to start from: a run, a Hugging Face folder or a hub id."""
    conversations: Annotated[Path, Input("conversations")]
    """What to imitate: an instruct run, or a file in any of the usual shapes."""
    batch_tokens: Annotated[int, Field(gt=0)] = 8192
    """Tokens of a step."""
    num_train_epochs: Annotated[float, Field(gt=0)] = 1
    """How often each conversation is learned."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3


def execute(recipe: Recipe, run: Run) -> None:
    """Tunes and saves the chat model."""
    where = device.prepare(recipe.seed)
    model, chat = checkpoint.load(recipe.model)
    records = formats.conversations(recipe.conversations)
    records, examples = fitting(
        records, lambda record: conversation(record, chat, recipe.max_length), recipe, recipe.conversations, run
    )
    sizes = [example.tokens for example in examples]
    steps = plan(sizes, recipe.batch_tokens, recipe.num_train_epochs, recipe.seed)

    policy = adapt(model, recipe, "causal", recipe.seed)
    self_check(policy, flat(examples[:2]).to(where))
    policy.train()
    trainer = Trainer(run, policy, recipe, steps=len(steps))
    for step in trainer.steps():
        supervised = sum(examples[i].supervised for i in steps[step])
        for rows in micro(steps[step], sizes, recipe.max_batch_tokens):
            batch = flat([examples[i] for i in rows]).to(where)
            found = likelihoods(policy, batch)
            accuracy = found.likeliest.sum() / supervised
            trainer.backward(-found.chosen.sum() / supervised, accuracy=accuracy, tokens=len(batch.ids))
        trainer.update()
    policy.eval()
    checkpoint.save(policy, chat, run.folder)
    samples.write(run, recipe.model, records, chat, policy)
