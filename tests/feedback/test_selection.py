"""Choosing what to ask: the probabilities are what they say, and what is chosen teaches more than what is drawn."""

import numpy
import pytest

from tutelage.errors import RecordError
from tutelage.feedback import selection
from tutelage.feedback.selection import board_uncertainty, choose, disagreement, information, information_gain
from tutelage.feedback.strengths import bradley_terry


def test_every_candidate_is_chosen_as_often_as_is_said() -> None:
    rng = numpy.random.default_rng(0)
    values = rng.exponential(size=40) ** 2
    often, even, told = numpy.zeros(40), numpy.zeros(40), numpy.zeros(40)
    rounds = 8000
    for seed in range(rounds):
        chosen = choose(values, 12, seed=seed)
        assert len(set(chosen.place.tolist())) == 12
        often[chosen.place] += 1
        even[chosen.place[chosen.uniform]] += 1
        told[chosen.place] = chosen.probability
    assert numpy.abs(often / rounds - told).max() < 0.025
    assert numpy.abs(even / rounds - 0.2 * 12 / 40).max() < 0.012


def test_all_none_and_the_best() -> None:
    assert choose([0, 0, 0], 3).probability.tolist() == pytest.approx([1, 1, 1])
    assert choose([0, 0, 0, 0], 1).probability.tolist() == pytest.approx([0.25])
    best = choose(numpy.arange(100.0), 5, share=0, sharpness=400)
    assert best.place.tolist()[-1] == 99
    assert choose([0, 0, 5, 0], 2, share=0).place.tolist().count(2) == 1
    assert choose([1, 2, 3], 2, seed=4).place.tolist() == choose([1, 2, 3], 2, seed=4).place.tolist()


@pytest.mark.parametrize(("values", "count"), [([1.0], 2), ([1.0], 0), ([-1.0, 1], 1), ([numpy.nan, 1], 1)])
def test_bad_input_is_refused(values, count) -> None:
    with pytest.raises(RecordError, match="choose"):
        choose(values, count)


def test_an_ensemble_disagrees_where_its_members_do() -> None:
    rewards = numpy.array([[[1.0, 0], [2, 0]], [[1.0, 0], [0, 2]]])
    found = disagreement(rewards)
    assert found[0] == 0
    assert found[1] > 0.1
    assert disagreement(rewards + 7).tolist() == pytest.approx(found.tolist())
    with pytest.raises(RecordError, match="shape"):
        disagreement([[1, 2]])


def test_information_is_what_the_determinant_says() -> None:
    rng = numpy.random.default_rng(1)
    phi, p = rng.normal(size=(30, 4)), rng.uniform(0.1, 0.9, 30)
    taken = information(phi, p, 6)
    precision = numpy.eye(4)
    for step, one in enumerate(taken):
        gains = [
            -1 if other in taken[:step] else
            numpy.linalg.slogdet(precision + p[other] * (1 - p[other]) * numpy.outer(phi[other], phi[other]))[1]
            for other in range(30)
        ]  # fmt: skip
        assert int(numpy.argmax(gains)) == one
        precision = precision + p[one] * (1 - p[one]) * numpy.outer(phi[one], phi[one])
    alone = information_gain(phi, p)
    assert int(alone.argmax()) == taken[0]
    expected = numpy.linalg.slogdet(numpy.eye(4) + p[3] * (1 - p[3]) * numpy.outer(phi[3], phi[3]))[1]
    assert alone[3] == pytest.approx(expected)


def fitted(phi: numpy.ndarray, said: numpy.ndarray) -> numpy.ndarray:
    """Logistic regression with a weak prior."""
    weights = numpy.zeros(phi.shape[1])
    for _ in range(30):
        p = 1 / (1 + numpy.exp(-phi @ weights))
        curvature = (phi * (p * (1 - p))[:, None]).T @ phi + numpy.eye(phi.shape[1])
        weights += numpy.linalg.solve(curvature, phi.T @ (said - p) - weights)
    return weights


