"""Documents to token shards, once, before a model reads them.

Documents of one module lie together, and the modules in an order that a hash of seed and name draws. Where not all is
wanted, the first modules of that order are taken, so no text is held and none is encoded in vain, but for those that a
later one displaces.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import itertools
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tutelage.corpus import columns
from tutelage.corpus.encoding import COMPARED, Encoder
from tutelage.corpus.shards import Writer
from tutelage.errors import SettingsError

Keys = npt.NDArray[np.uint64]

REST = "*"
"""The pattern of all sources that no other one names."""

SHOWN = 20
"""Sources that a message lists."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be encoded."""

    weights: Mapping[str, float]
    """Of sources, by name or pattern; those that weigh nothing are not encoded."""
    most: int = 0
    """Tokens that are enough of the sources of one pattern; 0: all."""
    held_out: int = 0
    """Held-out texts that are kept as they are."""
    seed: int = 1


@dataclass
class _Group:
    """The documents of the sources that one pattern names."""

    most: int
    keys: list[Keys] = field(default_factory=list[Keys])
    sizes: list[npt.NDArray[np.int64]] = field(default_factory=list[npt.NDArray[np.int64]])
    bound: int = (1 << 64) - 1
    held: int = 0
    sources: Counter[str] = field(default_factory=Counter[str])
    bytes: int = 0
    encoded_bytes: int = 0

    def add(self, keys: Keys, sizes: npt.NDArray[np.int64], batch: columns.Batch) -> None:
        """Takes documents in; those of the largest keys go where there are twice as many tokens as are wanted."""
        self.keys.append(keys)
        self.sizes.append(sizes)
        self.encoded_bytes += sum(text.as_buffer().size for text in batch.texts)
        self.held += int(sizes.sum())
        if self.most and self.held > 2 * self.most:
            every, tokens = np.concatenate(self.keys), np.concatenate(self.sizes)
            order = np.argsort(every, kind="stable")
            last = int(np.searchsorted(np.cumsum(tokens[order]), self.most))
            self.bound = int(every[order[last]])
            self.held = int(tokens[every <= np.uint64(self.bound)].sum())

    def order(self) -> npt.NDArray[np.int64]:
        """The numbers of the documents that are read, by module."""
        keys = np.concatenate([np.zeros(0, np.uint64), *self.keys])
        kept = np.flatnonzero(keys <= np.uint64(self.bound))
        return kept[np.argsort(keys[kept], kind="stable")]

    def facts(self) -> dict[str, Any]:
        """Documents by source, and tokens of all of them: counted, or reckoned from those that were encoded."""
        tokens = sum(int(sizes.sum()) for sizes in self.sizes)
        whole = self.encoded_bytes == self.bytes
        if not whole and self.encoded_bytes:
            tokens = round(tokens * self.bytes / self.encoded_bytes)
        return {
            "documents": self.sources.total(),
            "tokens": tokens,
            "counted": whole,
            "sources": dict(sorted(self.sources.items())),
        }


def write(
    documents: Path, folder: Path, tokenizer: Tokenizer, end: int, wanted: Wanted, threads: int = 1
) -> Iterator[str]:
    """Writes shards of the training documents beside, then renames them; after each batch it yields the encoder's word.

    The shards' sources are the patterns. The facts in their index are ``groups``, for each pattern its `_Group.facts`,
    and ``held_out``, texts.

    Raises:
        SettingsError: a pattern that fits no source, or no document to learn from.
    """
    if wanted.weights:
        _require(documents, wanted.weights)
    beside = folder.with_name(folder.name + ".tmp")
    batches = columns.batches(documents)
    first = next(batches)
    encoder = Encoder(tokenizer, first.texts.slice(0, COMPARED).to_pylist())
    hashed = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
    writer = Writer(beside, vocabulary=encoder.vocabulary, tokenizer=hashed, end=end)
    survey = _Survey(wanted)
    with contextlib.closing(writer):
        for batch in itertools.chain([first], batches):
            for pattern, places, keys in survey.chosen(batch):
                part = batch.take(places)
                ids, ends = encoder.encode(part.texts, threads)
                writer.add(pattern, ids, ends, part.ids, part.licences, part.languages)
                survey.groups[pattern].add(keys, np.diff(ends) + 1, part)
            yield encoder.told
        if not any(sizes.max() > 1 for group in survey.groups.values() for sizes in group.sizes):
            raise SettingsError(f"{documents}: no document of the train split is long enough to learn from")
        writer.finish({pattern: group.order() for pattern, group in survey.groups.items()}, survey.facts())
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


class _Survey:
    """What has been read so far: documents by pattern, and the held-out texts of the smallest keys."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.groups = {pattern: _Group(wanted.most) for pattern in (*wanted.weights, REST)}
        self._patterns: dict[str, str] = {}
        self._held_out: list[tuple[int, str]] = []

    def chosen(self, batch: columns.Batch) -> Iterator[tuple[str, list[int], Keys]]:
        """The documents of a batch that are to be encoded: a pattern, their places and their keys."""
        shelves: dict[str, list[int]] = {}
        keys = np.array([_key(module, self._wanted.seed) for module in batch.modules], np.uint64)
        for place, (source, held, text) in enumerate(zip(batch.sources, batch.held_out, batch.texts, strict=True)):
            if held:
                self._keep(batch.ids[place], text)
                continue
            if source not in self._patterns:
                self._patterns[source] = _pattern(source, self._wanted.weights)
            pattern = self._patterns[source]
            group = self.groups[pattern]
            group.sources[source] += 1
            group.bytes += text.as_buffer().size
            if self._wanted.weights.get(pattern, 1.0) > 0 and keys[place] <= np.uint64(group.bound):
                shelves.setdefault(pattern, []).append(place)
        for pattern, places in shelves.items():
            yield pattern, places, keys[places]

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        groups = {pattern: group.facts() for pattern, group in self.groups.items() if group.sources}
        return {"groups": groups, "held_out": [text for _, text in sorted(self._held_out, reverse=True)]}

    def _keep(self, name: str, text: Any) -> None:
        """Keys are negative, for a heap gives up the least."""
        key, most = -_key(name, self._wanted.seed), self._wanted.held_out
        if len(self._held_out) < most:
            heapq.heappush(self._held_out, (key, text.as_py()))
        elif most and key > self._held_out[0][0]:
            heapq.heapreplace(self._held_out, (key, text.as_py()))


def _require(documents: Path, weights: Mapping[str, float]) -> None:
    """Looks at the weights before anything is encoded.

    Raises:
        SettingsError: a pattern that fits no source of the training documents, or sources that all weigh nothing.
    """
    sources: Counter[str] = Counter()
    for batch in columns.batches(documents):
        sources.update(source for source, held in zip(batch.sources, batch.held_out, strict=True) if not held)
    used = {_pattern(source, weights) for source in sources}
    if used and not any(weights.get(name, 1.0) for name in used):
        raise SettingsError("weights: nothing is left to read: give at least one source a weight above 0")
    for name in weights:
        if name not in used and name != REST:
            known = [source for source, _ in sources.most_common(SHOWN)]
            more = f" and {len(sources) - SHOWN} more" if len(sources) > SHOWN else ""
            raise SettingsError(f"weights: no source {name!r}: there are {', '.join(known)}{more}")


def _pattern(source: str, weights: Mapping[str, float]) -> str:
    """The longest pattern that names a source."""
    return max(
        (name for name in (*weights, REST) if name == source or fnmatchcase(source, name)),
        key=lambda name: (name == source, len(name)),
    )


def _key(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "big")
