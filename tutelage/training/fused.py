"""`likelihood` by Liger's kernel on a CUDA device: it goes over each chunk of logits twice, in the weights' precision.

Source: Hsu et al. 2024, arXiv 2410.10989, section 3.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tutelage.model import device

ROOM = 1 << 29
"""Bytes of the logits that are held at a time, at most."""

Scaling = tuple[float, float | None, float]
"""What is done to logits: a factor, a soft cap, and the temperature."""


def serves(states: Tensor, scaling: Scaling) -> bool:
    """Whether the kernel takes these: it knows a soft cap, but no factor and no temperature."""
    scale, _, temperature = scaling
    return device.liger() and len(states) > 0 and scale == temperature == 1 and states.dtype != torch.float64


class Chosen(torch.autograd.Function):
    """(S,) log-probabilities of the targets, and 1 where a target is the likeliest.

    Gradients are made with the values where tokens weigh alike, and in the backward pass, from logits that are computed
    again, where they do not.
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        context: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None,
        learning: bool, alike: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        now = alike and learning and any(context.needs_input_grad[:3])
        losses, likeliest, made = _pass(context, (states, weight, bias, targets), cap, gradients=now)
        context.save_for_backward(states, weight, bias, targets)
        context.cap, context.made = cap, made if now else None
        context.mark_non_differentiable(likeliest)
        return -losses, likeliest

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        upstream = gradients[0]
        # Given away, not kept: autograd then takes it as it is, and a second backward pass makes it again.
        made, context.made = context.made, None
        if made is not None and bool((upstream == upstream[:1]).all()):
            found = [None if one is None else one.mul_(-upstream[0]) for one in made]
        else:
            found = _pass(context, context.saved_tensors, context.cap, gradients=True, upstream=-upstream)[2]
        wanted = [one if need else None for one, need in zip(found, context.needs_input_grad, strict=False)]
        return *wanted, None, None, None, None


def _pass(
    context: Any, given: tuple[Tensor, Tensor, Tensor | None, Tensor], cap: float | None, *, gradients: bool,
    upstream: Tensor | None = None,
) -> tuple[Tensor, Tensor, tuple[Tensor | None, Tensor | None, Tensor | None]]:  # fmt: skip
    """Negative log-probabilities, hits, and the gradients of the former's sum, each times its number from above."""
    from liger_kernel.ops import fused_linear_cross_entropy_forward  # pyright: ignore[reportMissingImports]

    states, weight, bias, targets = given
    losses, _, hits, _, *made = fused_linear_cross_entropy_forward(
        states, weight, targets, bias=bias, reduction="none", softcap=cap, accum_dtype=torch.float32,
        return_token_accuracy=True, token_grad_output=upstream, compute_gradients=gradients,
        weight_requires_grad=context.needs_input_grad[1], chunk_mem_const=_budget(states, weight),
    )  # fmt: skip
    return losses, hits, (made[0], made[1], made[2])


def _budget(states: Tensor, weight: Tensor) -> int:
    """The kernel's measure of memory: how many times the hidden states' numbers its logits may take.

    It takes as many positions at a time as that allows, up to the next power of two.
    """
    vocabulary, width = weight.shape
    rows = max(128, ROOM // (vocabulary * states.element_size()))
    rows = 1 << (rows.bit_length() - 1)
    return max(1, vocabulary // (width * -(-len(states) // rows)))
