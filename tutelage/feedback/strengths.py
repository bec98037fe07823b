"""How strong each of several is, from who was preferred over whom: Bradley and Terry's model.

The probability that i is preferred over j is 1 / (1 + exp(-(s_i - s_j))). A tie is half a win for each. Votes about
one prompt are alike, so intervals come from whole prompts (the sandwich, clustered). Where some are never reached by a
chain of wins and losses from others, their distance is not known, and they are rated apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy
from numpy.typing import ArrayLike, NDArray

from tutelage.errors import RecordError
from tutelage.feedback.proportions import Z

PENALTY = 1e-6
"""Of the squares, for each vote: too small to be seen, enough for a single answer to exist."""
STEPS = 100

Floats = NDArray[numpy.float64]
Whole = NDArray[numpy.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strengths:
    """How strong each is, in nats; the strengths of a group that can be compared sum to 0."""

    value: Floats
    low: Floats
    high: Floats
    covariance: Floats
    group: Whole
    """Those with the same number can be compared; between groups nothing is known."""
    votes: Whole
    """In which each took part."""

    def rank(self) -> Whole:
        """1 and one more for each of the same group whose whole interval is above."""
        same = self.group[:, None] == self.group[None]
        return 1 + (same & (self.low[None] > self.high[:, None])).sum(1)

    def scale(self, centre: float = 1000.0) -> Floats:
        """The strengths on the scale of chess ratings: 400 points are odds of ten to one."""
        return centre + self.value * 400 / math.log(10)


def bradley_terry(
    left: ArrayLike, right: ArrayLike, points: ArrayLike, count: int, *, clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None, penalty: float = PENALTY,
) -> Strengths:  # fmt: skip
    """Strengths and 95 % intervals.

    Args:
        left, right: (N,) codes of the two that were compared.
        points: (N,) 1 where the left one was preferred, 0 where the right one, 0.5 for a tie.
        clusters: (N,) which votes belong together, such as the prompt; without it, each stands alone.
        weights: (N,) how much each vote counts, such as one over the probability with which it was chosen.

    Source: Bradley and Terry 1952; intervals: White 1982, equation 3.2, with scores summed within clusters (Liang and
    Zeger 1986), without correction for few clusters.

    Raises:
        RecordError: arrays that do not fit together, or somebody compared with themselves.
    """
    i, j = numpy.asarray(left, dtype=int).ravel(), numpy.asarray(right, dtype=int).ravel()
    s = numpy.asarray(points, dtype=float).ravel()
    w = numpy.ones(len(s)) if weights is None else numpy.asarray(weights, dtype=float).ravel()
    if not len(i) == len(j) == len(s) == len(w) or (len(s) and not ((s >= 0) & (s <= 1)).all()):
        raise RecordError("strengths: give a left, a right and points from 0 to 1 for each vote")
    if (i == j).any():
        raise RecordError("strengths: somebody is compared with themselves")
    votes = numpy.bincount(i, minlength=count) + numpy.bincount(j, minlength=count)
    wins = numpy.bincount(i * count + j, w * s, count * count) + numpy.bincount(j * count + i, w * (1 - s), count**2)
    wins = wins.reshape(count, count)
    group = _groups(wins > 0)
    inside = group[i] == group[j]
    wins = numpy.where(group[:, None] == group[None], wins, 0)
    i, j, s, w = i[inside], j[inside], s[inside], w[inside]
    value, curvature = _fit(wins, penalty * max(1.0, float(w.sum())))
    value -= (numpy.bincount(group, value) / numpy.bincount(group))[group]
    cluster = numpy.arange(len(s)) if clusters is None else numpy.asarray(clusters).ravel()[inside]
    covariance = _sandwich(i, j, w * (s - 1 / (1 + numpy.exp(value[j] - value[i]))), cluster, curvature, group)
    spread = Z * numpy.sqrt(numpy.diag(covariance))
    return Strengths(
        value=value, low=value - spread, high=value + spread, covariance=covariance, group=group, votes=votes
    )


def _fit(wins: Floats, penalty: float) -> tuple[Floats, Floats]:
    """The strengths that make the wins likeliest, by Newton's method; and the curvature there."""
    count = len(wins)
    met = wins + wins.T
    value = numpy.zeros(count)
    curvature = numpy.eye(count)
    for _ in range(STEPS):
        expected = 1 / (1 + numpy.exp(value[None] - value[:, None]))
        slope = (wins - met * expected).sum(1) - penalty * value
        each = met * expected * (1 - expected)
        curvature = numpy.diag(each.sum(1) + penalty) - each
        step = numpy.linalg.solve(curvature, slope)
        # Far from the end a whole step may leap over it.
        step *= min(1.0, 2.0 / max(2.0, float(numpy.abs(step).max())))
        value = value + step
        if numpy.abs(step).max() < 1e-10:
            break
    return value, curvature


def _sandwich(i: Whole, j: Whole, residual: Floats, clusters: Whole, curvature: Floats, group: Whole) -> Floats:
    """The covariance of the strengths, whatever the votes of one cluster have in common."""
    count = len(curvature)
    centre = numpy.zeros((count, count))
    for number in numpy.unique(group):
        mine = numpy.flatnonzero(group == number)
        centre[numpy.ix_(mine, mine)] = numpy.eye(len(mine)) - 1 / len(mine)
    inverse = centre @ numpy.linalg.pinv(curvature, hermitian=True) @ centre
    if not len(i):
        return numpy.zeros((count, count))
    _, cluster = numpy.unique(clusters, return_inverse=True)
    size = (int(cluster.max()) + 1) * count
    scores = numpy.bincount(cluster * count + i, residual, size) - numpy.bincount(cluster * count + j, residual, size)
    scores = scores.reshape(-1, count)
    return inverse @ (scores.T @ scores) @ inverse


def _groups(beats: NDArray[numpy.bool_]) -> Whole:
    """Which belong together: each can be reached from each by a chain of wins (strongly connected)."""
    reach = beats | numpy.eye(len(beats), dtype=bool)
    for through in range(len(beats)):
        reach |= reach[:, through, None] & reach[through]
    both = reach & reach.T
    return numpy.unique(both.argmax(1), return_inverse=True)[1]
