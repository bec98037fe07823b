"""Products with weights on a CPU: by oneDNN where it is faster than MKL, by torch's own call elsewhere.

torch takes MKL for float32. On AMD's processors oneDNN takes about a tenth less time for the outputs and for the
gradients of the inputs, at the same precision; the gradients of the weights stay with MKL. torch has oneDNN's product
as an operator of its own, ``mkldnn::_linear_pointwise``, which its compiler uses; `device.onednn` looks whether it is
there, and is right.

Generation stays with torch's call: which of the two is made depends on the number of rows, and a sequence must not
depend on those beside it.
"""

from __future__ import annotations

import contextlib
import threading
import types
from collections.abc import Generator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.model import device

ROWS = 128
"""With fewer rows oneDNN gains nothing."""
NUMBERS = 1 << 17
"""Nor with a smaller matrix: each new number of rows costs a millisecond once."""

_reading = threading.local()


def linear(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., outputs) of states (..., width), a matrix (outputs, width) and a bias; without gradients."""
    if _served(states, weight):
        return device.by_onednn(states, weight, bias)
    return F.linear(states, weight, bias)


def settle(model: nn.Module) -> None:
    """From now on a model's linear layers go this way, where it pays."""
    for part in model.modules():
        if type(part) is nn.Linear and _suits(part.weight):
            part.forward = types.MethodType(_forward, part)


@contextlib.contextmanager
def reading() -> Generator[None]:
    """Whole sequences are read here: also without gradients this way is taken, in this thread."""
    before = getattr(_reading, "now", False)
    _reading.now = True
    try:
        yield
    finally:
        _reading.now = before


def _forward(layer: nn.Linear, states: Tensor) -> Tensor:
    if not _served(states, layer.weight) or torch.is_autocast_enabled("cpu"):
        return F.linear(states, layer.weight, layer.bias)
    if torch.is_grad_enabled():
        return _Linear.apply(states, layer.weight, layer.bias)  # pyright: ignore[reportReturnType]
    return (linear if getattr(_reading, "now", False) else F.linear)(states, layer.weight, layer.bias)


def _suits(weight: Tensor) -> bool:
    return (
        device.onednn() and weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= NUMBERS
    )


def _served(states: Tensor, weight: Tensor) -> bool:
    return states.numel() >= ROWS * states.shape[-1] and states.dtype == torch.float32 and _suits(weight)


class _Linear(torch.autograd.Function):
    """`F.linear` with its gradients."""

    @staticmethod
    def forward(context: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # pyright: ignore
        needs = context.needs_input_grad
        context.save_for_backward(states if needs[1] else None, weight if needs[0] else None)
        return linear(states, weight, bias)

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        states, weight = context.saved_tensors
        flat = upstream.flatten(0, -2)
        return (
            None if weight is None else linear(upstream, weight.T),
            None if states is None else flat.T @ states.flatten(0, -2),
            flat.sum(0) if context.needs_input_grad[2] else None,
        )
