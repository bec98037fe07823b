"""How fast `tutelage prepare` is, and how much memory it takes, as the corpus grows; and beside datatrove.

    python benchmarks/corpus.py grow [--sizes 10 30 100 300 1000 2000] [--processes 2]
    python benchmarks/corpus.py peer [--megabytes 20] [--rounds 2]

Both start from ../shared/data/corpus. `grow` makes larger ones of it: each copy has other words in the places of a
quarter of the words, and other characters in the places of some characters, so that copies repeat each other no more
than strangers do, and the defects within a copy stay what they are. It writes benchmarks/results/corpus.json and
corpus.svg. Seconds are of the whole command as a person gives it, from an empty folder; memory is the most that all its
processes held together, pages that they share counted once (proportional set size).

`peer` gives the same documents to datatrove 0.10.1: Gopher's, C4's and FineWeb's filters, MinHash,
repeated lines and the n-gram decontamination. The two take turns. Told are seconds by the clock, and of work: those of
the processor in all processes together, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import environments
import orjson
import psutil

HERE = Path(__file__).parent
WORK = HERE / ".work" / "corpus"
RESULTS = HERE / "results"
CORPUS = HERE.parents[1] / "shared" / "data" / "corpus"
FILE = 100_000_000
"""Bytes of a file of the larger corpora."""
CHANGED = 4
"""One in so many of the frequent words, and of the characters, is another one in each copy."""
LATIN = re.compile(r"[A-Za-z]+")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("grow", "peer", "draw"))
    parser.add_argument("--sizes", type=float, nargs="+", default=[10, 30, 100, 300, 1000, 2000], help="megabytes")
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if not CORPUS.exists():
        sys.exit(f"{CORPUS}: not here: the benchmark starts from it")
    RESULTS.mkdir(exist_ok=True)
    match options.what:
        case "grow":
            grow(options.sizes, options.processes)
        case "peer":
            peer(options.megabytes, options.rounds, options.processes)
        case _:
            pass
    draw()


def documents() -> list[dict[str, Any]]:
    """The records of the corpus that are text."""
    with gzip.open(CORPUS / "docs.jsonl.gz", "rb") as lines:
        return [orjson.loads(line) for line in lines]


def grown(megabytes: float) -> Path:
    """A folder of JSONL of about that size, made if it is not there."""
    folder = WORK / f"{megabytes:g}"
    if (folder / "whole").exists():
        return folder / "text"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "text").mkdir(parents=True)
    left = megabytes * 1e6
    out, number, written = None, 0, 0
    for line in _lines():
        if out is None or written > FILE:
            if out:
                out.close()
            out, number, written = (folder / "text" / f"{number:04d}.jsonl").open("wb"), number + 1, 0
        out.write(line + b"\n")
        written += len(line)
        left -= len(line)
        if left <= 0:
            break
    if out:
        out.close()
    (folder / "whole").touch()
    return folder / "text"


def _lines() -> Iterator[bytes]:
    """Records without an end."""
    known = documents()
    random.Random(0).shuffle(known)
    words = Counter(word for one in known[:2000] for word in LATIN.findall(one["text"]))
    frequent = [word for word, _ in words.most_common(20_000)]
    characters = Counter(letter for one in known[:2000] for letter in one["text"] if "\u4e00" <= letter <= "\u9fff")
    usual = [letter for letter, _ in characters.most_common(2500)]
    copy = 0
    while True:
        draw = random.Random(copy)
        by_length: dict[int, list[str]] = {}
        for word in frequent:
            by_length.setdefault(len(word), []).append(word)
        changed = {w: draw.choice(by_length[len(w)]) for w in frequent if draw.randrange(CHANGED) == 0}
        other = {ord(c): draw.choice(usual) for c in usual if draw.randrange(2 * CHANGED) == 0}
        for one in known:
            text = one["text"]
            if copy:
                text = " ".join([changed.get(word, word) for word in text.split(" ")])
                text = text if text.isascii() else text.translate(other)
            yield orjson.dumps(one | {"id": f"{copy}-{one['id']}", "text": text})
        copy += 1


class Watched:
    """A command with its seconds, by the clock and of all its processes' work, and the most memory that they held.

    Work is looked at four times a second, so what a process did after the last look is missed; memory once in two
    seconds, for while a process is asked for its pages it gets no new ones.
    """

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self.memory = 0
        self._spent: dict[int, float] = {}
        began = time.perf_counter()
        started = psutil.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(started, over))
        watcher.start()
        _, told = started.communicate()
        self.seconds = time.perf_counter() - began
        over.set()
        watcher.join()
        self.work = sum(self._spent.values())
        if started.returncode:
            sys.exit(f"{' '.join(command[:6])} ...: {told.decode()[-2000:]}")

    def _watch(self, process: psutil.Popen, over: threading.Event) -> None:
        for look in itertools.count():
            if over.wait(0.25):
                break
            try:
                family = [process, *process.children(recursive=True)]
                self._spent |= {one.pid: sum(one.cpu_times()[:2]) for one in family}
                if look % 8 == 0:
                    self.memory = max(self.memory, sum(one.memory_full_info().pss for one in family))
            except psutil.Error:
                continue


def prepared(sources: list[str], output: Path, processes: int, *more: str) -> Watched:
    """The command, from an empty folder."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "tutelage", "prepare", "--sources", *sources, "--quiet"]
    command += ["--tests", str(CORPUS / "testset.jsonl"), "--processes", str(processes), "--output", str(output), *more]
    return Watched(command, {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})


