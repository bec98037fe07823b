"""Where a key stands among many: a table with open addressing, for compiled passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.corpus.hashing import Hashes, compiled


def table_of(keys: Hashes) -> npt.NDArray[np.int32]:
    """Places of different keys, -1 where there is none; at most half full."""
    table = np.full(1 << max(4, int(2 * len(keys)).bit_length()), -1, dtype=np.int32)
    _fill(keys, table)
    return table


@compiled
def _fill(keys: Any, table: Any) -> None:
    mask = len(table) - 1
    for place in range(len(keys)):
        slot = np.int64(keys[place] & np.uint64(mask))
        while table[slot] >= 0:
            slot = (slot + 1) & mask
        table[slot] = place


@compiled
def place_of(key: Any, table: Any, keys: Any) -> Any:
    """The place of a key, or -1."""
    mask = len(table) - 1
    slot = np.int64(key & np.uint64(mask))
    while table[slot] >= 0:
        if keys[table[slot]] == key:
            return table[slot]
        slot = (slot + 1) & mask
    return -1


def filter_of(keys: Hashes) -> Hashes:
    """Two bits for each key, 32 to 64 bits a key: nearly all keys that are not there are turned away by one look."""
    seen = np.zeros(1 << max(10, int(32 * len(keys)).bit_length() - 6), dtype=np.uint64)
    _note(keys, seen)
    return seen


@compiled
def _note(keys: Any, seen: Any) -> None:
    for key in keys:
        seen[np.int64(key >> np.uint64(20)) & (len(seen) - 1)] |= _two(key)


@compiled
def _two(key: Any) -> Any:
    return np.uint64(1) << (key & np.uint64(63)) | np.uint64(1) << (key >> np.uint64(6) & np.uint64(63))


@compiled
def may_hold(key: Any, seen: Any) -> Any:
    """Whether a key may be one of those of a filter; False for sure."""
    return ~seen[np.int64(key >> np.uint64(20)) & (len(seen) - 1)] & _two(key) == 0
