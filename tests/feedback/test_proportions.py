"""Shares, their intervals and tests, against scipy and by what they promise."""

import math

import numpy
import pytest
from scipy import stats

from tutelage.evaluation import ratings
from tutelage.feedback.proportions import above, at_least, at_most, even, holm, wilson


@pytest.mark.parametrize(("yes", "of"), [(0, 1), (1, 1), (3, 10), (10, 10), (0, 10), (499, 1000), (99_000, 100_000)])
def test_wilson_is_wilson(yes, of) -> None:
    low, high = wilson([yes], [of])
    theirs = stats.binomtest(yes, of).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    one = ratings.wilson(yes, of)
    assert (low[0], high[0]) == pytest.approx((one.low, one.high), abs=1e-14)


def test_nothing_asked_says_nothing() -> None:
    low, high = wilson([0, 3], [0, 4])
    assert (low[0], high[0]) == (0, 1)
    assert 0 < low[1] < 0.75 < high[1] < 1


def test_wilson_covers_what_it_promises() -> None:
    rng = numpy.random.default_rng(1)
    for share in (0.1, 0.5, 0.85):
        low, high = wilson(rng.binomial(60, share, 20_000), numpy.full(20_000, 60))
        assert 0.93 <= ((low <= share) & (share <= high)).mean() <= 0.97


@pytest.mark.parametrize("of", [1, 2, 17, 400, 50_000])
@pytest.mark.parametrize("chance", [0.0, 0.1, 0.5, 0.93, 1.0])
def test_tails_are_the_binomials(of, chance) -> None:
    for successes in {0, of // 3, of // 2, of - 1, of}:
        assert at_most(successes, of, chance) == pytest.approx(stats.binom.cdf(successes, of, chance), abs=1e-8)
        assert at_least(successes, of, chance) == pytest.approx(stats.binom.sf(successes - 1, of, chance), abs=1e-8)
        assert even(successes, of) == pytest.approx(stats.binomtest(successes, of).pvalue, abs=1e-8)
    assert even(0, 0) == 1


def test_holm_is_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).tolist() == []
    assert holm([0.9, 0.8]).tolist() == [1, 1]


def test_above_is_the_normals_tail() -> None:
    assert above(numpy.array([0.0, 1.96, -1.0])) == pytest.approx(stats.norm.sf([0.0, 1.96, -1.0]))
    assert math.isclose(above(numpy.array([10.0]))[0], stats.norm.sf(10.0), rel_tol=1e-9)
