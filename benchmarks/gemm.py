"""The machine's limit: the rate of the matrix products that a model is made of, with nothing around them."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from pace import Pace

ROWS = 2048


def rate(rows: int, inner: int, columns: int, precision: torch.dtype, seconds: float) -> tuple[float, float]:
    """Floating-point operations a second, by the wall and by processor time."""
    left, right = torch.rand(rows, inner, dtype=precision), torch.rand(columns, inner, dtype=precision)
    out = torch.empty(rows, columns, dtype=precision)
    torch.mm(left, right.T, out=out)
    times = 0
    began, cpu_began = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        torch.mm(left, right.T, out=out)
        times += 1
    flops = 2 * rows * inner * columns * times
    return flops / (time.perf_counter() - began), flops / (time.process_time() - cpu_began)


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
