"""A run: one execution of a stage, as a folder.

While it works the folder is called ``NAME.partial``; when every output is on the disk it gets its ``done`` file and
is renamed to ``NAME``. So a folder without the suffix is whole, whatever killed the process. The same command goes on
from the last checkpoint and ends with the same bytes.

    sft/recipe.yaml    the settings                     sft/metrics.jsonl  numbers, one line a step
    sft/parents.json   what it was made from, by hash   sft/log.txt        words
    sft/done           its own hash, file by file       sft/report.html    a page for people, report.json for programs

Everything else in the folder is output, and makes the run's content hash.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import yaml

from tutelage.errors import RunError, RunLockedError, TutelageError

T = TypeVar("T")

_held: set[Path] = set()
"""The locks of this process."""

WITHOUT_TRACE = {
    "save_seconds", "save_total_limit", "max_batch_tokens", "gradient_checkpointing", "engine", "processes", "address",
}  # fmt: skip
"""How much is held at a time, and who works: a half run goes on, and a whole one stands, whatever these are now."""

HOUSEKEEPING = {
    "recipe.yaml", "parents.json", "metrics.jsonl", "log.txt", "report.html", "report.json", "done", "checkpoint",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Way:
    """A walk whose steps are of different length, in bytes."""

    total: int
    behind: Callable[[int], int]
    """How many bytes lie behind after so many items."""
    before: int = 0
    """How many of the first items were done before: they say nothing of the pace."""


PACE = 300
"""Seconds by which the pace of a walk in bytes is told: its steps may take a minute each."""


class Progress(Protocol):
    """A bar for a long walk: `Run.progress` is one."""

    def __call__(self, items: Iterable[T], description: str, total: int | Way | None = None) -> Iterator[T]: ...


@dataclass(frozen=True, slots=True)
class Parent:
    """Something a run was made from."""

    name: str
    """The recipe's field."""
    path: Path
    hash: str


