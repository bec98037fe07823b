"""Bradley and Terry's model against choix, its intervals, and what it says where nothing is known."""

import time

import choix
import numpy
import pytest

from tutelage.errors import RecordError
from tutelage.feedback.strengths import bradley_terry


def votes(rng, value, count, ties=0.0):
    many = len(value)
    i = rng.integers(0, many, count)
    j = (i + rng.integers(1, many, count)) % many
    s = (rng.random(count) < 1 / (1 + numpy.exp(value[j] - value[i]))).astype(float)
    s[rng.random(count) < ties] = 0.5
    return i, j, s


@pytest.mark.parametrize("seed", range(3))
def test_it_is_choixs_model(seed) -> None:
    rng = numpy.random.default_rng(seed)
    value = rng.normal(0, 1, 8)
    i, j, s = votes(rng, value, 2000)
    ours = bradley_terry(i, j, s, 8, penalty=1e-9)
    won = [(a, b) if p else (b, a) for a, b, p in zip(i.tolist(), j.tolist(), s.tolist(), strict=True)]
    theirs = choix.opt_pairwise(8, won, alpha=0, tol=1e-12)
    assert numpy.abs(ours.value - (theirs - theirs.mean())).max() < 1e-5
    assert abs(ours.value.sum()) < 1e-9


def test_a_tie_is_half_a_win_for_each() -> None:
    i, j, s = [0, 0, 1, 1, 2, 0], [1, 1, 2, 0, 0, 2], [1, 0.5, 1, 0.5, 1, 0.5]
    halved = [(a, b, p) for a, b, q in zip(i, j, s, strict=True) for p in ([1, 0] if q == 0.5 else [q, q])]
    twice = bradley_terry(*zip(*halved, strict=True), 3, penalty=1e-9)
    assert numpy.allclose(bradley_terry(i, j, s, 3, penalty=1e-9).value, twice.value, atol=1e-8)


def test_neither_order_nor_side_matters() -> None:
    rng = numpy.random.default_rng(3)
    i, j, s = votes(rng, rng.normal(0, 1, 6), 400, ties=0.2)
    mixed, turned = rng.permutation(400), rng.random(400) < 0.5
    a, b = numpy.where(turned, j, i)[mixed], numpy.where(turned, i, j)[mixed]
    one, other = bradley_terry(i, j, s, 6), bradley_terry(a, b, numpy.where(turned, 1 - s, s)[mixed], 6)
    assert numpy.allclose(one.value, other.value, atol=1e-9)
    assert numpy.allclose(one.low, other.low, atol=1e-9)


def test_what_cannot_be_compared_is_rated_apart() -> None:
    undefeated = bradley_terry([0] * 30 + [1, 2], [1] * 15 + [2] * 15 + [2, 1], [1] * 30 + [1, 1], 3)
    assert undefeated.group[0] != undefeated.group[1] == undefeated.group[2]
    assert numpy.isfinite(undefeated.value).all()
    assert undefeated.value[0] == 0
    apart = bradley_terry([0, 0, 2, 3], [1, 1, 3, 2], [1, 0, 1, 1], 5)
    assert apart.group.tolist() == [0, 0, 1, 1, 2]
    assert apart.rank().tolist() == [1, 1, 1, 1, 1]
    alone = bradley_terry([], [], [], 2)
    assert alone.value.tolist() == [0, 0]
    assert alone.votes.tolist() == [0, 0]
    tied = bradley_terry([0, 1], [1, 0], [0.5, 0.5], 2)
    assert tied.value.tolist() == [0, 0]


def test_bad_input_is_refused() -> None:
    with pytest.raises(RecordError, match="themselves"):
        bradley_terry([1], [1], [1], 2)
    with pytest.raises(RecordError, match="points from 0 to 1"):
        bradley_terry([0], [1], [2], 2)


def test_intervals_cover_what_they_promise() -> None:
    rng = numpy.random.default_rng(8)
    covered = []
    for _ in range(600):
        value = rng.normal(0, 0.8, 6)
        value -= value.mean()
        found = bradley_terry(*votes(rng, value, 1200), 6)
        covered.append((found.low <= value) & (value <= found.high))
    assert 0.93 <= numpy.mean(covered) <= 0.97


def test_votes_about_one_prompt_are_not_taken_for_many() -> None:
    """Six people see the same pair and have a taste for the prompt in common: clustered intervals still cover."""
    rng = numpy.random.default_rng(9)
    alone, together = [], []
    for _ in range(600):
        # Two models alike: the truth is no difference, whatever the prompts' tastes.
        taste = numpy.repeat(rng.normal(0, 1.5, 150), 6)
        i = numpy.repeat(rng.integers(0, 2, 150), 6)
        favour = numpy.where(i == 0, taste, -taste)
        s = (rng.random(900) < 1 / (1 + numpy.exp(-favour))).astype(float)
        prompt = numpy.repeat(numpy.arange(150), 6)
        for kept, clusters in ((alone, None), (together, prompt)):
            found = bradley_terry(i, 1 - i, s, 2, clusters=clusters)
            kept.append(found.low[0] <= 0 <= found.high[0])
    assert 0.93 <= numpy.mean(together) <= 0.97
    assert numpy.mean(alone) < 0.85


def test_weights_take_back_a_choice() -> None:
    """Pairs that were chosen more often, and weigh less for it."""
    rng = numpy.random.default_rng(4)
    value = numpy.array([-1.0, 0.0, 1.0])
    i, j, s = votes(rng, value, 60_000)
    # Chosen by what will be said: without weights that misleads.
    chance = numpy.where(numpy.where(s > 0, i, j) == 0, 0.9, 0.3)
    chosen = rng.random(len(i)) < chance
    raw = bradley_terry(i[chosen], j[chosen], s[chosen], 3)
    weighed = bradley_terry(i[chosen], j[chosen], s[chosen], 3, weights=1 / chance[chosen])
    assert numpy.abs(weighed.value - value).max() < 0.05 < numpy.abs(raw.value - value).max()


def test_a_hundred_thousand_votes_are_quick() -> None:
    rng = numpy.random.default_rng(5)
    i, j, s = votes(rng, rng.normal(0, 1, 50), 100_000, ties=0.2)
    began = time.process_time()
    found = bradley_terry(i, j, s, 50, clusters=numpy.arange(100_000) // 2)
    assert time.process_time() - began < 1.0  # some 0.15 s on a quiet machine
    assert found.rank().min() == 1
