"""Long stretches that documents share word for word, taken out of all but one: the last thing that is compared.

What is left of a part after all else is put down with its anchors; where parts meet is found from the anchors alone;
then each part is cut by itself. So a stretch stays in a document that stays, as it is written. The heading of a
documented object is no part of any.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus import parts, python_docs, substrings, tables
from tutelage.corpus.facts import Facts
from tutelage.corpus.hashing import replaced
from tutelage.corpus.settling import AT_ONCE
from tutelage.records import Document

LEAST = 20
"""Units of the shortest stretch that may be asked for; shorter ones are common speech."""


class Left(NamedTuple):
    """A part of the corpus on its way out."""

    documents: pa.Table
    """All of them, also those that go."""
    stays: npt.NDArray[np.bool_]
    refused: pa.Table
    facts: Facts


class Cut(NamedTuple):
    """A stretch that was left out."""

    row: int
    """Of the document in its part."""
    original: str
    """The id of the document in which it stays."""
    text: str


def write(bench: parts.Bench, number: int, left: Left, length: int) -> None:
    """Puts a part down with its anchors."""
    found = substrings.anchors(_bodies(left), length)
    with parts.beside(bench.stripped(number)) as folder:
        # As they are, so that one document can be looked up without the others.
        parts.write_table(folder / "documents.arrow", left.documents, packed=False)
        parts.write_table(folder / "refused.arrow", left.refused)
        np.save(folder / "stays.npy", left.stays)
        for name, values in found._asdict().items():
            np.save(folder / f"anchors.{name}.npy", values)
        left.facts.write(folder / "facts.json")


def read(bench: parts.Bench, number: int) -> Left:
    """What `write` put down."""
    folder = bench.stripped(number)
    return Left(
        parts.read_table(folder / "documents.arrow"),
        np.load(folder / "stays.npy"),
        parts.read_table(folder / "refused.arrow"),
        Facts.read(folder / "facts.json"),
    )


def settle(bench: parts.Bench, sizes: Sequence[int], length: int, at_once: int = AT_ONCE) -> None:
    """Writes ``met/``: for each part where its documents meet earlier ones.

    Each range of keys is taken by itself, so that about ``at_once`` are held at a time.
    """
    if bench.met().exists():
        return
    folders = [bench.stripped(number) for number in range(len(sizes))]
    total = sum(len(np.load(folder / "anchors.keys.npy", mmap_mode="r")) for folder in folders)
    ranges = max(1, -(-total // at_once))
    found: list[substrings.Meetings] = []
    for turn in range(ranges):
        low, high = turn * 2**64 // ranges, (turn + 1) * 2**64 // ranges - 1
        found.append(substrings.meetings([_anchors(folder, low, high) for folder in folders], sizes, length=length))
    rows = np.concatenate([np.stack(one[:4]) for one in found], axis=1)
    rows = rows[:, np.lexsort((rows[1], rows[0]))]
    edges = np.searchsorted(rows[0], np.cumsum([0, *sizes])).tolist()
    with parts.beside(bench.met()) as folder:
        for number in range(len(sizes)):
            np.save(folder / f"{number:05d}.npy", rows[:, edges[number] : edges[number + 1]])


def cut(bench: parts.Bench, number: int, left: Left, sizes: Sequence[int], length: int) -> tuple[Left, list[Cut]]:
    """What is left without the stretches, and what went."""
    documents, places, keepers, spots = np.load(bench.met() / f"{number:05d}.npy")
    met = substrings.Meetings(documents, places, keepers, spots, length)
    originals = _originals(bench, sizes, met.wanted)
    texts = {place: python_docs.body(document) for place, document in originals.items()}
    done = substrings.cut(_bodies(left), sum(sizes[:number]), met, texts)
    rows = sorted({one.row for one in done.removed})
    fresh = {
        row: heading(document) + done.texts[row].as_py().strip("\n")
        for row, document in zip(rows, tables.unpacked(left.documents, rows), strict=True)
    }
    documents = tables.with_column(left.documents, "text", replaced(parts.read_texts(left.documents), fresh))
    removed = [Cut(one.row, originals[one.original].id, one.text) for one in done.removed]
    return left._replace(documents=documents), removed


def heading(document: Document) -> str:
    """What stands above the body of a documented object; nothing above any other."""
    return document.text.removesuffix(python_docs.body(document))


def _bodies(left: Left) -> pa.LargeStringArray:
    """The texts without headings; of a document that goes nothing."""
    gone = dict.fromkeys(np.flatnonzero(~left.stays).tolist(), "")
    return replaced(tables.bodies(left.documents), gone)


def _anchors(folder: Path, low: int, high: int) -> substrings.Anchors:
    """The anchors of a part in a range of keys."""
    keys, documents, places = (np.load(folder / f"anchors.{name}.npy") for name in substrings.Anchors._fields)
    inside = (keys >= np.uint64(low)) & (keys <= np.uint64(high))
    return substrings.Anchors(keys[inside], documents[inside], places[inside])


def _originals(bench: parts.Bench, sizes: Sequence[int], wanted: npt.NDArray[np.int64]) -> dict[int, Document]:
    """Documents by number, from whichever parts they are in."""
    edges = np.cumsum([0, *sizes])
    found: dict[int, Document] = {}
    for part in np.unique(np.searchsorted(edges, wanted, side="right") - 1).tolist():
        some = wanted[(wanted >= edges[part]) & (wanted < edges[part + 1])]
        table = parts.read_table(bench.stripped(part) / "documents.arrow")
        found |= zip(some.tolist(), tables.unpacked(table, some - edges[part]), strict=True)
    return found
