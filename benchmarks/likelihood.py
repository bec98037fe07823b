"""The likelihood of training beside plain torch: time and memory of a forward and backward pass at three heads.

    .venv/bin/python benchmarks/likelihood.py [--only first small large] [--repeats 5]

One thread; seconds are processor time of this process; sides take turns, and the median is told. Bytes are the most
that tensors made by a pass took at once, arguments not counted; they are exact, but do not show what goes on inside
torch's own chunked operation.
"""

from __future__ import annotations

import argparse
import statistics
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tutelage.model import device
from tutelage.training import likelihood

HEADS = {"first": (410, 128, 2048), "small": (1740, 384, 8192), "large": (500, 896, 151936)}
"""Trained positions of a row, width, vocabulary: the first course, 14 M parameters, Qwen2.5-0.5B."""


class Bytes(TorchDispatchMode):
    """The most bytes that tensors took which were made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        old = {one.untyped_storage()._cdata for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        for one in tree_leaves(found):
            if isinstance(one, Tensor):
                storage = one.untyped_storage()
                if storage._cdata not in old and storage._cdata not in self.live:
                    self.live[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.live.pop, storage._cdata, None)
        self.most = max(self.most, sum(self.live.values()))
        return found


def sides(count: int, width: int, vocabulary: int) -> dict[str, Callable[[], None]]:
    """A pass of each side. Frozen: the head is not trained, as under an adapter."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(count, width, generator=generator).requires_grad_()
    weight = (0.02 * torch.randn(vocabulary, width, generator=generator)).requires_grad_()
    targets = torch.randint(0, vocabulary, (count,), generator=generator)
    weights = torch.rand(count, generator=generator)

    def plain(head: Tensor) -> None:
        F.cross_entropy(F.linear(states, head), targets, reduction="sum").backward()

    def ours(head: Tensor, alike: bool) -> None:
        chosen = likelihood._Chosen.apply(states, head, None, targets, (1.0, None, 1.0), True, alike)[0]
        (chosen.sum() if alike else chosen @ weights).backward()

    def chunked(reduction: str) -> None:
        options = torch.nn.LinearCrossEntropyOptions()
        losses = F.linear_cross_entropy(states, weight, targets, reduction=reduction, options=options)
        (losses if reduction == "sum" else losses @ weights).backward()

    found: dict[str, Callable[[], None]] = {
        "plain": lambda: plain(weight),
        "ours, tokens alike": lambda: ours(weight, True),
        "ours, each its weight": lambda: ours(weight, False),
        "plain, frozen head": lambda: plain(weight.detach()),
        "ours, frozen head": lambda: ours(weight.detach(), False),
    }
    if hasattr(F, "linear_cross_entropy"):
        found["torch's chunks, summed"] = lambda: chunked("sum")
        found["torch's chunks, each its weight"] = lambda: chunked("none")

    def fresh(run: Callable[[], None]) -> Callable[[], None]:
        def begin() -> None:
            states.grad = weight.grad = None
            run()

        return begin

    return {name: fresh(run) for name, run in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(HEADS), default=list(HEADS))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device.prepare(1)
    torch.set_num_threads(1)
    print("| head | side | milliseconds | of plain | MB |\n|---|---|---|---|---|")
    for name in options.only:
        seconds: dict[str, list[float]] = {}
        passes = sides(*HEADS[name])
        for repeat in range(options.repeats + 1):
            for side, run in passes.items():
                begin = time.process_time()
                run()
                if repeat:
                    seconds.setdefault(side, []).append(time.process_time() - begin)
        for side, run in passes.items():
            with Bytes() as bytes_:
                run()
            ratio = statistics.median(a / b for a, b in zip(seconds[side], seconds["plain"], strict=True))
            middle = statistics.median(seconds[side])
            most = "" if side.startswith("torch's") else f"{bytes_.most / 1e6:.0f}"
            print(f"| {name} | {side} | {1000 * middle:.1f} | {ratio:.2f} | {most} |", flush=True)


if __name__ == "__main__":
    main()
