"""Between the passes: what is decided by comparing documents with each other, from their keys alone.

Texts stay where they are. Keys lie on disk, in one file of each kind, and are sorted a stretch at a time; in memory are
some 100 bytes a document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus import duplicates, fluency, licences, paragraphs, parts, splits
from tutelage.corpus.facts import Facts, excerpt
from tutelage.corpus.judging import Rules
from tutelage.run import write_json

Places = npt.NDArray[np.int64]

AT_ONCE = 1 << 24
"""Keys of paragraphs that are held at a time."""
CLUSTERS = 12
MEMBERS = 4
"""Copies of a cluster that the card shows beside the one that stays."""
LIKENESS = 10
"""Bins of the histogram of similarities, from 0 to 1."""

REASONS = {
    "exact_duplicate": "the same as {}",
    "normalised_duplicate": "the same as {}, but for case, spacing and signs",
    "near_duplicate": "{share:.0%} like {}",
    "licence_copy": "a copy of a text that its licence forbids to use",
}


RULES = (*duplicates.RULES, "licence_copy")


def settle(rules: Rules, count: int) -> None:
    """Writes ``settled/``: verdicts for each part, the repeated passages, the model of letters, the clusters."""
    bench = rules.bench
    if bench.settled().exists():
        return
    sizes = [len(np.load(bench.judged(number) / "groups.npy", mmap_mode="r")) for number in range(count)]
    with parts.beside(bench.settled()) as folder:
        signs = _gathered_signs(bench, sizes, folder)
        first = duplicates.group([signs])
        held = splits.held_out(
            _joined(bench, "groups.npy", count), _joined(bench, "alone.npy", count), first.stands_for, rules.share
        )
        # A cluster is on one side as a whole, so its first may stay. Copies that may stay are on one side too.
        groups = first if rules.near_duplicates else duplicates.group([signs], near=False)
        verdicts = groups.how.copy()
        copied = _copies(bench, count, signs)
        verdicts[copied] = RULES.index("licence_copy")
        facts = Facts()
        _write_verdicts(bench, sizes, folder, groups, verdicts, held)
        _write_clusters(bench, sizes, folder, groups, facts)
        if rules.paragraphs:
            _write_passages(bench, sizes, folder, verdicts == 0)
        _write_letters(bench, count, folder)
        facts.write(folder / "facts.json")
        write_json(folder / "sizes.json", sizes)
        for file in folder.glob("all.*"):
            file.unlink()


def _gathered_signs(bench: parts.Bench, sizes: Sequence[int], folder: Path) -> duplicates.Signs:
    """The keys of all parts in one file of each kind: of many small ones a process may not hold enough open."""
    total = sum(sizes)
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "exact": ((total, 2), np.uint64), "normal": ((total, 2), np.uint64),
        "bands": ((duplicates.BANDS, total), np.uint64),
        "sketch": ((total, duplicates.BANDS * duplicates.ROWS), np.uint8),
    }  # fmt: skip
    arrays: dict[str, Any] = {}
    for name, (shape, kind) in shapes.items():
        path = folder / f"all.{name}.npy"
        whole = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape) if total else np.zeros(shape, kind)
        start = 0
        for number, size in enumerate(sizes):
            part = np.load(bench.judged(number) / "signs" / f"{name}.npy")
            if name == "bands":
                whole[:, start : start + size] = part
            else:
                whole[start : start + size] = part
            start += size
        arrays[name] = whole
    return duplicates.Signs(**arrays)


def _joined(bench: parts.Bench, name: str, count: int) -> npt.NDArray[np.uint64]:
    found = [np.load(bench.judged(number) / name) for number in range(count)]
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


def _copies(bench: parts.Bench, count: int, signs: duplicates.Signs) -> npt.NDArray[np.bool_]:
    """Which documents are the same as one that its licence forbids."""
    gated = [np.load(bench.judged(number) / "gated.npy") for number in range(count)]
    gated = np.concatenate(gated) if gated else np.zeros((0, 2), np.uint64)
    if not len(gated):
        return np.zeros(len(signs), dtype=bool)
    both = np.concatenate((np.asarray(signs.normal), gated))
    marked = np.zeros(len(both), dtype=bool)
    marked[len(signs) :] = True
    return licences.copies(both, marked)[: len(signs)]


def _write_verdicts(
    bench: parts.Bench, sizes: Sequence[int], folder: Path, groups: duplicates.Groups,
    verdicts: npt.NDArray[np.uint8], held: npt.NDArray[np.bool_],
) -> None:  # fmt: skip
    """For each part what goes, why, and what stands for it."""
    gone = verdicts > 0
    names = _names(bench, sizes, np.unique(groups.stands_for[gone]))
    start = 0
    for number, size in enumerate(sizes):
        own = slice(start, start + size)
        reasons, originals = [""] * size, [""] * size
        for row in np.flatnonzero(gone[own]).tolist():
            rule = RULES[verdicts[start + row]]
            original = names[int(groups.stands_for[start + row])] if rule != "licence_copy" else ("", "")
            share = float(groups.similarity[start + row])
            reasons[row] = REASONS[rule].format(original[1], share=share)
            originals[row] = original[0]
        table = pa.table({
            "rule": parts.strings([RULES[rule] for rule in verdicts[own].tolist()]),
            "reason": parts.strings(reasons),
            "duplicate_of": parts.strings(originals),
            "held_out": parts.numbers(held[own].view(np.uint8)),
        })  # fmt: skip
        parts.write_table(folder / f"{number:05d}.arrow", table)
        start += size


def _names(bench: parts.Bench, sizes: Sequence[int], wanted: Places) -> dict[int, tuple[str, str]]:
    """(id, what it goes by) of documents by number; parts are read one at a time, and only these columns."""
    found: dict[int, tuple[str, str]] = {}
    for start, table, rows in _rows(bench, sizes, wanted, ("id", "source", "metadata")):
        for row, id, source, metadata in zip(rows, *(table.column(at).to_pylist() for at in range(3)), strict=True):
            found[start + row] = id, json.loads(metadata).get("name") or f"{id} ({source})"
    return found


def _rows(
    bench: parts.Bench, sizes: Sequence[int], wanted: Places, columns: Sequence[str]
) -> Iterator[tuple[int, pa.Table, list[int]]]:
    """The rows of documents by ascending number: for each part its first number, the table of these rows, and which."""
    start = 0
    for number, size in enumerate(sizes):
        rows = (wanted[(wanted >= start) & (wanted < start + size)] - start).tolist()
        if rows:
            table = parts.read_table(bench.judged(number) / "documents.arrow", columns)
            yield start, table.take(parts.numbers(np.array(rows))), rows
        start += size


def _write_clusters(
    bench: parts.Bench, sizes: Sequence[int], folder: Path, groups: duplicates.Groups, facts: Facts
) -> None:
    """The largest clusters with the start of some members, how large clusters are, and how like near duplicates are."""
    found = duplicates.clusters(groups, CLUSTERS)
    chosen = sorted({place for one in found for place in (one.kept, *one.members[:MEMBERS])})
    shown: dict[int, dict[str, str]] = {}
    for start, table, rows in _rows(bench, sizes, np.array(chosen, np.int64), ("id", "source", "text")):
        for row, value in zip(rows, table.to_pylist(), strict=True):
            shown[start + row] = {"id": value["id"], "source": value["source"], "text": excerpt(value["text"])}
    clusters = [
        {
            "documents": 1 + len(one.members),
            "kept": shown[one.kept],
            "members": [
                shown[place] | {"rule": how, "similarity": share}
                for place, how, share in zip(one.members[:MEMBERS], one.how, one.similarity, strict=False)
            ],
        }
        for one in found
    ]
    _, counts = np.unique(groups.stands_for, return_counts=True)
    for size, times in zip(*np.unique(counts[counts > 1], return_counts=True), strict=True):
        facts.add("cluster_sizes", str(int(size)), int(times))
    near = groups.similarity[groups.how == duplicates.RULES.index("near_duplicate")]
    facts.add_histogram("likeness", np.histogram(near, bins=LIKENESS * 5, range=(0, 1))[0].tolist())
    write_json(folder / "clusters.json", clusters)


def _write_passages(bench: parts.Bench, sizes: Sequence[int], folder: Path, alive: npt.NDArray[np.bool_]) -> None:
    """The passages that stand in many documents; each range of keys by itself, so that few are held at a time."""
    files = [bench.judged(number) / "passages.keys.npy" for number in range(len(sizes))]
    lengths = [len(np.load(file, mmap_mode="r")) for file in files]
    ranges = max(1, -(-sum(lengths) // AT_ONCE))
    found: list[paragraphs.Repeated] = []
    for turn in range(ranges):
        low, high = turn * 2**64 // ranges, (turn + 1) * 2**64 // ranges - 1
        some: list[paragraphs.Passages] = []
        for number in range(len(sizes)):
            keys, rows = passages(bench.judged(number))
            inside = (keys >= np.uint64(low)) & (keys <= np.uint64(high))
            some.append(paragraphs.Passages(keys[inside], rows[inside]))
        found.append(paragraphs.repeated(some, sizes, alive=alive))
    keys, counts, keepers = (np.concatenate(column) for column in zip(*found, strict=True))
    np.savez(folder / "passages.npz", keys=keys, counts=counts, keepers=keepers)


def passages(judged: Path) -> paragraphs.Passages:
    """The keys of a judged part's passages."""
    return paragraphs.Passages(np.load(judged / "passages.keys.npy"), np.load(judged / "passages.documents.npy"))


def repeated(bench: parts.Bench) -> paragraphs.Repeated:
    """What `settle` found of passages."""
    with np.load(bench.settled() / "passages.npz", allow_pickle=False) as held:
        return paragraphs.Repeated(held["keys"], held["counts"], held["keepers"])


def _write_letters(bench: parts.Bench, count: int, folder: Path) -> None:
    """The model of letters, from the sums of all parts."""
    if count:
        counts = fluency.total(np.load(bench.judged(number) / "letters.npy") for number in range(count))
        fluency.Model(counts).save(folder / "letters.npz")


def clusters(bench: parts.Bench) -> list[dict[str, Any]]:
    """The largest clusters of duplicates, as `settle` wrote them down."""
    return json.loads((bench.settled() / "clusters.json").read_text(encoding="utf-8"))
