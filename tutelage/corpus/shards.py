"""Documents as tokens on disk, read through memory maps, mixed and shuffled without being moved.

Each source has files of its own: ``NNN-SSSSS.tokens`` (ids, little-endian, 16 or 32 bits each), ``.starts`` (where in
that file each document begins, 64 bits) and ``.parquet`` (a document's id, licence, language and count of tokens, in
the same order). ``index.json``, written last, names them with their sizes and checksums: a folder without it is none.

A reader draws pieces of so many tokens. The order is a permutation that is computed, not stored, so a cursor is a few
counters however large the corpus is, and going on from it costs nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tutelage.corpus.encoding import Ids
from tutelage.errors import RecordError, SettingsError

FORMAT = "tutelage token shards 1"
INDEX = "index.json"

TOKENS = 1 << 27
"""Tokens of a file."""

_MASK = (1 << 64) - 1


@dataclass
class _Open:
    """The file of one source that is being written."""

    number: int
    place: int = 0
    tokens: int = 0
    file: BinaryIO | None = None
    sum: Any = None
    starts: list[int] = field(default_factory=list[int])
    rows: list[tuple[str, str, str, int]] = field(default_factory=list[tuple[str, str, str, int]])
    done: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class Writer:
    """Writes shards; the same documents in the same order give the same bytes."""

    def __init__(self, folder: Path, *, vocabulary: int, tokenizer: str, end: int, tokens: int = TOKENS) -> None:
        """Args:
        folder: is made; shards that a killed run left there are removed.
        vocabulary: one more than the largest id; up to 65,536 of them take two bytes each.
        tokenizer: the hash of the tokenizer's file, so that readers can tell.
        end: the id that is written behind each document.
        tokens: of a file, about.
        """
        self._folder, self._end, self._most = folder, end, tokens
        self._type = np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")
        self._index: dict[str, Any] = {
            "format": FORMAT, "vocabulary": vocabulary, "tokenizer": tokenizer, "end": end, "type": self._type.str,
        }  # fmt: skip
        self._sources: dict[str, _Open] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for left in sorted(folder.iterdir()):
            left.unlink()

    def add(
        self, source: str, ids: Ids, ends: npt.NDArray[np.int64], names: Sequence[str], licences: Sequence[str],
        languages: Sequence[str],
    ) -> None:  # fmt: skip
        """Adds documents of one source.

        Args:
            source: its name.
            ids: of all documents, one after the other.
            ends: where each document's begin in them: n + 1 offsets.
            names: the documents' ids; licences, languages: theirs.
        """
        held = self._sources.setdefault(source, _Open(len(self._sources)))
        for place, (name, licence, language) in enumerate(zip(names, licences, languages, strict=True)):
            if held.file is None:
                held.file, held.sum = self._path(held, "tokens").open("wb"), hashlib.sha256()
            document = np.append(ids[ends[place] : ends[place + 1]], np.uint32(self._end)).astype(self._type)
            held.file.write(document.tobytes())
            held.sum.update(document.tobytes())
            held.starts.append(held.tokens)
            held.rows.append((name, licence, language, len(document)))
            held.tokens += len(document)
            if held.tokens >= self._most:
                self._close(held)

    def finish(self) -> dict[str, Any]:
        """Writes what is left, and the index, which it gives back."""
        for held in self._sources.values():
            self._close(held)
        self._index["sources"] = [
            {
                "name": name,
                "tokens": sum(shard["tokens"] for shard in held.done),
                "documents": sum(shard["documents"] for shard in held.done),
                "shards": held.done,
            }
            for name, held in self._sources.items()
        ]
        beside = self._folder / (INDEX + ".partial")
        beside.write_text(
            json.dumps(self._index, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )
        beside.replace(self._folder / INDEX)
        return self._index

    def _path(self, held: _Open, kind: str) -> Path:
        return self._folder / f"{held.number:03d}-{held.place:05d}.{kind}"

    def _close(self, held: _Open) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if held.file is None:
            return
        held.file.close()
        starts = np.array(held.starts, "<i8").tobytes()
        self._path(held, "starts").write_bytes(starts)
        columns = zip(("id", "licence", "language", "tokens"), zip(*held.rows, strict=True), strict=True)
        table = pa.table({name: pa.array(values) for name, values in columns})
        pq.write_table(table, self._path(held, "parquet"), compression="zstd")
        held.done.append({
            "name": self._path(held, "tokens").stem,
            "tokens": held.tokens,
            "documents": len(held.starts),
            "sha256": held.sum.hexdigest(),
            "sha256_starts": hashlib.sha256(starts).hexdigest(),
        })  # fmt: skip
        held.place, held.tokens, held.file, held.starts, held.rows = held.place + 1, 0, None, [], []


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens of one source."""

    tokens: npt.NDArray[Any]
    starts: npt.NDArray[np.int64]
    """Where documents begin in it: 0 first, whether or not one begins there."""
    source: str
    first: int
    """The place of its first token among all of the source."""


class Source:
    """All tokens of one source, as one array over its files."""

    def __init__(self, folder: Path, known: Mapping[str, Any], kind: np.dtype[Any]) -> None:
        self.name: str = known["name"]
        self._tokens: list[npt.NDArray[Any]] = []
        self._starts: list[npt.NDArray[np.int64]] = []
        for shard in known["shards"]:
            self._tokens.append(_mapped(folder / f"{shard['name']}.tokens", kind, shard["tokens"]))
            self._starts.append(_mapped(folder / f"{shard['name']}.starts", np.dtype("<i8"), shard["documents"]))
        self._before = np.cumsum([0, *map(len, self._tokens)])

    def __len__(self) -> int:
        return int(self._before[-1])

    def piece(self, first: int, length: int) -> Piece:
        """Up to so many tokens from a place on."""
        last = min(first + length, len(self))
        shard = int(np.searchsorted(self._before, first, side="right")) - 1
        tokens: list[npt.NDArray[Any]] = []
        starts: list[npt.NDArray[np.int64]] = [np.zeros(1, np.int64)]
        while shard < len(self._tokens) and self._before[shard] < last:
            base = int(self._before[shard])
            here, there = max(first - base, 0), min(last - base, len(self._tokens[shard]))
            tokens.append(self._tokens[shard][here:there])
            begins = self._starts[shard]
            places = slice(*np.searchsorted(begins, (max(here, first - base + 1), there)))
            starts.append(begins[places] + base - first)
            shard += 1
        return Piece(np.concatenate(tokens), np.concatenate(starts), self.name, first)


