"""Simulated people who compare pairs, some of them with a fault of which we know."""

from dataclasses import dataclass

import numpy


@dataclass(frozen=True)
class Crowd:
    """What a crowd said, one entry an answer; items and people are codes from 0."""

    truth: numpy.ndarray
    item: numpy.ndarray
    person: numpy.ndarray
    order: numpy.ndarray
    """The person's answers in order."""
    seat_of_zero: numpy.ndarray
    """The seat (0 first) at which slot 0 was shown."""
    label: numpy.ndarray
    """The slot that was preferred: 0 or 1."""
    longer_slot: numpy.ndarray
    """By item."""
    count: int

    @property
    def first(self) -> numpy.ndarray:
        """Whether what was shown first was preferred."""
        return self.label == self.seat_of_zero

    @property
    def longer(self) -> numpy.ndarray:
        return (self.label == self.longer_slot[self.item]).astype(float)


def crowd(
    seed: int, kinds: list[str], items: int = 240, overlap: int = 3, skill: tuple[float, float] = (0.72, 0.9),
    longer_is_better: float = 0.6,
) -> Crowd:  # fmt: skip
    """People of the given kinds: "honest", "careless", "against", "first" or "longer"; each item is judged by several.

    Honest people differ in skill; who is biased gives way to the bias half of the time.
    """
    rng = numpy.random.default_rng(seed)
    people = len(kinds)
    longer_slot = rng.integers(0, 2, items)
    truth = numpy.where(rng.random(items) < longer_is_better, longer_slot, 1 - longer_slot)
    item = numpy.repeat(numpy.arange(items), overlap)
    person = numpy.concatenate([rng.permutation(people)[:overlap] for _ in range(items)])
    seat = rng.integers(0, 2, len(item))
    skills = rng.uniform(*skill, people)
    right = rng.random(len(item)) < skills[person]
    label = numpy.where(right, truth[item], 1 - truth[item])
    gives_way = rng.random(len(item)) < 0.5
    kind = numpy.array(kinds)[person]
    label = numpy.where(kind == "careless", rng.integers(0, 2, len(item)), label)
    label = numpy.where(kind == "against", numpy.where(right, 1 - truth[item], truth[item]), label)
    label = numpy.where((kind == "first") & gives_way, seat, label)
    label = numpy.where((kind == "longer") & gives_way, longer_slot[item], label)
    return Crowd(truth, item, person, rng.permutation(len(item)), seat, label, longer_slot, people)
