"""Houlsby's adapters: after attention and after the feed-forward part of each block, a narrow network and a way around.

    h <- h + up(gelu(down(h)))          before the residual is added

They are modules of the block's own parts and work through forward hooks, so that any decoder's blocks take them as
they are. Several can stand one after the other: a model that has some gets the new ones behind them. Source: Houlsby
et al. 2019, arXiv 1902.00751, section 2.1 and figure 2. They begin as exactly the identity, where Houlsby et al. begin
near it: the way up is 0, so that a reference is the model as it was.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from tutelage.errors import ModelError
from tutelage.model import distribution
from tutelage.run import write_json

CONFIG, WEIGHTS = "bottleneck_config.json", "bottleneck.safetensors"
NAME = "bottlenecks"
"""The child of an adapted part that holds its bottlenecks."""
SPREAD = 1e-2
"""Standard deviation of the way down's first weights, which are cut at twice that (section 3.6)."""


class Bottleneck(nn.Module):
    """``width`` numbers through ``size`` and back, added to what came in."""

    def __init__(self, width: int, size: int, like: Tensor) -> None:
        super().__init__()
        self.down = nn.Linear(width, size, device=like.device, dtype=like.dtype)
        self.up = nn.Linear(size, width, device=like.device, dtype=like.dtype)
        self.on = True
        nn.init.trunc_normal_(self.down.weight, std=SPREAD, a=-2 * SPREAD, b=2 * SPREAD)
        for weight in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """The same shape."""
        return hidden + self.up(F.gelu(self.down(hidden))) if self.on else hidden


def attach(model: PreTrainedModel, size: int, numbers: Sequence[int], norms: bool) -> None:
    """Puts new bottlenecks into the blocks of these numbers, behind those that there are.

    They are trainable, and so are a scorer's head and, if asked, the norms; nothing else is.

    Raises:
        ModelError: the blocks are not made of an attention and a feed-forward part.
    """
    model.requires_grad_(False)
    width = int(model.config.get_text_config().hidden_size)
    every = blocks(model)
    for number in numbers:
        for part in _parts(every[number]):
            like = next(part.parameters())
            like = like if like.is_floating_point() else torch.empty(0, device=like.device)
            _stack(part).append(Bottleneck(width, size, like))
    head = getattr(model, "score", None)
    if isinstance(head, nn.Module):
        head.requires_grad_(True)
    for norm in _norms(model) if norms else ():
        for name, weight in list(norm.named_parameters(recurse=False)):
            weight.requires_grad_(True)
            _remember(norm, name)


def present(model: nn.Module) -> bool:
    """Whether the model has bottlenecks."""
    return any(isinstance(module, Bottleneck) for module in model.modules())


def names(model: nn.Module) -> tuple[str, ...]:
    """Where the bottlenecks stand, as the beginnings of names."""
    return tuple(name + "." for name, module in model.named_modules() if isinstance(module, Bottleneck))


@contextlib.contextmanager
def off(model: nn.Module) -> Generator[None]:
    """The model before the bottlenecks that are in training were put on: they do nothing, norms are as they were."""
    new = [module for module in model.modules() if isinstance(module, Bottleneck) and module.up.weight.requires_grad]
    trained = [
        (weight, cast(Tensor, getattr(module, f"{name}_before")))
        for module in model.modules()
        for name, weight in module.named_parameters(recurse=False)
        if hasattr(module, f"{name}_before")
    ]
    try:
        for one in new:
            one.on = False
        with distribution.exchanged(model, trained):
            yield
    finally:
        for one in new:
            one.on = True


def is_adapter(path: Path | str) -> bool:
    """Whether the folder holds bottlenecks."""
    return (Path(path) / CONFIG).exists()


def save(model: PreTrainedModel, folder: Path) -> None:
    """Writes the bottlenecks, and the norms and a scorer's head that were trained with them."""
    sizes: dict[str, list[int]] = {}
    weights: dict[str, Tensor] = {}
    for number, block in enumerate(blocks(model)):
        for place, part in zip(("attention", "feed_forward"), _parts(block), strict=True):
            stack = cast("Sequence[Bottleneck]", getattr(part, NAME, ()))
            if stack:
                sizes[f"{number}.{place}"] = [one.down.out_features for one in stack]
            for depth, one in enumerate(stack):
                weights |= {f"{number}.{place}.{depth}.{name}": value for name, value in one.state_dict().items()}
    decoder = cast(nn.Module, model.get_decoder())
    weights |= {
        f"norm.{prefix}{name}": weight
        for prefix, module in _named(decoder)
        for name, weight in module.named_parameters(recurse=False)
        if hasattr(module, f"{name}_before")
    }
    head = getattr(model, "score", None)
    if isinstance(head, nn.Linear):
        weights["score.weight"] = head.weight
    save_file(
        {name: value.detach().contiguous() for name, value in weights.items()}, folder / WEIGHTS, {"format": "pt"}
    )
    write_json(folder / CONFIG, {"adapter": "bottleneck", "activation": "gelu", "sizes": sizes})