class Loader:
    """Pieces of all sources, shuffled and mixed by how often each source is to be read.

    The order depends on the shards, the length, the epochs and the seed alone. Of several readers each takes every
    ``of``-th piece, so together they read what one would.
    """

    def __init__(
        self, folder: Path, length: int, *, seed: int = 1, epochs: Mapping[str, float] | None = None, reader: int = 0,
        of: int = 1,
    ) -> None:  # fmt: skip
        """Args:
        folder: what `Writer` wrote.
        length: tokens of a piece; the last one of a source is shorter.
        seed: chooses the order.
        epochs: how often each source is read (`tutelage.corpus.mixing`); 1 for those that are not named.
        reader, of: which of how many readers this is.

        Raises:
            RecordError: no index, or a file that is missing or of another size.
            SettingsError: epochs for a source that there is not.
        """
        self.index = read_index(folder)
        self.length, self._seed, self._reader, self._of = length, seed, reader, of
        kind = np.dtype(self.index["type"])
        self.sources = [Source(folder, known, kind) for known in self.index["sources"]]
        names = [source.name for source in self.sources]
        for name in epochs or {}:
            if name not in names:
                raise SettingsError(f"{folder}: no source {name!r}: there are {', '.join(names)}")
        self._windows = [-(-len(source) // length) for source in self.sources]
        asked = [float((epochs or {}).get(name, 1.0)) for name in names]
        self._wanted = [round(often * windows) for often, windows in zip(asked, self._windows, strict=True)]
        self._taken = [0] * len(self.sources)
        self._step = 0
        what = [self.index, length, seed, asked]
        self._what = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        """Pieces in all, of all readers."""
        return sum(self._wanted)

    def __iter__(self) -> Iterator[Piece]:
        """The pieces that are left for this reader."""
        while self._step < len(self):
            place, turn = self._next()
            mine = (self._step - 1) % self._of == self._reader
            if mine:
                yield self._piece(place, turn)

    def state_dict(self) -> dict[str, Any]:
        """The cursor: a few numbers, for JSON."""
        return {"step": self._step, "taken": list(self._taken), "what": self._what}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a cursor stands.

        Raises:
            RecordError: the cursor is of other shards, another length, seed or mixture.
        """
        if state.get("what") != self._what:
            raise RecordError("shards: the cursor is of other shards, another length, seed or mixture: begin anew")
        self._step, self._taken = int(state["step"]), [int(taken) for taken in state["taken"]]

    def _next(self) -> tuple[int, int]:
        """The source whose turn it is, the one that lags most behind its share, and how often it had a turn."""
        self._step += 1
        lag = [wanted * self._step - taken * len(self) for wanted, taken in zip(self._wanted, self._taken, strict=True)]
        place = max(range(len(lag)), key=lag.__getitem__)
        self._taken[place] += 1
        return place, self._taken[place] - 1

    def _piece(self, place: int, turn: int) -> Piece:
        epoch, step = divmod(turn, self._windows[place])
        key = int.from_bytes(hashlib.sha256(f"{self._seed}\0{place}\0{epoch}".encode()).digest()[:8], "big")
        return self.sources[place].piece(permuted(step, self._windows[place], key) * self.length, self.length)


def read_index(folder: Path) -> dict[str, Any]:
    """The index of shards.

    Raises:
        RecordError: there is none, or it is of another kind.
    """
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: no index of shards: {error}: write them again") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise RecordError(f"{path}: not the format {FORMAT!r}: write the shards again")
    return index


def verify(folder: Path) -> None:
    """Reads everything and compares checksums.

    Raises:
        RecordError: a file is not what was written.
    """
    for source in read_index(folder)["sources"]:
        for shard in source["shards"]:
            for kind, wanted in (("tokens", shard["sha256"]), ("starts", shard["sha256_starts"])):
                path = folder / f"{shard['name']}.{kind}"
                try:
                    with open(path, "rb") as file:
                        found = hashlib.file_digest(file, "sha256").hexdigest()
                except OSError as error:
                    raise RecordError(f"{path}: {error}: write the shards again") from None
                if found != wanted:
                    raise RecordError(f"{path}: its checksum is not the index's: write the shards again")


def permuted(place: int, size: int, key: int) -> int:
    """Where a place of ``range(size)`` goes in a permutation that the key chooses: a Feistel network of six rounds,
    gone through again until the result is in the range. Source: Black and Rogaway 2002, on ciphers of any domain."""
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = place >> half, place & mask
        for turn in range(6):
            left, right = right, left ^ (_mixed(right ^ key ^ (turn << 56)) & mask)
        place = left << half | right
        if place < size:
            return place


def _mixed(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _mapped(path: Path, kind: np.dtype[Any], count: int) -> npt.NDArray[Any]:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RecordError(f"{path}: {error}: write the shards again") from None
    if size != count * kind.itemsize:
        raise RecordError(f"{path}: {size:,} bytes, the index has {count * kind.itemsize:,}: write the shards again")
    return np.memmap(path, kind, "r")