def grow(sizes: list[float], processes: int) -> None:
    """Measures at each size, and keeps what is known after each."""
    for megabytes in sizes:
        text = grown(megabytes)
        size = sum(file.stat().st_size for file in text.iterdir())
        output = WORK / f"{megabytes:g}" / "run"
        watched = prepared([str(text)], output, processes)
        card = json.loads((output / "card.json").read_text(encoding="utf-8"))
        row = {
            "megabytes": round(card["funnel"][0]["bytes_left"] / 1e6, 1), "file_megabytes": round(size / 1e6, 1),
            "documents": card["funnel"][0]["left"], "kept": card["documents"], "processes": processes,
            "seconds": round(watched.seconds, 1), "work": round(watched.work, 1),
            "memory_megabytes": round(watched.memory / 1e6), "steps": _steps(output / "log.txt"),
        }  # fmt: skip
        print({key: value for key, value in row.items() if key != "steps"}, flush=True)
        known = _results()
        # The texts are made anew each time, and a size is met to a document.
        rows = [one for one in known.get("growth", []) if abs(one["file_megabytes"] / row["file_megabytes"] - 1) > 0.01]
        _keep({**known, "growth": sorted([*rows, row], key=lambda one: one["megabytes"])})
        shutil.rmtree(output)
        if megabytes > 500:
            shutil.rmtree(WORK / f"{megabytes:g}")


def _steps(log: Path) -> dict[str, float]:
    """Seconds of work by step, from the run's log."""
    found = re.findall(r"(?m)^\S+ ([^:\n]+): ([\d.]+) s of work", log.read_text(encoding="utf-8"))
    steps: dict[str, float] = {}
    for name, seconds in found:
        steps[name] = round(steps.get(name, 0) + float(seconds), 1)
    return steps


