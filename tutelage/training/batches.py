"""Batches without padding: examples become one flat row of tokens, prompts are laid once.

An `Example` is a prompt and its branches; a plain sequence is a prompt of no tokens and one branch. `flat` lays
examples in a row and says which hidden state predicts which trained token. `plan` says which examples make each step.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from tutelage.errors import RecordError
from tutelage.model.attention import Layout, Tree
from tutelage.model.chat import Chat
from tutelage.records import Conversation, Message
from tutelage.run import Run
from tutelage.sentences import counted

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How examples are read: the settings of every stage that learns from records."""

    max_length: Annotated[int, Field(gt=1)] = 1024
    """Longest example, prompt and answer together, in tokens."""
    max_dropped: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the examples that may be left out because they are longer; more stops the run."""
    num_train_epochs: Annotated[float, Field(gt=0)] = 1
    """How often each example is learned."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Token ids, and for each whether it is trained."""

    ids: list[int]
    trained: list[bool]


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the branches that share it."""

    prompt: list[int]
    branches: list[Branch]
    name: str = ""
    """The id of the record it was made from, for messages."""

    @property
    def tokens(self) -> int:
        """All tokens, the prompt counted once."""
        return len(self.prompt) + sum(len(branch.ids) for branch in self.branches)

    @property
    def supervised(self) -> int:
        """Trained tokens."""
        return sum(sum(branch.trained) for branch in self.branches)


@dataclass(frozen=True, slots=True)
class Batch:
    """A flat row. T tokens, S trained tokens, B branches in all."""

    ids: Tensor
    """(T,)"""
    positions: Tensor
    """(T,) from 0 in each tree."""
    layout: Layout
    sources: Tensor
    """(S,) the places in the row whose hidden states predict."""
    targets: Tensor
    """(S,) the ids predicted."""
    branch: Tensor
    """(S,) the branch that each trained token belongs to."""
    ends: Tensor
    """(B,) the place of each branch's last token."""
    example: Tensor
    """(B,) the example that each branch belongs to."""

    @property
    def branches(self) -> int:
        """B."""
        return len(self.ends)

    def to(self, device: torch.device) -> Batch:
        """The same, on a device."""
        return Batch(
            ids=self.ids.to(device),
            positions=self.positions.to(device),
            layout=self.layout,
            sources=self.sources.to(device),
            targets=self.targets.to(device),
            branch=self.branch.to(device),
            ends=self.ends.to(device),
            example=self.example.to(device),
        )

    def per_branch(self, values: Tensor) -> Tensor:
        """(B,) sums of (S,) values."""
        return torch.zeros(self.branches, dtype=values.dtype, device=values.device).index_add(0, self.branch, values)


def flat(examples: Sequence[Example]) -> Batch:
    """One row of the examples, in order."""
    ids: list[int] = []
    positions: list[int] = []
    trees: list[Tree] = []
    sources: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    ends: list[int] = []
    example_of: list[int] = []
    for number, example in enumerate(examples):
        start, prompt = len(ids), len(example.prompt)
        trees.append(Tree(start, prompt, tuple(len(branch.ids) for branch in example.branches)))
        ids += example.prompt
        positions += range(prompt)
        for branch in example.branches:
            begin = len(ids)
            for place, (token, trained) in enumerate(zip(branch.ids, branch.trained, strict=True)):
                if trained:
                    # The first token of a branch is predicted by the prompt's last hidden state.
                    sources.append(begin + place - 1 if place else start + prompt - 1)
                    targets.append(token)
                    owners.append(len(ends))
            ids += branch.ids
            positions += range(prompt, prompt + len(branch.ids))
            ends.append(len(ids) - 1)
            example_of.append(number)
    assert not sources or min(sources) >= 0, "a first token without a prompt cannot be predicted"
    columns = (ids, positions, sources, targets, owners, ends, example_of)
    row, place, source, target, owner, end, of = (torch.tensor(column, dtype=torch.long) for column in columns)
    return Batch(row, place, Layout(tuple(trees)), source, target, owner, end, of)


def plan(
    sizes: Sequence[int],
    budget: int,
    epochs: float,
    seed: int,
    by_count: bool = False,
    among: Sequence[int] | None = None,
) -> list[list[int]]:
    """Which examples make each step, over all epochs.

    Each epoch is a fresh shuffle. A step takes examples until ``budget`` is reached: tokens by ``sizes``, or their
    number if ``by_count``. ``among``: the examples there are, if not all. What is left at an epoch's end makes a last,
    smaller step. Depends on the seed alone.
    """
    steps: list[list[int]] = []
    whole, part = int(epochs), epochs - int(epochs)
    for epoch in range(whole + (part > 0)):
        order = list(range(len(sizes)) if among is None else among)
        random.Random(f"{seed}:{epoch}").shuffle(order)
        if epoch == whole:
            order = order[: max(1, round(part * len(order)))]
        step: list[int] = []
        used = 0
        for index in order:
            cost = 1 if by_count else sizes[index]
            if step and used + cost > budget:
                steps.append(step)
                step, used = [], 0
            step.append(index)
            used += cost
        steps.append(step)
    return steps


