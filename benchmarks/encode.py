"""Texts to ids: our encoder, HF tokenizers and tiktoken, with the same merges on the same cores, in turn.

    python benchmarks/encode.py [--megabytes 12] [--vocabulary 32000] [--threads 2] [--rounds 3] [--data FILE...]

One byte-level BPE tokenizer is learned from the texts; all three encode the same documents with it, one after the
other in each round. Told are megabytes of text a second, by the clock and by the processor's time, the ratio of each
round, and whether the ids are the library's, document by document. Prints a row of JSON for each.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CORPUS = HERE.parents[1] / "shared" / "data" / "corpus" / "docs.jsonl.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=12)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json; without it, one is learned")
    parser.add_argument("--data", type=Path, nargs="+", default=[CORPUS])
    options = parser.parse_args()
    missing = [path for path in options.data if not path.is_file()]
    if missing:
        sys.exit(f"{missing[0]}: not here: give files of documents by --data")
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if options.threads > 1 else "false"
    compare(take(options.data, options.megabytes * 1e6), options)


def take(files: list[Path], most: float) -> list[str]:
    """Texts of so many megabytes, from all over the files."""
    texts: list[str] = []
    for path in files:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines]
    size = sum(len(text.encode()) for text in texts)
    return texts[:: max(1, int(size / most))]


def compare(texts: list[str], options: argparse.Namespace) -> None:
    import numpy as np
    import pyarrow as pa
    from tokenizers import Tokenizer

    from tutelage.corpus.encoding import Encoder
    from tutelage.stages.tokenizer import learn

    path = options.tokenizer
    tokenizer = Tokenizer.from_file(str(path)) if path else learn(texts, options.vocabulary)
    tokenizer.encode_special_tokens = True
    began = time.perf_counter()
    encoder = Encoder(tokenizer, texts[:200])
    print(json.dumps({"made": encoder.told, "seconds": round(time.perf_counter() - began, 2)}))
    column = pa.array(texts, pa.large_string())
    size = sum(len(text.encode()) for text in texts) / 1e6

    def library() -> Iterator[list[int]]:
        return (found.ids for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False))

    def ours() -> Iterator[Any]:
        ids, ends = encoder.encode(column, options.threads)
        return (ids[start:stop] for start, stop in pairwise(ends))

    sides: dict[str, Callable[[], Iterator[Any]]] = {"tokenizers": library, "ours": ours}
    theirs = tiktoken_of(json.loads(tokenizer.to_str()))
    if theirs:
        encoding, ids_of = theirs
        sides["tiktoken"] = lambda: (
            [ids_of[rank] for rank in found]
            for found in encoding.encode_ordinary_batch(texts, num_threads=options.threads)
        )
    wanted = list(library())
    for name, side in sides.items():
        same = sum(np.array_equal(found, ids) for found, ids in zip(side(), wanted, strict=True))
        print(json.dumps({"side": name, "documents_with_the_library_s_ids": same, "of": len(texts)}))
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            clock, processor = time.perf_counter(), time.process_time()
            side()
            seconds[name].append((time.perf_counter() - clock, time.process_time() - processor))
    for name, rounds in seconds.items():
        ratios = [base[1] / own[1] for base, own in zip(seconds["tokenizers"], rounds, strict=True)]
        print(json.dumps({
            "side": name,
            "threads": options.threads,
            "megabytes": round(size, 1),
            "mb_a_second": round(size / statistics.median(one for one, _ in rounds), 1),
            "mb_a_processor_second": round(size / statistics.median(one for _, one in rounds), 1),
            "times_the_library_by_processor": [round(min(ratios), 1), round(max(ratios), 1)],
        }))  # fmt: skip


def tiktoken_of(known: dict[str, Any]) -> tuple[Any, dict[int, int]] | None:
    """The same merges for tiktoken, and the id of each of its ranks."""
    try:
        import tiktoken
    except ImportError:
        return None
    from tutelage.corpus.encoding import byte_symbols

    bytes_of = {symbol: byte for byte, symbol in byte_symbols().items()}
    vocabulary: dict[str, int] = known["model"]["vocab"]
    pieces = sorted(
        (piece for piece in vocabulary if len(piece) == 1 and piece in bytes_of), key=vocabulary.__getitem__
    )
    pieces += ["".join(merge) for merge in known["model"]["merges"]]
    ranks: dict[bytes, int] = {}
    ids: dict[int, int] = {}
    for piece in pieces:
        written = bytes(bytes_of[symbol] for symbol in piece)
        if written not in ranks:
            ids[len(ranks)] = vocabulary[piece]
            ranks[written] = len(ranks)
    pattern = known["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    return tiktoken.Encoding("own", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}), ids


if __name__ == "__main__":
    main()
