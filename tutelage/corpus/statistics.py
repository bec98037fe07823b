"""What can be counted about a document: all of it in one compiled pass over the bytes.

The rules of `tutelage.corpus.quality` are comparisons over these columns; `tutelage.corpus.measures` names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus.characters import Floats, buffers, classes, hash_units
from tutelage.corpus.counting import count_all
from tutelage.corpus.measures import NAMES, Column

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Rae et al. 2021, arXiv 2112.11446, appendix A1: English prose holds two of them."""

FUNCTION_CHARACTERS = "的是了在不和有这为以之而于其也者不與為無於來這個們"
"""What stands in nearly any Chinese prose, modern or classical, simplified or traditional."""


@dataclass(frozen=True)
class Statistics:
    """A row a document, a column for each of `NAMES`."""

    table: Floats

    def __getitem__(self, name: str) -> Floats:
        return self.table[:, Column[name]]

    def share(self, part: str, whole: str) -> Floats:
        """One column over another, 0 where there is nothing to divide by."""
        return self[part] / np.maximum(self[whole], 1)

    def __len__(self) -> int:
        return len(self.table)


def measure(texts: pa.Array, prose: npt.NDArray[np.int64] | None = None) -> Statistics:
    """Counts everything in a column of texts.

    Args:
        texts: string or large_string, without nulls.
        prose: of each text 1 where it is prose, 0 where it is not, -1 where that is to be seen from it
            (`looks.is_prose`): runs of words are counted of prose alone, and nan of others. None: of all.
    """
    data, offsets = buffers(texts)
    table = np.zeros((len(texts), len(NAMES)))
    keys, values = _markers()
    if prose is None:
        prose = np.ones(len(texts), np.int64)
    count_all(data, offsets, classes(), keys, values, prose, table)
    return Statistics(table)


@cache
def _markers() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """A small table of words that are looked for, each at its hash modulo the size; the value is a bit."""
    bits = {word: 1 << place for place, word in enumerate(STOP_WORDS)} | {"lorem": 1 << 8, "ipsum": 1 << 9}
    bits |= {character: 1 << (16 + place) for place, character in enumerate(dict.fromkeys(FUNCTION_CHARACTERS))}
    hashes = [int(hash_units(np.array([ord(character) for character in word], np.int64))) for word in bits]
    size = 256
    while len({found % size for found in hashes}) < len(hashes):
        size *= 2
    keys, values = np.zeros(size, np.uint64), np.zeros(size, np.int64)
    for found, bit in zip(hashes, bits.values(), strict=True):
        keys[found % size], values[found % size] = found, bit
    return keys, values