def restore(model: PreTrainedModel, path: Path | str) -> bool:
    """Puts the bottlenecks of a folder on their base; whether a scorer's head came with them.

    Raises:
        ModelError: a damaged folder, or one that belongs to another model.
    """
    folder = Path(path)
    try:
        sizes = cast("dict[str, list[int]]", json.loads((folder / CONFIG).read_text(encoding="utf-8"))["sizes"])
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"{path}: its bottlenecks cannot be loaded: {error}") from None
    width = int(model.config.get_text_config().hidden_size)
    targets: dict[str, Tensor] = {}
    every = blocks(model)
    for place, stack in sizes.items():
        number, _, which = place.partition(".")
        if int(number) >= len(every):
            raise ModelError(f"{path}: its bottlenecks are those of another model: it has a block {number}")
        part = _parts(every[int(number)])[which == "feed_forward"]
        for depth, size in enumerate(stack):
            one = Bottleneck(width, size, next(part.parameters()))
            _stack(part).append(one)
            targets |= {f"{place}.{depth}.{name}": value for name, value in one.state_dict(keep_vars=True).items()}
    decoder = cast(nn.Module, model.get_decoder())
    norms = dict(decoder.named_parameters())
    targets |= {name: norms[name.removeprefix("norm.")] for name in weights if name.removeprefix("norm.") in norms}
    head = getattr(model, "score", None)
    scores = "score.weight" in weights and isinstance(head, nn.Linear)
    if scores:
        targets["score.weight"] = cast(nn.Linear, head).weight
    else:
        weights.pop("score.weight", None)
    odd = sorted(weights.keys() ^ targets.keys())
    odd += [name for name in targets if name in weights and targets[name].shape != weights[name].shape]
    if odd:
        raise ModelError(f"{path}: its bottlenecks are those of another model, or damaged: see {odd[0]}")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(weights[name])
    for prefix, module in _named(decoder):
        for name, _ in list(module.named_parameters(recurse=False)):
            if f"norm.{prefix}{name}" in weights:
                _remember(module, name)
    model.requires_grad_(False)
    return scores


def base_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """The state of the model without its bottlenecks."""
    inside = names(model)
    return {name: value for name, value in model.state_dict().items() if not name.startswith(inside)}


def _remember(norm: nn.Module, name: str) -> None:
    """Keeps a weight as it is before training, for `off`; it is saved from now on."""
    norm.register_buffer(f"{name}_before", getattr(norm, name).detach().clone(), persistent=False)


def _stack(part: nn.Module) -> nn.ModuleList:
    """The bottlenecks of a part of a block, in order; made at first use, with the hook that runs them."""
    if not hasattr(part, NAME):
        part.add_module(NAME, nn.ModuleList())
        part.register_forward_hook(_run)
    return cast(nn.ModuleList, getattr(part, NAME))


def _run(part: nn.Module, _inputs: Any, output: Any) -> Any:
    """A forward hook. What a part gives is its hidden states, or a tuple that begins with them."""
    hidden = cast(Tensor, output[0] if isinstance(output, tuple) else output)
    for one in cast(nn.ModuleList, getattr(part, NAME)):
        hidden = one(hidden)
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder's blocks, in order."""
    count = int(model.config.get_text_config().num_hidden_layers)
    decoder = cast(nn.Module, model.get_decoder())
    for module in decoder.children():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ModelError(f"{type(model).__name__}: its blocks are not in one list, so they take no bottlenecks: use LoRA")


def _parts(block: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The attention and the feed-forward part of a block.

    Raises:
        ModelError: it is made of other parts.
    """
    norms = {id(module) for module in block.modules() if "norm" in type(module).__name__.lower()}
    parts = [part for part in block.children() if any(True for _ in part.parameters()) and id(part) not in norms]
    attention = [part for part in parts if "attention" in type(part).__name__.lower()]
    others = [part for part in parts if part not in attention]
    if len(attention) != 1 or len(others) != 1:
        raise ModelError(
            f"{type(block).__name__}: not one attention and one feed-forward part, so it takes no bottlenecks: use LoRA"
        )
    return attention[0], others[0]


def _named(decoder: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of the decoder with their names, each with a dot behind."""
    for name, module in decoder.named_modules():
        yield f"{name}." if name else "", module


def _norms(model: PreTrainedModel) -> Iterator[nn.Module]:
    """The decoder's norms: the modules without children that are called so."""
    for module in cast(nn.Module, model.get_decoder()).modules():
        if "norm" in type(module).__name__.lower() and not list(module.children()):
            yield module
