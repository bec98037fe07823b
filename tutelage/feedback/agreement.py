"""How far people agree beyond chance: Krippendorff's alpha, with an interval.

Alpha is 1 where all who judged a unit said the same, 0 where they agree no more than values drawn at random would, and
below 0 where they contradict each other. A unit is what was judged; units that one person alone judged say nothing.
What nobody could tell is left out before.

The interval redraws units, for units are what was drawn. Units whose values are alike are drawn together: how often
each pattern comes is one draw from a multinomial distribution, which is the same and far less work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy
from numpy.typing import ArrayLike, NDArray

from tutelage.errors import RecordError

Level = Literal["nominal", "ordinal", "interval"]
DRAWS = 1000
CONFIDENCE = 0.95
CELLS = 1 << 22
"""Numbers held at a time while drawing."""

Floats = NDArray[numpy.float64]
Whole = NDArray[numpy.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alpha:
    """Krippendorff's alpha and its 95 % interval; None where it is not defined, as when everybody always says the
    same."""

    value: float | None
    low: float | None
    high: float | None
    units: int
    """Those with two values or more."""
    values: int
    """In these units."""


def alpha(units: ArrayLike, values: ArrayLike, level: Level = "nominal", *, draws: int = DRAWS, seed: int = 1) -> Alpha:
    """Krippendorff's alpha.

    Args:
        units: (N,) which unit each value is about, as any whole numbers.
        values: (N,) what was said; NaN is nothing.
        level: whether values are names, an order, or distances.
        draws: bootstrap samples; 0 for no interval.

    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability", sections C to E; the interval is the
    percentile bootstrap over units, Efron and Tibshirani 1993, chapter 13.

    Raises:
        RecordError: arrays of different lengths, or an infinite value.
    """
    said = numpy.asarray(values, dtype=float).ravel()
    about = numpy.asarray(units).ravel()
    if len(said) != len(about):
        raise RecordError(f"alpha: {len(about)} units for {len(said)} values: give one for each")
    if numpy.isinf(said).any():
        raise RecordError("alpha: found an infinite value")
    there = ~numpy.isnan(said)
    said, about = said[there], about[there]
    _, code = numpy.unique(about, return_inverse=True)
    several = numpy.bincount(code) >= 2 if len(code) else numpy.zeros(0, bool)
    kept = several[code] if len(code) else numpy.zeros(0, bool)
    if not kept.any():
        return Alpha(value=None, low=None, high=None, units=0, values=0)
    _, code = numpy.unique(code[kept], return_inverse=True)
    sums, figure = _SUMS[level](code, said[kept])
    value = float(figure(sums.sum(0, keepdims=True))[0])
    low = high = None
    if draws and not numpy.isnan(value):
        low, high = _interval(sums, figure, draws, seed)
    return Alpha(
        value=None if numpy.isnan(value) else value, low=low, high=high, units=len(sums), values=int(kept.sum())
    )


Figure = Callable[[Floats], Floats]
"""(B, S) sums over units to (B,) alphas."""


def _nominal(code: Whole, said: Floats) -> tuple[Floats, Figure]:
    """Per unit: how often each value, and how far its values differ among themselves."""
    counts = _counts(code, said)
    size = counts.sum(1)
    within = (size**2 - (counts**2).sum(1)) / (size - 1)

    def figure(sums: Floats) -> Floats:
        total = sums[:, :-1].sum(1)
        across = (total**2 - (sums[:, :-1] ** 2).sum(1)) / (total - 1)
        return _alpha(sums[:, -1], across)

    return numpy.column_stack([counts, within]), figure


def _ordinal(code: Whole, said: Floats) -> tuple[Floats, Figure]:
    """Per unit: how often each value, and how often each two values meet."""
    counts = _counts(code, said)
    kinds = counts.shape[1]
    low, high = numpy.triu_indices(kinds, 1)
    met = 2 * counts[:, low] * counts[:, high] / (counts.sum(1, keepdims=True) - 1)

    def figure(sums: Floats) -> Floats:
        often, meetings = sums[:, :kinds], sums[:, kinds:]
        total = often.sum(1)
        up_to = numpy.cumsum(often, 1)
        apart = (up_to[:, high] - up_to[:, low] + often[:, low] - (often[:, low] + often[:, high]) / 2) ** 2
        across = 2 * (often[:, low] * often[:, high] * apart).sum(1) / (total - 1)
        return _alpha((meetings * apart).sum(1), across)

    return numpy.column_stack([counts, met]), figure


def _interval_level(code: Whole, said: Floats) -> tuple[Floats, Figure]:
    """Per unit: how many values, their sum, the sum of their squares, and how far they differ among themselves."""
    said = said - said.mean()
    size: Floats = numpy.bincount(code).astype(numpy.float64)
    once, twice = (numpy.bincount(code, weights).astype(numpy.float64) for weights in (said, said**2))
    within = 2 * (size * twice - once**2) / (size - 1)
    within[within < 1e-12 * numpy.maximum(twice, 1e-300)] = 0

    def figure(sums: Floats) -> Floats:
        size, once, twice, within = sums.T
        across = 2 * (size * twice - once**2) / (size - 1)
        return _alpha(within, numpy.where(across > 1e-12 * size * twice, across, 0))

    return numpy.stack([size, once, twice, within], axis=1), figure


_SUMS: dict[Level, Callable[[Whole, Floats], tuple[Floats, Figure]]] = {
    "nominal": _nominal,
    "ordinal": _ordinal,
    "interval": _interval_level,
}


def _counts(code: Whole, said: Floats) -> Floats:
    """(units, values) how often each value was given."""
    kinds, value = numpy.unique(said, return_inverse=True)
    cells = (int(code.max()) + 1) * len(kinds)
    return numpy.bincount(code * len(kinds) + value, minlength=cells).reshape(-1, len(kinds)).astype(float)


def _alpha(within: Floats, across: Floats) -> Floats:
    """1 - observed over expected; NaN where nothing varies."""
    with numpy.errstate(divide="ignore", invalid="ignore"):
        return numpy.where(across > 0, 1 - within / across, numpy.nan)


def _interval(sums: Floats, figure: Figure, draws: int, seed: int) -> tuple[float | None, float | None]:
    generator = numpy.random.default_rng(seed)
    patterns, often = alike(sums)
    found: list[Any] = []
    step = max(1, CELLS // len(patterns))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        found.append(figure(generator.multinomial(len(sums), often / len(sums), size) @ patterns))
    alphas = numpy.concatenate(found)
    alphas = alphas[~numpy.isnan(alphas)]
    if len(alphas) * 2 < draws:
        return None, None
    tail = (1 - CONFIDENCE) / 2
    low, high = numpy.quantile(alphas, [tail, 1 - tail])
    return float(low), float(high)


def alike(rows: Floats) -> tuple[Floats, Whole]:
    """The different rows, and how often each is there."""
    # A row's two sums with fixed random weights tell it from all others, and numbers sort far faster than rows.
    weights = numpy.random.default_rng(0).random(rows.shape[1]) + 1
    _, first, often = numpy.unique(rows @ weights, return_index=True, return_counts=True)
    return rows[first], often
