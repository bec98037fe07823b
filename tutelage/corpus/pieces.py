"""Pieces of token shards, shuffled and mixed by computation: nothing is moved, nothing is held.

The order of pieces is a permutation that is computed, not stored, so a cursor is a few counters however large the
corpus is, and going on from it costs nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.corpus import splits
from tutelage.corpus.shards import WIDE, mapped, read_index
from tutelage.errors import RecordError, SettingsError

_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Cut:
    """How the tokens of a source become pieces."""

    length: int
    """Tokens of a piece; the last one is shorter."""
    overlap: int = 0
    """Tokens that a piece has in common with the one before it."""
    alone: bool = False
    """Whether a piece is of one document; else documents follow each other in it."""


@dataclass(frozen=True)
class Piece:
    """Tokens of one source that follow each other."""

    tokens: npt.NDArray[Any]
    starts: npt.NDArray[np.int64]
    """Where documents begin in it: 0 first, whether or not one begins there."""
    source: str
    first: int
    """The place of its first token among all of the source."""


class Source:
    """The tokens of one source, its documents in their order, and how they are cut into pieces."""

    def __init__(self, folder: Path, known: Mapping[str, Any], kind: np.dtype[Any], cut: Cut) -> None:
        self.name: str = known["name"]
        self._tokens = [mapped(folder / f"{one['name']}.tokens", kind, one["tokens"]) for one in known["shards"]]
        self._starts = [mapped(folder / f"{one['name']}.starts", WIDE, one["documents"]) for one in known["shards"]]
        self._documents = np.cumsum([0, *map(len, self._starts)])
        reading = known["reading"]
        self._order, self._ends = (
            mapped(folder / f"{reading['name']}.{one}", WIDE, reading["documents"]) for one in ("order", "ends")
        )
        self._cut = cut
        self._pieces: npt.NDArray[np.int64] | None = None
        sizes = np.diff(self._ends, prepend=0) if cut.alone else np.array([len(self)])
        pieces = np.where(sizes > cut.overlap, -(-(sizes - cut.overlap) // (cut.length - cut.overlap)), 0)
        if cut.alone:
            self._pieces = np.cumsum(pieces)
        self.pieces = int(pieces.sum())
        """In one epoch."""
        self.drawn = int((sizes * (pieces > 0)).sum() + cut.overlap * np.maximum(0, pieces - 1).sum())
        """Tokens of all pieces; those in which two overlap count twice."""

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def piece(self, number: int) -> Piece:
        """One of the pieces, by its number."""
        step, limit, before = self._cut.length - self._cut.overlap, len(self), 0
        if self._pieces is not None:
            document = int(np.searchsorted(self._pieces, number, side="right"))
            number -= int(self._pieces[document - 1]) if document else 0
            before, limit = int(self._ends[document - 1]) if document else 0, int(self._ends[document])
        first = before + number * step
        return self._between(first, min(first + self._cut.length, limit))

    def _between(self, first: int, last: int) -> Piece:
        place = int(np.searchsorted(self._ends, first, side="right"))
        tokens: list[npt.NDArray[Any]] = []
        starts = [0]
        while first < last:
            begin, end = int(self._ends[place - 1]) if place else 0, int(self._ends[place])
            document = int(self._order[place])
            shard = int(np.searchsorted(self._documents, document, side="right")) - 1
            there = int(self._starts[shard][document - self._documents[shard]])
            tokens.append(self._tokens[shard][there + first - begin : there + min(last, end) - begin])
            starts.append(starts[-1] + len(tokens[-1]))
            first, place = min(last, end), place + 1
        whole = np.concatenate(tokens)
        return Piece(whole, np.array(starts[:-1], np.int64), self.name, last - len(whole))


class Loader:
    """Pieces of all sources, shuffled and mixed by how often each source is to be read.

    The order depends on the shards, the cut, the epochs and the seed alone.
    """

    def __init__(
        self, folder: Path, cut: Cut, *, seed: int | str = 1, epochs: Mapping[str, float] | None = None
    ) -> None:
        """Args:
        folder: what `Writer` wrote.
        cut: how its tokens become pieces.
        seed: chooses the order.
        epochs: how often each source is read (`tutelage.corpus.mixing`), one piece at least; 1 for those that are not
            named, 0 leaves one out.

        Raises:
            RecordError: no index, or a file that is missing or of another size.
            SettingsError: epochs for a source that there is not.
        """
        self.index = read_index(folder)
        self._seed = seed
        kind = np.dtype(self.index["type"])
        self.sources = [Source(folder, known, kind, cut) for known in self.index["sources"]]
        names = [source.name for source in self.sources]
        for name in epochs or {}:
            if name not in names:
                raise SettingsError(f"{folder}: no source {name!r}: there are {', '.join(names)}")
        asked = [float((epochs or {}).get(name, 1.0)) for name in names]
        self._wanted = [
            max(round(often * source.pieces), int(often > 0 and source.pieces > 0))
            for often, source in zip(asked, self.sources, strict=True)
        ]
        self._taken = [0] * len(self.sources)
        self._step = 0
        what = [self.index, asdict(cut), seed, asked]
        self._what = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        """Pieces in all."""
        return sum(self._wanted)

    @property
    def tokens(self) -> float:
        """Tokens of all pieces; exact for whole epochs."""
        shares = zip(self._wanted, self.sources, strict=True)
        return sum(wanted * source.drawn / source.pieces for wanted, source in shares if wanted)

    def __iter__(self) -> Iterator[Piece]:
        """The pieces that are left."""
        while self._step < len(self):
            place, turn = self._next()
            yield self._piece(place, turn)

    def peek(self, count: int) -> list[Piece]:
        """The next pieces, without going on."""
        step, taken = self._step, list(self._taken)
        found = list(itertools.islice(self, count))
        self._step, self._taken = step, taken
        return found

    def state_dict(self) -> dict[str, Any]:
        """The cursor: a few numbers, for JSON."""
        return {"step": self._step, "taken": list(self._taken), "what": self._what}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a cursor stands.

        Raises:
            RecordError: the cursor is of other shards, another cut, seed or mixture.
        """
        if state.get("what") != self._what:
            raise RecordError("shards: the cursor is of other shards, another cut, seed or mixture: begin anew")
        self._step, self._taken = int(state["step"]), [int(taken) for taken in state["taken"]]

    def _next(self) -> tuple[int, int]:
        """The source whose turn it is, the one that lags most behind its share, and how often it had a turn."""
        self._step += 1
        lag = [wanted * self._step - taken * len(self) for wanted, taken in zip(self._wanted, self._taken, strict=True)]
        place = max(range(len(lag)), key=lag.__getitem__)
        self._taken[place] += 1
        return place, self._taken[place] - 1

    def _piece(self, place: int, turn: int) -> Piece:
        source = self.sources[place]
        epoch, step = divmod(turn, source.pieces)
        key = splits.value(f"{place}\0{epoch}", self._seed)
        return source.piece(permuted(step, source.pieces, key))


