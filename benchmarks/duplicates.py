"""Near duplicates: ours beside datatrove 0.10.1, on the same documents and the same cores, in turn.

    python benchmarks/duplicates.py [--megabytes 20] [--rounds 2] [--threads 2] [--data ../shared/data/corpus]

Both read JSONL and write the documents that stay. datatrove has its own signature: 14 bands of 8 hashes of runs of five
words, no verification; Chinese and English apart, each with the words of its tokenizer, in four steps. Ours has 32
bands of 8, verified, all in one. Told are megabytes of text a second of the work alone, from the first file that is
opened to the last that is written, and of the whole command with its start; processor seconds of the command and all
its processes; and against the truth how many of the pairs whose runs agree in at least 0.8 are found (Jaccard), and of
the documents that go how many have such a pair of at least 0.7. Prints a row of JSON for each side; ratios are theirs
to ours, median and range.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gzip
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WORK = HERE / ".work" / "duplicates"
CORPUS = HERE.parents[1] / "shared" / "data" / "corpus"
SUBREAPER = 36
"""Linux, prctl(2): PR_SET_CHILD_SUBREAPER."""
LANGUAGES = ("zh", "en")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", nargs="?", choices=("ours", "theirs"), help="one side alone, as this script starts it")
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--data", type=Path, default=CORPUS)
    options = parser.parse_args()
    if options.side:
        {"ours": ours, "theirs": theirs}[options.side](options.threads)
        return
    if not options.data.is_dir():
        sys.exit(f"{options.data}: not here: give a corpus with its truth by --data")
    texts = take(options.data, options.megabytes * 1e6, options.threads)
    compare(texts, options)


def take(data: Path, most: float, files: int) -> dict[str, str]:
    """The documents, by id, which are also laid out as files for both."""
    shutil.rmtree(WORK, ignore_errors=True)
    out = {
        language: [_opened(WORK / "in" / language / f"{number}.jsonl") for number in range(files)]
        for language in LANGUAGES
    }
    texts: dict[str, str] = {}
    size = 0
    for place, row in enumerate(_documents(data)):
        if size >= most:
            break
        size += len(row["text"].encode())
        texts[row["id"]] = row["text"]
        file = out["zh" if row["lang"] == "zh" else "en"][place % files]
        file.write(json.dumps({"id": row["id"], "text": row["text"]}, ensure_ascii=False) + "\n")
    for file in (file for some in out.values() for file in some):
        file.close()
    return texts


def _documents(data: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(data / "docs.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row.get("text"):
                yield row


def _opened(path: Path) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8")


def compare(texts: dict[str, str], options: argparse.Namespace) -> None:
    """Lets the two take turns, and prints what came out."""
    import environments

    size = sum(len(text.encode()) for text in texts.values())
    _adopt()
    interpreters = {"ours": sys.executable, "theirs": str(environments.python("datatrove"))}
    _run(interpreters["ours"], "ours", options.threads)  # once before, so that the loops are compiled
    told: dict[str, list[dict[str, float]]] = defaultdict(list)
    for turn in range(options.rounds):
        for side in ("ours", "theirs") if turn % 2 == 0 else ("theirs", "ours"):
            told[side].append(_run(interpreters[side], side, options.threads))
    for side, rounds in told.items():
        middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        ratios = [t["work"] / o["work"] for o, t in zip(told["ours"], told["theirs"], strict=True)]
        spent = [t["processor"] / o["processor"] for o, t in zip(told["ours"], told["theirs"], strict=True)]
        whole = [t["command"] / o["command"] for o, t in zip(told["ours"], told["theirs"], strict=True)]
        row = {
            "side": {"ours": "tutelage", "theirs": "datatrove 0.10.1"}[side],
            "documents": len(texts), "megabytes": round(size / 1e6, 1), "threads": options.threads,
            "work_megabytes_per_second": round(size / 1e6 / middle["work"], 2),
            "command_megabytes_per_second": round(size / 1e6 / middle["command"], 2),
            "processor_seconds": round(middle["processor"], 2), **score(side, texts, options.data),
        }  # fmt: skip
        if side == "ours":
            row |= {"ratio": _spread(ratios), "command_ratio": _spread(whole), "processor_ratio": _spread(spent)}
        print(json.dumps(row), flush=True)


def _spread(values: list[float]) -> list[float]:
    return [round(value, 1) for value in (statistics.median(values), min(values), max(values))]


def _adopt() -> None:
    """Orphans of children become ours, so that the processor time of all of them is counted."""
    if ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _spent() -> float:
    """Processor seconds of all children that have ended; waits for orphans."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(interpreter: str, side: str, threads: int) -> dict[str, float]:
    for name in ("out", "steps"):
        shutil.rmtree(WORK / side / name, ignore_errors=True)
    before, began = _spent(), time.perf_counter()
    command = [interpreter, str(Path(__file__).resolve()), side, "--threads", str(threads)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment, cwd=HERE).stdout
    seconds = time.perf_counter() - began
    return {"work": float(printed.strip().splitlines()[-1]), "command": seconds, "processor": _spent() - before}