def micro(chosen: Sequence[int], sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Indices in groups of at most ``limit`` tokens, in order; ``sizes`` are those of the chosen, in their order."""
    groups: list[list[int]] = []
    used = limit + 1
    for index, size in zip(chosen, sizes, strict=True):
        if used + size > limit:
            groups.append([])
            used = 0
        groups[-1].append(index)
        used += size
    return groups


def pack(chosen: Sequence[int], sizes: Sequence[int], limit: int) -> list[list[int]]:
    """As `micro`, but in as few groups as can be: the longest first, each where it leaves the least room.

    What is longer than ``limit`` is a group by itself. In a group the longest comes first, and equals stand together.
    Source: Johnson et al. 1974, SIAM Journal on Computing 3(4), "best fit decreasing".
    """
    groups: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # what is left in each group, and its number: the least room first
    for index, size in sorted(zip(chosen, sizes, strict=True), key=lambda pair: -pair[1]):
        place = bisect.bisect_left(rooms, (size, 0))
        if place == len(rooms):
            rooms.append((limit, len(groups)))
            groups.append([])
        room, number = rooms.pop(place)
        groups[number].append(index)
        bisect.insort(rooms, (room - size, number))
    return groups


def fullness(steps: Sequence[Sequence[int]], sizes: Sequence[int], limit: int) -> str:
    """How many tokens steps have, and how full `pack` fills their rows of ``limit`` tokens: for the log."""
    tokens = [sum(sizes[i] for i in step) for step in steps]
    count = sum(len(pack(step, [sizes[i] for i in step], limit)) for step in steps)
    mean = sum(tokens) / len(steps)
    spread = (sum((one - mean) ** 2 for one in tokens) / len(steps)) ** 0.5
    return (
        f"{counted(len(steps), 'step')} of {mean:.0f} tokens (deviation {spread:.0f}), "
        f"in {count / len(steps):.1f} rows, {sum(tokens) / count / limit:.1%} full"
    )


def rows(
    chosen: Sequence[int], examples: Sequence[Example], limit: int, where: torch.device, packed: bool = False
) -> Iterator[tuple[list[int], Batch]]:
    """The chosen examples as flat rows of at most ``limit`` tokens on a device, each with its examples' indices.

    In order; or ``packed``, in fewer rows and another order, where the rows' results are added up.
    """
    lay = pack if packed else micro
    for row in lay(chosen, [examples[i].tokens for i in chosen], limit):
        yield row, flat([examples[i] for i in row]).to(where)


def documents(texts: Iterable[list[int]], end: int | None, length: int) -> list[Example]:
    """Texts for next-token prediction, cut into pieces of at most ``length`` tokens; each ends with ``end``, if given.

    Pieces overlap by one token, so that every token but a text's first is predicted exactly once.
    """
    examples: list[Example] = []
    for ids in texts:
        whole = ids if end is None else [*ids, end]
        for start in range(0, max(1, len(whole) - 1), length - 1):
            piece = whole[start : start + length]
            if len(piece) > 1:
                examples.append(continuation(piece))
    return examples


def continuation(ids: list[int]) -> Example:
    """Ids to predict, from the second on."""
    return Example([], [Branch(ids, [False] + [True] * (len(ids) - 1))])


def conversation(record: Conversation, chat: Chat, length: int, last_only: bool = False) -> Example | None:
    """A conversation to imitate: all turns of the assistant, or only the last.

    Older turns are dropped, in pairs, until it fits in ``length`` tokens; None if it never does.

    Raises:
        RecordError: it has no answer.
    """
    if not any(message.role == "assistant" for message in record.messages):
        raise RecordError(f"conversation {record.id}: no answer to learn from: add an assistant turn")
    messages = list(record.messages)
    while True:
        encoded = chat.encode(messages)
        if len(encoded.ids) <= length and any(encoded.trained):
            trained = encoded.trained
            if last_only:
                before = len(chat.encode(messages[:-1]).ids) if len(messages) > 1 else 0
                trained = [False] * before + trained[before:]
            return Example([], [Branch(encoded.ids, trained)], record.id)
        first = 1 if messages[0].role == "system" else 0
        if len(messages) - first <= 2:
            return None
        del messages[first : first + 2]


def answers(
    prompt: Sequence[Message], responses: Sequence[str], chat: Chat, length: int, name: str = ""
) -> Example | None:
    """A prompt with its responses as branches, each with its end; None if it does not fit in ``length`` tokens."""
    ids = chat.prompt(prompt)
    branches = [chat.answer(response) for response in responses]
    if len(ids) + max(len(branch) for branch in branches) > length:
        return None
    return Example(ids, [Branch(branch, [True] * len(branch)) for branch in branches], name)


def fitting(
    records: Sequence[R],
    make: Callable[[R, int], Example | None],
    settings: Reading,
    context: int,
    where: Path,
    run: Run,
) -> tuple[list[R], list[Example]]:
    """The records whose examples fit, and the examples; the rest is counted in the log.

    make: the example of a record, or None if it is longer than so many tokens. context: the model's.

    Raises:
        RecordError: more than `max_dropped` of them, or all, do not fit.
    """
    length = min(settings.max_length, context)
    kept = [(record, example) for record in records if (example := make(record, length)) is not None]
    dropped = len(records) - len(kept)
    if not kept or dropped > settings.max_dropped * len(records):
        limit, mend = (
            (f"max_length {length}", "raise max_length, shorten them,")
            if length == settings.max_length
            else (f"the model's context of {length}", "shorten them")
        )
        raise RecordError(
            f"{where}: {dropped} of {len(records)} examples are longer than {limit} tokens: {mend} or raise max_dropped"
        )
    tokens = sum(example.tokens for _, example in kept)
    learned = sum(example.supervised for _, example in kept)
    examples = counted(len(kept), "example")
    run.note(f"{examples}, {dropped:,} too long, {tokens:,} tokens of which {learned / tokens:.0%} are learned")
    return [record for record, _ in kept], [example for _, example in kept]
