"""Every planted fault is found nine times in ten, and honest crowds are left alone nineteen times in twenty."""

import crowds
import numpy
import pytest

from tutelage.feedback import conduct
from tutelage.feedback.consensus import dawid_skene, of_others

HONEST = ["honest"] * 12
PLANTED = 3
ROUNDS = 100


def accused(c: crowds.Crowd) -> dict[str, numpy.ndarray]:
    """By fault, who is suspected of it."""
    longer = c.longer.astype(int)
    likely = of_others(dawid_skene(c.item, c.person, longer, 2), c.item, c.person, longer)
    attention = conduct.attention(c.person, longer, likely, c.count)
    return {
        "careless": attention.careless < conduct.ALARM,
        "against": attention.against < conduct.ALARM,
        "first": conduct.seats(c.person, c.first, c.count).chance < conduct.ALARM,
        "longer": conduct.lengths(c.person, longer, likely[:, 1], c.count).chance < conduct.ALARM,
    }


@pytest.mark.parametrize("kind", ["careless", "against", "first", "longer"])
def test_planted_faults_are_found(kind) -> None:
    kinds = HONEST.copy()
    kinds[PLANTED] = kind
    # Each person gives about 250 answers.
    found = [accused(crowds.crowd(seed, kinds, items=1000))[kind][PLANTED] for seed in range(ROUNDS)]
    assert numpy.mean(found) >= 0.9, f"power {numpy.mean(found):.2f}"


@pytest.mark.parametrize("longer_is_better", [0.4, 0.5, 0.7])
def test_honest_crowds_are_left_alone(longer_is_better) -> None:
    rounds = [
        accused(crowds.crowd(1000 + seed, HONEST, items=1000, longer_is_better=longer_is_better))
        for seed in range(ROUNDS)
    ]
    for kind in ("careless", "against", "longer"):
        alarms = numpy.mean([found[kind].any() for found in rounds])
        assert alarms <= 0.05, f"{kind}: false alarms in {alarms:.3f} of honest crowds"


def test_who_leans_by_chance_is_left_alone() -> None:
    rng = numpy.random.default_rng(1)
    person = numpy.repeat(numpy.arange(12), 200)
    chances = [conduct.seats(person, rng.random(len(person)) < 0.5, 12).chance for _ in range(2000)]
    assert numpy.mean([(chance < conduct.ALARM).any() for chance in chances]) <= 0.05


def test_the_others_are_not_blamed_for_one() -> None:
    kinds = ["longer", *HONEST[1:]]
    blamed = [accused(crowds.crowd(seed, kinds, items=1000))["longer"][1:].any() for seed in range(ROUNDS)]
    assert numpy.mean(blamed) <= 0.05


def test_a_seat_swap_changes_no_label() -> None:
    """First and last change places: the lean turns round, with the same probability."""
    c = crowds.crowd(3, ["first", *HONEST])
    one, other = conduct.seats(c.person, c.first, c.count), conduct.seats(c.person, ~c.first, c.count)
    assert (one.successes + other.successes == one.of).all()
    assert numpy.allclose(one.chance, other.chance)


def test_always_the_same_key_is_found_and_habits_are_not() -> None:
    rng = numpy.random.default_rng(2)
    found, blamed = [], []
    for _ in range(ROUNDS):
        person = numpy.repeat(numpy.arange(12), 120)
        said = rng.choice(3, len(person), p=[0.45, 0.1, 0.45])
        said[person == 1] = rng.choice(3, 120, p=[0.2, 0.1, 0.7])  # a habit is no fault
        start = rng.integers(0, 60)
        mine = numpy.flatnonzero(person == 0)
        said[mine[start : start + 45]] = 2
        runs = conduct.runs(person, numpy.arange(len(person)), said, 12)
        found.append(runs.chance[0] < conduct.ALARM)
        blamed.append((runs.chance[1:] < conduct.ALARM).any())
    assert numpy.mean(found) >= 0.9
    assert numpy.mean(blamed) <= 0.05
    assert runs.longest[0] >= 45


