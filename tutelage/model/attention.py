"""Attention over a flat row of tokens: no padding, prompts shared, one function for every architecture.

A batch is one row of tokens, ``(1, T)``. A `Layout` says where its trees stand: a tree is a prompt and the branches
that share it, laid one after the other; a plain sequence is a tree with one branch. A branch sees its prompt and
itself, never another branch or tree. Positions go on from the prompt's end in each branch.

The same function serves generation: a `Cache` (`model/cache.py`) in place of the layout keeps keys and values in slots.

It is registered with transformers' ``AttentionInterface`` as "tutelage", so every architecture that goes through the
interface can use it. `check` looks at an architecture's masks and compares its numbers with its own attention's.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from tutelage.errors import ModelError
from tutelage.model import device
from tutelage.model.cache import Cache

NAME = "tutelage"
SURVEY = "tutelage_survey"

TESTED = {
    "llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "qwen3_moe": "Qwen3-MoE", "mistral": "Mistral",
    "mixtral": "Mixtral", "gemma2": "Gemma 2", "gemma3_text": "Gemma 3", "gpt2": "GPT-2", "gpt_neox": "GPT-NeoX",
    "opt": "OPT", "phi3": "Phi-3", "olmo2": "OLMo 2", "olmo3": "OLMo 3", "granite": "Granite", "smollm3": "SmolLM3",
    "cohere2": "Cohere 2", "glm4": "GLM-4", "starcoder2": "StarCoder2",
}  # fmt: skip
"""Architectures that tests/model/test_architectures.py goes through, by the names in their configs."""

FOREIGN = {
    "s_aux": "attention sinks",
    "sinks": "attention sinks",
    "position_bias": "a bias for each distance",
    "indices": "sparse attention",
    "block_indices": "sparse attention",
}
"""What some architectures hand to their attention beside queries, keys and values, and ours does not have."""

SHORT = 256
"""Up to so many keys attention is faster in float32 than in bfloat16 on AMD's processors."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Where one tree stands in the row, in tokens."""

    start: int
    prompt: int
    """Length of the shared prompt; may be 0."""
    branches: tuple[int, ...]
    """Length of each branch."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The trees of a flat row, in order and without gaps."""

    trees: tuple[Tree, ...]


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  part of the interface
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    layout: Layout | Cache | None = None,
    **other: Any,
) -> tuple[Tensor, None]:
    """Attention by layout.

    Shapes: query (1, heads, T, size), key and value (1, heads_kv, T, size); gives (1, T, heads, size).

    Raises:
        ModelError: the architecture did not hand the layout on, or a layer asks for one of `FOREIGN`.
    """
    if layout is None:
        raise ModelError(f"{type(module).__name__}: its model does not hand the layout on to attention: use another")
    if (foreign := _foreign(other)) is not None:
        raise ModelError(f"{type(module).__name__}: {foreign}, which is not supported: use another model")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    options = _Options(scale, dropout, sliding_window, softcap)
    if isinstance(layout, Layout):
        return _by_layout(query, key, value, layout, options), None
    layer = int(module.layer_idx)  # pyright: ignore[reportArgumentType]
    if layout.spans:
        layout.keep(layer, key, value)
        prompts = Layout(tuple(Tree(start, 0, (length,)) for start, length, _ in layout.spans))
        return _by_layout(query, key, value, prompts, options), None
    return layout.attend(layer, query, key, value, scale, sliding_window, softcap), None


AttentionInterface.register(NAME, attention)


def _foreign(asked: Mapping[str, Any]) -> str | None:
    """What a layer asks for that this attention does not have."""
    return next((f"it asks for {words}" for name, words in FOREIGN.items() if asked.get(name) is not None), None)


@dataclass(frozen=True, slots=True)
class _Options:
    scale: float
    dropout: float
    window: int | None
    softcap: float | None


def _by_layout(query: Tensor, key: Tensor, value: Tensor, layout: Layout, options: _Options) -> Tensor:
    if _varlen_serves(query, value, options):
        return _varlen(query, key, value, layout, options)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    lengths, seen = _pieces(layout)
    parts: list[Tensor] = []
    trunk = key, value
    # One split of the row, not slices of it: the gradient of each slice would be a whole row, mostly of zeros.
    for q, k, v, before in zip(
        query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), seen, strict=True
    ):
        if before:
            k, v = (torch.cat([whole[:, :, :before], own], 2) for whole, own in zip(trunk, (k, v), strict=True))
        else:
            trunk = k, v
        parts.append(_causal(q, k, v, options).transpose(1, 2))
    return torch.cat(parts, 1)


