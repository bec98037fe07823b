"""From a flat row to hidden states, and from hidden states to logits, whatever the architecture."""

from __future__ import annotations

import contextlib
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.model import device, products
from tutelage.model.attention import Cache, Layout
from tutelage.model.checkpoint import base


def hidden_states(model: nn.Module, ids: Tensor, positions: Tensor, layout: Layout | Cache) -> Tensor:
    """(T, width) the decoder's last hidden states of a flat row; ids and positions are (T,)."""
    spread = getattr(base(model), "hidden_states", None)  # see `distribution.shard`
    return decoded(base(model), ids, positions, layout) if spread is None else spread(ids, positions, layout)


def decoded(model: nn.Module, ids: Tensor, positions: Tensor, layout: Layout | Cache) -> Tensor:
    """The same of a transformers model, whose weights are all at hand."""
    decoder = cast(nn.Module, model.get_decoder())  # pyright: ignore
    # Answers are drawn in float32: a step reads each weight once, and would have to convert it.
    with contextlib.ExitStack() as how:
        if isinstance(layout, Layout):
            how.enter_context(device.half())
            how.enter_context(products.reading())
        output = decoder(input_ids=ids[None], position_ids=positions[None], use_cache=False, layout=layout)
    return cast(Tensor, output.last_hidden_state)[0]


def head(model: nn.Module) -> tuple[Tensor, Tensor | None]:
    """The output matrix (vocabulary, width) and its bias (vocabulary,), if it has one."""
    output = base(model).get_output_embeddings()
    return cast(Tensor, output.weight), cast("Tensor | None", getattr(output, "bias", None))  # pyright: ignore


def head_scaling(model: nn.Module) -> tuple[float, float | None]:
    """What some architectures do to their logits: a factor, and a soft cap."""
    config = base(model).config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    return scale, getattr(config, "final_logit_softcapping", None)


def scaled(logits: Tensor, scale: float, cap: float | None, temperature: float = 1.0) -> Tensor:
    """(N, vocabulary) logits over the temperature, in float32 or better, of what the head gives."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if cap is not None:
        return torch.tanh(logits * (scale / cap)) * (cap / temperature)
    return logits if scale == temperature == 1 else logits.mul_(scale / temperature)


def logits(model: nn.Module, hidden: Tensor, temperature: float = 1.0) -> Tensor:
    """(N, vocabulary) float32 logits of hidden states (N, width), over the temperature."""
    return scaled(F.linear(hidden, *head(model)), *head_scaling(model), temperature)
