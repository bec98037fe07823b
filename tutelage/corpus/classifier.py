"""A linear judge of texts, learned from labelled examples: of quality, or of harm.

Features are words and pairs of words (single Chinese characters, pairs and triples of them), hashed into a fixed
number of places; the judge is logistic regression over them. Training is by stochastic gradient descent in an order
that the seed fixes, so the same examples give the same judge, byte for byte. Where to draw the line is learned from
texts that were left out in turn, and so are the precision and recall that it reports.

Source: logistic regression on hashed words, Brown et al. 2020, arXiv 2005.14165, appendix A; hashing, Weinberger et
al. 2009, arXiv 0902.2206; step sizes, Duchi et al. 2011 (AdaGrad).
"""

from __future__ import annotations

import base64
import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus.characters import Floats, buffers, classes, hash_units, read_units
from tutelage.corpus.hashing import compiled
from tutelage.errors import RecordError

BUCKETS = 1 << 18
WORDS = 4096
"""Words of a text that are read, from its beginning."""

EPOCHS = 8
RATE = 0.5
DECAY = 1e-6
FOLDS = 5
FORMAT = "tutelage linear classifier 1"
FEWEST = 20
"""Examples of each kind, at least."""

csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class Classifier:
    """Weights of the features, and the score from which on a text is what was looked for."""

    weights: npt.NDArray[np.float16]
    bias: float
    threshold: float
    report: dict[str, Any]

    def scores(self, texts: pa.Array) -> Floats:
        """How sure it is of each text, from 0 to 1."""
        return _score(texts, self.weights.astype(np.float32), self.bias)

    def judge(self, texts: pa.Array, rule: str) -> list[tuple[str, str] | None]:
        """(rule, reason) for each text that is what the classifier looks for, else None."""
        found: list[tuple[str, str] | None] = []
        for score in self.scores(texts).tolist():
            reason = f"the classifier gives it {score:.2f}, from {self.threshold:.2f} on it is refused"
            found.append((rule, reason) if score >= self.threshold else None)
        return found

    def save(self, path: Path) -> None:
        """Writes JSON; weights are 16-bit floats, little-endian, in base64."""
        values = self.weights.astype("<f2").tobytes()
        held = {
            "format": FORMAT,
            "bias": self.bias,
            "threshold": self.threshold,
            "report": self.report,
            "weights": base64.b64encode(values).decode(),
        }
        path.write_text(json.dumps(held, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Raises:
        RecordError: no such file, or not a classifier."""
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            if held["format"] != FORMAT:
                raise ValueError(f"format {held['format']!r}, {FORMAT!r} is wanted")
            weights = np.frombuffer(base64.b64decode(held["weights"], validate=True), "<f2").astype(np.float16)
            if len(weights) != BUCKETS:
                raise ValueError(f"{len(weights)} weights, {BUCKETS} are wanted")
            return cls(weights, float(held["bias"]), float(held["threshold"]), held["report"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}: not a classifier: {error}: train one with labelled texts") from None


def train(texts: Sequence[str], labels: Sequence[int], *, seed: int = 1, precision: float = 0.9) -> Classifier:
    """Learns from texts and their labels, 1 for what is to be found, 0 for the rest.

    Args:
        texts: the examples; a text that is there twice counts twice, but is never on both sides of a test.
        labels: of each.
        seed: the order in which examples are seen.
        precision: the least share of found texts that must be right, among texts it was not trained on.

    Raises:
        RecordError: fewer than `FEWEST` examples of a kind.
    """
    truth = np.asarray(labels, np.int8)
    for kind in (0, 1):
        if int((truth == kind).sum()) < FEWEST:
            raise RecordError(f"labelled texts: {int((truth == kind).sum())} with label {kind}: give {FEWEST} or more")
    column = pa.array(texts, pa.large_string())
    features, offsets = _features(column)
    fold = np.array([hash_units(_codes(text)) % FOLDS for text in texts], np.int64)
    scores = np.zeros(len(texts))
    for left_out in range(FOLDS):
        inside, outside = np.flatnonzero(fold != left_out), np.flatnonzero(fold == left_out)
        if len(outside) and len(set(truth[inside].tolist())) == 2:
            weights, bias = _fit(features, offsets, truth, inside, seed)
            scores[outside] = _apply(features, offsets, outside, weights, bias)
    threshold = _threshold(scores, truth, precision)
    weights, bias = _fit(features, offsets, truth, np.arange(len(texts)), seed)
    return Classifier(weights.astype(np.float16), bias, threshold, _report(scores, truth, threshold, precision))


def read_labelled(path: Path) -> tuple[list[str], list[int]]:
    """Texts and labels of a .jsonl or .csv file (also .gz), with the fields ``text`` and ``label``: 1, true or yes for
    what is to be found; 0, false or no for the rest.

    Raises:
        RecordError: a field is missing, or a label is neither.
    """
    texts: list[str] = []
    labels: list[int] = []
    meant = {"1": 1, "true": 1, "yes": 1, "0": 0, "false": 0, "no": 0}
    for number, row in enumerate(_rows(path), start=1):
        missing = {"text", "label"} - set(row)
        if missing:
            raise RecordError(f"{path}:{number}: no field {min(missing)!r}: found {', '.join(map(str, row))}")
        label = meant.get(str(row["label"]).strip().lower())
        if label is None:
            raise RecordError(
                f"{path}:{number}: label {row['label']!r}: give 1 for what is to be found, 0 for the rest"
            )
        texts.append(str(row["text"]))
        labels.append(label)
    return texts, labels


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    name = path.name.removesuffix(".gz")
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig")
            if path.suffix == ".gz"
            else open(path, encoding="utf-8-sig", newline="") as lines
        ):
            if name.endswith(".csv"):
                yield from csv.DictReader(lines)
            elif name.endswith(".jsonl"):
                for number, line in enumerate(lines, start=1):
                    row = json.loads(line) if line.strip() else None
                    if row is not None and not isinstance(row, dict):
                        raise RecordError(f"{path}:{number}: not an object: one JSON object per line")
                    if row:
                        yield row
            else:
                raise RecordError(f"{path}: cannot read {path.suffix}: give .jsonl or .csv")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error, EOFError) as error:
        raise RecordError(f"{path}: {error}: give labelled texts as .jsonl or .csv in UTF-8") from None


def _features(texts: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The places of the features of each text, one after the other, and where each text's begin."""
    data, offsets = buffers(texts)
    most = np.minimum(np.diff(offsets) + 1, WORDS) * 3
    found = np.empty(int(most.sum()) + 1, np.int32)
    ends = np.zeros(len(texts) + 1, np.int64)
    _collect(data, offsets, classes(), found, ends)
    return found[: ends[-1]], ends


def _fit(features: Any, offsets: Any, truth: Any, chosen: Any, seed: int) -> tuple[npt.NDArray[np.float32], float]:
    order = np.concatenate([np.random.default_rng([seed, epoch]).permutation(chosen) for epoch in range(EPOCHS)])
    positive = truth[chosen].sum()
    balance = np.array([0.5 / (1 - positive / len(chosen)), 0.5 * len(chosen) / positive])
    weights, steps = np.zeros(BUCKETS + 1, np.float32), np.full(BUCKETS + 1, 1e-4, np.float32)
    _descend(features, offsets, truth, order, balance, weights, steps)
    return weights[:-1], float(weights[-1])


def _score(texts: pa.Array, weights: npt.NDArray[np.float32], bias: float) -> Floats:
    features, offsets = _features(texts)
    return _apply(features, offsets, np.arange(len(texts)), weights, bias)


def _apply(features: Any, offsets: Any, chosen: Any, weights: Any, bias: float) -> Floats:
    sums = np.zeros(len(chosen))
    _sum(features, offsets, chosen, weights, sums)
    return 1 / (1 + np.exp(-np.clip(sums + bias, -30, 30)))


def _threshold(scores: Floats, truth: Any, precision: float) -> float:
    """The score with the best F1 of those from which on so many are right; of all, where there is none."""
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(truth[order])
    said = np.arange(1, len(order) + 1)
    # A score shared by several texts takes all of them.
    last = np.append(scores[order][1:] != scores[order][:-1], True)
    both = np.where(last, 2 * right / (said + truth.sum()), -1.0)
    precise = np.where(right / said >= precision, both, -1.0)
    return float(scores[order][np.argmax(precise if precise.max() > 0 else both)])


def _report(scores: Floats, truth: Any, threshold: float, wanted: float) -> dict[str, Any]:
    said = scores >= threshold
    right = int((said & (truth == 1)).sum())
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    positive = int(truth.sum())
    area = (ranks[truth == 1].sum() - positive * (positive - 1) / 2) / (positive * (len(truth) - positive))
    precision, recall = right / max(1, int(said.sum())), right / positive
    return {
        "examples": len(truth),
        "to_be_found": positive,
        "folds": FOLDS,
        "precision_wanted": wanted,
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / max(precision + recall, 1e-9), 4),
        "area_under_curve": round(float(area), 4),
    }


def _codes(text: str) -> npt.NDArray[np.int64]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)


