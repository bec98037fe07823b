"""Shares of people's answers: their intervals, their tests, and what to do when many people are tested at once."""

from __future__ import annotations

import math

import numpy
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[numpy.float64]

Z = 1.959963984540054
"""The normal distribution's 97.5 % point."""


def wilson(successes: ArrayLike, of: ArrayLike) -> tuple[Floats, Floats]:
    """(low, high) of each share, 95 %; from 0 to 1 where nothing was asked.

    Source: Wilson 1927, "Probable inference", without continuity correction.
    """
    yes, count = numpy.asarray(successes, dtype=float), numpy.asarray(of, dtype=float)
    asked = numpy.maximum(count, 1)
    share = yes / asked
    scale = 1 + Z * Z / asked
    centre = (share + Z * Z / (2 * asked)) / scale
    reach = Z / scale * numpy.sqrt(share * (1 - share) / asked + Z * Z / (4 * asked * asked))
    # The formula meets 0 and 1 exactly; rounding would miss them by a hair.
    low = numpy.where(yes == 0, 0.0, centre - reach)
    high = numpy.where(yes == count, 1.0, centre + reach)
    return numpy.where(count > 0, low, 0.0), numpy.where(count > 0, high, 1.0)


def at_most(successes: int, of: int, chance: float) -> float:
    """The probability of so few successes or fewer (the binomial distribution's lower tail)."""
    if successes >= of or chance <= 0:
        return 1.0
    if chance >= 1:
        return 0.0
    factorials = numpy.concatenate([[0.0], numpy.cumsum(numpy.log(numpy.arange(1, of + 1)))])
    few = numpy.arange(successes + 1)
    log = factorials[of] - factorials[few] - factorials[of - few]
    log = log + few * math.log(chance) + (of - few) * math.log1p(-chance)
    return float(min(1.0, numpy.exp(log - log.max()).sum() * math.exp(log.max())))


def at_least(successes: int, of: int, chance: float) -> float:
    """The probability of so many successes or more."""
    return at_most(of - successes, of, 1 - chance)


def even(successes: int, of: int) -> float:
    """The two-sided probability of a share so far from one half, if it is one half."""
    return min(1.0, 2 * at_most(min(successes, of - successes), of, 0.5))


def holm(chances: ArrayLike) -> Floats:
    """Probabilities corrected for having looked at so many: below 0.05, one in twenty such looks finds anything where
    there is nothing.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    given = numpy.asarray(chances, dtype=float)
    order = numpy.argsort(given, kind="stable")
    stepped = given[order] * numpy.arange(len(given), 0, -1)
    corrected = numpy.empty(len(given))
    corrected[order] = numpy.minimum(1.0, numpy.maximum.accumulate(stepped))
    return corrected


def above(z: Floats) -> Floats:
    """The probability of a standard normal value above each."""
    return numpy.array([0.5 * math.erfc(value / math.sqrt(2)) for value in z])
