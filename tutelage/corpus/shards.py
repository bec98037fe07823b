"""Documents as tokens on disk, to be read through memory maps by `tutelage.corpus.pieces`.

Each source has files of its own: ``NNN-SSSSS.tokens`` (ids, little-endian, 16 or 32 bits each), ``.starts`` (where in
that file each document begins, 64 bits) and ``.parquet`` (a document's id, licence, language and count of tokens, in
the same order). ``NNN.order`` has the documents that are read, by number, in the order in which they lie one after the
other, and ``NNN.ends`` where each then ends, 64 bits. ``index.json``, written last, names all files with their sizes
and checksums: a folder without it is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tutelage.corpus.encoding import Ids
from tutelage.errors import RecordError

FORMAT = "tutelage token shards 2"
INDEX = "index.json"

TOKENS = 1 << 27
"""Tokens of a file."""

WIDE = np.dtype("<i8")
"""The type of places and counts."""


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
    sizes: list[npt.NDArray[np.int64]] = field(default_factory=list[npt.NDArray[np.int64]])
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

    def finish(
        self, orders: Mapping[str, npt.NDArray[np.int64]] | None = None, facts: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Writes what is left, and the index, which it gives back.

        Args:
            orders: of some sources the documents to read, by number, in this order; others are read as they came.
            facts: for the index, whatever JSON can hold.
        """
        for held in self._sources.values():
            self._close(held)
        self._index["sources"] = [
            {
                "name": name,
                "tokens": sum(shard["tokens"] for shard in held.done),
                "documents": sum(shard["documents"] for shard in held.done),
                "shards": held.done,
                "reading": self._lay(held, (orders or {}).get(name)),
            }
            for name, held in self._sources.items()
        ]
        self._index["facts"] = dict(facts or {})
        beside = self._folder / (INDEX + ".partial")
        beside.write_text(
            json.dumps(self._index, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )
        beside.replace(self._folder / INDEX)
        return self._index

    def close(self) -> None:
        """Lets go of the files, whether or not they are whole."""
        for held in self._sources.values():
            if held.file is not None:
                held.file.close()

    def _lay(self, held: _Open, order: npt.NDArray[np.int64] | None) -> dict[str, Any]:
        sizes = np.concatenate([np.zeros(0, np.int64), *held.sizes])
        chosen = np.arange(len(sizes)) if order is None else order
        found = {"name": f"{held.number:03d}", "documents": len(chosen), "tokens": int(sizes[chosen].sum())}
        for kind, column in (("order", chosen), ("ends", np.cumsum(sizes[chosen]))):
            data = column.astype("<i8").tobytes()
            (self._folder / f"{found['name']}.{kind}").write_bytes(data)
            found[f"sha256_{kind}"] = hashlib.sha256(data).hexdigest()
        return found

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
            "sha256_tokens": held.sum.hexdigest(),
            "sha256_starts": hashlib.sha256(starts).hexdigest(),
        })  # fmt: skip
        held.sizes.append(np.array([row[-1] for row in held.rows], np.int64))
        held.place, held.tokens, held.file, held.starts, held.rows = held.place + 1, 0, None, [], []


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
        for one in (*source["shards"], source["reading"]):
            for kind in ("tokens", "starts", "order", "ends"):
                if f"sha256_{kind}" not in one:
                    continue
                path = folder / f"{one['name']}.{kind}"
                try:
                    with open(path, "rb") as file:
                        found = hashlib.file_digest(file, "sha256").hexdigest()
                except OSError as error:
                    raise RecordError(f"{path}: {error}: write the shards again") from None
                if found != one[f"sha256_{kind}"]:
                    raise RecordError(f"{path}: its checksum is not the index's: write the shards again")


def mapped(path: Path, kind: np.dtype[Any], count: int) -> npt.NDArray[Any]:
    """So many numbers of a file, without reading them.

    Raises:
        RecordError: the file is missing or of another size.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RecordError(f"{path}: {error}: write the shards again") from None
    if size != count * kind.itemsize:
        raise RecordError(f"{path}: {size:,} bytes, the index has {count * kind.itemsize:,}: write the shards again")
    return np.memmap(path, kind, "r") if count else np.zeros(0, kind)
