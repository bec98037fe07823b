"""Attention over a flat row of tokens: no padding, prompts shared, one function for every architecture.

A batch is one row of tokens, ``(1, T)``. A `Layout` says where its trees stand: a tree is a prompt and the branches
that share it, laid one after the other; a plain sequence is a tree with one branch. A branch sees its prompt and
itself, never another branch or tree. Positions go on from the prompt's end in each branch.

The same function serves generation: a `Cache` in place of the layout keeps keys and values in slots.

It is registered with transformers' ``AttentionInterface`` as "tutelage", so every architecture that goes through the
interface can use it. `check` compares it with the architecture's own attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from tutelage.errors import ModelError

NAME = "tutelage"


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


class Cache:
    """Keys and values of the sequences that are being generated, in slots that stay compact.

    Slots ``0 .. active - 1`` are in use. Shapes: one pair per layer of ``(slots, heads_kv, capacity, head_size)``.
    """

    def __init__(self, layers: int, slots: int, capacity: int) -> None:
        self.layers: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self.slots = slots
        self.capacity = capacity
        self.lengths: Tensor = torch.zeros(slots, dtype=torch.long)
        """Tokens already stored in each slot, not counting those of the call in progress."""
        self.active = 0
        self.prefill: Layout | None = None
        """While prompts are read: their layout; else every active slot takes one token."""
        self.targets: tuple[tuple[int, ...], ...] = ()
        """While prompts are read: the slots that each of them fills."""

    def keys_values(self, layer: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The storage of a layer, made at first use. ``like``: (1, heads_kv, T, head_size)."""
        pair = self.layers[layer]
        if pair is None:
            shape = (self.slots, like.shape[1], self.capacity, like.shape[3])
            pair = (like.new_zeros(shape), like.new_zeros(shape))
            self.layers[layer] = pair
        return pair

    def move(self, source: int, target: int) -> None:
        """Copies one slot over another."""
        for pair in self.layers:
            if pair is not None:
                length = int(self.lengths[source])
                pair[0][target, :, :length] = pair[0][source, :, :length]
                pair[1][target, :, :length] = pair[1][source, :, :length]
        self.lengths[target] = self.lengths[source]


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
        ModelError: the architecture did not hand the layout on, or asks for attention sinks.
    """
    if layout is None:
        raise ModelError(f"{type(module).__name__}: its model does not hand the layout on to attention: use another")
    if other.get("s_aux") is not None:
        raise ModelError(f"{type(module).__name__}: attention sinks are not supported yet")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    options = _Options(scale, dropout, sliding_window, softcap)
    if isinstance(layout, Layout):
        return _by_layout(query, key, value, layout, options), None
    keys, values = layout.keys_values(int(module.layer_idx), key)  # pyright: ignore[reportArgumentType]
    if layout.prefill is not None:
        for tree, targets in zip(layout.prefill.trees, layout.targets, strict=True):
            end = tree.start + tree.branches[0]
            for slot in targets:
                keys[slot, :, : tree.branches[0]] = key[0, :, tree.start : end]
                values[slot, :, : tree.branches[0]] = value[0, :, tree.start : end]
        return _by_layout(query, key, value, layout.prefill, options), None
    return _decode(query, key, value, keys, values, layout, options), None


AttentionInterface.register(NAME, attention)


@dataclass(frozen=True, slots=True)
class _Options:
    scale: float
    dropout: float
    window: int | None
    softcap: float | None


def _by_layout(query: Tensor, key: Tensor, value: Tensor, layout: Layout, options: _Options) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    parts: list[Tensor] = []
    for tree in layout.trees:
        middle = tree.start + tree.prompt
        if len(tree.branches) == 1:
            rows = slice(tree.start, middle + tree.branches[0])
            parts.append(_causal(query[:, :, rows], key[:, :, rows], value[:, :, rows], options))
            continue
        shared = slice(tree.start, middle)
        if tree.prompt:
            parts.append(_causal(query[:, :, shared], key[:, :, shared], value[:, :, shared], options))
        for length in tree.branches:
            own = slice(middle, middle + length)
            keys = torch.cat([key[:, :, shared], key[:, :, own]], 2)
            values = torch.cat([value[:, :, shared], value[:, :, own]], 2)
            parts.append(_causal(query[:, :, own], keys, values, options))
            middle += length
    return torch.cat(parts, 2).transpose(1, 2)


def _causal(query: Tensor, key: Tensor, value: Tensor, options: _Options) -> Tensor:
    """The queries are the last tokens of the keys' sequence."""
    new, whole = query.shape[2], key.shape[2]
    windowed = options.window is not None and whole > options.window
    if new == whole and not windowed and options.softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=options.scale, dropout_p=options.dropout
        )
    rows = torch.arange(whole - new, whole, device=query.device)[:, None]
    columns = torch.arange(whole, device=query.device)[None, :]
    mask = columns <= rows
    if windowed and options.window is not None:
        mask &= columns > rows - options.window
    return _masked(query, key, value, mask, options)


