"""Which documents are held out: whole parts of a package, whole files, by a hash that does not move.

Adding a document never moves another one to the other side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from tutelage.records import Document

PART = 3
"""Names of a module that make a part of a package."""


def hold_out(documents: Sequence[Document], share: float, seed: int) -> list[Document]:
    """The documents, each with its split, in order. About ``share`` of the groups are held out.

    If there is a share and there are two groups at all, at least one is held out and at least one is trained on. A
    single file is one group; then its documents are groups.
    """
    names = [group(document) for document in documents]
    if len(set(names)) < 2:
        names = [document.id for document in documents]
    chosen = held_out_groups(set(names), share, seed)
    return [
        replace(document, split="held_out" if name in chosen else "train")
        for document, name in zip(documents, names, strict=True)
    ]


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
    return f"{known.get('file', document.source)}:{known.get('row', '')}"


def held_out_groups(names: set[str], share: float, seed: int) -> set[str]:
    """The groups whose hash with the seed falls below the share."""
    if share <= 0 or len(names) < 2:
        return set()
    values = {name: _value(name, seed) for name in names}
    ordered = sorted(names, key=lambda name: (values[name], name))
    chosen = {name for name in names if values[name] < share} or {ordered[0]}
    return chosen - {ordered[-1]}


def _value(name: str, seed: int) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8], "big") / 2**64
