"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tutelage.model import device, distribution


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
    max_batch_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens computed at a time; a step with more accumulates gradients. 0: 2,048 on a CPU, and on a GPU by its memory,
    up to 16,384. Bounds memory, changes no result."""
    bf16: bool = False
    """Multiply matrices in bfloat16 on a CPU, which is faster where the processor has instructions for it; weights and
    updates stay float32. A GPU always does."""
    gradient_checkpointing: bool = False
    """Keep only the input of each layer and compute the layer again in the backward pass: less memory, a third more
    time. Changes no result."""
    save_seconds: Annotated[float, Field(ge=0)] = 30
    """How often the state is kept to go on from after a crash; 0 after every step. Changes no result."""
    save_total_limit: Annotated[int, Field(gt=0)] = 1
    """How many states are kept; if the last one is damaged, the run goes on from the one before. Changes no result."""
    seed: int = 1
    """Of initial weights, data order, dropout and sampling."""

    def __post_init__(self) -> None:
        if not self.max_batch_tokens:
            object.__setattr__(self, "max_batch_tokens", device.row_tokens())


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
                direction = torch.lerp(parameter.grad, state["momentum"], group["momentum"])
                # It takes the whole matrix: where that is spread over processes, each gathers it and keeps its part.
                update = distribution.like(orthogonal(distribution.full(direction)), parameter)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * 0.2 * max(parameter.shape[-2:]) ** 0.5)
        return None if closure is None else closure()


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """(..., rows, columns) a matrix, or each of several, with its singular vectors and singular values near 1."""
    tall = matrix.shape[-2] > matrix.shape[-1]
    flat = matrix.mT if tall else matrix
    flat = flat / (torch.linalg.matrix_norm(flat, keepdim=True) + 1e-7)
    for _ in range(steps):
        square = flat @ flat.mT
        flat = 3.4445 * flat + (-4.7750 * square + 2.0315 * square @ square) @ flat
    return flat.mT if tall else flat


class Optimizers:
    """One or two optimizers that are stepped as one.

    Weights of less than float32 have a copy in it, which gathers their gradients and is updated; small updates would
    be lost in them. Source: Micikevicius et al. 2018, arXiv 1710.03740, section 3.1.
    """

    def __init__(self, model: nn.Module, settings: Learning) -> None:
        self.named: dict[str, nn.Parameter] = {}
        """What is updated, by its name in the model: the weight or its copy."""
        self._rounded: list[tuple[nn.Parameter, nn.Parameter]] = []
        hidden: list[nn.Parameter] = []
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter, kind in sorted_out(model, settings):
            updated = self.named[name] = self._copied(parameter) if _is_low(parameter) else parameter
            {"hidden": hidden, "matrix": matrices, "other": others}[kind].append(updated)
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

    def clip(self, longest: float) -> float:
        """Scales the gradients down to a length; gives the length before."""
        return float(distribution.full(nn.utils.clip_grad_norm_(self.parameters, longest)))

    def step(self, factor: float) -> None:
        """One update at ``factor`` times the peak learning rate; gradients are cleared."""
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = self.rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._round()

    def state(self) -> dict[str, Tensor]:
        """All state, by the names of the weights."""
        known: dict[Tensor, str] = {weight: name for name, weight in self.named.items()}
        return {
            f"{known[weight]}/{key}": value
            for optimizer in self.all
            for weight, values in optimizer.state.items()
            for key, value in values.items()
        }

    def take_up(self, weights: Callable[[str], Tensor], state: Mapping[str, Tensor]) -> None:
        """Takes up weights by their names, and all state; whole tensors, whatever is spread over processes here."""
        for name, weight in self.named.items():
            with torch.no_grad():
                weight.copy_(distribution.like(weights(name).to(weight.device), weight))
        owner = {weight: optimizer for optimizer in self.all for g in optimizer.param_groups for weight in g["params"]}
        for full, value in state.items():
            name, _, key = full.rpartition("/")
            weight = self.named[name]
            kept = value.to(weight.device)
            owner[weight].state[weight][key] = distribution.like(kept, weight) if value.ndim else kept
        self._round()

    def _copied(self, parameter: nn.Parameter) -> nn.Parameter:
        copy = nn.Parameter(parameter.detach().float())
        self._rounded.append((parameter, copy))

        def gather(low: Tensor) -> None:
            assert low.grad is not None
            copy.grad = low.grad.float() if copy.grad is None else copy.grad.add_(low.grad)
            low.grad = None

        parameter.register_post_accumulate_grad_hook(gather)
        return copy

    @torch.no_grad()
    def _round(self) -> None:
        for parameter, copy in self._rounded:
            parameter.copy_(copy)


def sorted_out(
    model: nn.Module, settings: Learning
) -> Iterator[tuple[str, nn.Parameter, Literal["hidden", "matrix", "other"]]]:
    """The trainable weights with their names and kinds: for Muon, for AdamW with decay, for AdamW without."""
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim >= 2 and id(parameter) not in embeddings  # experts are matrices on a pile
        outer = not {"lm_head", "score", "embed_out", "seq_relationship"}.isdisjoint(name.split("."))
        if is_matrix and settings.optimizer == "muon" and not outer:
            yield name, parameter, "hidden"
        else:
            yield name, parameter, "matrix" if is_matrix else "other"


def moment_bytes(kind: Literal["hidden", "matrix", "other"], parameter: nn.Parameter) -> int:
    """What `Optimizers` will hold for a weight that learns: one moment or two, in float32."""
    return 4 * parameter.numel() * (1 if kind == "hidden" else 2)


def copy_bytes(parameter: nn.Parameter) -> int:
    """And for a weight of less than float32, whether it learns at the time or not."""
    return 4 * parameter.numel() * _is_low(parameter)


def _is_low(parameter: Tensor) -> bool:
    return parameter.dtype in (torch.bfloat16, torch.float16)


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