def ours(threads: int) -> None:
    """All of it in one process: read, sign, group, write."""
    import orjson

    from tutelage.corpus import duplicates

    began = time.perf_counter()
    rows = [orjson.loads(line) for path in sorted(WORK.glob("in/*/*.jsonl")) for line in path.read_bytes().splitlines()]
    signs = duplicates.sign([row["text"] for row in rows], threads)
    groups = duplicates.group([signs])
    (WORK / "ours" / "out").mkdir(parents=True, exist_ok=True)
    with (WORK / "ours" / "out" / "kept.jsonl").open("wb") as file:
        file.writelines(orjson.dumps(row) + b"\n" for row, how in zip(rows, groups.how, strict=True) if not how)
    seconds = time.perf_counter() - began
    clusters = {row["id"]: rows[to]["id"] for row, to in zip(rows, groups.stands_for.tolist(), strict=True)}
    (WORK / "ours" / "clusters.json").write_text(json.dumps(clusters))
    print(seconds)


def theirs(threads: int) -> None:
    """The four steps of datatrove, for each language."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.typeshelper import Languages
    from loguru import logger

    logger.remove()
    config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=14, hashes_per_bucket=8)
    kinds = {"zh": Languages.mandarin_chinese, "en": Languages.english}

    def run(pipeline: list[Any], tasks: int) -> None:
        workers = min(threads, tasks)
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=workers, logging_dir=None, skip_completed=False
        ).run()

    began = time.perf_counter()
    for language in LANGUAGES:
        steps, out = WORK / "theirs" / "steps" / language, WORK / "theirs" / "out" / language
        reader = JsonlReader(str(WORK / "in" / language))
        run([reader, MinhashDedupSignature(f"{steps}/signatures", config=config, language=kinds[language])], threads)
        run([MinhashDedupBuckets(f"{steps}/signatures", f"{steps}/buckets", config=config)], config.num_buckets)
        run([MinhashDedupCluster(f"{steps}/buckets", f"{steps}/gone", config=config, save_cluster_id=True)], 1)
        gone = MinhashDedupFilter(
            f"{steps}/gone", load_cluster_ids=True, exclusion_writer=JsonlWriter(f"{out}/removed")
        )
        run([reader, gone, JsonlWriter(f"{out}/kept")], threads)
    seconds = time.perf_counter() - began
    clusters: dict[str, str] = {}
    for path in sorted(WORK.glob("theirs/out/*/*/*.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                number = row["metadata"].get("minhash_cluster_id", -1)
                alone = number is None or number < 0
                clusters[row["id"]] = row["id"] if alone else f"{path.parts[-3]}{number}"
    (WORK / "theirs" / "clusters.json").write_text(json.dumps(clusters))
    print(seconds)


def score(side: str, texts: dict[str, str], data: Path) -> dict[str, Any]:
    """Recall of the true pairs, and how many of the documents that go are right to go."""
    label: dict[str, str] = json.loads((WORK / side / "clusters.json").read_text())
    with gzip.open(data / "truth" / "truth.jsonl.gz", "rt", encoding="utf-8") as file:
        truth = [json.loads(line) for line in file]
    junk = {row["id"] for row in truth if row["kind"].startswith(("lowq_", "harm_"))}
    alike: dict[str, set[str]] = defaultdict(set)
    found = pairs = 0
    with gzip.open(data / "truth" / "near_dup_pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        for one, other, share in map(json.loads, file):
            if one in texts and other in texts and not {one, other} & junk:
                if share >= 0.7:
                    alike[one].add(other)
                    alike[other].add(one)
                if share >= 0.8:
                    pairs += 1
                    found += label.get(one, one) == label.get(other, other)
    members: dict[str, list[str]] = defaultdict(list)
    for name in texts:
        if name not in junk:
            members[label.get(name, name)].append(name)
    gone = [name for some in members.values() for name in some[1:]]
    right = sum(bool(alike[name]) for name in gone)
    return {
        "pairs": pairs, "pair_recall": round(found / max(1, pairs), 4), "removed": len(gone),
        "precision": round(right / max(1, len(gone)), 4),
    }  # fmt: skip


if __name__ == "__main__":  # datatrove's processes import this file
    main()
