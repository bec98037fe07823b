"""What to ask people next: the pairs from which most is to be learned, and always some that were drawn evenly.

Each candidate has a value: how far the members of an ensemble of reward models disagree about it, how much information
its answer would bring, or how uncertain the leaderboard is there. Candidates are then drawn with probabilities that
grow with the value, so that the probability of each is known and stored: what is measured on the evenly drawn share, or
with weights of one over the probability, is not biased by what was thought worth asking.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from numpy.typing import ArrayLike, NDArray

from tutelage.errors import RecordError
from tutelage.feedback.strengths import Strengths

UNIFORM = "uniform"
SHARE = 0.2
"""Of what is asked is drawn evenly."""

Floats = NDArray[numpy.float64]
Whole = NDArray[numpy.int64]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candidates to ask about, in the order in which they were given."""

    place: Whole
    """(count,) which candidates."""
    probability: Floats
    """(count,) with which probability each was chosen at all."""
    uniform: NDArray[numpy.bool_]
    """(count,) whether it belongs to the evenly drawn share: every candidate had the same chance of that."""


def disagreement(rewards: ArrayLike) -> Floats:
    """(N,) how far an ensemble disagrees about which of two is better: the variance of its members' probabilities.

    Args:
        rewards: (members, N, 2) what each member gives the two responses.

    Source: Gleave and Irving 2022, "Uncertainty estimation for language reward models"; Christiano et al. 2017,
    section 2.2.4.
    """
    given = numpy.asarray(rewards, dtype=float)
    if given.ndim != 3 or given.shape[2] != 2:
        raise RecordError(f"disagreement: rewards of shape {given.shape}: (members, pairs, 2) is wanted")
    return numpy.var(1 / (1 + numpy.exp(given[..., 1] - given[..., 0])), axis=0)


def disagreement_of_many(rewards: ArrayLike) -> float:
    """How far an ensemble disagrees about several responses: the mean of `disagreement` over all pairs of them.

    Args:
        rewards: (members, K) what each member gives each of the responses, two or more.
    """
    given = numpy.asarray(rewards, dtype=float)
    one, other = numpy.triu_indices(given.shape[1], 1)
    return float(disagreement(numpy.stack((given[:, one], given[:, other]), axis=2)).mean())


def information(
    features: ArrayLike, probability: ArrayLike, count: int, *, known: ArrayLike | None = None, prior: float = 1.0
) -> Whole:
    """(count,) the pairs that together tell most, in the order in which they were taken: each adds most to what is
    known after those before it (greedy D-optimal design).

    Args:
        features: (N, D) of the first response less those of the second.
        probability: (N,) that the first is preferred, as far as is known.
        known: (D, D) the information that there is already.
        prior: how strongly the weights are held to 0 where nothing is known.

    Source: Chaloner and Verdinelli 1995, "Bayesian experimental design", section 4.2; the update is Sherman and
    Morrison's.
    """
    phi, p = numpy.asarray(features, dtype=float), numpy.asarray(probability, dtype=float)
    precision = prior * numpy.eye(phi.shape[1]) + (0 if known is None else numpy.asarray(known, dtype=float))
    inverse = numpy.linalg.inv(precision)
    weight = p * (1 - p)
    # log det grows by log(1 + w phi' A^-1 phi): the largest term is the largest gain.
    spread = numpy.einsum("nd,de,ne->n", phi, inverse, phi)
    taken: list[int] = []
    for _ in range(min(count, len(phi))):
        gain = weight * spread
        gain[taken] = -1
        best = int(gain.argmax())
        taken.append(best)
        through = phi @ (inverse @ phi[best])
        shrink = weight[best] / (1 + weight[best] * spread[best])
        inverse -= shrink * numpy.outer(inverse @ phi[best], inverse @ phi[best])
        spread = spread - shrink * through**2
    return numpy.array(taken, dtype=numpy.int64)


