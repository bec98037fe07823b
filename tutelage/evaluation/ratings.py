"""How sure we are: win rates, shares and means with 95 % intervals. Prompts are what was drawn, so prompts are redrawn.

Several judgements of one prompt are not independent: they are averaged first, and each prompt counts the same. The
interval is the percentile bootstrap over prompts. Where all prompts say the same 0 or 1 it would have no width; there
Wilson's interval over the prompts stands in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from tutelage.errors import RecordError

DRAWS = 10_000
"""Bootstrap samples."""
CONFIDENCE = 0.95
Z = 1.959963984540054
"""The normal distribution's 97.5 % point."""
CELLS = 1 << 22
"""Numbers held at a time while drawing."""
FEW = 16
"""Different values up to which their counts are drawn instead of the values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean over prompts and its 95 % interval."""

    mean: float
    low: float
    high: float
    prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """How often a model is preferred over another; a tie is half a win."""

    over: str
    """The other model."""
    mean: float
    low: float
    high: float
    prompts: int


def win_rate(over: str, votes: Iterable[tuple[str, float]], seed: int = 1) -> WinRate:
    """The win rate from (prompt, points) of each comparison: 1 for a win, 0.5 for a tie, 0 for a loss.

    A prompt may be judged several times; judges that answer in parts (0.75) are welcome.

    Raises:
        RecordError: no votes, or points outside 0 to 1.
    """
    found = mean_interval(votes, seed, f"win rate over {over}")
    return WinRate(over=over, mean=found.mean, low=found.low, high=found.high, prompts=found.prompts)


def mean_interval(shares: Iterable[tuple[str, float]], seed: int = 1, what: str = "mean") -> Interval:
    """The mean of (prompt, share) with shares from 0 to 1, each prompt counting the same.

    Source: Efron and Tibshirani 1993, chapter 13 (percentile interval), redrawing clusters: Davison and Hinkley 1997,
    section 3.8; at 0 and 1: `wilson`.

    Raises:
        RecordError: none at all, or one outside 0 to 1.
    """
    prompts: dict[str, list[float]] = {}
    for prompt, share in shares:
        if not 0 <= share <= 1:
            raise RecordError(f"{what}: prompt {prompt!r}: found {share}: give a number from 0 to 1")
        prompts.setdefault(prompt, []).append(share)
    if not prompts:
        raise RecordError(f"{what}: nothing was judged: give at least one prompt")
    values = numpy.array([math.fsum(given) / len(given) for given in prompts.values()])
    mean = math.fsum(values) / len(values)
    if values.min() == values.max():  # redrawn, they would have no width; a share varies no more than a yes or no
        edge = wilson(mean * len(values), len(values))
        return Interval(mean=mean, low=edge.low, high=edge.high, prompts=len(values))
    low, high = bootstrap(values, seed)
    return Interval(mean=mean, low=low, high=high, prompts=len(values))


def wilson(successes: float, prompts: int) -> Interval:
    """A simple proportion: one yes or no for each prompt.

    Source: Wilson 1927, "Probable inference", without continuity correction.

    Raises:
        RecordError: no prompts, or more successes than prompts.
    """
    if prompts < 1 or not 0 <= successes <= prompts:
        raise RecordError(f"proportion: found {successes} of {prompts}: give 0 <= successes <= prompts, prompts >= 1")
    share = successes / prompts
    scale = 1 + Z * Z / prompts
    centre = (share + Z * Z / (2 * prompts)) / scale
    reach = Z / scale * math.sqrt(share * (1 - share) / prompts + Z * Z / (4 * prompts * prompts))
    # The formula meets 0 and 1 exactly; rounding would miss them by a hair.
    low = 0.0 if successes == 0 else centre - reach
    high = 1.0 if successes == prompts else centre + reach
    return Interval(mean=share, low=low, high=high, prompts=prompts)


def bootstrap(values: Sequence[float] | NDArray[Any], seed: int = 1) -> tuple[float, float]:
    """(low, high) of the mean of values, one a prompt, by redrawing prompts; the order of the prompts is of no matter.

    Where there are few different values, how often each is drawn is drawn at once: the same distribution, less work.

    Raises:
        RecordError: no values, or one that is not finite.
    """
    given = numpy.sort(numpy.asarray(values, dtype=float))
    if given.size == 0 or not numpy.isfinite(given).all():
        raise RecordError(f"interval: found {'a value that is not finite' if given.size else 'no values'}")
    count = len(given)
    distinct, counts = numpy.unique(given, return_counts=True)
    generator = numpy.random.default_rng(seed)
    means: list[NDArray[Any]] = []
    step = max(1, CELLS // count)
    for start in range(0, DRAWS, step):
        size = min(step, DRAWS - start)
        if len(distinct) <= FEW:
            means.append(generator.multinomial(count, counts / count, size) @ distinct / count)
        else:
            means.append(given[generator.integers(0, count, (size, count))].mean(1))
    tail = (1 - CONFIDENCE) / 2
    low, high = numpy.quantile(numpy.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)
