"""Keys that stand alone are most of all keys: a table of counts smaller than they are tells nearly all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.corpus.hashing import Hashes, compiled


class Sieve:
    """Counts keys by some of their bits, so that those that stand alone need not be sorted."""

    def __init__(self, slots: int) -> None:
        """Makes as many slots, or up to twice as many; the more there are, the fewer keys share one."""
        self._seen = np.zeros(1 << slots.bit_length(), np.uint8)

    def add(self, keys: Hashes) -> None:
        """Counts keys, which must be hashes."""
        _note(keys, self._seen)

    def often(self, keys: Hashes, least: int) -> npt.NDArray[np.bool_]:
        """Which of the keys may be there ``least`` times, at most 255: all that are, and some that share a slot."""
        found = np.empty(len(keys), np.bool_)
        _often(keys, self._seen, least, found)
        return found


@compiled
def _note(keys: Any, seen: Any) -> None:
    for key in keys:
        slot = key & np.uint64(len(seen) - 1)
        seen[slot] = min(np.int64(seen[slot]) + 1, 255)


@compiled
def _often(keys: Any, seen: Any, least: Any, found: Any) -> None:
    for place in range(len(keys)):
        found[place] = seen[keys[place] & np.uint64(len(seen) - 1)] >= least
