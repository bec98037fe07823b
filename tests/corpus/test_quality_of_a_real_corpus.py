"""What the rules say of a corpus with known defects: each kind is found, and good text stays."""

import gzip
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.corpus import fluency, harm, quality

CORPUS = Path(__file__).parents[3] / "shared" / "data" / "corpus"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="needs ../shared/data/corpus"),
]


@pytest.fixture(scope="module")
def corpus() -> tuple[list[str], pa.Array, list[str], dict[str, set[str]]]:
    """Ids, texts, languages, and the ids of each kind of defect."""
    with gzip.open(CORPUS / "docs.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rows += pq.read_table(CORPUS / "docs.parquet").to_pylist()
    kinds: dict[str, set[str]] = defaultdict(set)
    with gzip.open(CORPUS / "truth" / "truth.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            defect = json.loads(line)
            kinds[defect["kind"]].add(defect["id"])
    texts = pa.array([row["text"] for row in rows], pa.large_string())
    return [row["id"] for row in rows], texts, [row["lang"] for row in rows], kinds


def test_low_quality_is_found_and_good_text_stays(corpus) -> None:
    ids, texts, languages, kinds = corpus
    bits = fluency.Model(fluency.count(texts)).bits(texts)
    verdicts = quality.judge(texts, languages=languages, bits=bits).verdicts
    refused = {name for name, verdict in zip(ids, verdicts, strict=True) if verdict}
    low = {kind for kind in kinds if kind.startswith("lowq_")}
    assert len(low) == 7
    for kind in low:
        there = kinds[kind] & set(ids)
        assert len(there & refused) >= 0.9 * len(there), kind
    good = set(ids) - kinds["harm_page"] - set().union(*(kinds[kind] for kind in low))
    assert len(good & refused) <= 0.01 * len(good)


@pytest.mark.parametrize("with_lists", [True, False])
def test_harm_is_found_and_look_alikes_stay(corpus, with_lists: bool) -> None:
    ids, texts, _, kinds = corpus
    lists = [CORPUS / "badwords" / name for name in ("en", "zh")]
    lexicon = harm.Lexicon.read(lists) if with_lists else harm.Lexicon.default()
    verdicts = harm.judge(texts, lexicon)
    found = [verdict is not None for verdict in verdicts]
    told = harm.measured(found, [name in kinds["harm_page"] for name in ids])
    assert told["recall"] >= 0.95
    assert told["precision"] >= 0.98
    spared = kinds["harm_lookalike_keep"] & set(ids)
    flagged = {ids[place] for place in np.flatnonzero(found)}
    assert len(spared) >= 20
    assert not spared & flagged
