"""The machine's limit: the rate of the matrix products that a model is made of, with nothing around them."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from pace import Pace

CUDA = torch.cuda.is_available()
ROWS = 8192 if CUDA else 2048
TIMES = 16 if CUDA else 1
"""Products between two looks at the clock: a card is told what to do ahead of time."""


def rate(rows: int, inner: int, columns: int, precision: torch.dtype, seconds: float) -> tuple[float, float]:
    """Floating-point operations a second, by the wall and by processor time; of MKL and oneDNN the faster on a CPU."""
    if CUDA or precision != torch.float32:
        return timed(rows, inner, columns, precision, seconds, torch.mm)
    both = [timed(rows, inner, columns, precision, seconds / 2, how) for how in (torch.mm, onednn)]
    return max(both)


def onednn(left: Any, right: Any, out: Any) -> None:
    """The product by oneDNN, which torch's compiler calls for linear layers."""
    del out  # it makes its own
    torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")


def timed(
    rows: int, inner: int, columns: int, precision: torch.dtype, seconds: float, product: Any
) -> tuple[float, float]:
    """The same of one way to multiply."""
    how: dict[str, Any] = {"dtype": precision, "device": "cuda" if CUDA else "cpu"}
    left, right, out = (
        torch.rand(rows, inner, **how),
        torch.rand(columns, inner, **how),
        torch.empty(rows, columns, **how),
    )
    product(left, right.T, out=out)
    times = 0
    settle()
    began, cpu_began = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        for _ in range(TIMES):
            product(left, right.T, out=out)
        settle()
        times += TIMES
    flops = 2 * rows * inner * columns * times
    return flops / (time.perf_counter() - began), flops / (time.process_time() - cpu_began)


def settle() -> None:
    """Waits until a card has done what it was told."""
    if CUDA:
        torch.cuda.synchronize()


def main() -> None:
    """Measures all shapes at each order; the limit is the best of them."""
    options = json.loads(sys.argv[1])
    config = json.loads((Path(options["model"]) / "config.json").read_text(encoding="utf-8"))
    precision = torch.bfloat16 if options["precision"] == "bf16" else torch.float32
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "square": (ROWS, ROWS, ROWS),
        "attention": (ROWS, hidden, hidden),
        "feed-forward": (ROWS, hidden, inner),
        "output": (ROWS // 4, hidden, config["vocab_size"]),
    }
    pace = Pace(options, "torch")
    pace.ready()
    while True:
        with torch.no_grad():
            found = {name: rate(*shape, precision, pace.wanted / len(shapes)) for name, shape in shapes.items()}
        pace.more = {"rates": found}
        pace.step()


if __name__ == "__main__":
    main()
