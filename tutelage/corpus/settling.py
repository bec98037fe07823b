"""Between the passes: what is decided by comparing documents with each other, from their keys alone.

Texts stay where they are. Keys lie on disk, in one file of each kind, and are sorted a stretch at a time; in memory are
some 100 bytes a document.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus import duplicates, fluency, licences, paragraphs, parts, splits
from tutelage.corpus.facts import Facts, excerpt
from tutelage.corpus.judging import Rules
from tutelage.corpus.sieve import Sieve
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


class Compared(NamedTuple):
    """What comes of each document, of all parts in a row."""

    groups: duplicates.Groups
    verdicts: npt.NDArray[np.uint8]
    """Why it goes: a place in `RULES`; 0: it stays."""
    held: npt.NDArray[np.bool_]


def compare(rules: Rules) -> None:
    """Writes how many documents each part has, which of them are one, and which are held out."""
    bench = rules.bench
    if _compared(bench).exists():
        return
    drawn = [np.load(bench.judged(number) / "groups.npy") for number in bench.numbers()]
    alone = [np.load(bench.judged(number) / "alone.npy") for number in bench.numbers()]
    sizes = [len(part) for part in drawn]
    write_json(bench.settled() / "sizes.json", sizes)
    with _gathered_signs(bench, sizes) as signs:
        first = duplicates.group([signs])
        held = splits.held_out(_joined(drawn), _joined(alone), first.stands_for, rules.share)
        # A cluster is on one side as a whole, so its first may stay. Copies that may stay are on one side too.
        groups = first if rules.near_duplicates else duplicates.group([signs], near=False)
        verdicts = groups.how.copy()
        verdicts[_copies(bench, signs)] = RULES.index("licence_copy")
    with _beside(_compared(bench)) as file:
        np.savez(file, **groups._asdict(), verdicts=verdicts, held=held)


def _compared(bench: parts.Bench) -> Path:
    return bench.settled() / "compared.npz"


def _read_compared(bench: parts.Bench) -> Compared:
    with np.load(_compared(bench), allow_pickle=False) as read:
        groups = duplicates.Groups(*(read[name] for name in duplicates.Groups._fields))
        return Compared(groups, read["verdicts"], read["held"])


def _sizes(bench: parts.Bench) -> list[int]:
    return json.loads((bench.settled() / "sizes.json").read_text(encoding="utf-8"))


@contextlib.contextmanager
def _beside(file: Path) -> Generator[Path]:
    """A file to write, which gets its name when all is written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(f"half.{file.name}")
    yield half
    half.replace(file)


