"""How a side talks with the runner: it computes only when told to, and then says what it did.

On standard input come lines "go SECONDS" and "stop"; on standard output goes one line of JSON for each of them.
Whatever else the side's libraries print goes to the standard error. Plain Python, for every environment imports it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from arithmetic import Shape, useful_flops


class Pace:
    """Called by a training loop at its steps; stands still between two windows.

    pace.ready()                     before the first step: tells the runner, and waits
    pace.count(...)                  for what a step reads
    pace.step(loss)                  at its end: may tell the runner, and wait
    """

    def __init__(self, options: dict[str, Any], package: str) -> None:
        self.lines = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        config = Path(options["model"]) / "config.json" if "model" in options else None
        self.shape = Shape.of(json.loads(config.read_text(encoding="utf-8"))) if config else None
        self.version = f"{package} {metadata.version(package)}"
        self.more: dict[str, Any] = {}
        """What else is told with each window."""
        self._clear()

    def ready(self, seconds: float = 0.0, cpu_seconds: float = 0.0) -> None:
        """Tells that all is loaded. Seconds: what each sample has cost so far and is to be charged for."""
        self._tell(version=self.version, cost={"seconds": seconds, "cpu_seconds": cpu_seconds})
        self._wait()

    def count(
        self, tokens: int, samples: float, read: int = 0, labelled: int = 0, squares: int = 0, reference: bool = False
    ) -> None:
        """Adds to the step.

        tokens: real ones, of whole sequences, by which sides are compared. read: those that this side must compute for
        them; with labelled, squares and reference they give the useful arithmetic (`arithmetic.useful_flops`).
        """
        self.tokens += tokens
        self.samples += samples
        self.in_step += tokens
        if self.shape:
            self.flops += useful_flops(self.shape, read, labelled, squares, reference)

    def sequences(
        self, lengths: Sequence[int], labelled: int, samples: float, reference: bool = False, repeats: int = 1
    ) -> None:
        """`count` for sequences by their real lengths, of which this side reads each ``repeats`` times."""
        read, squares = sum(lengths), sum(length * length for length in lengths)
        self.count(read // repeats, samples, read, labelled, squares, reference)

    def step(self, loss: float | None = None) -> None:
        """The end of a step; returns when the next one may begin."""
        if loss is not None:
            self.losses.append((self.in_step, loss))
        self.in_step = 0
        seconds = time.perf_counter() - self.began
        if seconds >= self.wanted:
            self._tell(
                tokens=self.tokens, samples=self.samples, flops=self.flops, seconds=seconds,
                cpu_seconds=time.process_time() - self.cpu_began, losses=self.losses,
                peak_memory_bytes=peak_memory(), **self.more,
            )  # fmt: skip
            self._wait()

    def _tell(self, **values: Any) -> None:
        self.lines.write(json.dumps(values) + "\n")

    def _wait(self) -> None:
        order = sys.stdin.readline().split()
        if not order or order[0] == "stop":
            os._exit(0)  # a trainer stopped in any other way would save what nobody wants
        self._clear()
        self.wanted = float(order[1])
        self.began, self.cpu_began = time.perf_counter(), time.process_time()

    def _clear(self) -> None:
        self.tokens = self.in_step = 0
        self.samples = self.flops = 0.0
        self.losses: list[tuple[int, float]] = []
        self.wanted = self.began = self.cpu_began = 0.0


def rows(path: str) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def peak_memory() -> int:
    """The most memory that this process has held, in bytes: on the GPU if it computes there, else in RAM."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found, "the system does not say how much memory a process holds"
    return int(found[1]) * 1024
