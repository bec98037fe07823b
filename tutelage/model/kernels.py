"""Liger's kernels on a CUDA device: norms, rotary embeddings and gated feed-forwards of a model in one pass each.

They come with the extra "cuda" and are used where it is installed; ``TUTELAGE_KERNELS=torch`` leaves them out. The
output layer's is in `training/fused.py`.

Source: Hsu et al. 2024, arXiv 2410.10989.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.integrations.liger import apply_liger_kernel

from tutelage.errors import ModelError
from tutelage.model import device, products
from tutelage.model.attention import Layout, Tree


def fuse(model: PreTrainedModel) -> None:
    """Puts the kernels in place of a model's own functions; an architecture that Liger does not know stays as it is.

    On a CPU only linear layers may go another way, see `products`.

    Raises:
        ModelError: its hidden states are then others.
    """
    products.settle(model)
    if not device.liger():
        return
    before = _states(model)
    room = vars(sys.modules[type(model).__module__])
    classes = {name: value for name, value in room.items() if isinstance(value, type)}
    apply_liger_kernel(model, _parts(model))
    room.update(classes)  # Liger puts its own there for all models to come, whatever their activation
    after = _states(model)
    apart = float(((after - before).norm(dim=-1) / before.norm(dim=-1).clamp_min(1e-30)).median())
    if not apart < (1e-3 if model.dtype == torch.float32 else 0.1):
        raise ModelError(
            f"{type(model).__name__}: its hidden states differ by {apart:.2g} with Liger's kernels: set "
            "TUTELAGE_KERNELS=torch"
        )


def _parts(model: PreTrainedModel) -> dict[str, bool]:
    """What is replaced, of what Liger knows of the architecture; its loss is not, for ours does not call it."""
    config = model.config.get_text_config()
    activation = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    return {
        "rope": True, "rms_norm": True, "swiglu": activation in ("silu", "swish"),
        "geglu": activation == "gelu_pytorch_tanh", "cross_entropy": False, "fused_linear_cross_entropy": False,
    }  # fmt: skip


@torch.no_grad()
def _states(model: PreTrainedModel) -> torch.Tensor:
    """(8, width) float32 hidden states of a short sequence."""
    decoder: Any = model.get_decoder()
    row = torch.arange(8, device=model.device) * 7 % int(model.get_input_embeddings().num_embeddings)  # pyright: ignore
    training = model.training
    model.eval()
    found = decoder(
        input_ids=row[None], position_ids=torch.arange(8, device=model.device)[None], use_cache=False,
        layout=Layout((Tree(0, 0, (8,)),)),
    )  # fmt: skip
    model.train(training)
    return found.last_hidden_state[0].float()