@contextlib.contextmanager
def _gathered_signs(bench: parts.Bench, sizes: Sequence[int]) -> Generator[duplicates.Signs]:
    """The keys of all parts in one file of each kind: of many small ones a process may not hold enough open."""
    folder, total = bench.root / "signs", sum(sizes)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "exact": ((total, 2), np.uint64), "normal": ((total, 2), np.uint64),
        "bands": ((duplicates.BANDS, total), np.uint64),
        "sketch": ((total, duplicates.BANDS * duplicates.ROWS), np.uint8),
    }  # fmt: skip
    for name, (shape, kind) in shapes.items():
        with (folder / f"{name}.npy").open("wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            begin, start = file.tell(), 0
            for number, size in enumerate(sizes):
                part = np.load(bench.judged(number) / "signs" / f"{name}.npy")
                if name == "bands":
                    for band, keys in enumerate(part):
                        file.seek(begin + (band * total + start) * keys.itemsize)
                        keys.tofile(file)
                else:
                    part.tofile(file)
                start += size
    # What is empty cannot be mapped.
    yield duplicates.Signs(
        *(np.load(folder / f"{name}.npy", mmap_mode="r" if total else None) for name in duplicates.Signs._fields)
    )
    shutil.rmtree(folder)


def _joined(found: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


def _copies(bench: parts.Bench, signs: duplicates.Signs) -> npt.NDArray[np.bool_]:
    """Which documents are the same as one that its licence forbids."""
    gated = _joined([np.load(bench.judged(number) / "gated.npy") for number in bench.numbers()])
    if not len(gated):
        return np.zeros(len(signs), dtype=bool)
    both = np.concatenate((np.asarray(signs.normal), gated))
    marked = np.zeros(len(both), dtype=bool)
    marked[len(signs) :] = True
    return licences.copies(both, marked)[: len(signs)]


def write_verdicts(rules: Rules) -> None:
    """Writes for each part what goes, why, and what stands for it."""
    bench = rules.bench
    files = [bench.settled() / f"{number:05d}.arrow" for number in bench.numbers()]
    if all(file.exists() for file in files):
        return
    sizes = _sizes(bench)
    groups, verdicts, held = _read_compared(bench)
    gone = verdicts > 0
    names = _names(bench, sizes, np.unique(groups.stands_for[gone]))
    start = 0
    for target, size in zip(files, sizes, strict=True):
        own = slice(start, start + size)
        # What is said of each that goes, behind nothing, which is said of all others.
        said, reasons, originals = np.zeros(size, np.int64), [""], [""]
        for row in np.flatnonzero(gone[own]).tolist():
            rule = RULES[verdicts[start + row]]
            original = names[int(groups.stands_for[start + row])] if rule != "licence_copy" else ("", "")
            said[row] = len(reasons)
            reasons.append(REASONS[rule].format(original[1], share=float(groups.similarity[start + row])))
            originals.append(original[0])
        table = pa.table({
            "rule": parts.strings(RULES).take(parts.numbers(verdicts[own])),
            "reason": parts.strings(reasons).take(parts.numbers(said)),
            "duplicate_of": parts.strings(originals).take(parts.numbers(said)),
            "held_out": parts.numbers(held[own].view(np.uint8)),
        })  # fmt: skip
        with _beside(target) as file:
            parts.write_table(file, table)
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


def write_clusters(rules: Rules) -> None:
    """Writes the largest clusters with the start of some members, how large clusters are, and how like near duplicates
    are."""
    bench, facts = rules.bench, Facts()
    target = bench.settled() / "clusters.json"
    if target.exists():
        return
    sizes = _sizes(bench)
    groups = _read_compared(bench).groups
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
    facts.write(bench.settled() / "facts.json")
    write_json(target, clusters)


def gather_passages(rules: Rules) -> None:
    """Writes the passages that may stand in many documents; each range of keys by itself, so that few are held."""
    bench = rules.bench
    if not rules.paragraphs:
        return
    numbers = bench.numbers()
    files = [bench.judged(number) / "passages.keys.npy" for number in numbers]
    total = sum(file.stat().st_size for file in files) // 8
    ranges = max(1, -(-total // AT_ONCE))
    for turn in range(ranges):
        target = bench.settled() / f"passages.{turn:05d}.npz"
        if target.exists():
            continue
        low, high = turn * 2**64 // ranges, (turn + 1) * 2**64 // ranges - 1
        # Most stand in one document alone: a table with a slot for two of them tells nearly all of those.
        sieve = Sieve(total // ranges // 2)
        for file in files:
            keys = np.load(file)
            sieve.add(keys[(keys >= np.uint64(low)) & (keys <= np.uint64(high))])
        some: list[npt.NDArray[np.uint64]] = []
        places: list[Places] = []
        first = 0
        for number in numbers:
            keys, rows = passages(bench.judged(number))
            inside = (keys >= np.uint64(low)) & (keys <= np.uint64(high))
            inside &= sieve.often(keys, paragraphs.DOCUMENTS)
            some.append(keys[inside])
            places.append(first + rows[inside].astype(np.int64))
            first += len(np.load(bench.judged(number) / "groups.npy", mmap_mode="r"))
        with _beside(target) as file:
            np.savez(file, keys=_joined(some), documents=_joined(places))


def write_passages(rules: Rules) -> None:
    """Writes the passages that stand in many of the documents that are left."""
    bench = rules.bench
    target = bench.settled() / "passages.npz"
    if not rules.paragraphs or target.exists():
        return
    alive = _read_compared(bench).verdicts == 0
    found: list[paragraphs.Repeated] = []
    for file in sorted(bench.settled().glob("passages.*.npz")):
        with np.load(file, allow_pickle=False) as held:
            some = paragraphs.Passages(held["keys"], held["documents"])
        found.append(paragraphs.repeated([some], [len(alive)], alive=alive))
    keys, counts, keepers = (np.concatenate(column) for column in zip(*found, strict=True))
    with _beside(target) as file:
        np.savez(file, keys=keys, counts=counts, keepers=keepers)


def passages(judged: Path) -> paragraphs.Passages:
    """The keys of a judged part's passages."""
    return paragraphs.Passages(np.load(judged / "passages.keys.npy"), np.load(judged / "passages.documents.npy"))


def repeated(bench: parts.Bench) -> paragraphs.Repeated:
    """What `write_passages` found."""
    with np.load(bench.settled() / "passages.npz", allow_pickle=False) as held:
        return paragraphs.Repeated(held["keys"], held["counts"], held["keepers"])


def add_letters(rules: Rules) -> None:
    """Writes the model of letters, from the sums of all parts."""
    bench = rules.bench
    target = bench.settled() / "letters.npz"
    if target.exists():
        return
    counts = fluency.total(np.load(bench.judged(number) / "letters.npy") for number in bench.numbers())
    with _beside(target) as file:
        fluency.Model(counts).save(file)


FIRST = (compare, gather_passages, add_letters)
THEN = (write_verdicts, write_clusters, write_passages)
"""What is to be done, as jobs that several workers may do at once: the latter when all of the former are done."""


def clusters(bench: parts.Bench) -> list[dict[str, Any]]:
    """The largest clusters of duplicates, as `write_clusters` wrote them down."""
    return json.loads((bench.settled() / "clusters.json").read_text(encoding="utf-8"))