def _pieces(layout: Layout) -> tuple[list[int], list[int]]:
    """How the row is cut for attention: the length of each piece, and how much of the prompt it sees before itself.

    A prompt and its first branch are one piece, as in a plain sequence; each further branch is one.
    """
    lengths: list[int] = []
    seen: list[int] = []
    for tree in layout.trees:
        lengths += [tree.prompt + tree.branches[0], *tree.branches[1:]]
        seen += [0] + [tree.prompt] * (len(tree.branches) - 1)
    return lengths, seen


def _varlen_serves(query: Tensor, value: Tensor, options: _Options) -> bool:
    """Whether torch's kernel for sequences of mixed lengths takes these: on CUDA, in half precision."""
    size = query.shape[-1]
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and options.softcap is None
        and not options.dropout
        and size == value.shape[-1]
        and size % 8 == 0
        and size <= 256
    )


def _varlen(query: Tensor, key: Tensor, value: Tensor, layout: Layout, options: _Options) -> Tensor:
    """All pieces in one call. The last of a piece's queries sees the last of its keys, as the kernel has it."""
    places, queries, keys, longest = _spans(layout, query.device)
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if places is not None:
        k, v = k.index_select(0, places), v.index_select(0, places)
    out = varlen_attn(
        q, k, v, queries, keys, *longest, scale=options.scale, enable_gqa=q.shape[1] != k.shape[1],
        window_size=(-1 if options.window is None else options.window - 1, 0),
    )  # fmt: skip
    return cast(Tensor, out)[None]


@functools.lru_cache(maxsize=8)
def _spans(layout: Layout, device: torch.device) -> tuple[Tensor | None, Tensor, Tensor, tuple[int, int]]:
    """Where the pieces stand: every layer asks for the same.

    Gives the places in the row of the keys that the pieces see, piece by piece (None if they are the row itself), the
    bounds of the pieces' queries and of their keys (each int32), and the most queries and keys of a piece.
    """
    lengths, seen = _pieces(layout)
    places: list[int] = []
    trunk = start = 0
    for length, before in zip(lengths, seen, strict=True):
        trunk = trunk if before else start
        places += [*range(trunk, trunk + before), *range(start, start + length)]
        start += length
    whole = [length + before for length, before in zip(lengths, seen, strict=True)]
    queries, keys = (
        torch.tensor([0, *itertools.accumulate(sizes)], dtype=torch.int32, device=device) for sizes in (lengths, whole)
    )
    index = torch.tensor(places, device=device) if any(seen) else None
    return index, queries, keys, (max(lengths), max(whole))


def _causal(query: Tensor, key: Tensor, value: Tensor, options: _Options) -> Tensor:
    """The queries are the last tokens of the keys' sequence."""
    if key.shape[2] <= SHORT and device.halved() and device.amd():
        with torch.autocast("cpu", enabled=False):
            return _full(query.float(), key.float(), value.float(), options).to(value.dtype)
    return _full(query, key, value, options)


def _full(query: Tensor, key: Tensor, value: Tensor, options: _Options) -> Tensor:
    new, whole = query.shape[2], key.shape[2]
    window = options.window if options.window is not None and whole > options.window else None
    if new == whole and window is None and options.softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=options.scale, dropout_p=options.dropout
        )
    places = torch.arange(whole, device=query.device)
    return _masked(query, key, value, _visible(places[-new:], places, window), options)


def _visible(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """(queries, keys) which places a token at each place sees: those up to its own, of them the last ``window``."""
    mask = keys <= queries[:, None]
    return mask if window is None else mask & (keys > queries[:, None] - window)


def _masked(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, options: _Options) -> Tensor:
    if options.softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=options.scale, dropout_p=options.dropout
        )
    scores = query @ key.transpose(-1, -2) * options.scale
    scores = options.softcap * torch.tanh(scores / options.softcap)
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")).float(), -1).to(value.dtype)
    return F.dropout(weights, options.dropout) @ value