class Steps:
    """Steps of as many pieces as have about so many tokens; what the first loaders give comes first.

    Every process that learns draws the same steps, so the cursor is the same for any number of them.
    """

    def __init__(self, loaders: Sequence[tuple[Loader, int]], tokens: int) -> None:
        """Args:
        loaders: each with how many times in a row its pieces are read.
        tokens: of a step.
        """
        self._loaders = [(loader, times) for loader, times in loaders if len(loader)]
        self._drawn = [iter(loader) for loader, _ in self._loaders]
        self._pieces = [max(1, int(tokens * len(loader) // (times * loader.tokens))) for loader, times in self._loaders]
        self._counts = [-(-len(loader) // n) for (loader, _), n in zip(self._loaders, self._pieces, strict=True)]
        self.tokens = sum(times * loader.tokens for loader, times in self._loaders)
        """Of all steps."""
        self.pieces = sum(len(loader) for loader, _ in self._loaders)

    def __len__(self) -> int:
        return sum(self._counts)

    def take(self, step: int) -> list[list[int]]:
        """The tokens of a step's pieces; the step has to be the one that follows the cursor."""
        for (_, times), drawn, pieces, count in zip(
            self._loaders, self._drawn, self._pieces, self._counts, strict=True
        ):
            if step < count:
                return [piece.tokens.tolist() * times for piece in itertools.islice(drawn, pieces)]
            step -= count
        raise AssertionError("no such step")

    def state_dict(self) -> list[dict[str, Any]]:
        """The cursor, for JSON."""
        return [loader.state_dict() for loader, _ in self._loaders]

    def load_state_dict(self, state: Sequence[dict[str, Any]]) -> None:
        """Goes on where a cursor stands.

        Raises:
            RecordError: the cursor is of other shards or settings.
        """
        for (loader, _), cursor in zip(self._loaders, state, strict=True):
            loader.load_state_dict(cursor)


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
