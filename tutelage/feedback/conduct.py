"""How people judge: whether they look, and whether what they see first, or what is longer, sways them.

Every function takes plain arrays, one entry for each answer, and gives one entry for each person. A person is a code
from 0. Probabilities are corrected for the number of people (Holm), so that among honest people alone hardly anybody is
named: at most one project in twenty, for each kind of fault.

What is longer may be better, and who is more skilled then prefers it more often. So nobody is suspected for preferring
it, but for preferring it where nothing speaks for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from numpy.typing import ArrayLike, NDArray

from tutelage.feedback.proportions import above, at_least, at_most, even, holm

ALARM = 0.05
"""Corrected probabilities below this are told."""
FEW = 20
"""Answers below which nobody is suspected of anything."""
HURRY = 0.2
"""An answer within this share of the time that reading takes was given without reading."""
LEAN = 0.05
"""A lean towards longer answers up to this is nobody's fault."""
INATTENTIVE = 0.6
"""Who pays less than this share of the usual attention is careless."""
OWN_HABIT = 0.75
"""How far a person's own habit may excuse a long run of the same answer."""
WORDS_A_SECOND = 228 / 60
"""Source: Trauzettel-Klosinski and Dietz 2012, "Standardized assessment of reading performance", table 3: English."""
CHARACTERS_A_SECOND = 255 / 60
"""The same, Chinese."""

Floats = NDArray[numpy.float64]
Whole = NDArray[numpy.int64]
Flags = NDArray[numpy.bool_]


@dataclass(frozen=True, slots=True)
class Shares:
    """A share for each person, and how likely it is by chance alone."""

    successes: Whole
    of: Whole
    chance: Floats
    """Corrected for the number of people."""

    def value(self) -> Floats:
        """(people,) NaN where nothing was asked."""
        return numpy.where(self.of > 0, self.successes / numpy.maximum(self.of, 1), numpy.nan)


@dataclass(frozen=True, slots=True)
class Lean:
    """How far each person prefers the longer answer where nothing speaks for either: their share less one half."""

    value: Floats
    """(people,) NaN where it cannot be told."""
    of: Whole
    chance: Floats


@dataclass(frozen=True, slots=True)
class Attention:
    """How far what each person says follows what is likely to be true by what others say.

    1: always the likely truth; 0: whatever it is; below 0: against it.
    """

    value: Floats
    """(people,) NaN where it cannot be told."""
    of: Whole
    careless: Floats
    """How likely so little is for somebody who pays `INATTENTIVE` of the usual attention; corrected."""
    against: Floats
    """How likely so little is for somebody who pays none; corrected."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The longest run of the same answer of each person, and how likely that is."""

    longest: Whole
    chance: Floats


def seats(people: ArrayLike, first: ArrayLike, crowd: int) -> Shares:
    """How often each person prefers what they were shown first.

    Args:
        first: (N,) for each decided comparison, whether what was shown first was preferred. The order was drawn with
            even chances, so any lean is the person's.
    """
    person, won = numpy.asarray(people, dtype=int), numpy.asarray(first, dtype=bool)
    of = numpy.bincount(person, minlength=crowd)
    wins = numpy.bincount(person[won], minlength=crowd)
    return Shares(wins, of, holm([even(int(k), int(n)) for k, n in zip(wins, of, strict=True)]))


def lengths(people: ArrayLike, longer: ArrayLike, better: ArrayLike, crowd: int) -> Lean:
    """Whether each person prefers what is longer for its length.

    Args:
        longer: (N,) for each decided comparison, whether the longer answer was preferred.
        better: (N,) how likely the longer one is to be the better, by what others say; see `consensus.of_others`.

    Who errs as often either way chooses the longer with 1 - a + (2a - 1) p, where p is how likely it is better and a
    how often they are right: at p = 1/2 that is one half, however skilled they are. So a line is laid through their
    choices, and read there.
    """
    person, chose = numpy.asarray(people, dtype=int), numpy.asarray(longer, dtype=float)
    likely = numpy.asarray(better, dtype=float) - 0.5
    of = numpy.bincount(person, minlength=crowd)
    count = numpy.maximum(of, 1)
    centre = numpy.bincount(person, likely, crowd) / count
    mean = numpy.bincount(person, chose, crowd) / count
    off = likely - centre[person]
    spread = numpy.bincount(person, off**2, crowd)
    slope = numpy.bincount(person, off * (chose - mean[person]), crowd) / numpy.maximum(spread, 1e-9)
    value = mean - slope * centre - 0.5
    left = chose - mean[person] - slope[person] * off
    pull = 1 / count[person] - centre[person] * off / numpy.maximum(spread, 1e-9)[person]
    error = numpy.sqrt(numpy.maximum(numpy.bincount(person, (pull * left) ** 2, crowd), 1 / count**2))
    told = of >= FEW
    chance = numpy.where(told, above((value - LEAN) / error), 1.0)
    return Lean(numpy.where(told, value, numpy.nan), of, holm(chance))


