"""What is true, and who can tell: Dawid and Skene's model of several people who label the same things.

Each person has a table of their own: with which probability they say l where k is true. Truth and tables are
estimated together, by turns (EM). Where there is little to estimate a whole table from, a person has one number
instead: how often they are right (the one-coin model). Known answers hold their items fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy
from numpy.typing import ArrayLike, NDArray

from tutelage.errors import RecordError

SMOOTHING = 0.01
"""Added to every cell of a person's table: nobody is certain, and nothing is divided by zero."""
ROUNDS = 100
TOLERANCE = 1e-7
ENOUGH_LABELS = 3
"""Labels an item, on average, below which people get one number each."""
ENOUGH_WORK = 20
"""Labels of the person behind the median label, below which people get one number each."""
DISPUTED = 0.8
"""An item whose likeliest label is less likely than this is to be looked at again."""

Floats = NDArray[numpy.float64]
Whole = NDArray[numpy.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus:
    """What the model found."""

    posterior: Floats
    """(items, classes) how likely each label is to be the true one."""
    confusion: Floats
    """(people, true, said) how likely each person is to say what, given what is true."""
    prior: Floats
    """(classes,) how frequent each true label is."""
    model: Literal["full", "coin"]
    """"full": a table for each person; "coin": one number."""
    rounds: int

    def certainty(self) -> Floats:
        """(items,) how likely the likeliest label is."""
        return self.posterior.max(1)

    def reliability(self) -> Floats:
        """(people,) how often each is expected to be right."""
        return numpy.einsum("wkk,k->w", self.confusion, self.prior)


def dawid_skene(
    items: ArrayLike, people: ArrayLike, labels: ArrayLike, classes: int | None = None, *,
    known: ArrayLike | None = None, model: Literal["full", "coin", "auto"] = "auto", smoothing: float = SMOOTHING,
    rounds: int = ROUNDS, tolerance: float = TOLERANCE,
) -> Consensus:  # fmt: skip
    """The likeliest truth and everybody's reliability.

    Args:
        items, people, labels: (N,) codes from 0; every item and person up to the largest code has its row.
        classes: how many labels there are; without it, as many as occur.
        known: (items,) the true label of each item, -1 where it is not known.
        model: "auto" takes a table for each person where there are labels enough.

    Source: Dawid and Skene 1979, "Maximum likelihood estimation of observer error-rates using the EM algorithm",
    equations 2.3 to 2.5.

    Raises:
        RecordError: no labels, or arrays that do not fit together.
    """
    item, person, label = _codes(items, people, labels)
    count = max(int(label.max()) + 1, classes or 1)
    size, crowd = int(item.max()) + 1, int(person.max()) + 1
    if model == "auto":
        work = numpy.bincount(person)
        little = len(label) / size < ENOUGH_LABELS or numpy.median(work[person]) < ENOUGH_WORK
        model = "coin" if little else "full"
    held = numpy.full(size, -1) if known is None else numpy.asarray(known, dtype=int)
    cell = person * count + label
    posterior = majority(item, label, count, size)
    last = -numpy.inf
    done = 0
    prior = confusion = numpy.zeros(0)
    for done in range(1, rounds + 1):  # noqa: B007  how many rounds it took is told
        posterior[held >= 0] = numpy.eye(count)[held[held >= 0]]
        prior = (posterior.sum(0) + smoothing) / (size + count * smoothing)
        said = _sums(cell, posterior[item], crowd * count).reshape(crowd, count, count).swapaxes(1, 2)
        confusion = _coins(said, smoothing) if model == "coin" else _tables(said, smoothing)
        seen = numpy.log(confusion).swapaxes(1, 2).reshape(crowd * count, count)[cell]
        log = numpy.log(prior) + _sums(item, seen, size)
        top = log.max(1, keepdims=True)
        weight = numpy.exp(log - top)
        total = weight.sum(1, keepdims=True)
        posterior = weight / total
        likelihood = float((numpy.log(total) + top).sum())
        if likelihood - last <= tolerance * abs(likelihood):
            break
        last = likelihood
    posterior[held >= 0] = numpy.eye(count)[held[held >= 0]]
    return Consensus(posterior=posterior, confusion=confusion, prior=prior, model=model, rounds=done)


def of_others(found: Consensus, items: ArrayLike, people: ArrayLike, labels: ArrayLike) -> Floats:
    """(N, classes) how likely each label is to be the true one of the item, by what all others said of it."""
    item, person, label = _codes(items, people, labels)
    log = numpy.log(numpy.maximum(found.posterior[item], 1e-300))
    log -= numpy.log(found.confusion[person, :, label])
    weight = numpy.exp(log - log.max(1, keepdims=True))
    return weight / weight.sum(1, keepdims=True)


def majority(items: ArrayLike, labels: ArrayLike, classes: int, size: int) -> Floats:
    """(items, classes) the share of each label among those that an item got; all alike where it got none."""
    item, label = numpy.asarray(items, dtype=int), numpy.asarray(labels, dtype=int)
    counts = numpy.bincount(item * classes + label, minlength=size * classes).reshape(size, classes).astype(float)
    total = counts.sum(1, keepdims=True)
    return numpy.where(total > 0, counts / numpy.maximum(total, 1), 1 / classes)


def _codes(items: ArrayLike, people: ArrayLike, labels: ArrayLike) -> tuple[Whole, Whole, Whole]:
    item, person, label = (numpy.asarray(values, dtype=numpy.int64).ravel() for values in (items, people, labels))
    if not len(label) or not len(item) == len(person) == len(label):
        raise RecordError(f"labels: {len(item)} items, {len(person)} people, {len(label)} labels: one of each a label")
    if min(item.min(), person.min(), label.min()) < 0:
        raise RecordError("labels: a code below 0: codes count from 0")
    return item, person, label


def _sums(group: Whole, rows: Floats, size: int) -> Floats:
    """(size, columns) the sums of the rows of each group."""
    return numpy.stack([numpy.bincount(group, column, size).astype(numpy.float64) for column in rows.T], axis=1)


def _tables(said: Floats, smoothing: float) -> Floats:
    """(people, true, said) from how often they said what."""
    said = said + smoothing
    return said / said.sum(2, keepdims=True)


def _coins(said: Floats, smoothing: float) -> Floats:
    """Tables of one number each: right with the same probability whatever is true, wrong in every way alike."""
    count = said.shape[1]
    right = numpy.trace(said, axis1=1, axis2=2) + smoothing
    chance = right / (said.sum((1, 2)) + count * smoothing)
    wrong = (1 - chance) / max(1, count - 1)
    tables = numpy.repeat(wrong, count * count).reshape(-1, count, count)
    tables[:, numpy.arange(count), numpy.arange(count)] = chance[:, None] if count > 1 else 1.0
    return tables