class Run:
    """A run at work. Stages write under ``run.folder`` and never look elsewhere.

    Use `Run.begin`; it locks the folder against a second writer for as long as the block lasts.
    """

    def __init__(self, path: Path, stage: str, recipe: dict[str, Any], parents: list[Parent], quiet: bool) -> None:
        self.path = path
        """Where the run will be when it is done."""
        self.stage = stage
        self.recipe = recipe
        self.parents = parents
        self.quiet = quiet
        self.folder = path.with_name(path.name + ".partial")
        """Where it is written. Of several processes the first one writes; the others write where nobody looks."""
        self.checkpoint = self.folder / "checkpoint"
        """Where a trainer keeps what it needs to go on, all processes alike; gone when the run is done."""
        self.began = time.monotonic()

    @classmethod
    @contextlib.contextmanager
    def begin(
        cls, path: Path, stage: str, recipe: dict[str, Any], parents: list[Parent] | None = None, quiet: bool = False
    ) -> Generator[Run]:
        """Opens the run for writing, and goes on with a half one of the same recipe and parents.

        Raises:
            RunLockedError: another process writes it.
            RunError: something that is no run is in the way.
        """
        path = Path(path)
        _refuse_strangers(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        run = cls(path, stage, recipe, parents or [], quiet)
        if rank():
            with tempfile.TemporaryDirectory() as scratch:
                run.folder, run.quiet = Path(scratch), True
                yield run
            return
        with _lock(path):
            run._clear()
            _write_yaml(run.folder / "recipe.yaml", {"stage": stage, **recipe})
            write_json(run.folder / "parents.json", [_parent_json(p) for p in run.parents])
            try:
                yield run
            except TutelageError:
                # Nothing half-written: what cannot go on is swept away.
                if not run._can_go_on():
                    shutil.rmtree(run.folder, ignore_errors=True)
                raise

    def finish(self) -> str:
        """Seals the run: hashes the outputs, writes ``done``, renames. Gives the content hash."""
        if rank():
            return ""
        files = _each_file(_settled, self.folder)
        content = combine(files)
        write_json(
            self.folder / "done",
            {"stage": self.stage, "hash": content, "files": files, "seconds": round(time.monotonic() - self.began, 1)},
        )
        sync(self.folder / "done")
        twin = self._set_aside(content) if self.path.exists() else None
        self.folder.rename(self.path)
        sync(self.path.parent)
        shutil.rmtree(self.path / "checkpoint", ignore_errors=True)
        if twin:
            shutil.rmtree(twin, ignore_errors=True)
        return content

    def note(self, text: str) -> None:
        """A line for ``log.txt`` and, unless quiet, the screen."""
        with (self.folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")
        if not self.quiet:
            from rich.console import Console
            from rich.markup import escape

            Console(stderr=True, highlight=False).print(f"[dim]{escape(self.path.name)}[/dim] {escape(text)}")

    def measure(self, step: int, **numbers: float | int | str) -> None:
        """A line of numbers for ``metrics.jsonl``."""
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
            metrics.write(json.dumps({"step": step, **numbers}) + "\n")

    def progress(
        self,
        items: Iterable[T],
        description: str,
        total: int | Way | None = None,
        start: int = 0,
        note: Callable[[], str] = str,
    ) -> Iterator[T]:
        """The items, with a bar, an estimate of the end and a changing note.

        total: how many items there are, or the way in bytes.
        """
        if self.quiet:
            yield from items
            return
        from rich import progress
        from rich.console import Console

        way, length = (total, total.total) if isinstance(total, Way) else (None, total)
        if length is None and hasattr(items, "__len__"):
            length = len(items)  # type: ignore[arg-type]
        bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False), progress.BarColumn(bar_width=14),
            progress.DownloadColumn() if way else progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(compact=True), progress.TextColumn("left"),
            progress.TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True), speed_estimate_period=PACE if way else 30,
        )  # fmt: skip
        with bar:
            task = bar.add_task(f"{self.path.name}: {description}", total=length, completed=start, note="")
            for count, item in enumerate(items, start + 1):
                yield item
                done = way.behind(count) if way else count
                if way and count <= way.before:
                    bar.reset(task, completed=done)
                bar.update(task, completed=done, note=note())
            if way:
                bar.update(task, completed=way.total)

    def _can_go_on(self) -> bool:
        """Whether there is a whole checkpoint; what ends in .tmp was being written when the process stopped."""
        return self.checkpoint.is_dir() and any(file.suffix != ".tmp" for file in self.checkpoint.iterdir())

    def _clear(self) -> None:
        """Keeps a half run that can go on, sweeps away one that cannot."""
        same = _same(self.folder, self.stage, self.recipe, self.parents)
        if self.folder.exists() and not (same and self._can_go_on()):
            (self.folder / "recipe.yaml").unlink(missing_ok=True)  # first: what is left cannot be taken for a half run
            shutil.rmtree(self.folder)
        self.folder.mkdir(exist_ok=True)
        (self.folder / "done").unlink(missing_ok=True)
        for name in outputs(self.folder):
            (self.folder / name).unlink()

    def _set_aside(self, content: str) -> Path | None:
        """Keeps an older run, out of the way. Gives its place if its outputs are these very ones."""
        try:
            older = str(read_done(self.path)["hash"])
        except (RunError, KeyError, TypeError):
            older = "damaged"
        target = self.path.parent / ".previous" / f"{self.path.name}-{older[:8]}"
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        self.path.rename(target)
        return target if older == content else None


def processes() -> int:
    """How many processes do this work together: those that ``torchrun`` started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among them, from 0; the first alone writes."""
    return int(os.environ.get("RANK", "0")) if processes() > 1 else 0


def is_done(path: Path, stage: str, recipe: dict[str, Any], parents: list[Parent]) -> bool:
    """Whether this very run, of the same settings and parents, is whole."""
    return (path / "done").exists() and _same(path, stage, recipe, parents)


