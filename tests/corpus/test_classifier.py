import csv
import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tutelage.corpus import classifier
from tutelage.corpus.classifier import Classifier, read_labelled, train
from tutelage.errors import RecordError

GOOD = "river stone garden letter window winter mother lantern morning bread 山 水 花 鸟".split()
BAD = "casino jackpot winner bonus click prize 赌 钱 奖".split()


def example(seed: int, bad: bool) -> str:
    draw = random.Random(seed)
    own = BAD if bad else GOOD
    return " ".join(draw.choice(own if draw.random() < 0.35 else [*GOOD, "the", "and", "of", "in"]) for _ in range(40))


def examples(count: int, start: int = 0) -> tuple[list[str], list[int]]:
    labels = [int(seed % 3 == 0) for seed in range(start, start + count)]
    return [example(seed, bool(seed % 3 == 0)) for seed in range(start, start + count)], labels


def column(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


@pytest.fixture(scope="module")
def made() -> Classifier:
    return train(*examples(300))


def test_it_learns_what_was_labelled(made: Classifier) -> None:
    texts, labels = examples(200, start=1000)
    found = [verdict is not None for verdict in made.judge(column(texts), "harmful")]
    right = sum(a == bool(b) for a, b in zip(found, labels, strict=True))
    assert right >= 196
    verdict = made.judge(column([example(3, True)]), "low_quality")[0]
    assert verdict is not None
    assert verdict[0] == "low_quality"
    assert verdict[1].startswith("the classifier gives it ")


def test_the_report_is_of_texts_that_were_left_out(made: Classifier) -> None:
    report = made.report
    assert report["examples"] == 300
    assert report["to_be_found"] == 100
    assert report["precision"] >= 0.9
    assert report["recall"] >= 0.95
    assert report["area_under_curve"] > 0.99
    # Labels that say nothing cannot be learned, and the report says so.
    texts, labels = examples(300)
    random.Random(1).shuffle(labels)
    assert 0.35 < train(texts, labels).report["area_under_curve"] < 0.65


def test_the_same_text_is_never_on_both_sides() -> None:
    draw = random.Random(2)
    texts = [example(seed, False) for seed in range(60)]
    labels = [draw.randrange(2) for _ in texts]
    report = train(texts * 4, labels * 4).report
    assert report["area_under_curve"] < 0.75


def test_the_line_is_drawn_where_enough_are_right() -> None:
    scores, truth = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), np.array([1, 1, 0, 1, 1, 0])
    assert classifier._threshold(scores, truth, 0.9) == 0.8
    assert classifier._threshold(scores, truth, 0.5) == 0.5
    # Nothing is precise enough: the best there is.
    assert classifier._threshold(-scores, truth, 0.9) == -0.9
    # A score that several texts share takes all of them.
    assert classifier._threshold(np.array([0.9, 0.9, 0.8]), np.array([1, 0, 1]), 0.9) == 0.8


def test_the_same_examples_give_the_same_bytes(made: Classifier, tmp_path: Path) -> None:
    made.save(tmp_path / "one.json")
    train(*examples(300)).save(tmp_path / "two.json")
    train(*examples(300), seed=2).save(tmp_path / "three.json")
    one, two, three = ((tmp_path / f"{name}.json").read_bytes() for name in ("one", "two", "three"))
    assert one == two
    assert one != three
    texts, _ = examples(50, start=2000)
    again = Classifier.load(tmp_path / "one.json")
    assert (again.scores(column(texts)) == made.scores(column(texts))).all()
    assert again.report == made.report


def test_scores_do_not_depend_on_neighbours(made: Classifier) -> None:
    texts = [*examples(20)[0], "", "!!!", "中" * 10_000]
    together = made.scores(column(texts))
    assert [made.scores(column([text]))[0] for text in texts] == together.tolist()
    assert ((together >= 0) & (together <= 1)).all()
    assert made.scores(column([])).shape == (0,)


def test_labelled_files(tmp_path: Path) -> None:
    rows = [("a text", "1"), ('with "quotes",\nand a line', "no"), ("中文", "TRUE"), ("x", "0")]
    with open(tmp_path / "rows.csv", "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("id", "text", "label"), *((i, *row) for i, row in enumerate(rows))])
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows) + "\n\n")
    for name in ("rows.csv", "rows.jsonl.gz"):
        assert read_labelled(tmp_path / name) == ([text for text, _ in rows], [1, 0, 1, 0])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text": "x"}', r"a.jsonl:2: no field 'label': found text"),
        ("a.jsonl", '{"text": "x", "label": 2}', r"a.jsonl:1: label 2: give 1 for what is to be found"),
        ("a.jsonl", "[1]", r"a.jsonl:1: not an object"),
        ("a.jsonl", "{", r"a.jsonl: .*give labelled texts as .jsonl or .csv"),
        ("a.csv", "body,label\nx,1", r"a.csv:1: no field 'text': found body, label"),
        ("a.xml", "x", r"a.xml: cannot read .xml: give .jsonl or .csv"),
    ],
)
def test_labelled_files_that_cannot_be_read(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        read_labelled(tmp_path / name)


def test_too_few_examples() -> None:
    with pytest.raises(RecordError, match="labelled texts: 3 with label 1: give 20 or more"):
        train([*examples(30)[0]], [1] * 3 + [0] * 27)


@pytest.mark.parametrize("content", ["", "{}", '{"format": "another"}', '{"format": 1, "weights": "AAAA"}'])
def test_what_is_no_classifier(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(RecordError, match=r"c.json: not a classifier: .*train one"):
        Classifier.load(tmp_path / "c.json")
    made = json.dumps({"format": classifier.FORMAT, "bias": 0, "threshold": 0, "report": {}, "weights": "AAA="})
    (tmp_path / "c.json").write_text(made)
    with pytest.raises(RecordError, match="not a classifier: 1 weights, 262144 are wanted"):
        Classifier.load(tmp_path / "c.json")


def test_weights_are_small_numbers(made: Classifier) -> None:
    assert made.weights.dtype == np.float16
    assert np.isfinite(made.weights).all()
