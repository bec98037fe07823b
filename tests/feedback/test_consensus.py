"""Dawid and Skene's model against crowd-kit, on hard ground, and better than a majority."""

import warnings

import crowds
import numpy
import pytest

from tutelage.errors import RecordError
from tutelage.feedback.consensus import dawid_skene, majority, of_others


def labels(seed: int, items: int = 300, people: int = 20, classes: int = 3, each: int = 5):
    rng = numpy.random.default_rng(seed)
    truth = rng.integers(0, classes, items)
    skill = numpy.linspace(0.4, 0.95, people)
    item = numpy.repeat(numpy.arange(items), each)
    person = numpy.concatenate([rng.permutation(people)[:each] for _ in range(items)])
    guess = rng.integers(0, classes, len(item))
    return truth, item, person, numpy.where(rng.random(len(item)) < skill[person], truth[item], guess)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_crowd_kits_model(seed) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # crowd-kit speaks an older dialect of pandas
        import pandas
        from crowdkit.aggregation import DawidSkene

        _, item, person, label = labels(seed)
        theirs = DawidSkene(n_iter=20, tol=-1.0)
        theirs.fit(pandas.DataFrame({"task": item, "worker": person, "label": label}))
        posterior = theirs.probas_.sort_index()[[0, 1, 2]].to_numpy()
    ours = dawid_skene(item, person, label, model="full", smoothing=1e-12, rounds=20, tolerance=-1.0)
    assert numpy.abs(ours.posterior - posterior).max() < 1e-6
    assert (ours.posterior.argmax(1) == posterior.argmax(1)).all()


def test_one_number_for_each_where_there_is_little() -> None:
    _, item, person, label = labels(1, items=30, people=20)
    found = dawid_skene(item, person, label)
    assert found.model == "coin"
    wrong = found.confusion[:, 0, 1]
    assert numpy.allclose(found.confusion[:, 2, 0], wrong)
    assert numpy.allclose(found.confusion.sum(2), 1)
    assert dawid_skene(*labels(1)[1:]).model == "full"


def test_reliability_finds_who_is_good() -> None:
    _, item, person, label = labels(4, items=1500)
    found = dawid_skene(item, person, label).reliability()
    expected = numpy.linspace(0.4, 0.95, 20) + (1 - numpy.linspace(0.4, 0.95, 20)) / 3
    assert numpy.abs(found - expected).max() < 0.1


def test_known_answers_hold_fast() -> None:
    _, item, person, label = labels(2)
    known = numpy.full(300, -1)
    known[:10] = (majority(item, label, 3, 300).argmax(1)[:10] + 1) % 3
    found = dawid_skene(item, person, label, known=known)
    assert (found.posterior[:10].argmax(1) == known[:10]).all()
    assert (found.posterior[:10].max(1) == 1).all()


@pytest.mark.parametrize("model", ["full", "coin"])
@pytest.mark.parametrize(
    ("item", "person", "label", "classes"),
    [([0], [0], [0], 1), ([0], [0], [0], 3), ([0, 0], [0, 1], [0, 1], 2), ([0, 1, 2], [0, 0, 0], [1, 1, 1], 2),
     ([5], [7], [2], 4), ([0] * 400, list(range(400)), [0, 1] * 200, 2)],
)  # fmt: skip
def test_it_is_finite_on_hard_ground(model, item, person, label, classes) -> None:
    found = dawid_skene(item, person, label, classes, model=model)
    for numbers in (found.posterior, found.confusion, found.prior):
        assert numpy.isfinite(numbers).all()
    assert numpy.allclose(found.posterior.sum(1), 1)
    assert numpy.allclose(found.confusion.sum(2), 1)
    assert found.posterior.shape == (max(item) + 1, classes)


def test_bad_input_is_refused() -> None:
    with pytest.raises(RecordError, match="0 labels"):
        dawid_skene([], [], [])
    with pytest.raises(RecordError, match="below 0"):
        dawid_skene([0], [0], [-1])


def test_what_others_say_leaves_ones_own_word_out() -> None:
    """With a person's own words taken away, what is left is what the others make of it."""
    _, item, person, label = labels(6)
    found = dawid_skene(item, person, label)
    others = of_others(found, item, person, label)
    one = 17
    mine = (item == item[one]) & (person != person[one])
    log = numpy.log(found.prior) + numpy.log(found.confusion[person[mine], :, label[mine]]).sum(0)
    assert numpy.allclose(others[one], numpy.exp(log) / numpy.exp(log).sum(), atol=1e-4)
    alone = dawid_skene([0], [0], [1], 2)
    assert numpy.allclose(of_others(alone, [0], [0], [1]), alone.prior, atol=0.02)


def test_names_do_not_matter() -> None:
    _, item, person, label = labels(9)
    rng = numpy.random.default_rng(0)
    items, people, names = rng.permutation(300), rng.permutation(20), rng.permutation(3)
    one = dawid_skene(item, person, label)
    other = dawid_skene(items[item], people[person], names[label])
    assert numpy.allclose(one.posterior, other.posterior[items][:, names], atol=1e-6)


def test_pooled_labels_beat_the_majority() -> None:
    """With a few careless and a few adversarial people among the honest."""
    kinds = ["honest"] * 9 + ["careless"] * 4 + ["against"] * 3
    ours, theirs = [], []
    for seed in range(40):
        c = crowds.crowd(seed, kinds, items=300, overlap=5)
        found = dawid_skene(c.item, c.person, c.label, 2)
        ours.append((found.posterior.argmax(1) == c.truth).mean())
        theirs.append((majority(c.item, c.label, 2, 300).argmax(1) == c.truth).mean())
    assert numpy.mean(ours) > numpy.mean(theirs) + 0.05
    assert (numpy.array(ours) > numpy.array(theirs)).mean() > 0.95
