"""Real people's labels: what the statistics make of them, beside the packages of others and the known answers.

The figures are printed with ``pytest -s -m real_data``.
"""

import ast
import gzip
import json
import tarfile
import warnings
from pathlib import Path

import krippendorff
import numpy
import pytest

from tutelage.feedback import conduct
from tutelage.feedback.agreement import alpha
from tutelage.feedback.consensus import dawid_skene, majority, of_others
from tutelage.feedback.strengths import bradley_terry

FOLDER = Path(__file__).parents[3] / "shared/data/annotators"
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not FOLDER.exists(), reason="needs the shared data folder beside the project"),
]


def codes(values: list[str]) -> tuple[numpy.ndarray, list[str]]:
    names = sorted(set(values))
    place = {name: code for code, name in enumerate(names)}
    return numpy.array([place[value] for value in values]), names


def triples(text: str) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, list[str], list[str]]:
    rows = [line.rstrip("\n").split("\t") for line in text.splitlines() if line.strip()]
    person, _ = codes([row[0] for row in rows])
    item, items = codes([row[1] for row in rows])
    label, labels = codes([row[2] for row in rows])
    return item, person, label, items, labels


def show(what: str, found) -> None:
    print(f"{what}: alpha {found.value:.3f} ({found.low:.3f} to {found.high:.3f}), {found.units} units")  # noqa: T201


def test_crowd_workers_labels_with_gold() -> None:
    """BarzanMozafari: 5 000 binary labels of 1 000 items, five each, every answer known."""
    folder = FOLDER / "get-another-label/BarzanMozafari"
    item, person, label, items, labels = triples((folder / "labels.txt").read_text())
    gold = dict(line.split("\t") for line in (folder / "evaluation.txt").read_text().split("\n") if line.strip())
    truth = numpy.array([labels.index(gold[name].strip()) for name in items])
    found = alpha(item, label)
    show("BarzanMozafari", found)
    table = numpy.full((person.max() + 1, len(items)), numpy.nan)
    table[person, item] = label
    assert found.value == pytest.approx(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal"))
    votes = (majority(item, label, 2, len(items)).argmax(1) == truth).mean()
    tables = dawid_skene(item, person, label, 2, model="full")
    ours = dawid_skene(item, person, label, 2)
    right = {one.model: (one.posterior.argmax(1) == truth).mean() for one in (tables, ours)}
    print(f"right: Dawid-Skene {right}, chosen {ours.model}, majority {votes:.3f}")  # noqa: T201
    assert right[ours.model] >= votes
    likely = of_others(ours, item, person, label)
    attention = conduct.attention(person, label, likely, person.max() + 1)
    print(f"careless {(attention.careless < 0.05).sum()}, against {(attention.against < 0.05).sum()}")  # noqa: T201
    # Who is attentive by what others say is right by the gold.
    known = ~numpy.isnan(attention.value)
    accuracy = numpy.bincount(person, label == truth[item]) / numpy.bincount(person)
    assert numpy.corrcoef(attention.value[known], accuracy[known])[0, 1] > 0.3


def test_three_labels_from_many_people_as_crowd_kit() -> None:
    """CopyrightInfringement: 7 539 labels in three classes."""
    folder = FOLDER / "get-another-label/CopyrightInfringement"
    with gzip.open(folder / "labels.txt.gz", "rt") as file:
        item, person, label, _, labels = triples(file.read())
    show("CopyrightInfringement", alpha(item, label))
    ours = dawid_skene(item, person, label, len(labels), model="full", smoothing=1e-9, rounds=10, tolerance=-1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas
        from crowdkit.aggregation import DawidSkene

        theirs = DawidSkene(n_iter=10, tol=-1.0)
        theirs.fit(pandas.DataFrame({"task": item, "worker": person, "label": label}))
        posterior = theirs.probas_.sort_index()[list(range(len(labels)))].to_numpy()
    same = (ours.posterior.argmax(1) == posterior.argmax(1)).mean()
    print(f"the same label as crowd-kit: {same:.4f}")  # noqa: T201
    assert same > 0.99


def test_three_people_compare_answers_of_models() -> None:
    """PandaLM: 0 tie, 1 and 2 the better response; three people on every pair."""
    with gzip.open(FOLDER / "pandalm_testset.json.gz", "rt") as file:
        rows = json.load(file)
    said = numpy.array([[row[f"annotator{n}"] for n in (1, 2, 3)] for row in rows], dtype=float)
    value = numpy.where(said == 1, -1, numpy.where(said == 2, 1, 0))
    item = numpy.repeat(numpy.arange(len(rows)), 3)
    found = alpha(item, value.ravel(), "ordinal")
    show("PandaLM, ordinal", found)
    assert found.value == pytest.approx(
        krippendorff.alpha(reliability_data=value.T, level_of_measurement="ordinal"), abs=1e-9
    )
    models, names = codes([name for row in rows for name in row["cmp_key"].split("_")])
    left, right = models[0::2], models[1::2]
    points = (1 - value) / 2
    board = bradley_terry(
        numpy.repeat(left, 3), numpy.repeat(right, 3), points.ravel(), len(names), clusters=item
    )  # fmt: skip
    for code in numpy.argsort(-board.value):
        print(f"{names[code]:20} {board.value[code]:+.2f} ({board.low[code]:+.2f} to {board.high[code]:+.2f})")  # noqa: T201
    apart = bradley_terry(numpy.repeat(left, 3), numpy.repeat(right, 3), points.ravel(), len(names))
    assert (board.high - board.low).mean() > (apart.high - apart.low).mean()
    texts = [(len(row["response1"]), len(row["response2"])) for row in rows]
    decided = value.ravel() != 0
    longer = numpy.array([a > b for a, b in texts])[item] == (value.ravel() < 0)
    print(f"the longer one is preferred in {longer[decided].mean():.3f} of {decided.sum()} decided votes")  # noqa: T201


def test_scores_of_translations_are_interval_data() -> None:
    """MLQE English-German: three to six people give 0 to 100."""
    with tarfile.open(FOLDER / "mlqe-en-de.tar.gz") as archive:
        file = archive.extractfile("en-de/train.ende.df.short.tsv")
        assert file
        lines = file.read().decode().splitlines()[1:]
    scores = [ast.literal_eval(line.split("\t")[3]) for line in lines]
    item = numpy.repeat(numpy.arange(len(scores)), [len(one) for one in scores])
    raw = alpha(item, numpy.concatenate(scores), "interval")
    show("MLQE en-de, scores", raw)
    wide = numpy.full((max(len(one) for one in scores), len(scores)), numpy.nan)
    for place, one in enumerate(scores):
        wide[: len(one), place] = one
    theirs = krippendorff.alpha(reliability_data=wide[:, :800], level_of_measurement="interval")
    few = item < 800
    ours = alpha(item[few], numpy.concatenate(scores)[few], "interval", draws=0)
    assert ours.value == pytest.approx(theirs, abs=1e-9)
    assert raw.low < raw.value < raw.high
