"""Rows side by side: on a CPU each thread computes rows of its own.

The matrices of a small model are too small to keep several threads busy with one of them. Two rows at a time, each on
one thread, are faster than one row on two, and every row's arithmetic is what it is on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from tutelage.model import device
from tutelage.model.shared import Scorer
from tutelage.run import processes

MOST = 4
"""Lanes at most, for each has gradients of its own."""
LARGEST = 1 << 26
"""Trained numbers of a model that is still computed side by side. A larger one has matrices large enough for all
threads, and no room for gradients twice."""

R = TypeVar("R")
T = TypeVar("T")

Losses = Iterator[tuple[Tensor, dict[str, float | Tensor]]]
"""Losses of a row, one after the other, each with its numbers."""


def count(model: nn.Module) -> int:
    """How many rows of a model may be computed at a time.

    One on a GPU, among several processes, or where a row depends on another one: random numbers of dropout are drawn
    in order, and adapters are turned on and off in the one model there is.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    alone = (
        processes() > 1
        or any(weight.device.type != "cpu" or weight.dtype != torch.float32 for weight in trained)
        or sum(weight.numel() for weight in trained) > LARGEST
        or any(isinstance(part, Scorer) or getattr(part, "gradient_checkpointing", False) for part in model.modules())
    )
    return 1 if alone else min(MOST, device.threads())


def draws(model: nn.Module) -> bool:
    """Whether a forward pass draws random numbers: some part is training, and has dropout."""
    return any(
        part.training
        and any(
            isinstance(value, float) and value > 0 and ("drop" in name or "jitter" in name or name == "p")
            for name, value in vars(part).items()
        )
        for part in model.modules()
    )


class Lanes:
    """Threads that share what the process has; ``number`` of them."""

    def __init__(self, number: int) -> None:
        self.number = number
        share = max(1, device.threads() // number)
        self.pool = ThreadPoolExecutor(number, "lane", torch.set_num_threads, (share,)) if number > 1 else None

    def each(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The work on every item, in order. The first goes to the first lane, the second to the second, and so on."""
        if self.pool is None:
            return [work(item) for item in items]
        hands = [items[lane :: self.number] for lane in range(self.number)]
        waiting = [self.pool.submit(lambda mine: [work(one) for one in mine], mine) for mine in hands]
        found = [one.result() for one in waiting]
        return [found[place % self.number][place // self.number] for place in range(len(items))]

    def backward(
        self, losses: Callable[[T], Losses], rows: Sequence[T], weights: Sequence[nn.Parameter]
    ) -> list[list[tuple[float, dict[str, float]]]]:
        """Adds the gradients of all rows to the weights; gives each row's losses and their numbers.

        Each lane adds up its rows in order, and the lanes are added in order: the same bits every time.
        """
        held: list[dict[int, Tensor]] = [{} for _ in range(self.number)]

        def work(numbered: tuple[int, T]) -> list[tuple[float, dict[str, float]]]:
            place, row = numbered
            mine = held[place % self.number]
            found: list[tuple[float, dict[str, float]]] = []
            for loss, numbers in losses(row):
                gradients = cast("tuple[Tensor | None, ...]", torch.autograd.grad(loss, weights, allow_unused=True))
                for at, new in enumerate(gradients):
                    if new is not None:
                        # Two weights may be given one and the same tensor, so the first is copied.
                        mine[at] = mine[at].add_(new) if at in mine else new.clone()
                found.append((plain(loss), {name: plain(value) for name, value in numbers.items()}))
            return found

        told = self.each(work, list(enumerate(rows)))
        for at, weight in enumerate(weights):
            for mine in held:
                if at in mine:
                    weight.grad = mine[at] if weight.grad is None else weight.grad.add_(mine[at])
        return told


def plain(value: float | Tensor) -> float:
    """A number."""
    return float(value.detach().item() if isinstance(value, Tensor) else value)


def even(chosen: Sequence[int], sizes: Sequence[int], rows: int) -> list[list[int]]:
    """Indices in so many groups of nearly as many tokens: the longest first, each where there is the least.

    Source: Graham 1969, SIAM Journal on Applied Mathematics 17(2), "longest processing time".
    """
    groups: list[list[int]] = [[] for _ in range(rows)]
    loads = [0] * rows
    for index, size in sorted(zip(chosen, sizes, strict=True), key=lambda pair: -pair[1]):
        place = loads.index(min(loads))
        groups[place].append(index)
        loads[place] += size
    return [group for group in groups if group]