def information_gain(
    features: ArrayLike, probability: ArrayLike, *, known: ArrayLike | None = None, prior: float = 1.0
) -> Floats:
    """(N,) how much each pair alone would add to what is known: log(1 + p (1 - p) phi' A^-1 phi)."""
    phi, p = numpy.asarray(features, dtype=float), numpy.asarray(probability, dtype=float)
    precision = prior * numpy.eye(phi.shape[1]) + (0 if known is None else numpy.asarray(known, dtype=float))
    return numpy.log1p(p * (1 - p) * numpy.einsum("nd,nd->n", phi, numpy.linalg.solve(precision, phi.T).T))


def board_uncertainty(strengths: Strengths, left: ArrayLike, right: ArrayLike) -> Floats:
    """(N,) how much one more vote between two would narrow the interval of their difference.

    The variance of a difference falls by w v^2 / (1 + w v) with one more vote of weight w = p (1 - p), where v is that
    variance: the same update as in `information`. Who cannot be compared yet comes first.
    """
    i, j = numpy.asarray(left, dtype=int), numpy.asarray(right, dtype=int)
    cover = strengths.covariance
    variance = cover[i, i] + cover[j, j] - 2 * cover[i, j]
    p = 1 / (1 + numpy.exp(strengths.value[j] - strengths.value[i]))
    weight = p * (1 - p)
    gain = weight * variance**2 / (1 + weight * variance)
    apart = strengths.group[i] != strengths.group[j]
    return numpy.where(apart, 2 * max(1.0, float(gain.max(initial=0))), gain)


def choose(values: ArrayLike, count: int, *, share: float = SHARE, sharpness: float = 1.0, seed: int = 1) -> Chosen:
    """Draws candidates: a share evenly, the others with probabilities that grow with their value.

    Args:
        values: (N,) what each is worth; none below 0.
        share: of the drawn ones, on average, is the evenly drawn part.
        sharpness: the power of the value; 0 draws all evenly, large powers take the best.

    Every candidate's probability is exactly the one that is given, and exactly ``count`` are drawn.

    Source: Madow 1949, systematic sampling with unequal probabilities, in a random order.

    Raises:
        RecordError: fewer candidates than are wanted, or a value that is no number from 0.
    """
    worth = numpy.asarray(values, dtype=float)
    size = len(worth)
    if not 0 < count <= size:
        raise RecordError(f"choose: {count} of {size} candidates: from 1 to all of them")
    if not (numpy.isfinite(worth).all() and (worth >= 0).all()) or not 0 <= share <= 1:
        raise RecordError("choose: values are numbers from 0, and the share is from 0 to 1")
    even = share * count / size
    best = worth.max()
    wanted = even + _capped((worth / best) ** sharpness if best > 0 else worth, (1 - share) * count, 1 - even)
    generator = numpy.random.default_rng(seed)
    order = generator.permutation(size)
    ends = numpy.cumsum(wanted[order])
    ends *= count / ends[-1]  # exactly whole, whatever rounding did
    marks = generator.random() + numpy.arange(count)
    place = order[numpy.minimum(numpy.searchsorted(ends, marks, side="right"), size - 1)]
    uniform = generator.random(count) < even / wanted[place]
    back = numpy.argsort(place)
    return Chosen(place[back], wanted[place[back]], uniform[back])


def _capped(worth: Floats, total: float, most: float) -> Floats:
    """Shares of a total in proportion to what each is worth, none above ``most``."""
    if worth.sum() <= 0:
        worth = numpy.ones(len(worth))
    full = numpy.zeros(len(worth), bool)
    while True:
        left = total - most * full.sum()
        rest = worth[~full].sum()
        scaled = worth * (left / rest) if rest > 0 else numpy.full(len(worth), left / max(1, (~full).sum()))
        over = ~full & (scaled > most)
        if not over.any():
            return numpy.where(full, most, scaled)
        full |= over