@compiled
def _place(h: Any) -> Any:
    h = (h ^ (h >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.int32(h >> np.uint64(46))


@compiled
def _collect(data: Any, offsets: Any, known: Any, found: Any, ends: Any) -> None:
    units = np.empty(WORDS, np.uint64)
    cjk = np.empty(WORDS, np.bool_)
    n = np.int64(0)
    for d in range(len(offsets) - 1):
        count = read_units(data, offsets[d], offsets[d + 1], known, units, cjk)
        for i in range(count):
            h = units[i]
            found[n] = _place(h)
            n += 1
            if i + 1 < count:
                h = (h ^ units[i + 1]) * np.uint64(0x9E3779B97F4A7C15)
                found[n] = _place(h)
                n += 1
            if i + 2 < count and cjk[i] and cjk[i + 1] and cjk[i + 2]:
                h = (h ^ units[i + 2]) * np.uint64(0xD6E8FEB86659FD93)
                found[n] = _place(h)
                n += 1
        ends[d + 1] = n


@compiled
def _descend(features: Any, offsets: Any, truth: Any, order: Any, balance: Any, weights: Any, steps: Any) -> None:
    bias = len(weights) - 1
    for t in range(len(order)):
        d = order[t]
        start, stop = offsets[d], offsets[d + 1]
        if start == stop:
            continue
        scale = np.float32(1 / np.sqrt(stop - start))
        z = np.float32(0)
        for i in range(start, stop):
            z += weights[features[i]]
        p = 1 / (1 + np.exp(-min(max(np.float64(z * scale + weights[bias]), -30.0), 30.0)))
        error = np.float32((p - truth[d]) * balance[truth[d]])
        for i in range(start, stop):
            f = features[i]
            gradient = error * scale + np.float32(DECAY) * weights[f]
            steps[f] += gradient * gradient
            weights[f] -= np.float32(RATE) * gradient / np.sqrt(steps[f])
        steps[bias] += error * error
        weights[bias] -= np.float32(RATE) * error / np.sqrt(steps[bias])


@compiled
def _sum(features: Any, offsets: Any, chosen: Any, weights: Any, sums: Any) -> None:
    for place in range(len(chosen)):
        start, stop = offsets[chosen[place]], offsets[chosen[place] + 1]
        z = 0.0
        for i in range(start, stop):
            z += weights[features[i]]
        sums[place] = z / np.sqrt(max(1, stop - start))
