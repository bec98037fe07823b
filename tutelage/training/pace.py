"""How fast this machine trains: its matrix product and its memory, and real steps of a model, in a few seconds."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from tutelage.model import checkpoint, device
from tutelage.training import footprint, lanes
from tutelage.training.batches import Branch, Example, flat
from tutelage.training.lanes import Lanes, Losses
from tutelage.training.likelihood import token_log_probabilities
from tutelage.training.optimizer import Learning, Optimizers, copy_bytes, moment_bytes, sorted_out

EDGE = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrices that are multiplied."""
COPIED = {"cpu": 64 << 20, "cuda": 1 << 30}
"""Bytes that are copied: more than a cache holds."""
PROBED = 0.2
"""Seconds for each of the two."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the device can do at most."""

    device: str
    product: float
    """FLOP/s of a product of square matrices, in the precision of weights."""
    copying: float
    """Bytes read and written in a second by a copy."""
    free: int
    """Bytes of memory."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a model comes to, by counting alone."""

    parameters: int
    """All, tied ones once."""
    embeddings: int
    """Those of the input embeddings."""
    weights: int
    """Bytes."""
    gradients: int
    """Bytes."""
    optimizer: int
    """Bytes."""
    work: float
    """FLOP to learn from a token, forward and backward, by the matrices that multiply it."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What real steps took."""

    token: float
    """Seconds for a token, forward and backward."""
    update: float
    """Seconds for an update of the weights."""
    activations: int
    """Bytes for each token of a row."""
    logits: int
    """Bytes at a time."""


def machine() -> Machine:
    """Measures the device in less than a second."""
    where = device.prepare(0)
    edge, copied = EDGE[where.type], COPIED[where.type]
    square = torch.rand(edge, edge, device=where, dtype=device.precision())
    source = torch.ones(copied // 4, device=where)
    target = torch.empty_like(source)
    return Machine(
        device.describe(),
        2 * edge**3 / _median(lambda: square @ square, PROBED, where),
        2 * copied / _median(lambda: target.copy_(source), PROBED, where),
        footprint.available(where),
    )


def size(config: PreTrainedConfig, settings: Learning, length: int) -> Size:
    """Counts a decoder without making its weights; ``length``: tokens of a sequence, which attention depends on.

    Source: Kaplan et al. 2020, arXiv 2001.08361, section 2.1: six FLOP for each weight that multiplies; attention's
    two products with the causal half of their squares.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=device.precision())
    parameters = list(model.parameters())
    embeddings = int(model.get_input_embeddings().weight.numel())
    multiplying = sum(p.numel() for p in parameters if p.ndim > 1)
    if not config.tie_word_embeddings:
        multiplying -= embeddings
    count = sum(p.numel() for p in parameters)
    squares = 6 * config.num_hidden_layers * config.hidden_size * length  # pyright: ignore[reportAttributeAccessIssue]
    optimizer = sum(moment_bytes(kind, weight) + copy_bytes(weight) for _, weight, kind in sorted_out(model, settings))
    weights = count * device.precision().itemsize
    return Size(count, embeddings, weights, 4 * count, optimizer, 6.0 * multiplying + squares)


def steps(config: PreTrainedConfig, settings: Learning, length: int, tokens: int, seconds: float) -> Steps:
    """Trains a fresh decoder on noise for about so long: rows of ``tokens``, in sequences of ``length``.

    Raises:
        ModelError: no decoder, or one that our attention does not support.
    """
    where = device.prepare(settings.seed, settings.bf16)
    model = checkpoint.create(config, settings.seed).train()
    optimizers = Optimizers(model, settings)
    rng = random.Random(0)
    ids = [rng.randrange(int(config.vocab_size)) for _ in range(length)]  # pyright: ignore[reportAttributeAccessIssue]
    pieces = [Example([], [Branch(ids, [False] + [True] * (length - 1))])] * max(1, tokens // length)
    read = length * len(pieces)

    def losses(row: list[Example]) -> Losses:
        yield -token_log_probabilities(model, flat(row).to(where), alike=True).sum() / read, {}

    side_by_side = Lanes(min(lanes.count(model), len(pieces)))
    rows = [pieces[lane :: side_by_side.number] for lane in range(side_by_side.number)]

    def row() -> None:
        if side_by_side.number > 1:
            side_by_side.backward(losses, rows, list(model.parameters()))
            return
        for loss, _ in losses(pieces):
            loss.backward()

    def update() -> None:
        optimizers.clip(settings.max_grad_norm)
        for optimizer in optimizers.all:
            optimizer.step()  # gradients stay, so that it can be done again

    activations = footprint.activations(model, length)
    row()
    taken = _median(row, seconds, where)
    return Steps(taken / read, _median(update, seconds / 4, where), activations, footprint.logits(model))


def _median(work: Callable[[], Any], seconds: float, where: torch.device) -> float:
    """The median time of repeating something for so long, in seconds, after once for warming up."""
    work()
    taken: list[float] = []
    while not taken or sum(taken) < seconds:
        _wait(where)
        began = time.perf_counter()
        work()
        _wait(where)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize(where)
