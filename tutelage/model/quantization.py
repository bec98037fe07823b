"""Base weights in 4 or 8 bits, by bitsandbytes: less memory beneath an adapter, and another, coarser base.

Source: Dettmers et al. 2022, arXiv 2208.07339 (8 bits); Dettmers et al. 2023, arXiv 2305.14314 (4 bits: NormalFloat,
with scales that are quantised themselves).
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from tutelage.errors import MissingExtraError
from tutelage.model.device import device


def options(bits: int, precision: torch.dtype) -> dict[str, Any]:
    """What transformers' ``from_pretrained`` is given; the head and embeddings stay as they are.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "quantization", f"quantization_bit {bits}")
    config = BitsAndBytesConfig(
        load_in_8bit=bits == 8, load_in_4bit=bits == 4, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision, llm_int8_skip_modules=["lm_head", "score"],
    )  # fmt: skip
    return {"quantization_config": config, "device_map": {"": device()}}


def settle(model: nn.Module) -> None:
    """Keeps 4-bit matrices on a CPU in the form that gradients can pass.

    In evaluation mode bitsandbytes (0.50) packs them anew for inference; a backward pass through those gives wrong
    gradients, and dropout is off in most of our training.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # pyright: ignore[reportArgumentType]
