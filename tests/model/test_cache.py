"""Attention over the slots of the cache, against plain attention over each sequence by itself."""

import pytest
import torch

from tutelage.model.cache import STRIDE, TOGETHER, Cache

HEADS, HEADS_KV, SIZE = 4, 2, 8


def plain(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, window: int | None, softcap: float | None):
    """(HEADS, SIZE) attention of the last token of one sequence. query: (HEADS, SIZE), keys: (HEADS_KV, L, SIZE)."""
    keys, values = (part.repeat_interleave(HEADS // HEADS_KV, 0) for part in (keys, values))
    scores = torch.einsum("hd,hld->hl", query, keys) * 0.3
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if window is not None:
        scores[:, : -window if window < scores.shape[1] else 0] = -torch.inf
    return torch.einsum("hl,hld->hd", torch.softmax(scores, -1), values)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_each_slot_sees_its_own_sequence_and_no_more(window: int | None, softcap: float | None) -> None:
    torch.manual_seed(0)
    lengths = [3, STRIDE, STRIDE - 1, 70, *range(1, 2 * TOGETHER)]
    count = len(lengths)
    cache = Cache(1, count, 80)
    row = torch.randn(2, 1, HEADS_KV, sum(lengths), SIZE)
    starts = [sum(lengths[:place]) for place in range(count)]
    cache.read(
        tuple((start, length, (slot,)) for slot, (start, length) in enumerate(zip(starts, lengths, strict=True)))
    )
    cache.keep(0, row[0], row[1])
    sequences = [row[:, 0, :, start : start + length] for start, length in zip(starts, lengths, strict=True)]
    keys, values = cache.keys_values(0, row[0])
    for slot, length in enumerate(lengths):
        keys[slot, :, length:] = values[slot, :, length:] = 7.0  # left by an older sequence: never looked at
    for step in range(3):
        positions = cache.step(count, torch.device("cpu"))
        assert positions.tolist() == [length + step for length in lengths]
        query, key, value = torch.randn(1, HEADS, count, SIZE), *torch.randn(2, 1, HEADS_KV, count, SIZE)
        found = cache.attend(0, query, key, value, 0.3, window, softcap)
        assert found.shape == (1, count, HEADS, SIZE)
        for slot in range(count):
            new = torch.stack([key[0, :, slot], value[0, :, slot]])[:, :, None]
            sequences[slot] = torch.cat([sequences[slot], new], 2)
            expected = plain(query[0, :, slot], *sequences[slot], window, softcap)
            assert (found[0, slot] - expected).abs().max() < 1e-6


def test_a_prompt_fills_the_slots_of_all_its_samples() -> None:
    cache = Cache(2, 4, 8)
    cache.read(((0, 2, (0, 3)), (2, 3, (1,))))
    row = torch.arange(5.0).view(1, 1, 5, 1).expand(1, 2, 5, 3)
    cache.keep(1, row, -row)
    keys, values = cache.keys_values(1, row)
    assert cache.lengths.tolist() == [2, 3, 0, 2]
    assert keys[:, 0, :4, 0].tolist() == [[0, 1, 0, 0], [2, 3, 4, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert torch.equal(values, -keys)
    assert cache.layers[0] is None


def test_a_slot_moves_whole_in_every_layer() -> None:
    cache = Cache(2, 3, 4)
    for layer in (0, 1):
        keys, values = cache.keys_values(layer, torch.zeros(1, 2, 1, 5))
        keys[2], values[2] = 3.0 + layer, 4.0
    cache.lengths[2] = 2
    cache.move(2, 0)
    assert cache.lengths.tolist() == [2, 0, 2]
    for layer in (0, 1):
        keys, values = cache.keys_values(layer, torch.zeros(1, 2, 1, 5))
        assert keys[0, :, :2].eq(3 + layer).all()
        assert values[0, :, :2].eq(4).all()
        assert keys[0, :, 2:].eq(0).all()


def test_longer_neighbours_change_no_bit() -> None:
    """One head of queries for each of keys: a sequence's sums do not depend on how far its neighbours reach."""
    torch.manual_seed(1)
    row = torch.randn(2, 1, 4, 40 + 200, 32)
    query, key, value = torch.randn(3, 1, 4, 2, 32)
    alone, among = Cache(1, 1, 300), Cache(1, 2, 300)
    alone.read(((0, 40, (0,)),))
    alone.keep(0, row[0, :, :, :40], row[1, :, :, :40])
    among.read(((0, 40, (0,)), (40, 200, (1,))))
    among.keep(0, row[0], row[1])
    alone.step(1, torch.device("cpu"))
    among.step(2, torch.device("cpu"))
    one = alone.attend(0, query[:, :, :1], key[:, :, :1], value[:, :, :1], 0.2, None, None)
    two = among.attend(0, query, key, value, 0.2, None, None)
    assert torch.equal(one[0, 0], two[0, 0])