def _masked(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, options: _Options) -> Tensor:
    if options.softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=options.scale, dropout_p=options.dropout
        )
    scores = query @ key.transpose(-1, -2) * options.scale
    scores = options.softcap * torch.tanh(scores / options.softcap)
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")).float(), -1).to(value.dtype)
    return F.dropout(weights, options.dropout) @ value


def _decode(
    query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, cache: Cache, options: _Options
) -> Tensor:
    """One new token for each active slot: T is their number."""
    active = cache.active
    places = cache.lengths[:active]
    slots = torch.arange(active, device=query.device)
    keys[slots, :, places] = key[0].transpose(0, 1)
    values[slots, :, places] = value[0].transpose(0, 1)
    longest = int(places.max()) + 1
    columns = torch.arange(longest, device=query.device)[None, :]
    mask = columns <= places[:, None]
    if options.window is not None:
        mask &= columns > places[:, None] - options.window
    heads, heads_kv, size = query.shape[1], key.shape[1], query.shape[3]
    # Query heads that share a key head become rows of one small matrix product.
    grouped = query[0].transpose(0, 1).reshape(active, heads_kv, heads // heads_kv, size)
    out = _masked(grouped, keys[:active, :, :longest], values[:active, :, :longest], mask[:, None, None, :], options)
    return out.reshape(1, active, heads, size)


def check(model: PreTrainedModel) -> None:
    """Compares this attention with the architecture's own on two short sequences.

    Raises:
        ModelError: the logits differ, so the architecture needs something that is not handled here.
    """
    vocabulary = model.get_input_embeddings().num_embeddings  # pyright: ignore[reportAttributeAccessIssue]
    row = torch.arange(11, device=model.device)[None] * 7 % int(vocabulary)  # pyright: ignore[reportArgumentType]
    positions = torch.cat([torch.arange(5), torch.arange(6)]).to(model.device)[None]
    layout = Layout((Tree(0, 0, (5,)), Tree(5, 2, (4,))))
    training = model.training
    model.eval()
    with torch.no_grad():
        try:
            ours = model(input_ids=row, position_ids=positions, use_cache=False, layout=layout).logits
        except TypeError as error:
            raise ModelError(f"{type(model).__name__}: cannot be used: {error}") from None
        model.set_attn_implementation("eager")
        first = model(input_ids=row[:, :5], use_cache=False).logits
        second = model(input_ids=row[:, 5:], use_cache=False).logits
        model.set_attn_implementation(NAME)
    model.train(training)
    difference = float((ours.float() - torch.cat([first, second], 1).float()).abs().max())
    limit = 1e-3 if ours.dtype == torch.float32 else 0.25
    if not difference < limit:
        raise ModelError(
            f"{type(model).__name__}: its logits differ by {difference:.2g} from its own attention's: "
            "this architecture is not supported; tested are Llama, Qwen2, Qwen3, Mistral, Gemma 2 and GPT-2"
        )
