"""Which documents are held out: whole clusters of texts that are alike, by the part of a package or the file that the
first of them is from, and by a hash that does not move.

Adding a document never moves another one to the other side, unless it joins two clusters.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from tutelage.records import Document

PART = 3
"""Names of a module that make a part of a package."""

Values = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


def group(document: Document) -> str:
    """What a document is held out together with.

    A part of a Python package, by the first three names of its module ("torch.nn.functional"): two make parts so large
    that a few of them are all that is held out. A topic of the language reference alone; a text file, all its pieces; a
    row of a table alone.
    """
    known = document.metadata
    if known.get("kind") == "topic":
        return f"topic:{known.get('name', document.id)}"
    if known.get("module"):
        return ".".join(known["module"].split(".")[:PART])
    if known.get("row"):
        return f"{known.get('file', document.source)}:{known['row']}"
    return str(known.get("file", document.source))


def value(name: str, seed: int | str) -> int:
    """A number of 64 bits for a group, or whatever else goes by a name, drawn by the seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "replace")).digest()[:8], "big")


def held_out(values: Values, alone: Values, stands_for: Places, share: float) -> npt.NDArray[np.bool_]:
    """Which documents are held out: about ``share`` of the groups.

    If there is a share and there are two groups at all, at least one is held out and at least one is trained on. Where
    all is one group, a single file, its documents are groups.

    Args:
        values: of each document's group, by `value`.
        alone: the same of the document by itself.
        stands_for: for each document the number of the one that stands for its cluster.
    """
    if share <= 0 or not len(values):
        return np.zeros(len(values), dtype=bool)
    drawn = (alone if values.min() == values.max() else values)[stands_for]
    least, most = drawn.min(), drawn.max()
    if least == most:
        return np.zeros(len(values), dtype=bool)
    bound = np.uint64(min(int(share * 2.0**64), 2**64 - 1))
    held = drawn < bound
    return (held | (drawn == least)) & (drawn != most)