def attention(people: ArrayLike, labels: ArrayLike, likely: ArrayLike, crowd: int) -> Attention:
    """How far what each person says follows what is likely to be true.

    Args:
        labels: (N,) codes of what was said.
        likely: (N, classes) how likely each label is to be true, by what others say; see `consensus.of_others`.

    Each person is taken to say the truth in a share of the cases, and otherwise each label as often as ever. The share
    is the slope of the line through (how likely a label is, whether it was said).
    """
    person, label = numpy.asarray(people, dtype=int), numpy.asarray(labels, dtype=int)
    chances = numpy.asarray(likely, dtype=float)
    of = numpy.bincount(person, minlength=crowd)
    if not len(person):
        return Attention(numpy.full(crowd, numpy.nan), of, numpy.ones(crowd), numpy.ones(crowd))
    classes = chances.shape[1]
    spread, slope = numpy.zeros(crowd), numpy.zeros(crowd)
    offs: list[Floats] = []
    saids: list[Floats] = []
    for k in range(classes):
        off, said = chances[:, k], (label == k).astype(float)
        offs.append(off - (numpy.bincount(person, off, crowd) / numpy.maximum(of, 1))[person])
        saids.append(said - (numpy.bincount(person, said, crowd) / numpy.maximum(of, 1))[person])
        spread += numpy.bincount(person, offs[k] ** 2, crowd)
        slope += numpy.bincount(person, offs[k] * saids[k], crowd)
    # What is all but the same everywhere tells nothing.
    told = (of >= FEW) & (spread > 1)
    value = slope / numpy.maximum(spread, 1e-9)
    pull = sum(off * (said - value[person] * off) for off, said in zip(offs, saids, strict=True))
    error = numpy.sqrt(numpy.bincount(person, pull**2, crowd)) / numpy.maximum(spread, 1e-9)
    error = numpy.maximum(error, 1 / numpy.maximum(of, 1))
    usual = float(numpy.median(value[told])) if told.any() else 1.0
    careless, against = (
        numpy.where(told, above((bound - value) / error), 1.0) for bound in (INATTENTIVE * max(0.0, usual), 0.0)
    )
    return Attention(numpy.where(told, value, numpy.nan), of, holm(careless), holm(against))


def agreement(items: ArrayLike, people: ArrayLike, labels: ArrayLike, classes: int, crowd: int) -> tuple[Whole, Whole]:
    """(how often each person says what most others say of the same item, of how many items on which they agree)."""
    item, person, label = (numpy.asarray(values, dtype=int) for values in (items, people, labels))
    if not len(item):
        return numpy.zeros(crowd, int), numpy.zeros(crowd, int)
    said = numpy.bincount(item * classes + label, minlength=(int(item.max()) + 1) * classes).reshape(-1, classes)
    others = said[item]
    others[numpy.arange(len(item)), label] -= 1
    most = others.max(1)
    clear = (most > 0) & ((others == most[:, None]).sum(1) == 1)
    person, same = person[clear], label[clear] == others[clear].argmax(1)
    return numpy.bincount(person[same], minlength=crowd), numpy.bincount(person, minlength=crowd)


def runs(people: ArrayLike, order: ArrayLike, said: ArrayLike, crowd: int) -> Runs:
    """The longest run of the same answer of each person.

    Args:
        order: (N,) the person's answers in the order in which they were given.
        said: (N,) codes of the answers as they were given, such as the key that was pressed.

    A value of which everybody has long runs is no sign, nor is one that this person often says, up to `OWN_HABIT`.

    Source: the expected number of runs of at least L among n draws, n (1 - q) q^L; Feller 1968, section XIII.7.
    """
    person, value = numpy.asarray(people, dtype=int), numpy.asarray(said, dtype=int)
    if not len(person):
        return Runs(numpy.zeros(crowd, int), numpy.ones(crowd))
    by = numpy.lexsort((numpy.asarray(order), person))
    person, value = person[by], value[by]
    begins = numpy.flatnonzero(numpy.r_[True, (person[1:] != person[:-1]) | (value[1:] != value[:-1])])
    length = numpy.diff(numpy.r_[begins, len(person)])
    longest = numpy.zeros(crowd, int)
    numpy.maximum.at(longest, person[begins], length)
    kinds = int(value.max()) + 1
    of = numpy.bincount(person, minlength=crowd)
    own = numpy.bincount(person * kinds + value, minlength=crowd * kinds).reshape(crowd, kinds)
    habit = numpy.minimum(own / numpy.maximum(of, 1)[:, None], OWN_HABIT)
    often = numpy.maximum(habit, numpy.median((own / numpy.maximum(of, 1)[:, None])[of > 0], axis=0))
    expected = (of[:, None] * (1 - often) * often ** longest[:, None]).sum(1)
    return Runs(longest, holm(numpy.where(of >= FEW, -numpy.expm1(-expected), 1.0)))


def hurried(people: ArrayLike, seconds: ArrayLike, reading: ArrayLike, crowd: int) -> Shares:
    """How often each person answered without having had the time to read.

    Args:
        seconds: (N,) how long each answer took.
        reading: (N,) how long reading takes, from `reading_seconds`.

    The probability is that of so many where one in ten is only quick.
    """
    person = numpy.asarray(people, dtype=int)
    fast = numpy.asarray(seconds, dtype=float) < HURRY * numpy.asarray(reading, dtype=float)
    of = numpy.bincount(person, minlength=crowd)
    quick = numpy.bincount(person[fast], minlength=crowd)
    chance = [at_least(int(k), int(n), 0.1) if n >= FEW else 1.0 for k, n in zip(quick, of, strict=True)]
    return Shares(quick, of, holm(chance))


def gold(people: ArrayLike, right: ArrayLike, crowd: int, expected: float = 0.7) -> Shares:
    """How often each person was right where the answer is known; the probability is that of somebody who is right with
    a chance of ``expected``."""
    person = numpy.asarray(people, dtype=int)
    of = numpy.bincount(person, minlength=crowd)
    good = numpy.bincount(person[numpy.asarray(right, dtype=bool)], minlength=crowd)
    return Shares(good, of, holm([at_most(int(k), int(n), expected) for k, n in zip(good, of, strict=True)]))


def reading_seconds(text: str) -> float:
    """How long reading a text takes, in any mix of languages with and without spaces between words."""
    dense = sum("\u3040" <= letter <= "\u9fff" or "\uac00" <= letter <= "\ud7af" for letter in text)
    return dense / CHARACTERS_A_SECOND + len(text.split()) / WORDS_A_SECOND
