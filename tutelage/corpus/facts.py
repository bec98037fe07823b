"""What is counted on the way: sums, and a few samples of each kind. Facts of parts add up in any order.

Samples are those whose ids have the smallest hashes: as good as drawn by lot, the same ones however the corpus was cut,
and of two lists of samples the smallest of both are the samples of both corpora.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLES = 12
EXCERPT = 600
"""Characters of a sample."""


class Facts:
    """Tables of sums by name and key, and samples by kind."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, list[int]]] = {}
        self.samples: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.histograms: dict[str, list[int]] = {}

    def add(self, table: str, key: str, *amounts: int) -> None:
        """Adds to the row ``key`` of a table; each table has one width."""
        rows = self.tables.setdefault(table, {})
        row = rows.get(key)
        if row is None:
            rows[key] = list(amounts)
            return
        for place, amount in enumerate(amounts):
            row[place] += amount

    def add_all(self, table: str, keys: Sequence[str], *amounts: npt.ArrayLike) -> None:
        """Adds to the row of each key, as `add` does for one; a number for all stands for as many."""
        places: dict[str, int] = {}
        rows = np.array([places.setdefault(key, len(places)) for key in keys], np.int64)
        sums = np.zeros((len(places), len(amounts)), np.int64)
        for column, amount in enumerate(amounts):
            np.add.at(sums[:, column], rows, np.asarray(amount, np.int64))
        for key, row in zip(places, sums.tolist(), strict=True):
            self.add(table, key, *row)

    def add_histogram(self, name: str, counts: Sequence[int]) -> None:
        known = self.histograms.setdefault(name, [0] * len(counts))
        for place, count in enumerate(counts):
            known[place] += int(count)

    def sample(self, kind: str, id: str, sample: dict[str, Any], most: int = SAMPLES) -> None:
        """Keeps the sample if it is one of the few."""
        rank = _rank(kind, id)
        known = self.samples.setdefault(kind, [])
        if len(known) < most or rank < known[-1][0]:
            known.append((rank, sample))
            known.sort(key=lambda one: one[0])
            del known[most:]

    def sample_all(self, kind: str, ids: Sequence[str], sample: Callable[[int], dict[str, Any]]) -> None:
        """Keeps those of many samples that are among the few; only these are made, each from its place."""
        ranks = [_rank(kind, id) for id in ids]
        for place in heapq.nsmallest(SAMPLES, range(len(ids)), key=ranks.__getitem__):
            self.sample(kind, ids[place], sample(place))

    def merge(self, other: Facts, most: int = SAMPLES) -> None:
        """Adds what was counted elsewhere."""
        for table, rows in other.tables.items():
            for key, amounts in rows.items():
                self.add(table, key, *amounts)
        for name, counts in other.histograms.items():
            self.add_histogram(name, counts)
        for kind, samples in other.samples.items():
            both = heapq.merge(self.samples.get(kind, []), samples, key=lambda one: one[0])
            self.samples[kind] = list(both)[:most]

    def rows(self, table: str) -> list[tuple[str, list[int]]]:
        """The rows of a table, the largest first by the last but one column, then by name."""
        return sorted(self.tables.get(table, {}).items(), key=lambda row: ([-amount for amount in row[1]], row[0]))

    def bytes_of(self, table: str) -> int:
        """The bytes of all documents that a table of (documents, bytes) counts under "all"."""
        return self.tables.get(table, {}).get("all", [0, 0])[1]

    def shown(self, kind: str) -> list[dict[str, Any]]:
        return [sample for _, sample in self.samples.get(kind, [])]

    def write(self, path: Path) -> None:
        plain = {"tables": self.tables, "samples": self.samples, "histograms": self.histograms}
        path.write_text(json.dumps(plain, ensure_ascii=False, sort_keys=True), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Facts:
        plain: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        facts = cls()
        facts.tables, facts.histograms = plain["tables"], plain["histograms"]
        facts.samples = {kind: [(rank, one) for rank, one in rows] for kind, rows in plain["samples"].items()}
        return facts


def _rank(kind: str, id: str) -> str:
    return hashlib.blake2b(f"{kind}\0{id}".encode("utf-8", "replace"), digest_size=8).hexdigest()


def excerpt(text: str) -> str:
    """The start of a text, as a sample shows it."""
    return text if len(text) <= EXCERPT else text[:EXCERPT].rstrip() + " …"


def size(text: str) -> int:
    """Bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