def check(model: PreTrainedModel) -> None:
    """Tries an architecture before anything is learned with it.

    Every layer must attend by transformers' attention interface and ask for the mask that this attention gives; and the
    hidden states of a plain sequence and of a tree with two branches must be those of the architecture's own attention.

    Raises:
        ModelError: it needs something that is not handled here.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            _check_layers(model)
            _check_states(model)
    except TypeError as error:
        raise _unsupported(model, f"it does not take what it must hand on: {_first_line(error)}") from None
    finally:
        model.set_attn_implementation(NAME)
        model.train(training)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _unsupported(model: nn.Module, reason: str) -> ModelError:
    return ModelError(
        f"{type(model).__name__}: {reason}: this architecture is not supported: use a decoder all of whose layers "
        f"attend in the usual way; tested are {', '.join(TESTED.values())}"
    )


def _check_states(model: PreTrainedModel) -> None:
    """Compares a sequence of 5 tokens, and a tree with a prompt of 3 and branches of 4 and 3."""
    decoder: Any = model.get_decoder()
    row = torch.arange(15, device=model.device) * 7 % int(model.get_input_embeddings().num_embeddings)  # pyright: ignore
    positions = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 3, 4, 5], device=model.device)
    layout = Layout((Tree(0, 0, (5,)), Tree(5, 3, (4, 3))))
    model.set_attn_implementation(NAME)
    ours = decoder(input_ids=row[None], position_ids=positions[None], use_cache=False, layout=layout).last_hidden_state
    model.set_attn_implementation("eager")
    alone = [row[:5], row[5:12], torch.cat([row[5:8], row[12:]])]
    first, second, third = (decoder(input_ids=ids[None], use_cache=False).last_hidden_state for ids in alone)
    theirs = torch.cat([first, second, third[:, 3:]], 1).float()
    apart = ((ours.float() - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp_min(1e-30))[0]
    if ours.dtype in (torch.float32, torch.float64):
        worst, limit = float(apart.max()), 1e-3
    else:
        # Rounding may send a token to other experts, but not most tokens of a part.
        worst, limit = max(float(part.median()) for part in apart.split([5, 3, 4, 3])), 0.1
    if not worst < limit:
        raise _unsupported(model, f"its hidden states differ by {worst:.2g} from its own attention's")


@dataclass(frozen=True, slots=True)
class _Survey:
    """In place of a layout: the layers that attended, and what was found."""

    layers: list[int | None] = field(default_factory=list[int | None])
    faults: list[str] = field(default_factory=list[str])


FAR = (100_000, (1 << 17) - 1)
"""Places of the queries whose masks are looked at: far enough for any window."""


def _check_layers(model: PreTrainedModel) -> None:
    """Looks at each layer's mask far out in a sequence, without reading one so long."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        raise _unsupported(model, f"it has layers of kind {', '.join(sorted(kinds))}")
    survey = _Survey()
    model.set_attn_implementation(SURVEY)
    decoder: Any = model.get_decoder()
    try:
        decoder(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False, layout=survey)
    except (IndexError, RuntimeError) as error:
        raise _unsupported(model, f"it does more with its mask than hand it on: {_first_line(error)}") from None
    if survey.faults:
        raise _unsupported(model, survey.faults[0])
    if len(set(survey.layers)) != config.num_hidden_layers:
        raise _unsupported(
            model, f"of its {config.num_hidden_layers} layers {len(set(survey.layers))} attend by the interface"
        )


def _far_mask(*, mask_function: Callable[..., Tensor], device: torch.device | str = "cpu", **_: Any) -> Tensor:
    """(1, 1, 2, places) transformers' mask for the two far queries, whatever the sequence at hand."""
    queries, keys = _far(device)
    none = torch.zeros(1, 1, dtype=torch.long, device=device)
    return mask_function(none, none, queries[:, None], keys[None]).expand(len(queries), len(keys))[None, None]


def _survey(
    module: nn.Module, query: Tensor, _: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    sliding_window: int | None = None, layout: _Survey | None = None, **other: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Compares the layer's mask with ours; the one token that is there sees itself."""
    if layout is not None:
        layout.layers.append(cast("int | None", getattr(module, "layer_idx", None)))
        ours = _visible(*_far(query.device), sliding_window)
        if (foreign := _foreign(other)) is not None:
            layout.faults.append(foreign)
        elif attention_mask is None or not torch.equal(attention_mask, ours[None, None]):
            layout.faults.append("its mask is neither causal nor that of the window it names")
    return value.repeat_interleave(query.shape[1] // value.shape[1], 1).transpose(1, 2), None


def _far(device: torch.device | str) -> tuple[Tensor, Tensor]:
    return torch.tensor(FAR, device=device), torch.arange(FAR[-1] + 1, device=device)


AttentionInterface.register(SURVEY, _survey)
AttentionMaskInterface.register(SURVEY, _far_mask)