def test_runs_follow_the_given_order() -> None:
    runs = conduct.runs([0, 1, 0, 1, 0], [3, 1, 1, 2, 2], [7, 7, 7, 7, 2], 3)
    assert runs.longest.tolist() == [1, 2, 0]


def test_who_does_not_read_is_found() -> None:
    rng = numpy.random.default_rng(4)
    found, blamed = [], []
    for _ in range(ROUNDS):
        person = numpy.repeat(numpy.arange(10), 60)
        reading = rng.uniform(10, 120, len(person))
        seconds = reading * rng.lognormal(0, 0.6, len(person))
        seconds[(person == 0) & (rng.random(len(person)) < 0.4)] = 2
        hurried = conduct.hurried(person, seconds, reading, 10)
        found.append(hurried.chance[0] < conduct.ALARM)
        blamed.append((hurried.chance[1:] < conduct.ALARM).any())
    assert numpy.mean(found) >= 0.9
    assert numpy.mean(blamed) <= 0.05


def test_gold_tells_who_guesses() -> None:
    rng = numpy.random.default_rng(5)
    found, blamed = [], []
    for _ in range(ROUNDS):
        person = numpy.repeat(numpy.arange(10), 100)
        right = rng.random(len(person)) < numpy.where(person == 0, 0.5, 0.85)
        gold = conduct.gold(person, right, 10)
        found.append(gold.chance[0] < conduct.ALARM)
        blamed.append((gold.chance[1:] < conduct.ALARM).any())
    assert numpy.mean(found) >= 0.9
    assert numpy.mean(blamed) <= 0.05


def test_who_has_said_little_is_not_suspected() -> None:
    few = numpy.zeros(conduct.FEW - 1, int)
    every = numpy.arange(len(few))
    assert conduct.runs(few, every, few, 1).chance[0] == 1
    assert conduct.hurried(few, few, few + 100, 1).chance[0] == 1
    sure = numpy.tile([[1.0, 0.0], [0.0, 1.0]], (len(few), 1))[: len(few)]
    assert conduct.attention(few, sure.argmin(1), sure, 1).against.tolist() == [1]
    assert conduct.lengths(few, few + 1, sure[:, 1], 1).chance.tolist() == [1]


def test_attention_is_the_share_of_truth() -> None:
    rng = numpy.random.default_rng(6)
    truth = rng.integers(0, 3, 3000)
    person = numpy.repeat([0, 1, 2], 1000)
    looks = rng.random(3000) < numpy.array([1.0, 0.4, 0.0])[person]
    label = numpy.where(looks, truth, rng.choice(3, 3000, p=[0.7, 0.2, 0.1]))
    found = conduct.attention(person, label, numpy.eye(3)[truth], 3)
    assert found.value == pytest.approx([1, 0.4, 0], abs=0.05)
    assert conduct.attention(person, truth, numpy.full((3000, 3), 1 / 3), 3).careless.tolist() == [1, 1, 1]


def test_agreement_counts_the_others() -> None:
    same, of = conduct.agreement([0, 0, 0, 1, 1, 2], [0, 1, 2, 0, 1, 0], [1, 1, 0, 1, 0, 1], 2, 4)
    assert of.tolist() == [1, 1, 1, 0]
    assert same.tolist() == [0, 0, 0, 0]


def test_nothing_said_is_no_fault() -> None:
    nothing = numpy.zeros(0)
    for found in (
        conduct.seats(nothing, nothing, 2), conduct.lengths(nothing, nothing, nothing, 2),
        conduct.runs(nothing, nothing, nothing, 2), conduct.hurried(nothing, nothing, nothing, 2),
        conduct.gold(nothing, nothing, 2),
    ):  # fmt: skip
        assert found.chance.tolist() == [1, 1]
    assert conduct.attention(nothing, nothing, numpy.zeros((0, 2)), 2).against.tolist() == [1, 1]
    assert conduct.agreement(nothing, nothing, nothing, 2, 2)[1].tolist() == [0, 0]


def test_reading_takes_as_long_in_either_script() -> None:
    assert conduct.reading_seconds("word " * 228) == pytest.approx(60)
    assert conduct.reading_seconds("字" * 255) == pytest.approx(60, rel=0.01)
    assert conduct.reading_seconds("") == 0