def learned(seed: int, rule: str, labels: int, rounds: int = 6) -> float:
    """How well a reward model of the pool orders new pairs after so many labels, asked for in a few rounds."""
    rng = numpy.random.default_rng(seed)
    dims = 12
    truth = rng.normal(size=dims) * 1.5
    scale = numpy.exp(rng.normal(0, 0.8, 1500))[:, None]  # most pairs differ in little, some in much
    pool = rng.normal(size=(1500, dims)) * scale
    said = (rng.random(1500) < 1 / (1 + numpy.exp(-pool @ truth))).astype(float)
    fresh = rng.normal(size=(4000, dims))
    mine: list[int] = []
    each = labels // rounds
    for turn in range(rounds):
        free = numpy.setdiff1d(numpy.arange(1500), mine)
        weights = fitted(pool[mine], said[mine]) if mine else numpy.zeros(dims)
        p = 1 / (1 + numpy.exp(-pool @ weights))
        known = (pool[mine] * (p[mine] * (1 - p[mine]))[:, None]).T @ pool[mine]
        if rule == "random":
            chosen = rng.permutation(free)[:each]
        elif rule == "information":
            values = information_gain(pool[free], p[free], known=known)
            chosen = free[choose(values, each, sharpness=4, seed=seed * 100 + turn).place]
        else:
            members = [
                fitted(pool[drawn], said[drawn]) if mine else rng.normal(size=dims)
                for drawn in (rng.choice(mine, len(mine)) if mine else [] for _ in range(5))
            ]
            rewards = numpy.stack([numpy.stack([pool[free] @ w, numpy.zeros(len(free))], 1) for w in members])
            chosen = free[choose(disagreement(rewards), each, sharpness=1, seed=seed * 100 + turn).place]
        mine += chosen.tolist()
    weights = fitted(pool[mine], said[mine])
    return float(((fresh @ weights > 0) == (fresh @ truth > 0)).mean())


def test_information_teaches_more_than_chance() -> None:
    """The stated margin: with 120 labels, as good as chance is with 180, a fifth of them being drawn evenly."""
    seeds = range(30)
    ours = numpy.mean([learned(seed, "information", 120) for seed in seeds])
    same, more = (numpy.mean([learned(seed, "random", labels) for seed in seeds]) for labels in (120, 180))
    assert ours > same + 0.01, (ours, same, more)
    assert ours > more, (ours, same, more)


def test_disagreement_teaches_more_than_chance() -> None:
    seeds = range(30)
    ours = numpy.mean([learned(seed, "disagreement", 120) for seed in seeds])
    same = numpy.mean([learned(seed, "random", 120) for seed in seeds])
    assert ours > same + 0.005, (ours, same)


def test_the_board_is_narrowed_where_it_is_wide() -> None:
    i, j = [0] * 40 + [1] * 4 + [2] * 4, [1] * 40 + [2] * 4 + [0] * 4
    s = [1, 0] * 20 + [1, 0, 1, 0] * 2
    found = bradley_terry(i, j, s, 4)
    values = board_uncertainty(found, [0, 0, 1, 0], [1, 2, 2, 3])
    assert values[3] > values[1] > values[0]  # the fourth was never compared; the third hardly
    assert values[2] > values[0]


def test_an_ensemble_that_agrees_about_several_has_nothing_to_ask() -> None:
    assert selection.disagreement_of_many([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]) == 0
    pairs = [[[2.0, 1.0], [1.0, 3.0]], [[2.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [3.0, 0.0]]]
    each = [float(selection.disagreement([[one], [other]])[0]) for one, other in pairs]
    assert selection.disagreement_of_many([[2.0, 1.0, 0.0], [1.0, 3.0, 0.0]]) == pytest.approx(sum(each) / 3)


def test_choosing_votes_for_a_board_beats_chance() -> None:
    """The stated margin: mean error at most 0.9 of chance's after as many votes."""
    errors: dict[str, list[float]] = {"chance": [], "chosen": []}
    pairs = numpy.array([(a, b) for a in range(8) for b in range(8) if a < b])
    for seed in range(40):
        for rule, kept in errors.items():
            rng = numpy.random.default_rng(seed)
            value = rng.normal(0, 1.5, 8)
            value -= value.mean()
            votes = list(range(len(pairs))) * 2
            said = [float(rng.random() < 1 / (1 + numpy.exp(value[b] - value[a]))) for a, b in pairs[votes]]
            for turn in range(10):
                found = bradley_terry(pairs[votes, 0], pairs[votes, 1], said, 8, penalty=1e-3)
                worth = board_uncertainty(found, pairs[:, 0], pairs[:, 1])
                drawn = (
                    rng.integers(0, len(pairs), 12) if rule == "chance"
                    else choose(worth, 12, seed=seed * 100 + turn, sharpness=2).place
                )  # fmt: skip
                votes += drawn.tolist()
                said += [float(rng.random() < 1 / (1 + numpy.exp(value[b] - value[a]))) for a, b in pairs[drawn]]
            found = bradley_terry(pairs[votes, 0], pairs[votes, 1], said, 8, penalty=1e-3)
            kept.append(float(numpy.sqrt(numpy.mean((found.value - value) ** 2))))
    assert numpy.mean(errors["chosen"]) < 0.9 * numpy.mean(errors["chance"]), {
        rule: numpy.mean(kept) for rule, kept in errors.items()
    }
