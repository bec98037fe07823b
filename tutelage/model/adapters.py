"""LoRA through peft: a few small matrices are trained, the base weights stay."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Literal

from peft import LoraConfig, TaskType, get_peft_model
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tutelage.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Settings of low-rank adaptation. Source: Hu et al. 2021, arXiv 2106.09685, section 4.1."""

    lora_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of the adapter's matrices; 0 trains the whole weights instead."""
    lora_alpha: Annotated[float, Field(gt=0)] = 16
    """The adapter's output is scaled by alpha / rank."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the adapter's input."""
    lora_target: str = "all-linear"
    """Module names with commas between them, or "all-linear"."""


def adapt(model: PreTrainedModel, settings: Lora, task: Literal["causal", "score"], seed: int) -> nn.Module:
    """The model with an adapter on it, ready to train; with rank 0 the model itself.

    Raises:
        SettingsError: a target that the model does not have.
    """
    if settings.lora_rank == 0:
        return model.requires_grad_(True)
    target = settings.lora_target
    names: str | list[str] = target if target == "all-linear" else [name.strip() for name in target.split(",")]
    import torch

    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=settings.lora_dropout,
        target_modules=names,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2's matrices
        task_type=TaskType.CAUSAL_LM if task == "causal" else TaskType.SEQ_CLS,
    )
    try:
        with quiet_peft():
            adapted = get_peft_model(model, config)  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise SettingsError(f"lora_target: {target!r}: {str(error).splitlines()[0]}") from None
    return adapted.eval()


@contextlib.contextmanager
def quiet_peft() -> Generator[None]:
    """Without the warning that peft reads a property of transformers by its older name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield
