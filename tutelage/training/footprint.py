"""The memory that training takes: an estimate before it begins, an error in time, and fewer activations by choice."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from tutelage.errors import RoomError, SettingsError
from tutelage.model import device, distribution
from tutelage.model.attention import Layout, Tree
from tutelage.model.checkpoint import base, context
from tutelage.run import Run, processes
from tutelage.training import lanes
from tutelage.training.likelihood import held
from tutelage.training.optimizer import Learning, copy_bytes, moment_bytes, sorted_out

PROBED = 32
"""Tokens of the row whose activations are counted."""
MB = 1_000_000
GROUPS = Path("/proc/self/cgroup")
ROOT_1, ROOT_2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
"""What control groups call their limit, their usage, and of that the files that can be dropped."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What training takes on one device, in bytes."""

    weights: int
    """All, trained or not; they are there already."""
    gradients: int
    """Of every lane; see `training.lanes`."""
    optimizer: int
    """Moments, and float32 copies of weights of lower precision."""
    activations: int
    """For each token of a row: what the backward pass needs."""
    tokens: int
    """Of the largest row."""
    logits: int
    """And what is made of them, at a time."""

    @property
    def needed(self) -> int:
        """What is yet to come."""
        return self.gradients + self.optimizer + self.activations * self.tokens + self.logits

    def fitting(self, free: int) -> int:
        """The longest row for which there is room; 0 if there is none."""
        return max(0, (free - self.gradients - self.optimizer - self.logits) // max(1, self.activations))

    def __str__(self) -> str:
        parts = {"weights": self.weights, "gradients": self.gradients, "optimizer": self.optimizer}
        parts[f"activations of {self.tokens} tokens"] = self.activations * self.tokens
        return ", ".join(f"{name} {size / MB:.0f} MB" for name, size in parts.items())


def checkpoint_activations(model: nn.Module) -> None:
    """From now on each layer keeps only its input, and is computed again in the backward pass, dropout and all.

    Source: Chen et al. 2016, arXiv 1604.06174, section 3.

    Raises:
        SettingsError: the architecture has no layers that can.
    """
    for part in distribution.models(model):
        found = list(layers(part))
        if not found:
            raise SettingsError(
                f"gradient_checkpointing: {type(base(part)).__name__} has no layers that can: turn it off"
            )
        for layer in found:
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = functools.partial(_again, layer)  # pyright: ignore
            layer.training = True  # it is asked for; what is in it keeps its mode, for dropout may have to be off


def _again(layer: nn.Module, forward: Callable[..., Tensor], *given: Tensor) -> Tensor:
    """A layer's forward pass, and once more in the backward pass; meanwhile the layer is in the mode of its parts."""
    learning = any(part.training for part in layer.children())

    def in_mode(*given: Tensor) -> Tensor:
        layer.training = learning
        try:
            return forward(*given)
        finally:
            layer.training = True

    return cast(Tensor, checkpoint(in_mode, *given, use_reentrant=False))


def layers(model: nn.Module) -> Iterator[GradientCheckpointingLayer]:
    """The repeated blocks of a model."""
    yield from (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))


def measure(model: nn.Module, settings: Learning, longest: int = 0) -> Footprint:
    """What it takes to train the model: counted for weights, gradients and moments, probed for activations.

    longest: tokens of an example, at most; one that is longer than a row may be has a row of its own.
    """
    tokens = max(settings.max_batch_tokens, longest)
    length = min(tokens, getattr(settings, "max_length", tokens))
    inside = {id(weight) for layer in layers(model) for weight in layer.parameters()}
    at_a_time = getattr(settings, "lisa_layers", 0) / max(1, sum(1 for _ in layers(model))) or 1.0
    gradients = optimizer = 0.0
    for _, weight, kind in sorted_out(model, settings):
        share = (at_a_time if id(weight) in inside else 1.0) / processes()
        gradients += share * max(_bytes(weight), 4 * weight.numel())
        optimizer += share * moment_bytes(kind, weight) + copy_bytes(weight) / processes()
    return Footprint(
        weights=sum(_bytes(weight) for weight in model.parameters()),
        gradients=round(gradients * lanes.count(model)),
        optimizer=round(optimizer),
        activations=sum(activations(part, length) for part in distribution.models(model)),
        tokens=tokens,
        logits=max(map(logits, distribution.models(model))),
    )


def logits(model: nn.Module) -> int:
    """Bytes that logits take at a time; none of a model that gives scalars."""
    output = base(model).get_output_embeddings()
    return 0 if output is None else held(len(output.weight), base(model).device)


