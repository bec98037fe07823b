"""datatrove's side of `corpus.py`: filters, MinHash, repeated lines, decontamination; in an environment of its own.

    python with_datatrove.py DOCS.jsonl TESTS.jsonl FOLDER WORKERS

Chinese and English go through pipelines of their own, each with its word splitter, as the tool expects. The index of
the test set is made with the tool's own hashing: its own indexer fetches the tests from the hub.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

STOP_WORDS = ["的", "是", "在", "了", "和", "有", "我", "不", "这", "为"]
RUN = 12


def main() -> None:
    docs, tests, work, workers = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    os.environ["HF_HUB_OFFLINE"] = "1"
    from datatrove.executor import LocalPipelineExecutor
    from loguru import logger

    logger.remove()
    shutil.rmtree(work, ignore_errors=True)
    seconds: dict[str, float] = {}

    def run(step: str, pipeline: list[Any], tasks: int = workers) -> None:
        began = time.perf_counter()
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=None, skip_completed=False
        ).run()
        seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - began

    for name in split(docs, work, workers):
        one_language(name, tests, work, run)
    (work / "seconds.json").write_text(json.dumps({step: round(spent, 1) for step, spent in seconds.items()}))


def split(docs: Path, work: Path, workers: int) -> list[str]:
    """A file for each worker and language; gives the languages."""
    files: dict[tuple[str, int], Any] = {}
    with docs.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            record = json.loads(line)
            key = ("zh" if record["lang"] == "zh" else "en", number % workers)
            if key not in files:
                (work / "in" / key[0]).mkdir(parents=True, exist_ok=True)
                files[key] = (work / "in" / key[0] / f"{key[1]}.jsonl").open("w", encoding="utf-8")
            row = {"id": record["id"], "text": record["text"], "metadata": {"licence": record["licence"]}}
            files[key].write(json.dumps(row, ensure_ascii=False) + "\n")
    for file in files.values():
        file.close()
    return sorted({name for name, _ in files})


def one_language(name: str, tests: Path, work: Path, run: Any) -> None:
    """All steps, each on what the one before it left."""
    import numpy as np
    from datatrove.pipeline.decont import n_grams
    from datatrove.pipeline.dedup import (
        MinhashDedupSignature,
        SentDedupConfig,
        SentenceDedupFilter,
        SentenceDedupSignature,
        SentenceFindDedups,
    )  # fmt: skip
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
    )  # fmt: skip
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )  # fmt: skip
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.typeshelper import Languages

    language = {"zh": Languages.mandarin_chinese, "en": Languages.english}[name]
    chinese = name == "zh"
    source, place = f"{work}/in/{name}", f"{work}/{name}"
    filters: list[Any] = [
        GopherRepetitionFilter(language=language),
        GopherQualityFilter(
            language=language, stop_words=STOP_WORDS if chinese else None, min_avg_word_length=1 if chinese else 3
        ),
    ]
    if not chinese:
        filters += [
            C4QualityFilter(filter_no_terminal_punct=False, language=language),
            FineWebQualityFilter(language=language),
        ]
    # Made for prose, these would leave next to nothing of manuals and poems: the steps after them get all there is.
    run("filters", [JsonlReader(source), *filters, JsonlWriter(f"{place}/filtered")])

    near = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=14, hashes_per_bucket=8)
    run("near", [JsonlReader(source), MinhashDedupSignature(f"{place}/signatures", config=near, language=language)])
    run("near", [MinhashDedupBuckets(f"{place}/signatures", f"{place}/buckets", config=near)], 14)
    run("near", [MinhashDedupCluster(f"{place}/buckets", f"{place}/remove", config=near)], 1)
    run("near", [JsonlReader(source), MinhashDedupFilter(f"{place}/remove"), JsonlWriter(f"{place}/near")])

    lines = SentDedupConfig(n_sentences=1, split_sentences=False, min_doc_words=0, min_num_sentences=0)
    run("paragraphs", [
        JsonlReader(f"{place}/near"),
        SentenceDedupSignature(f"{place}/lines", config=lines, finder_workers=1, language=language),
    ])  # fmt: skip
    run("paragraphs", [SentenceFindDedups(f"{place}/lines", f"{place}/repeated", config=lines)], 1)
    run("paragraphs", [
        JsonlReader(f"{place}/near"), SentenceDedupFilter(f"{place}/repeated", config=lines, language=language),
        JsonlWriter(f"{place}/said_once"),
    ])  # fmt: skip

    n_grams.NGramsDecontIndexer._requires_dependencies = []
    n_grams.NGramsDecontFilter._requires_dependencies = []
    config = n_grams.NGramsDecontConfig(n_grams=RUN, find_query_ngrams=True)
    (Path(place) / "tests").mkdir()
    indexer = n_grams.NGramsDecontIndexer(f"{place}/tests", config=config, language=language)
    hashes: set[int] = set()
    for line in tests.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        if item["lang"] == name:
            hashes.update(indexer.compute_hashes(item["answer"], item["question"]))
    np.array(list(hashes), dtype=config.hash_config.np_descr).tofile(f"{place}/tests/t.index.hashes")
    run("tests", [
        JsonlReader(f"{place}/said_once"),
        n_grams.NGramsDecontFilter(f"{place}/tests", config=config, language=language),
        JsonlWriter(f"{place}/out"),
    ])  # fmt: skip


if __name__ == "__main__":  # its executor starts processes that import this file
    main()