def peer(megabytes: float, rounds: int, processes: int) -> None:
    """Ours and datatrove on the same documents, in turn."""
    folder = WORK / "peer"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    size = count = 0
    with (folder / "docs.jsonl").open("wb") as file:
        for line in _lines():
            file.write(line + b"\n")
            size += len(orjson.loads(line)["text"].encode())
            count += 1
            if size > megabytes * 1e6:
                break
    theirs = [str(environments.python("datatrove")), str(HERE / "with_datatrove.py")]
    theirs += [str(folder / "docs.jsonl"), str(CORPUS / "testset.jsonl"), str(folder / "theirs"), str(processes)]
    turns: list[dict[str, Any]] = []
    prepared([str(folder / "docs.jsonl")], folder / "ours", processes)  # so that compiled code is there, as with them
    for turn in range(rounds):
        ours = prepared([str(folder / "docs.jsonl")], folder / "ours", processes)
        shutil.rmtree(folder / "theirs", ignore_errors=True)
        other = Watched(theirs, {"HF_HUB_OFFLINE": "1"})
        told = json.loads((folder / "theirs" / "seconds.json").read_text())
        turns.append({
            "ours": round(ours.seconds, 1), "our_work": round(ours.work, 1), "theirs": round(other.seconds, 1),
            "their_work": round(other.work, 1), "their_steps": told,
            "our_steps": _steps(folder / "ours" / "log.txt"),
        })  # fmt: skip
        print(f"round {turn + 1}: of the clock and of work: ours {ours.seconds:.1f} and {ours.work:.1f} s, "
              f"datatrove {other.seconds:.1f} and {other.work:.1f} s", flush=True)  # fmt: skip
    ratio = statistics.median(turn["theirs"] / turn["ours"] for turn in turns)
    of_work = statistics.median(turn["their_work"] / turn["our_work"] for turn in turns)
    known = _results()
    told = {"megabytes": round(size / 1e6, 1), "documents": count, "processes": processes}
    _keep({**known, "peer": {**told, "ratio": round(ratio, 1), "ratio_of_work": round(of_work, 1), "turns": turns}})
    print(f"{ratio:.1f} times as fast by the clock, {of_work:.1f} by work")


def _results() -> dict[str, Any]:
    file = RESULTS / "corpus.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _keep(results: dict[str, Any]) -> None:
    (RESULTS / "corpus.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def draw() -> None:
    """The growth curve: speed and memory over size, on a logarithmic scale."""
    rows = _results().get("growth", [])
    if not rows:
        return
    import math

    low, high = math.log10(rows[0]["megabytes"]), math.log10(rows[-1]["megabytes"])

    def across(row: dict[str, Any], left: float) -> float:
        return left + 400 * (math.log10(row["megabytes"]) - low) / max(high - low, 0.1)

    panels = ""
    speeds = [row["megabytes"] / row["seconds"] for row in rows]
    memory = [row["memory_megabytes"] / 1000 for row in rows]
    for left, name, values, unit, limit in (
        (60, "speed", speeds, "MB of text a second", None), (570, "memory", memory, "GB, all processes", 4.0)
    ):  # fmt: skip
        top = max([*values, limit or 0]) * 1.1
        points = [(across(row, left), 250 - 200 * value / top) for row, value in zip(rows, values, strict=True)]
        panels += f'<text x="{left}" y="24" font-weight="bold">{name}: {escape(unit)}</text>'
        for part in range(5):
            y = 250 - 200 * part / 4 / 1.1
            panels += f'<path d="M{left} {y:.1f}H{left + 400}" stroke="#dddddd"/>'
            panels += f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{top / 1.1 * part / 4:.3g}</text>'
        if limit:
            y = 250 - 200 * limit / top
            panels += f'<path d="M{left} {y:.1f}H{left + 400}" stroke="#c55a11" stroke-dasharray="5 4"/>'
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        panels += f'<path d="M{line}" fill="none" stroke="#1f4e79" stroke-width="2"/>'
        for (x, y), row, value in zip(points, rows, values, strict=True):
            panels += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#1f4e79"><title>{value:.2f}</title></circle>'
            panels += f'<text x="{x:.1f}" y="272" text-anchor="middle">{row["megabytes"]:,.0f}</text>'
        panels += f'<text x="{left + 400}" y="292" text-anchor="end">MB of text</text>'
    (RESULTS / "corpus.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 300" font-family="sans-serif" font-size="13">'
        f'<rect width="1000" height="300" fill="#ffffff"/>{panels}</svg>\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