def read_done(path: Path) -> dict[str, Any]:
    """The ``done`` file of a run: its stage, hash and files.

    Raises:
        RunError: the folder is no finished run, or the file is damaged.
    """
    try:
        return json.loads((path / "done").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: not a finished run: it has no file named done") from None
    except json.JSONDecodeError as error:
        raise RunError(f"{path / 'done'}: damaged: {error.msg}: delete the folder and run the stage again") from None


def content_hash(path: Path) -> str:
    """The hash of anything a run can be made from: a finished run, another folder, or a file.

    Raises:
        RunError: nothing is there.
    """
    if (path / "done").exists():
        return str(read_done(path)["hash"])
    if path.is_dir():
        return combine(_each_file(file_hash, path))
    if path.is_file():
        return file_hash(path)
    raise RunError(f"{path}: no such file or folder")


def outputs(folder: Path) -> list[str]:
    """The files of a run that are its outputs, by relative name, sorted."""
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return sorted(str(name) for name in found if name.parts[0] not in HOUSEKEEPING)


def file_hash(path: Path) -> str:
    """SHA-256 of the bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _each_file(hashed: Callable[[Path], str], folder: Path) -> dict[str, str]:
    """The outputs in a folder with their hashes. Several are read at a time: hashing leaves other threads to work."""
    names = outputs(folder)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(names, pool.map(lambda name: hashed(folder / name), names), strict=True))


def _settled(path: Path) -> str:
    """The hash of a file that is safe on the disk."""
    sync(path)
    return file_hash(path)


def combine(files: dict[str, str]) -> str:
    """One hash for a set of named files."""
    return hashlib.sha256("".join(f"{name}\0{files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``; none if it has none."""
    file = path / "metrics.jsonl"
    if not file.exists():
        return []
    # What follows the last line end was cut off by a kill or a full disk.
    whole, _, _ = file.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.split("\n") if line]


def write_json(path: Path, value: object) -> None:
    """Writes beside and renames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, path)


def _write_yaml(path: Path, value: object) -> None:
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")
    os.replace(beside, path)


def _parent_json(parent: Parent) -> dict[str, str]:
    return {"name": parent.name, "path": str(parent.path), "hash": parent.hash}


def read_parents(path: Path) -> list[Parent]:
    """What a run was made from.

    Raises:
        RunError: the folder has no ``parents.json``, or a damaged one.
    """
    file = path / "parents.json"
    try:
        return [Parent(p["name"], Path(p["path"]), p["hash"]) for p in json.loads(file.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        raise RunError(f"{path}: not a run: it has no file named parents.json") from None
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{file}: damaged: delete the folder and run the stage again") from None


def _same(folder: Path, stage: str, recipe: dict[str, Any], parents: list[Parent]) -> bool:
    try:
        old_recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
        old_parents = read_parents(folder)
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, yaml.YAMLError, RunError):
        return False
    return (
        isinstance(old_recipe, dict)
        and _by_hash(cast(dict[str, Any], old_recipe), old_parents) == _by_hash({"stage": stage, **recipe}, parents)
        and [(p.name, p.hash) for p in old_parents] == [(p.name, p.hash) for p in parents]
    )


def _by_hash(recipe: dict[str, Any], parents: list[Parent]) -> dict[str, Any]:
    """The recipe with each parent called by its hash: one that only moved is the same."""
    hashes = {(p.name, str(p.path)): p.hash for p in parents}

    def called(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [called(name, item) for item in cast(list[Any], value)]
        return hashes.get((name, value), value) if isinstance(value, str) else value

    return {name: called(name, value) for name, value in recipe.items() if name not in WITHOUT_TRACE}


def _refuse_strangers(path: Path) -> None:
    if path.is_file() or (path.is_dir() and not (path / "done").exists() and any(path.iterdir())):
        raise RunError(f"{path}: exists and is not a run: name another place, or move it away")


@contextlib.contextmanager
def _lock(path: Path) -> Generator[None]:
    """Holds the run against other processes, and against this one.

    A POSIX record lock, because it belongs to the process: children that outlive a killed writer do not keep it.
    """
    file = path.parent.resolve() / f".{path.name}.lock"
    if file in _held:
        raise RunLockedError(f"{path}: this process is writing this run already")
    with file.open("a+") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise RunLockedError(f"{path}: process {holder} is writing this run: wait for it, or stop it") from None
        _held.add(file)
        try:
            lock.seek(0)
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            yield
        finally:
            _held.discard(file)


def sync(path: Path) -> None:
    """Sees to it that a file, or a folder's list of files, is on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