def activations(model: nn.Module, length: int) -> int:
    """Bytes for each token of a row that are kept for the backward pass, and what the pass itself holds of a layer.

    length: of the sequences in the row. Two short rows go forward, and what autograd keeps is counted; what grows with
    the square of their length, as attention with dropout does on a CPU, is told apart by there being two.
    """
    blocks = list(layers(model))
    checkpointed = bool(blocks) and blocks[0].gradient_checkpointing
    for layer in blocks:
        layer.gradient_checkpointing = False
    short, long = _kept(model, PROBED), _kept(model, 2 * PROBED)
    for layer in blocks:
        layer.gradient_checkpointing = checkpointed
    linear = (4 * short - long) / (2 * PROBED)
    square = max(0.0, (long - 2 * short) / (2 * PROBED**2))
    whole = linear + square * length
    layer_share = whole / max(1, len(blocks))
    if not checkpointed:
        return round(whole + layer_share)
    width = int(base(model).config.get_text_config().hidden_size)
    inputs = (len(blocks) + 1) * width * base(model).dtype.itemsize
    # While a layer is computed again, its activations, their gradients and what is between are there: measured.
    return round(min(whole + layer_share, inputs + 4 * layer_share))


def _kept(model: nn.Module, tokens: int) -> int:
    """Bytes that autograd keeps of a row of so many tokens, weights not counted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    where = next(model.parameters()).device
    row = torch.arange(tokens, device=where)
    places = row % context(model)  # a model with fewer learned positions than that is probed all the same
    layout = Layout((Tree(0, 0, (tokens,)),))
    keeping = saved_tensors_hooks(count, lambda tensor: tensor)
    with torch.random.fork_rng([where] if where.type == "cuda" else []), torch.enable_grad(), device.half(), keeping:
        # The result is held on to: a place in memory that was freed would be counted once for two tensors.
        ids, places = row[None] % 7, places[None]
        output = base(model).base_model(input_ids=ids, position_ids=places, use_cache=False, layout=layout)
        kept.pop(output.last_hidden_state.untyped_storage().data_ptr(), None)
    return sum(kept.values())


def require(run: Run, model: nn.Module, settings: Learning, longest: int = 0) -> None:
    """Tells what training will take, and sees to it that it ends with words where there is not enough.

    Raises:
        RoomError: the estimate is larger than the memory that is free.
    """
    if not any(True for _ in distribution.models(model)):
        return
    where = next(model.parameters()).device
    found, free = measure(model, settings, longest), available(where)
    run.note(f"memory: {found}; {free / MB:.0f} MB are free")
    if found.needed > free:
        raise RoomError(
            f"{run.path.name}: training needs {found.needed / MB:.0f} MB more ({found}) and {free / MB:.0f} MB are "
            f"free: {_advice(found.fitting(free), longest, settings)}"
        )
    if where.type == "cpu":
        limit(free)


def available(where: torch.device) -> int:
    """Bytes that are free on a device; on a CPU for this process, to which a container may allow less than there is."""
    if where.type == "cuda":
        cached = torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)
        return torch.cuda.mem_get_info(where)[0] + cached
    return min([psutil.virtual_memory().available, *_containers()])


def limit(free: int) -> None:
    """Makes an allocation beyond what is free fail, with an error, instead of having the process killed for it.

    Only on Linux, and not with CUDA, which reserves address space by the terabyte. The limit is this process's own.
    """
    if sys.platform != "linux" or torch.cuda.is_available():
        return
    import resource

    held = psutil.Process().memory_info().data
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + free
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _advice(tokens: int, longest: int, settings: Learning) -> str:
    """What may be done where there is room for a row of so many tokens, and the longest example has so many."""
    ways: list[str] = []
    if tokens >= max(PROBED, longest):
        ways.append(f"lower max_batch_tokens to {tokens}")
    elif tokens >= PROBED:
        ways.append(f"lower max_length, for the longest example has {longest} tokens and there is room for {tokens}")
    if not settings.gradient_checkpointing:
        ways.append("set gradient_checkpointing")
    if getattr(settings, "lora_rank", None) == 0:
        ways.append("train an adapter by lora_rank")
    return ", or ".join(ways) or "take a smaller model"


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _containers() -> Iterator[int]:
    """What each control group around this process leaves, in bytes; version 2 and version 1."""
    try:
        lines = GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            root, names = ROOT_2, VERSION_2
        elif "memory" in kinds.split(","):
            root, names = ROOT_1, VERSION_1
        else:
            continue
        place = root / path.strip("/")
        for group in [place, *place.parents]:
            if group.is_relative_to(root) and (left := _left(group, *names)) is not None:
                yield left


def _left(group: Path, limit_name: str, usage_name: str, reclaimable: str) -> int | None:
    """The limit less the usage, files that can be dropped from memory not counted; None without a limit."""
    try:
        most = (group / limit_name).read_text(encoding="utf-8").strip()
        used = int((group / usage_name).read_text(encoding="utf-8"))
        rows = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return None
    return None if most == "max" else int(most) - used + int(rows.get(reclaimable, 0))
