"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How weights are updated: the settings that every trainer shares."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Peak learning rate."""
    lr_scheduler_type: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    """After warm-up: down to `final_learning_rate` by a cosine, a line, or flat and then a line (wsd)."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of the steps that rise to the peak."""
    final_learning_rate: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Learning rate of the last step, as a share of the peak."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: for the hidden matrices, with AdamW for the rest."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled decay of matrices; norms, biases and embeddings have none."""
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Decay of AdamW's second moment."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients longer than this are scaled down to it."""
    max_batch_tokens: Annotated[int, Field(gt=0)] = 2048
    """Tokens computed at a time; a step with more accumulates gradients. Bounds memory, changes no result."""
    save_seconds: Annotated[float, Field(ge=0)] = 30
    """How often the state is kept to go on from after a crash; 0 after every step. Changes no result."""
    seed: int = 1
    """Of initial weights, data order, dropout and sampling."""


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by five Newton-Schulz steps, for hidden matrices; in float32, as a CPU needs.

    The update's root mean square is matched to AdamW's (times 0.2 sqrt(longer side)), so that one learning rate serves
    both. Source: Jordan 2024, github.com/KellerJordan/Muon; scale of Liu et al. 2025, arXiv 2502.16982, equation 4.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(list(parameters), {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore
        """One update; matrices without a gradient are left alone."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonal(torch.lerp(parameter.grad, state["momentum"], group["momentum"]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * 0.2 * max(parameter.shape) ** 0.5)
        return None if closure is None else closure()


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """(rows, columns) a matrix with the same singular vectors and singular values near 1."""
    flat = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    flat = flat / (flat.norm() + 1e-7)
    for _ in range(steps):
        square = flat @ flat.T
        flat = 3.4445 * flat + (-4.7750 * square + 2.0315 * square @ square) @ flat
    return flat.T if matrix.shape[0] > matrix.shape[1] else flat


class Optimizers:
    """One or two optimizers that are stepped as one."""

    def __init__(self, model: nn.Module, settings: Learning) -> None:
        hidden: list[nn.Parameter] = []
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            is_matrix = parameter.ndim == 2 and id(parameter) not in embeddings
            outer = not {"lm_head", "score", "embed_out"}.isdisjoint(name.split("."))
            if is_matrix and settings.optimizer == "muon" and not outer:
                hidden.append(parameter)
            else:
                (matrices if is_matrix else others).append(parameter)
        rate, decay = settings.learning_rate, settings.weight_decay
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        self.all: list[torch.optim.Optimizer] = []
        if groups:
            self.all.append(torch.optim.AdamW(groups, lr=rate, betas=(0.9, settings.adam_beta2), fused=True))
        if hidden:
            self.all.append(Muon(hidden, lr=rate, weight_decay=decay))
        self.parameters = [*hidden, *matrices, *others]
        self.rate = rate

    def step(self, factor: float) -> None:
        """One update at ``factor`` times the peak learning rate; gradients are cleared."""
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = self.rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """All state."""
        return [optimizer.state_dict() for optimizer in self.all]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Takes up all state."""
        for optimizer, state in zip(self.all, states, strict=True):
            optimizer.load_state_dict(state)


def schedule(settings: Learning, step: int, steps: int) -> float:
    """The learning rate of a step (0-based, of ``steps``) as a share of the peak.

    The first step is never 0 and the last is ``final_learning_rate``.
    """
    warmup = round(settings.warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    final = settings.final_learning_rate
    done = (step - warmup) / max(1, steps - 1 - warmup)
    match settings.lr_scheduler_type:
        case "constant":
            return 1.0
        case "linear":
            return 1 + (final - 1) * done
        case "cosine":
            return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
        case "wsd":
            return 1.0 if done < 0.7 else 1 + (final - 1) * (done - 0.7) / 0.3
