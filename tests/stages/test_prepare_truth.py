"""`prepare` against a corpus with injected defects and their truth: how much of each is found, and what it costs."""

import collections
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tutelage import settings
from tutelage.run import Run
from tutelage.stages import prepare

CORPUS = Path(__file__).parents[3] / "shared" / "data" / "corpus"
SOURCES = ("docs.jsonl.gz", "docs.parquet", "pages.warc.gz", "files")
EARLY = ("licence", "licence_asked", "unreadable", "licence_copy")
"""Rules that say nothing of a text's other faults."""

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not CORPUS.exists(), reason="needs ../shared/data/corpus"),
]


def lines(path: Path) -> list[Any]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class Outcome:
    """What became of each document, beside what was done to it."""

    def __init__(self, run: Path, corpus: Path) -> None:
        kept = pq.read_table(run / "documents", columns=["id", "text"]).to_pydict()
        self.kept: dict[str, str] = dict(zip(kept["id"], kept["text"], strict=True))
        self.refused = {row["id"]: row for row in pq.read_table(run / "refused").to_pylist()}
        truth = corpus / "truth"
        self.truth = lines(truth / "truth.jsonl.gz")
        self.pairs = lines(truth / "near_dup_pairs.jsonl.gz")
        self.defects = collections.defaultdict(set)
        for row in self.truth:
            self.defects[row["id"]].add(row["kind"])

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The defects of a kind in documents that got as far as being looked at."""
        return [row for row in self.truth if row["kind"].startswith(kind) and self.rule(row["id"]) not in EARLY]

    def rule(self, id: str) -> str:
        return self.refused[id]["rule"] if id in self.refused else ""

    def root(self, id: str) -> str:
        """The document that stands for this one."""
        while self.refused.get(id, {}).get("duplicate_of"):
            id = self.refused[id]["duplicate_of"]
        return id

    def gone(self, kind: str) -> float:
        """The share of a kind's documents that are refused."""
        rows = self.of(kind)
        return sum(row["id"] not in self.kept for row in rows) / len(rows)

    def without(self, kind: str) -> float:
        """The share of a kind's spans that are in no kept text."""
        rows = self.of(kind)
        return sum(row["span"] not in self.kept.get(row["id"], "") for row in rows) / len(rows)

    def said(self, kind: str) -> float:
        """Of a kind's spans in documents that are kept, the share that still stands there."""
        rows = [row for row in self.of(kind) if row["id"] in self.kept]
        return sum(row["span"] in self.kept[row["id"]] for row in rows) / len(rows)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    values = {
        "sources": [str(CORPUS / name) for name in SOURCES], "tests": [str(CORPUS / "testset.jsonl")],
    }  # fmt: skip
    recipe = settings.check(prepare.Recipe, values, "test")
    with Run.begin(tmp_path_factory.mktemp("truth") / "run", "prepare", settings.plain(recipe), quiet=True) as run:
        prepare.execute(recipe, run)
        run.finish()
    return Outcome(run.path, CORPUS)


def test_every_record_is_kept_or_refused_under_its_own_id(outcome: Outcome) -> None:
    assert {row["id"] for row in outcome.truth} <= outcome.kept.keys() | outcome.refused.keys()
    assert not outcome.kept.keys() & outcome.refused.keys()


def test_every_document_whose_licence_forbids_it_is_refused(outcome: Outcome) -> None:
    blocked = [row["id"] for row in outcome.truth if row["kind"] == "licence_blocked"]
    assert [id for id in blocked if id in outcome.kept] == []


def test_duplicates(outcome: Outcome) -> None:
    for kind in ("dup_exact", "dup_normalised"):
        both = [row for row in outcome.of(kind) if row["id"] in outcome.kept and row["of"] in outcome.kept]
        assert both == []


def looked_at(outcome: Outcome, id: str) -> bool:
    """Whether a document came as far as being compared with others."""
    return id in outcome.kept or outcome.rule(id).endswith("_duplicate")


def test_near_duplicates(outcome: Outcome) -> None:
    like = [pair for pair in outcome.pairs if looked_at(outcome, pair[0]) and looked_at(outcome, pair[1])]
    wanted = [(one, other) for one, other, share in like if share >= 0.8]
    found = sum(outcome.root(one) == outcome.root(other) for one, other in wanted)
    assert found / len(wanted) >= 0.99
    partners = collections.defaultdict(set)
    for one, other, share in outcome.pairs:
        if share >= 0.7:
            partners[one].add(other)
            partners[other].add(one)
    for row in outcome.truth:
        if "of" in row:
            partners[row["id"]].add(row["of"])
            partners[row["of"]].add(row["id"])
    near = [id for id in outcome.refused if outcome.rule(id) == "near_duplicate"]
    right = sum(any(outcome.root(other) == outcome.root(id) for other in partners[id]) for id in near)
    assert right / len(near) >= 0.97


def test_repeated_paragraphs(outcome: Outcome) -> None:
    rows = outcome.of("boiler_")
    left = collections.Counter(row["kind"] for row in rows if row["span"] in outcome.kept.get(row["id"], ""))
    assert sum(left.values()) <= 0.02 * len(rows), left


def test_leaks(outcome: Outcome) -> None:
    assert outcome.gone("leak_verbatim") == 1
    altered = [row for row in outcome.of("leak_") if row["kind"] != "leak_verbatim"]
    assert sum(row["id"] not in outcome.kept for row in altered) / len(altered) >= 0.98


def test_markup_goes_and_emoji_stay(outcome: Outcome) -> None:
    assert outcome.without("html_remnant") >= 0.99
    assert outcome.said("emoji_keep") >= 0.99


def test_personal_data(outcome: Outcome) -> None:
    assert outcome.without("pii_") >= 0.99


def test_harm(outcome: Outcome) -> None:
    assert outcome.gone("harm_page") >= 0.95
    alike = outcome.of("harm_lookalike_keep")
    assert sum(outcome.rule(row["id"]) == "harmful" for row in alike) <= 0.02 * len(alike)


def test_text_in_the_wrong_encoding_goes_or_is_put_right(outcome: Outcome) -> None:
    rows = outcome.of("lowq_mojibake")
    texts = [outcome.kept[row["id"]] for row in rows if row["id"] in outcome.kept]
    broken = [text for text in texts if sum(0x80 <= ord(letter) < 0x100 for letter in text) > 0.01 * len(text)]
    assert len(broken) <= 0.1 * len(rows)


@pytest.mark.parametrize("kind", ["repeat", "symbols", "gibberish", "stuffing", "nav", "short"])
def test_low_quality(outcome: Outcome, kind: str) -> None:
    assert outcome.gone(f"lowq_{kind}") >= 0.9


BAD = ("lowq_", "harm_page", "leak_", "dup_", "licence_blocked")


def test_good_text_stays(outcome: Outcome) -> None:
    """Documents that nothing was done to, or nothing that should cost them their place."""
    good = [
        id
        for id in outcome.kept.keys() | outcome.refused.keys()
        if not any(kind.startswith(BAD) for kind in outcome.defects[id])
    ]
    wrong = collections.Counter(
        outcome.rule(id) for id in good if id in outcome.refused and not outcome.rule(id).endswith("_duplicate")
    )
    assert sum(wrong.values()) <= 0.02 * len(good), wrong
