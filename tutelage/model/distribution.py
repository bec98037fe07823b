"""Several processes that train one model: who writes, who learns from what, and how the weights are spread.

``torchrun --nproc-per-node 2 -m tutelage sft ...`` starts them. Every process runs the same stage and none of its code
knows: the rows of a step are dealt out by `tutelage.training.trainer`, weights, gradients and optimizer states are
spread by FSDP2 while it trains, and what rank 0 alone may write is decided in `tutelage.run` and here.
"""

from __future__ import annotations

import contextlib
import copy
import types
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from tutelage.run import processes, rank

_plain: weakref.WeakKeyDictionary[nn.Module, nn.Module] = weakref.WeakKeyDictionary()
"""Of each model that is spread, its plain form without weights."""


def wait() -> None:
    """Until every process is here."""
    if processes() > 1:
        dist.barrier()


def summed(numbers: Mapping[str, float]) -> dict[str, float]:
    """The numbers, each summed over the processes, which all have the same names."""
    if processes() == 1:
        return dict(numbers)
    row = torch.tensor([numbers[name] for name in sorted(numbers)], dtype=torch.float64, device=_meeting())
    dist.all_reduce(row)
    found = dict(zip(sorted(numbers), row.tolist(), strict=True))
    return {name: found[name] for name in numbers}


def largest(number: int) -> int:
    """The largest of the processes' numbers."""
    if processes() == 1:
        return number
    found = torch.tensor(number, device=_meeting())
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def gathered(texts: list[str]) -> list[str]:
    """The texts of every process, in order of rank."""
    if processes() == 1:
        return texts
    found: list[Any] = [None] * processes()
    dist.all_gather_object(found, texts)
    return [text for part in found for text in part]


def share(chosen: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Those of the chosen that this process learns from, in their order; ``sizes`` are their tokens.

    The largest are dealt out first, each to the process that has the fewest tokens: by all of them in the same way.
    """
    if processes() == 1:
        return list(chosen)
    loads = [0] * processes()
    owner = [0] * len(chosen)
    for place in sorted(range(len(chosen)), key=lambda place: -sizes[place]):
        owner[place] = loads.index(min(loads))
        loads[owner[place]] += sizes[place]
    return [index for index, who in zip(chosen, owner, strict=True) if who == rank()]


def shard(model: nn.Module, decode: Callable[..., Tensor]) -> None:
    """Spreads weights, gradients and with them optimizer states over the processes, if there are several.

    model: a transformers or PEFT model, or a ModuleDict of some. decode: the function of a transformers model by which
    `tutelage.model.forward` computes its hidden states; the weights are gathered around it, layer by layer.
    Gradients are summed over the processes, for losses are shares of the whole step. On CUDA the weights are float32
    and computed with in bfloat16. Source: Zhao et al. 2023, arXiv 2304.11277; `torch.distributed.fsdp.fully_shard`.
    """
    if processes() == 1:
        return
    for part in models(model):
        _plain[part] = _without_weights(part)
        root = _base(part)
        low = root.device.type == "cuda"
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if low else MixedPrecisionPolicy()
        for module in [*(m for m in root.modules() if isinstance(m, GradientCheckpointingLayer)), root]:
            for parameter in module.parameters() if low else ():
                if parameter.requires_grad and not isinstance(parameter, DTensor):
                    parameter.data = parameter.data.float()
            spread = fully_shard(module, mp_policy=policy)
            spread.set_gradient_divide_factor(1.0)
            spread.set_force_sum_reduction_for_comms(True)  # gloo knows no other
        root.hidden_states = types.MethodType(decode, root)  # pyright: ignore[reportArgumentType]
        register_fsdp_forward_method(root, "hidden_states")


def fold(model: nn.Module) -> None:
    """Frees weights that are still gathered from a forward pass that had no backward pass; before they change."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(model: nn.Module) -> nn.Module:
    """A plain model with all the weights of one that is spread, or the model itself. Every process must ask."""
    if model not in _plain:
        return model
    plain = copy.deepcopy(_plain[model], _shared(model))
    kinds = {name: value.dtype for name, value in plain.state_dict().items()}
    plain.load_state_dict(
        {name: full(value).to(kinds[name]) for name, value in model.state_dict().items()}, assign=True
    )
    _base(plain).tie_weights()
    return plain


def full(value: Tensor) -> Tensor:
    """The whole of a tensor that may be spread. Every process must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(value: Tensor, spread: Tensor) -> Tensor:
    """A whole tensor, which every process has, spread as another one is."""
    if isinstance(spread, DTensor):
        return distribute_tensor(value, spread.device_mesh, spread.placements, src_data_rank=None)
    return value


@contextlib.contextmanager
def exchanged(model: nn.Module, others: Sequence[tuple[Tensor, Tensor]]) -> Generator[None]:
    """Meanwhile some weights of a model have other values, given whole, whether they are spread or not."""
    fold(model)  # what is still gathered has the old ones
    kept: list[Tensor] = []
    for weight, other in others:
        if isinstance(weight, DTensor):
            mine = weight.to_local().detach()
            kept.append(mine.clone())
            mine.copy_(cast(DTensor, like(other, weight)).to_local())
        else:
            kept.append(weight.data)
            weight.data = other
    try:
        yield
    finally:
        fold(model)
        for (weight, _), own in zip(others, kept, strict=True):
            if isinstance(weight, DTensor):
                weight.to_local().detach().copy_(own)
            else:
                weight.data = own


def models(model: nn.Module) -> Iterator[nn.Module]:
    """The transformers and PEFT models in what a trainer is given."""
    parts = model.values() if isinstance(model, nn.ModuleDict) else [model]
    yield from (part for part in parts if isinstance(part, PreTrainedModel | PeftModel))


def _base(model: nn.Module) -> PreTrainedModel:
    return model.get_base_model() if isinstance(model, PeftModel) else model  # pyright: ignore


def _without_weights(model: nn.Module) -> nn.Module:
    """A copy whose weights take no memory; tied ones stay tied."""
    memo = _shared(model)
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    return copy.deepcopy(model, memo)


def _shared(model: nn.Module) -> dict[int, Any]:
    """What a copy has in common with the model: configs, which a stage may still write into."""
    base = _base(model)
    kept = [base.config, getattr(base, "generation_config", None)]
    return {id(one): one for one in kept if one is not None}


def _meeting() -> torch.device:
    """Where the processes' numbers meet."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
