import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import RecordError
from tutelage.evaluation.ratings import bootstrap, mean_interval, wilson, win_rate


def test_wilson_against_worked_numbers():
    found = wilson(60, 100)
    assert (found.mean, found.prompts) == (0.6, 100)
    assert (found.low, found.high) == (pytest.approx(0.50200, abs=5e-6), pytest.approx(0.69060, abs=5e-6))
    none = wilson(0, 10)
    assert (none.low, none.high) == (0.0, pytest.approx(0.27753, abs=5e-6))
    everything = wilson(10, 10)
    assert (everything.low, everything.high) == (pytest.approx(1 - 0.27753, abs=5e-6), 1.0)


@pytest.mark.parametrize(("successes", "prompts"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_proportion(successes: int, prompts: int):
    with pytest.raises(RecordError, match=f"found {successes} of {prompts}"):
        wilson(successes, prompts)


def test_ties_are_half_a_win():
    found = win_rate("sft", [(f"p{i}", 0.5) for i in range(40)])
    assert (found.over, found.mean, found.prompts) == ("sft", 0.5, 40)
    # Forty ties are no certainty: as wide as twenty wins of forty.
    assert (found.low, found.high) == pytest.approx((0.352, 0.648), abs=1e-3)


def test_a_prompt_with_many_votes_counts_once():
    votes = [("a", 1.0)] * 98 + [("b", 0.0), ("b", 0.5)]
    found = win_rate("sft", votes)
    assert found.mean == pytest.approx((1 + 0.25) / 2)
    assert found.prompts == 2
    # Two prompts: the redrawn means are 1, 0.625 and 0.25, never between as with a hundred votes.
    assert (found.low, found.high) == (0.25, 1.0)


@pytest.mark.parametrize("different", [4, 50])
def test_bootstrap_is_that_of_redrawing_prompts_one_by_one(different: int):
    values = numpy.random.default_rng(3).random(different).repeat(52 // different)
    plain = numpy.random.default_rng(4).choice(values, (40_000, len(values))).mean(1)
    low, high = bootstrap(values)
    assert low == pytest.approx(numpy.quantile(plain, 0.025), abs=3e-3)
    assert high == pytest.approx(numpy.quantile(plain, 0.975), abs=3e-3)


def test_the_same_votes_give_the_same_interval_in_any_order():
    votes = [(f"p{i}", (i * 37 % 101) / 101) for i in range(31)]
    assert win_rate("a", votes, seed=5) == win_rate("a", votes[::-1], seed=5)
    assert win_rate("a", votes, seed=5) != win_rate("a", votes, seed=6)


def test_where_all_agree_the_interval_still_has_a_width():
    won = win_rate("base", [(f"p{i}", 1.0) for i in range(60)])
    assert (won.mean, won.low, won.high) == (1.0, wilson(60, 60).low, 1.0)
    assert mean_interval([(f"p{i}", 0.0) for i in range(10)]).high == pytest.approx(0.27753, abs=5e-6)


def test_coverage_of_the_true_win_rate():
    """600 experiments with a known truth: prompts differ, votes of one prompt agree, and 95 % of intervals hold it."""
    generator = numpy.random.default_rng(11)
    inside = naive = 0
    experiments = 600
    for experiment in range(experiments):
        chances = generator.beta(1.2, 0.8, size=80)  # mean 0.6
        votes = [
            (f"p{prompt}", float(vote))
            for prompt, chance in enumerate(chances)
            for vote in generator.choice([1.0, 0.0, 0.5], size=5, p=[0.8 * chance, 0.8 * (1 - chance), 0.2])
        ]
        truth = 0.8 * 0.6 + 0.2 * 0.5
        found = win_rate("other", votes, seed=experiment)
        inside += found.low <= truth <= found.high
        if experiment < 200:
            wide = win_rate("other", [(f"{i}", points) for i, (_, points) in enumerate(votes)], seed=experiment)
            naive += wide.low <= truth <= wide.high
    assert 0.93 <= inside / experiments <= 0.97
    assert naive / 200 < 0.85  # votes taken for prompts would be too sure of themselves


@pytest.mark.parametrize(
    ("votes", "message"),
    [([], "nothing was judged"), ([("p", 2.0)], "'p': found 2.0"), ([("p", float("nan"))], "found nan")],
)
def test_bad_votes(votes: list[tuple[str, float]], message: str):
    with pytest.raises(RecordError, match=f"win rate over sft: .*{message}"):
        win_rate("sft", votes)


def test_bad_values():
    with pytest.raises(RecordError, match="no values"):
        bootstrap([])
    with pytest.raises(RecordError, match="not finite"):
        bootstrap([1.0, float("inf")])


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=30))
def test_the_interval_holds_the_mean(points: list[float]):
    found = mean_interval([(str(i), p) for i, p in enumerate(points)])
    assert 0 <= found.low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.high <= 1
