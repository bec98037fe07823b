"""What is computed from the clock: rates, ratios, useful arithmetic. Plain Python, for every environment imports it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a decoder decides its arithmetic."""

    body: int
    """Weights of the matrices of all blocks."""
    head: int
    """Weights of the output layer."""
    layers: int
    width: int
    """Of all heads of the queries together."""

    @classmethod
    def of(cls, config: dict[str, Any]) -> Shape:
        """From the config of a decoder of Llama's kind, with three matrices in its feed-forward layers."""
        hidden, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
        size = config.get("head_dim") or hidden // heads
        queries, keys = heads * size, config["num_key_value_heads"] * size
        block = hidden * (2 * queries + 2 * keys) + 3 * hidden * config["intermediate_size"]
        return cls(layers * block, config["vocab_size"] * hidden, layers, queries)


def useful_flops(shape: Shape, tokens: int, labelled: int, squares: int, reference: bool = False) -> float:
    """Multiplications and additions of a training step that no method can do without.

    tokens: real ones. labelled: those that are predicted, where logits are needed. squares: the sum of squared lengths,
    of which attention looks at half. reference: whether a second, frozen model reads all of it as well.
    Padding is not counted, nor what is computed again to save memory.
    """
    matrices = shape.body * tokens + shape.head * labelled
    attention = 2 * shape.layers * shape.width * squares
    return (8 * matrices + 4 * attention) if reference else (6 * matrices + 3 * attention)


@dataclass(frozen=True, slots=True)
class Window:
    """What a side did while it was let run."""

    tokens: int
    samples: float
    flops: float
    seconds: float
    cpu_seconds: float

    def plus(self, cost: Cost) -> Window:
        """With its samples' share of what was computed beforehand."""
        return Window(
            self.tokens, self.samples, self.flops,
            self.seconds + self.samples * cost.seconds, self.cpu_seconds + self.samples * cost.cpu_seconds,
        )  # fmt: skip

    def time(self, clock: str) -> float:
        """Seconds, by the wall or of the processor."""
        return self.cpu_seconds if clock == "cpu" else self.seconds


@dataclass(frozen=True, slots=True)
class Cost:
    """What a sample cost before training began, such as its reference log-probabilities."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """The median over repeats, and their range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


def rate(windows: Sequence[Window], what: str, clock: str) -> Spread:
    """Per second: "tokens", "samples" or "flops"."""
    return Spread.of([getattr(window, what) / window.time(clock) for window in windows])


def ratio(ours: Sequence[Window], theirs: Sequence[Window], clock: str) -> Spread:
    """How many times as many tokens a second we learn from, pair by pair: each pair ran one right after the other.

    Where tokens are not what is counted on both sides, samples are.
    """
    what = "tokens" if all(window.tokens for window in (*ours, *theirs)) else "samples"
    pairs = zip(ours, theirs, strict=True)
    return Spread.of(
        [(getattr(one, what) / one.time(clock)) / (getattr(other, what) / other.time(clock)) for one, other in pairs]
    )


Curve = Sequence[tuple[int, float]]
"""(tokens of the step, loss), step by step."""


def by_tokens(curve: Curve) -> list[tuple[float, float]]:
    """(tokens read so far, loss)."""
    seen = 0
    found: list[tuple[float, float]] = []
    for tokens, loss in curve:
        seen += tokens
        found.append((seen, loss))
    return found


def losses_at_equal_tokens(ours: Curve, theirs: Curve) -> tuple[float, float]:
    """The mean loss of either over the last quarter of the tokens that both have read, weighed by tokens."""
    last = min(sum(tokens for tokens, _ in curve) for curve in (ours, theirs))
    return _mean_between(ours, 0.75 * last, last), _mean_between(theirs, 0.75 * last, last)


SMOOTH = 8
"""Steps over which a loss is averaged before it is said to be reached."""


def tokens_to_equal_loss(ours: Curve, theirs: Curve) -> float | None:
    """How many times as many tokens a peer reads until its loss is where both losses have come in the end.

    Losses are means over `SMOOTH` steps. None for curves of fewer than four times as many.
    """
    if min(len(ours), len(theirs)) < 4 * SMOOTH:
        return None
    smooth = [_smoothed(curve) for curve in (ours, theirs)]
    goal = max(min(loss for _, loss in curve) for curve in smooth)
    mine, other = (next(seen for seen, loss in curve if loss <= goal) for curve in smooth)
    return other / mine


def _smoothed(curve: Curve) -> list[tuple[float, float]]:
    seen = by_tokens(curve)
    return [
        (seen[last][0], statistics.fmean(loss for _, loss in seen[last - SMOOTH + 1 : last + 1]))
        for last in range(SMOOTH - 1, len(seen))
    ]


def _mean_between(curve: Curve, low: float, high: float) -> float:
    seen = 0
    weight = total = 0.0
    for tokens, loss in curve:
        share = max(0.0, min(high, seen + tokens) - max(low, seen))
        weight, total, seen = weight + share, total + share * loss, seen + tokens
    return total / weight
