"""Keys and values of sequences that are being generated, in slots that stay compact, and attention over them.

Prompts are read as a flat row by the ordinary attention, which hands their keys and values on to `Cache.keep`. Then
every step gives each slot one token, and `Cache.attend` is its attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE = 32
"""Columns are read in steps of so many, so that the sums of a sequence do not depend on how long its neighbours are."""
FEWEST = 4
"""From so many rows on, each row of a matrix product is added up in one order (measured), however many there are."""
TOGETHER = 16
"""Slots that are attended to in one call, as far as the longest of them reaches."""

Span = tuple[int, int, tuple[int, ...]]
"""A prompt in a flat row: where it starts, how long it is, and the slots that it fills."""


class Cache:
    """Slots ``0 .. active - 1`` are in use. Shapes: a pair for each layer of ``(slots, heads_kv, capacity, size)``."""

    def __init__(self, layers: int, slots: int, capacity: int, fewest: int = FEWEST) -> None:
        self.layers: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self.slots = slots
        self.fewest = fewest
        """Rows of a step, at least."""
        self.capacity = -(-capacity // STRIDE) * STRIDE
        self.lengths: Tensor = torch.zeros(slots, dtype=torch.long)
        """Tokens in each slot, with those of the call in progress; kept in main memory."""
        self.active = 0
        self.spans: tuple[Span, ...] = ()
        """While prompts are read: where they stand in the row; else every active slot takes one token."""
        self._rows = self._places = torch.empty(0, dtype=torch.long)
        self._reach: list[int] = []
        self._biases: dict[int | None, Tensor] = {}

    def read(self, spans: tuple[Span, ...]) -> None:
        """The next call of the model reads prompts."""
        self.spans = spans
        for _, length, slots in spans:
            self.lengths[list(slots)] = length

    def step(self, active: int, device: torch.device) -> Tensor:
        """The next call of the model takes one token for each of the first ``active`` slots: gives their positions.

        There are at least ``fewest``; what comes of those beyond the active slots means nothing.
        """
        self.spans, self.active, self._biases = (), active, {}
        before = self.lengths[:active].clone()
        self.lengths[:active] += 1
        self._reach = [-(-int(part.max()) // STRIDE) * STRIDE for part in self.lengths[:active].split(TOGETHER)]
        self._places, self._rows = before.to(device), torch.arange(active, device=device)
        return F.pad(self._places, (0, max(0, self.fewest - active)))

    def keep(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Puts the prompts of the row into their slots. Shapes: (1, heads_kv, T, size)."""
        keys, values = self.keys_values(layer, key)
        for start, length, slots in self.spans:
            for slot in slots:
                keys[slot, :, :length] = key[0, :, start : start + length]
                values[slot, :, :length] = value[0, :, start : start + length]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None,
        softcap: float | None,
    ) -> Tensor:  # fmt: skip
        """Attention of one new token for each active slot; T are those of `step`.

        Shapes: query (1, heads, T, size), key and value (1, heads_kv, T, size); gives (1, T, heads, size).
        """
        keys, values = self.keys_values(layer, key)
        keys[self._rows, :, self._places] = key[0, :, : self.active].transpose(0, 1)
        values[self._rows, :, self._places] = value[0, :, : self.active].transpose(0, 1)
        heads, heads_kv, size = query.shape[1], key.shape[1], query.shape[3]
        # Query heads that share a key head become rows of one small matrix product.
        grouped = query[0, :, : self.active].transpose(0, 1).reshape(self.active, heads_kv, heads // heads_kv, size)
        bias = self._bias(window, grouped)
        parts: list[Tensor] = []
        for number, reach in enumerate(self._reach):
            rows = slice(number * TOGETHER, min((number + 1) * TOGETHER, self.active))
            some = (grouped[rows], keys[rows, :, :reach], values[rows, :, :reach], bias[rows, ..., :reach])
            parts.append(_attention(*some, scale, softcap))
        if query.shape[2] > self.active:
            parts.append(grouped.new_zeros(query.shape[2] - self.active, *grouped.shape[1:]))
        return torch.cat(parts).reshape(1, query.shape[2], heads, size)

    def keys_values(self, layer: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The storage of a layer, made at first use. ``like``: (1, heads_kv, T, size)."""
        pair = self.layers[layer]
        if pair is None:
            shape = (self.slots, like.shape[1], self.capacity, like.shape[3])
            pair = (like.new_zeros(shape), like.new_zeros(shape))
            self.layers[layer] = pair
        return pair

    def move(self, source: int, target: int) -> None:
        """Copies one slot over another."""
        length = int(self.lengths[source])
        for pair in self.layers:
            if pair is not None:
                pair[0][target, :, :length] = pair[0][source, :, :length]
                pair[1][target, :, :length] = pair[1][source, :, :length]
        self.lengths[target] = length

    def _bias(self, window: int | None, like: Tensor) -> Tensor:
        """(active, 1, 1, columns) 0 where a slot's new token may look, minus infinity elsewhere; made once a step."""
        if window not in self._biases:
            columns = torch.arange(max(self._reach), device=like.device)[None, :]
            places = self._places[:, None]
            seen = columns <= places
            if window is not None:
                seen &= columns > places - window
            zeros = like.new_zeros(seen.shape)
            self._biases[window] = zeros.masked_fill_(~seen, float("-inf"))[:, None, None, :]
        return self._biases[window]


def _attention(
    query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scale: float, softcap: float | None
) -> Tensor:
    if softcap is None:
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=scale)
    scores = torch.tanh(query @ keys.transpose(-1, -2) * (scale / softcap)) * softcap
    return torch.softmax((scores + bias).float(), -1).to(values.dtype) @ values
