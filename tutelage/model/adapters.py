"""Adapters: a few small weights are trained, the base weights stay.

LoRA and its variants through peft; Houlsby's bottlenecks in `bottleneck`. `adapt` puts on whichever is asked for.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tutelage.errors import SettingsError
from tutelage.model import bottleneck

Task = Literal["causal", "score"]


@dataclass(frozen=True, kw_only=True)
class Adapting:
    """Which weights are trained: all of them, or an adapter beside them.

    Source: Hu et al. 2021, arXiv 2106.09685, section 4.1; Kalajdzievski 2023, arXiv 2312.03732 (rsLoRA); Liu et al.
    2024, arXiv 2402.09353 (DoRA); Houlsby et al. 2019, arXiv 1902.00751 (bottlenecks); Dettmers et al. 2023, arXiv
    2305.14314 (quantised base weights).
    """

    lora_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of LoRA's matrices; 0 trains the whole weights, unless there is another adapter."""
    lora_alpha: Annotated[float, Field(gt=0)] = 16
    """LoRA's output is scaled by alpha / rank."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on LoRA's input, in sft alone: stages that compare with a reference train without dropout."""
    lora_target: str = "all-linear"
    """Module names with commas between them, or "all-linear"."""
    layers_to_transform: tuple[int, ...] = ()
    """The blocks that get an adapter, from 0; empty means all."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank) instead, so that a high rank learns as fast."""
    use_dora: bool = False
    """Train the length of each row of the weights apart from its direction; LoRA gives the direction."""
    bottleneck_size: Annotated[int, Field(ge=0)] = 0
    """Width of Houlsby's adapters, two in each block; 0 for none."""
    bottleneck_norms: bool = True
    """Whether the norms are trained beside the bottlenecks."""

    quantization_bit: Literal[0, 4, 8] = 0
    """Hold the base weights in 4 or 8 bits beneath LoRA (needs the extra quantization); 0 for as they are."""

    @property
    def adapts(self) -> bool:
        """Whether the base weights stay."""
        return bool(self.lora_rank or self.bottleneck_size)


def adapt(model: PreTrainedModel, settings: Adapting, task: Task, seed: int) -> nn.Module:
    """The model with an adapter on it, ready to train; without one asked for, the model itself.

    The first output is the model's own: LoRA's B and the bottlenecks' way up begin at 0.

    Raises:
        SettingsError: a target or a block that the model does not have, or that cannot be adapted.
    """
    if settings.quantization_bit and not settings.lora_rank:
        raise SettingsError("quantization_bit: quantised weights cannot be trained: give lora_rank as well")
    if not settings.adapts:
        if bottleneck.present(model):
            model.name_or_path = ""  # its base changes with the rest, so it stands on none
        return model.requires_grad_(True)
    if settings.lora_rank and settings.bottleneck_size:
        raise SettingsError("lora_rank and bottleneck_size: give one of them: a model takes one adapter at a time")
    blocks = _blocks(model, settings)
    torch.manual_seed(seed)
    if settings.bottleneck_size:
        bottleneck.attach(model, settings.bottleneck_size, blocks, settings.bottleneck_norms)
        return model.eval()
    with quiet_peft():
        return get_peft_model(model, _lora(model, settings, task, blocks)).eval()  # pyright: ignore[reportArgumentType]


def _lora(model: PreTrainedModel, settings: Adapting, task: Task, blocks: list[int]) -> LoraConfig:
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=settings.lora_dropout,
        target_modules=targets(model, settings.lora_target),
        layers_to_transform=blocks if settings.layers_to_transform else None,
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2's matrices
        task_type=TaskType.CAUSAL_LM if task == "causal" else TaskType.SEQ_CLS,
    )


def targets(model: PreTrainedModel, wanted: str) -> list[str]:
    """The names of the modules that LoRA goes on; for "all-linear" all linear ones but the head.

    Raises:
        SettingsError: the model has no module of such a name, or one that cannot be adapted.
    """
    inside = bottleneck.names(model)
    head = model.get_output_embeddings()
    embedding = model.get_input_embeddings()
    heads = [module for module in (head, getattr(model, "score", None)) if module is not None]
    found: dict[str, nn.Module] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D | nn.Embedding) and not name.startswith(inside)
    }
    linear = {
        name.rpartition(".")[2]
        for name, module in found.items()
        if not isinstance(module, nn.Embedding) and not any(module is one for one in heads)
    }
    if wanted in ("all-linear", "all"):
        return sorted(linear)
    names = [name.strip() for name in wanted.split(",")]
    for name in names:
        hit = [module for full, module in found.items() if full == name or full.endswith(f".{name}")]
        if not hit:
            raise SettingsError(
                f"lora_target: {name!r}: the model has no such module: it has {', '.join(sorted(linear))}"
            )
        if any(module is one for module in hit for one in heads):
            raise SettingsError(
                f"lora_target: {name!r}: the head takes no adapter: choose among {', '.join(sorted(linear))}"
            )
        if any(module is embedding for module in hit) and head is not None and head.weight is embedding.weight:
            raise SettingsError(
                f"lora_target: {name!r}: these embeddings are tied to the head, which takes no adapter: choose among "
                f"{', '.join(sorted(linear))}"
            )
    return names


def _blocks(model: PreTrainedModel, settings: Adapting) -> list[int]:
    """The numbers of the blocks to adapt.

    Raises:
        SettingsError: the model has no such block.
    """
    count = int(model.config.get_text_config().num_hidden_layers)
    for number in settings.layers_to_transform:
        if not 0 <= number < count:
            raise SettingsError(f"layers_to_transform: {number}: the model has the blocks 0 to {count - 1}")
    return sorted(set(settings.layers_to_transform)) or list(range(count))


@contextlib.contextmanager
def off(model: nn.Module) -> Generator[None]:
    """The model as it was before its adapter was put on."""
    with turned(model, None) if isinstance(model, PeftModel) else bottleneck.off(model):
        yield


@contextlib.contextmanager
def turned(model: PeftModel, name: str | None) -> Generator[None]:
    """The model with that adapter on and all others off; None for none. What is trainable stays so.

    peft's own switches also make all adapters but one untrainable.
    """
    parts = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    before = [(part._active_adapter, part._disable_adapters) for part in parts]  # pyright: ignore[reportPrivateUsage]
    for part in parts:
        part._disable_adapters = name is None  # pyright: ignore[reportPrivateUsage]
        if name is not None:
            part._active_adapter = [name]  # pyright: ignore[reportPrivateUsage]
    try:
        yield
    finally:
        for part, (active, disabled) in zip(parts, before, strict=True):
            part._active_adapter, part._disable_adapters = active, disabled  # pyright: ignore[reportPrivateUsage]


@contextlib.contextmanager
def quiet_peft() -> Generator[None]:
    """Without the warning that peft reads a property of transformers by its older name; what is missing is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        warnings.filterwarnings("error", message="Found missing adapter keys")
        yield
