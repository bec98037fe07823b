"""`status`: what is done of each course, half done, out of date or missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tutelage import settings
from tutelage.ancestry import known
from tutelage.course import Course, parents_of
from tutelage.errors import RecordError, RunError, TutelageError
from tutelage.run import is_done, read_done, read_metrics

State = Literal["done", "stale", "partial", "missing"]
COLOURS = {"done": "green", "stale": "yellow", "partial": "cyan", "missing": "dim"}
MAIN = ("held_out_accuracy", "held_out_bits_per_byte", "held_out_loss", "accuracy", "score", "loss")
"""Numbers of a report, the telling ones first."""
FACTS = ("conversations", "comparisons", "verdicts", "ratings", "vocabulary", "parameters")


@dataclass(frozen=True, slots=True)
class Row:
    """One stage, as it stands on the disk."""

    name: str
    stage: str
    state: State
    note: str = ""
    seconds: float | None = None
    metric: str = ""
    hash: str = ""


def status(runs: Path = Path("runs")) -> Group:
    """A table of each course under a folder, for `rich`, and of the runs that belong to none.

    Raises:
        RunError: no such folder.
    """
    if not runs.is_dir():
        raise RunError(f"{runs}: no runs are here: tutelage run courses/first.yaml makes some")
    parts: list[Table | Text] = []
    for folder in sorted(p.parent for p in runs.glob("**/course.json")):
        title, problem, rows = course_rows(folder)
        parts.append(_table(title, rows))
        if problem:
            parts.append(
                Text(f"its stages as they are on the disk; the course file cannot be read: {problem}", "yellow")
            )
    alone = list(_alone(runs))
    if alone:
        parts.append(_table(f"{runs}: by themselves", alone))
    if not parts:
        raise RunError(f"{runs}: no runs are here: tutelage run courses/first.yaml makes some")
    return Group(*parts)


def course_rows(folder: Path) -> tuple[str, str, list[Row]]:
    """A course's title, what is wrong with its file, and its stages in order."""
    kept: dict[str, Any] = json.loads((folder / "course.json").read_text(encoding="utf-8"))
    file = Path(kept["file"])
    title = f"{folder}, by {file}"
    try:
        course = Course.load(file, [tuple(pair) for pair in kept["set"]])
        return title, "", [_row(course, number, folder) for number in range(len(course.lessons))]
    except TutelageError as error:
        return title, str(error), list(_alone(folder))


def _row(course: Course, number: int, folder: Path) -> Row:
    lesson = course.lessons[number]
    path = folder / lesson.name
    recipe = course.recipe(lesson, folder)
    half = path.with_name(path.name + ".partial")
    try:
        current = is_done(path, lesson.stage, settings.plain(recipe), parents_of(recipe))
    except (RunError, RecordError):
        current = False  # what it is made from is not there
    if current:
        return _done(lesson.name, path, "done")
    if half.exists():
        return _half(lesson.name, lesson.stage, half)
    if (path / "done").exists():
        return _done(lesson.name, path, "stale", "its settings, or what it is made from, have changed")
    return Row(lesson.name, lesson.stage, "missing")


def _alone(folder: Path) -> Iterator[Row]:
    """The runs right in a folder, known by nothing but themselves."""
    for path in sorted(folder.iterdir()):
        if (path / "done").exists():
            yield _done(path.name, path, "done")
        elif path.name.endswith(".partial") and (path / "recipe.yaml").exists():
            name = path.name.removesuffix(".partial")
            if not (folder / name / "done").exists():
                yield _half(name, "", path)


def _done(name: str, path: Path, state: State, note: str = "") -> Row:
    run = known(path)
    seconds = read_done(path).get("seconds")
    return Row(name, run.stage, state, note, seconds, _metric(path), run.hash)


def _half(name: str, stage: str, half: Path) -> Row:
    metrics = read_metrics(half)
    step = f"step {metrics[-1]['step']}" if metrics else "begun"
    return Row(name, stage, "partial", f"{step}; the same command goes on from its last checkpoint")


def _metric(path: Path) -> str:
    file = path / "report.json"
    if not file.exists():
        return ""
    report = json.loads(file.read_text(encoding="utf-8"))
    metrics, facts = report.get("metrics", {}), report.get("facts", {})
    for name in MAIN:
        if name in metrics:
            return f"{name.replace('_', ' ').replace('held out', 'held-out')} {metrics[name]:.3g}"
    return next((f"{facts[name]} {name}" for name in FACTS if name in facts), "")


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("stage", "state", "time", "main number", "hash"):
        table.add_column(heading, header_style="dim", justify="right" if heading == "time" else "left")
    for row in rows:
        kind = f" ({row.stage})" if row.stage and row.stage != row.name else ""
        table.add_row(
            Text(row.name + kind),
            Text(row.state, COLOURS[row.state]),
            _duration(row.seconds),
            Text(row.metric or row.note),
            Text(row.hash[:12], "dim"),
        )
    return table


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
