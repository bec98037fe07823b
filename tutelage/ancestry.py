"""What runs were made from and what was made from them, by content hash: a folder that moved is still found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.run import Parent, content_hash, read_done, read_parents

SHOWN_SOURCES = 5


@dataclass(frozen=True, slots=True)
class Known:
    """A finished run."""

    path: Path
    stage: str
    hash: str
    parents: tuple[Parent, ...]


class Archive:
    """The finished runs under a folder, older ones set aside included."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = [known(path) for path in finished(folder)]
        self._by_hash = {run.hash: run for run in reversed(self.runs)}

    def of_hash(self, content: str) -> Known | None:
        """The run with this content."""
        return self._by_hash.get(content)

    def holding(self, file: Path) -> Known | None:
        """The run that a file lies in."""
        return next((run for run in self.runs if run.path in file.parents), None)

    def children(self, content: str) -> list[tuple[Known, str]]:
        """The runs made from this content, each with the name that it has in their recipe."""
        return [(run, parent.name) for run in self.runs for parent in run.parents if parent.hash == content]

    def descendants(self, run: Known) -> list[dict[str, Any]]:
        """All that was made from a run, nearest first; ``through`` is the run between, for those further down."""
        found: list[dict[str, Any]] = []
        seen = {run.path}
        ring: list[tuple[Known, str]] = [(run, "")]
        while ring:
            further: list[tuple[Known, str]] = []
            for parent, _ in ring:
                for child, field in self.children(parent.hash):
                    if child.path not in seen:
                        seen.add(child.path)
                        further.append((child, field))
                        through = "" if parent is run else str(parent.path)
                        found.append(
                            {"path": str(child.path), "stage": child.stage, "hash": child.hash, "as": field}
                            | ({"through": through} if through else {})
                        )
            ring = further
        return found

    def ancestry(self, path: Path) -> dict[str, Any]:
        """A run, model folder or file with all that it was made from, as nested dictionaries."""
        return self._node("", path, None, set())

    def _node(self, field: str, path: Path, recorded: str | None, shown: set[str]) -> dict[str, Any]:
        """recorded: the hash that the child knew it by."""
        run, state = self._find(path, recorded)
        node: dict[str, Any] = {"as": field} if field else {}
        node |= {"path": str(run.path if run else path), "stage": run.stage if run else None}
        node |= {"hash": run.hash if run else recorded or (content_hash(path) if path.exists() else None)}
        if recorded:
            node["state"] = state
        if run is None:
            return node
        if run.hash in shown:
            return node | {"again": True}
        shown.add(run.hash)
        node |= holds(run.path)
        node["parents"] = [self._node(p.name, p.path, p.hash, shown) for p in run.parents]
        return node

    def _find(self, path: Path, recorded: str | None) -> tuple[Known | None, str]:
        here = known(path) if (path / "done").exists() else None
        if recorded is None:
            return here, "same"
        if here and here.hash == recorded:
            return here, "same"
        elsewhere = self.of_hash(recorded)
        if elsewhere:
            return elsewhere, "set aside" if ".previous" in elsewhere.path.parts else "moved"
        if here:
            return None, "changed since"
        if not path.exists():
            return None, "not here"
        return None, "same" if content_hash(path) == recorded else "changed since"


def finished(folder: Path) -> Iterator[Path]:
    """The finished runs under a folder, at any depth, in order."""
    for done in sorted(folder.rglob("done")):
        path = done.parent
        if not path.name.endswith(".partial") and (path / "parents.json").exists():
            yield path


def known(path: Path) -> Known:
    """A finished run.

    Raises:
        RunError: it is none.
    """
    done = read_done(path)
    parents = read_parents(path) if (path / "parents.json").exists() else []
    return Known(path, str(done.get("stage", "")), str(done.get("hash", "")), tuple(parents))


def holds(path: Path) -> dict[str, Any]:
    """What a run's folder holds: records by file, documents, their sources and licences."""
    found: dict[str, Any] = {}
    records = {file.name: _lines(file) for file in record_files(path)}
    if records:
        found["records"] = records
    tables = document_tables(path)
    if tables:
        found |= _documents(tables)
    refused = sum(_rows(table) for table in sorted((path / "refused").glob("*.parquet")))
    if refused:
        found["refused"] = refused
    return found


def record_files(path: Path) -> list[Path]:
    """The JSONL files of a run that hold records."""
    return sorted(f for f in path.glob("*.jsonl") if f.name not in ("metrics.jsonl", "answers.jsonl", "feedback.jsonl"))


def document_tables(path: Path) -> list[Path]:
    """The Parquet files of a run that hold documents."""
    return sorted((path / "documents").glob("*.parquet"))


def _documents(tables: list[Path]) -> dict[str, Any]:
    import pyarrow.parquet

    sources: Counter[tuple[str, str]] = Counter()
    splits: Counter[str] = Counter()
    for table in tables:
        columns = pyarrow.parquet.read_table(table, columns=["source", "licence", "split"]).to_pydict()
        sources.update(zip(columns["source"], columns["licence"], strict=True))
        splits.update(columns["split"])
    licences: Counter[str] = Counter()
    for (_, licence), count in sources.items():
        licences[licence] += count
    largest = sorted(sources.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_SOURCES]
    return {
        "documents": dict(sorted(splits.items())),
        "licences": dict(sorted(licences.items(), key=lambda item: (-item[1], item[0]))),
        "sources": len(sources),
        "largest_sources": [{"source": s, "licence": licence, "documents": n} for (s, licence), n in largest],
    }


def _rows(table: Path) -> int:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(table).metadata.num_rows


def _lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for line in lines if line.strip())
