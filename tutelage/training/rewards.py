"""What answers are worth, by a reward model or by a function in Python: what a policy is trained towards."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, SupportsFloat, cast

import torch
from peft import PeftModel
from torch import nn

from tutelage.errors import SettingsError
from tutelage.inference.engine import Rollout
from tutelage.model import checkpoint, device, shared
from tutelage.model.chat import Chat
from tutelage.records import Message
from tutelage.run import processes
from tutelage.training.batches import Branch, Example, answers, rows
from tutelage.training.likelihood import scores

Reward = Callable[[Sequence[Sequence[Message]], Sequence[str]], Sequence[float]]
"""A reward in Python: prompts and responses in, one number each out."""

Score = Callable[[list[list[int]], list[Sequence[Message]], list[Rollout], list[str]], list[float]]
"""Prompts as ids; and of each answer its prompt as messages, the answer as drawn, and its text. A number each."""


def grouped(prompts: Sequence[list[int]], answers: Sequence[Rollout], end: int | None = None) -> list[Example]:
    """An example for each prompt that has answers, with those as its branches; all in order.

    end: put after an answer that did not end by itself.
    """
    examples: list[Example] = []
    for place, rollouts in itertools.groupby(answers, key=lambda answer: answer.prompt):
        whole = [r.ids if r.stopped or end is None else [*r.ids, end] for r in rollouts]
        examples.append(Example(prompts[place], [Branch(ids, [True] * len(ids)) for ids in whole]))
    return examples


def reward_model(folder: Path, start: Path, chat: Chat, policy: nn.Module) -> nn.Module:
    """The reward model in a folder, for a policy that started from ``start``; on the policy's base weights, if it is
    LoRA on them.

    Raises:
        SettingsError: its tokenizer is another one.
    """
    if Chat.load(folder).tokenizer.get_vocab() != chat.tokenizer.get_vocab():
        raise SettingsError(f"reward: {folder} has another tokenizer than {start}: train it from the same")
    if isinstance(policy, PeftModel) and processes() == 1:
        scorer = shared.reward_model(policy, folder, start)
        if scorer is not None:
            return scorer
    return checkpoint.load_scorer(folder)[0]


def by_model(scorer: nn.Module, chat: Chat, limit: int) -> Score:
    """Its rewards, without the mean and deviation that it was saved with; in rows of at most ``limit`` tokens."""

    @torch.no_grad()
    def score(
        prompts: list[list[int]], _messages: list[Sequence[Message]], rollouts: list[Rollout], _texts: list[str]
    ) -> list[float]:
        assert chat.end is not None
        # A reward model has only seen answers that end, so one that was cut is scored with its end put on.
        return _normal(scorer, grouped(prompts, rollouts, end=chat.end), limit)

    return score


@torch.no_grad()
def of_answers(
    folder: Path, asked: Sequence[tuple[Sequence[Message], Sequence[str]]], limit: int
) -> list[list[float] | None]:  # fmt: skip
    """What the reward model in a folder gives the answers to each prompt; as `by_model`. None if they are longer than
    it can read.

    Raises:
        ModelError: not a reward model.
    """
    scorer, chat = checkpoint.load_scorer(folder)
    length = checkpoint.context(scorer)
    examples = [answers(prompt, texts, chat, length) for prompt, texts in asked]
    found = iter(_normal(scorer, [example for example in examples if example is not None], limit))
    return [
        None if example is None else list(itertools.islice(found, len(texts)))
        for example, (_, texts) in zip(examples, asked, strict=True)
    ]


def _normal(scorer: nn.Module, examples: Sequence[Example], limit: int) -> list[float]:
    """The scores of all branches in order, less the mean and over the deviation that the model was saved with."""
    mean = float(getattr(scorer.config, "reward_mean", 0.0))
    deviation = float(getattr(scorer.config, "reward_std", 1.0)) or 1.0
    found: list[float] = []
    for _, batch in rows(range(len(examples)), examples, limit, device.device()):
        found += scores(scorer, batch).tolist()
    return [(one - mean) / deviation for one in found]


def by_function(place: str) -> Score:
    """The rewards of a function, named as ``file.py:name``.

    Raises:
        SettingsError: it is not there; or, when called, it gives something else than a number for each response.
    """
    function = _function(place)

    def score(
        _prompts: list[list[int]], messages: list[Sequence[Message]], _rollouts: list[Rollout], texts: list[str]
    ) -> list[float]:
        given: list[Any] = list(function(messages, texts))
        if len(given) != len(texts) or not all(isinstance(one, SupportsFloat) for one in given):  # pyright: ignore
            raise SettingsError(
                f"reward_function: {place}: gave {str(given)[:60]} for {len(texts)} responses: give one number for each"
            )
        return [float(one) for one in given]

    return score


def _function(place: str) -> Reward:
    file, _, name = place.rpartition(":")
    if not file or not Path(file).is_file():
        raise SettingsError(f"reward_function: {place!r}: no such file: write file.py:name")
    spec = importlib.util.spec_from_file_location("tutelage_reward_function", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, name, None)):
        raise SettingsError(f"reward_function: {place!r}: {file} has no function {name!r}")
    return cast(Reward, getattr(module, name))
