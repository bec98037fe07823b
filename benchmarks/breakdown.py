"""Where the time of our training steps goes, by kind of work: python benchmarks/breakdown.py dpo

One thread, for only then each operation's time is its own. Printed are the shares of
some steps, after others that warm up, and of what is spent outside torch's operations.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["TUTELAGE_THREADS"] = "1"

import argparse
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import run
import torch
import with_tutelage
from contests import BENCHMARKS, LARGE, ON_CARDS, Place
from torch.profiler import ProfilerActivity, profile

KINDS = (
    ("matrix products", r"aten::(mm|addmm|bmm|baddbmm|linear|matmul)|mkldnn::|aten::mkldnn"),
    ("attention", r"scaled_dot_product|flash_attention"),
    ("optimizer", r"_fused_adamw|foreach|linalg_vector_norm"),
    ("copies", r"aten::(copy_|cat|clone|index|gather|scatter|split|slice|stack|fill_|zero_|embedding|narrow)"),
)
"""Kinds of operations by their names; the first that fits is taken, and what fits none is between the products: norms,
activations, rotations, softmax, sums."""


class Enough(Exception):
    """All steps are profiled."""


class Profiled:
    """What a stage sees as its pace: warms up, then profiles."""

    def __init__(self, warming: int, steps: int) -> None:
        self.left = warming + steps
        self.steps = steps
        self.more: dict[str, Any] = {}
        self.profile = profile(activities=[ProfilerActivity.CPU])
        self.began = self.seconds = 0.0

    def ready(self, *_: Any) -> None:
        """Nobody is told."""

    def count(self, *_: Any) -> None:
        """Nothing is counted."""

    def step(self, *_: Any) -> None:
        """The end of a step."""
        self.left -= 1
        if self.left == 0:
            self.seconds = time.perf_counter() - self.began
            self.profile.stop()
            raise Enough
        if self.left == self.steps:
            self.profile.start()
            self.began = time.perf_counter()


def kind(name: str) -> str:
    """What kind of work an operation is."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, name)), "between")


def shares(paced: Profiled) -> dict[str, float]:
    """Of the profiled steps' time, by kind; what is left is outside torch's operations."""
    found: dict[str, float] = {}
    for event in paced.profile.key_averages():
        if event.key.startswith(("aten::", "mkldnn::")):
            found[kind(event.key)] = found.get(kind(event.key), 0.0) + event.self_cpu_time_total / 1e6
    found["outside operations"] = paced.seconds - sum(found.values())
    return {name: seconds / paced.seconds for name, seconds in sorted(found.items(), key=lambda pair: -pair[1])}


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "name", choices=[name for name in BENCHMARKS if name not in ("prepare", "serve", "ppo", *ON_CARDS)]
    )
    parser.add_argument("--data", default=os.environ.get("TUTELAGE_BENCHMARK_DATA", ""))
    parser.add_argument("--warming", type=int, default=2, help="steps before those that are looked at")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    inputs = run.make_inputs(Path(options.data) if options.data else None, large=options.name in LARGE)
    for contest in BENCHMARKS[options.name](Place(inputs, Path(tempfile.mkdtemp(prefix="breakdown-")))):
        paced = Profiled(options.warming, options.steps)
        Path(contest.ours.options["run"]).parent.mkdir(parents=True, exist_ok=True)
        try:
            with_tutelage.train(contest.ours.options, paced)  # pyright: ignore[reportArgumentType]
        except Enough:
            told = ", ".join(f"{name} {share:.0%}" for name, share in shares(paced).items())
            print(f"{contest.name}: {paced.seconds / options.steps:.1f} s a step; {told}", flush=True)
        shutil.rmtree(Path(contest.ours.options["run"]).parents[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
