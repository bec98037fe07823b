"""Krippendorff's alpha against the package of that name, and what its intervals promise."""

import itertools
import time

import krippendorff
import numpy
import pytest

from tutelage.errors import RecordError
from tutelage.feedback.agreement import alpha

LEVELS = ("nominal", "ordinal", "interval")


def table(rng: numpy.random.Generator, units: int, people: int, missing: float = 0.4) -> numpy.ndarray:
    """(units, people) scores that agree in part; NaN where nobody was asked."""
    truth = rng.integers(1, 8, units)[:, None]
    said = numpy.clip(truth + rng.integers(-2, 3, (units, people)), 1, 7).astype(float)
    said[rng.random((units, people)) < missing] = numpy.nan
    return said


def rows(said: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    return numpy.repeat(numpy.arange(len(said)), said.shape[1]), said.ravel()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_other_packages_alpha(level, seed) -> None:
    said = table(numpy.random.default_rng(seed), 60, 5)
    theirs = krippendorff.alpha(reliability_data=said.T, level_of_measurement=level)
    ours = alpha(*rows(said), level, draws=0)
    assert ours.value == pytest.approx(theirs, abs=1e-12)
    assert ours.units == int(((~numpy.isnan(said)).sum(1) > 1).sum())


def test_krippendorffs_own_example() -> None:
    """Krippendorff 2011, section C: four observers, twelve units, five categories."""
    nan = numpy.nan
    said = numpy.array([
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ]).T  # fmt: skip
    found = [alpha(*rows(said), level, draws=0).value for level in LEVELS]
    assert found == pytest.approx([0.743, 0.815, 0.849], abs=5e-4)


@pytest.mark.parametrize("level", LEVELS)
def test_neither_order_nor_names_matter(level) -> None:
    rng = numpy.random.default_rng(7)
    units, said = rows(table(rng, 40, 4))
    mixed = rng.permutation(len(said))
    names = rng.permutation(1000)[:40]
    one, other = alpha(units, said, level), alpha(names[units[mixed]], said[mixed], level)
    assert one.value == pytest.approx(other.value, abs=1e-12)
    if level == "nominal":
        assert alpha(units, 9 - said, level, draws=0).value == pytest.approx(one.value, abs=1e-12)
    assert alpha(units, said, level) == one


@pytest.mark.parametrize("level", LEVELS)
def test_where_nothing_varies_it_is_not_defined(level) -> None:
    assert alpha([0, 0, 1, 1], [3, 3, 3, 3], level).value is None
    assert alpha([], [], level).value is None
    assert alpha([0, 1, 2], [1, 2, 3], level).value is None
    assert alpha([0, 0], [numpy.nan, 1], level).units == 0
    same = alpha([0, 0, 1, 1], [1, 1, 2, 2], level)
    assert same.value == 1
    assert alpha([0, 0, 1, 1], [0.1, 0.1, 0.1, 0.1], level).value is None


def test_bad_input_is_refused() -> None:
    with pytest.raises(RecordError, match="2 units for 1 values"):
        alpha([1, 2], [1])
    with pytest.raises(RecordError, match="infinite"):
        alpha([1, 1], [1, numpy.inf])


@pytest.mark.parametrize("level", LEVELS)
def test_intervals_cover_what_they_promise(level) -> None:
    """The truth is the alpha of very many units made the same way."""
    rng = numpy.random.default_rng(11)
    truth = alpha(*rows(table(rng, 200_000, 4, 0.3)), level, draws=0).value
    repeats = 600
    covered = 0
    for seed in range(repeats):
        found = alpha(*rows(table(rng, 200, 4, 0.3)), level, draws=300, seed=seed)
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / repeats <= 0.97, covered / repeats


@pytest.mark.parametrize("level", LEVELS)
def test_drawing_patterns_is_drawing_units(level) -> None:
    said = table(numpy.random.default_rng(3), 80, 4)
    units, values = rows(said)
    ours = alpha(units, values, level, draws=4000)
    rng = numpy.random.default_rng(5)
    drawn = []
    for _ in range(400):
        chosen = said[rng.integers(0, len(said), len(said))]
        drawn.append(krippendorff.alpha(reliability_data=chosen.T, level_of_measurement=level))
    low, high = numpy.quantile(drawn, [0.025, 0.975])
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.03)


def test_a_hundred_thousand_answers_are_quick() -> None:
    rng = numpy.random.default_rng(1)
    said = table(rng, 50_000, 2, 0)
    units, values = rows(said)
    for level in LEVELS:
        alpha(units[:100], values[:100], level)
    began = time.process_time()
    for level in LEVELS:
        alpha(units, values, level)
    assert time.process_time() - began < 1.5  # some 0.2 s on a quiet machine


def test_pairs_of_units_by_hand() -> None:
    """Two units, two values each, by the definition over all pairs."""
    units, said = [0, 0, 1, 1], numpy.array([1.0, 2.0, 2.0, 2.0])
    observed = numpy.mean([(a - b) ** 2 for unit in (said[:2], said[2:]) for a, b in itertools.permutations(unit, 2)])
    expected = numpy.mean([(a - b) ** 2 for a, b in itertools.permutations(said, 2)])
    assert alpha(units, said, "interval", draws=0).value == pytest.approx(1 - observed / expected)
