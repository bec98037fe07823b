"""What has to be done so that no model has seen a document: a plan of commands, for somebody who asked to be forgotten.

The plan changes nothing and deletes nothing. It names the document with all its copies, for a copy that was refused as
one would take its place; every run that saw it, in the order in which they have to be made again; and what must be
deleted by hand, since nothing makes it again.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tutelage import catalogue, settings
from tutelage.ancestry import Archive, Known
from tutelage.errors import RecordError, TutelageError
from tutelage.lineage import trace

LIST = "removed.txt"
"""The file of ids that the plan writes about."""
SETTING = "leave_out"
"""The setting of a stage that leaves out the documents that such a file names."""


def plan(document: str, runs: Path = Path("runs")) -> dict[str, Any]:
    """The plan for a document, by its id or the beginning of it, for JSON.

    ``steps`` are in order: each has ``do``, in words, and most have ``command``.

    Raises:
        RecordError: there is no such document, or the id stands for several things.
    """
    found = trace(document, runs)
    if found["what"] != "document":
        raise RecordError(f"{document}: a {found['what']}, not a document: give the id of a document")
    archive = Archive(runs)
    by_path = {str(run.path): run for run in archive.runs}
    holders = [by_path[place["run"]] for place in found["stands_in"]]
    ids = [found["id"], *sorted(_copies(found["id"], holders))]
    seen = {reader["path"]: reader["how"] for place in found["stands_in"] for reader in place.get("seen_by", ())}
    touched = {run.path: run for run in holders} | {Path(path): by_path[path] for path in seen}
    ordered = _in_order(list(touched.values()))
    old = [run for run in ordered if ".previous" in run.path.parts]
    return {
        "what": "removal",
        "id": found["id"],
        "copies": ids[1:],
        "places": [
            {key: place[key] for key in ("run", "state", "source", "name", "rule") if key in place}
            for place in found["stands_in"]
        ],
        "seen_by": [
            {"path": str(run.path), "stage": run.stage, "how": seen.get(str(run.path), "holds it")} for run in ordered
        ],
        "steps": list(_steps(ids, [run for run in ordered if run not in old], old, runs)),
    }


def shown(plan: dict[str, Any]) -> str:
    """The plan as text."""
    lines = [f"document {plan['id']}"]
    lines += [f"  also as {copy}" for copy in plan["copies"]]
    lines += [f"  {place['state']} in {place['run']}, from {place.get('source', '?')}" for place in plan["places"]]
    lines += ["seen by" if plan["seen_by"] else "seen by nothing"]
    lines += [f"  {run['path']} ({run['stage']}): {run['how']}" for run in plan["seen_by"]]
    lines += ["to do, in this order; nothing is done by this command"]
    for number, step in enumerate(plan["steps"], start=1):
        lines.append(f"  {number}. {step['do']}")
        if step.get("command"):
            lines.append(f"     {step['command']}")
    return "\n".join(lines)


def _copies(document: str, holders: Sequence[Known]) -> set[str]:
    """The ids of the documents that were refused as copies of this one, or that it was refused as a copy of."""
    import pyarrow.parquet

    found: set[str] = set()
    for run in holders:
        for table in sorted((run.path / "refused").glob("*.parquet")):
            names = pyarrow.parquet.ParquetFile(table).schema_arrow.names
            if "duplicate_of" not in names:
                continue
            for row in pyarrow.parquet.read_table(table, columns=["id", "duplicate_of"]).to_pylist():
                if row["duplicate_of"] and document in (row["id"], row["duplicate_of"]):
                    found |= {row["id"], row["duplicate_of"]}
    return found - {document}


def _in_order(runs: Sequence[Known]) -> list[Known]:
    """Parents before children."""
    left = sorted(runs, key=lambda run: str(run.path))
    ordered: list[Known] = []
    while left:
        waiting = {run.hash for run in left}
        ready = [run for run in left if not any(p.hash in waiting and p.hash != run.hash for p in run.parents)] or left
        ordered += ready
        left = [run for run in left if run not in ready]
    return ordered


def _steps(ids: Sequence[str], runs: Sequence[Known], old: Sequence[Known], folder: Path) -> Iterator[dict[str, str]]:
    """What is to be done, in order."""
    file = folder / LIST
    written = " ".join(shlex.quote(name) for name in ids)
    command = f"printf '%s\\n' {written} >> {shlex.quote(str(file))}"
    yield {"do": f"write the ids of the document and its copies into {file}", "command": command}
    made: set[Path] = set()
    for run in runs:
        course = _course_of(run.path)
        if course is None:
            yield _alone(run, file)
        elif course not in made:
            made.add(course)
            yield _by_course(run, course, file)
    if old:
        yield {
            "do": "delete these by hand: they saw the document, were set aside, and nothing makes them again",
            "command": "rm -r " + " ".join(shlex.quote(str(run.path)) for run in old),
        }
    yield {
        "do": "look again: nothing should be found but what was set aside while the runs were made again, "
        "which is to be deleted too",
        "command": f"tutelage trace {ids[0]} --runs {shlex.quote(str(folder))}",
    }


def _course_of(path: Path) -> Path | None:
    """The folder of the course that a run belongs to."""
    return path.parent if (path.parent / "course.json").exists() and ".previous" not in path.parts else None


def _by_course(run: Known, folder: Path, file: Path) -> dict[str, str]:
    """One command makes a course's stages again from the first that is touched."""
    kept = json.loads((folder / "course.json").read_text(encoding="utf-8"))
    said = [f"{name}={value}" for name, value in kept["set"]]
    if _leaves_out(run.stage):
        said.append(f"{run.path.name}.{SETTING}=[{file}]")
    sets = "".join(f" --set {shlex.quote(one)}" for one in said)
    runs = "" if folder.parent == Path("runs") else f" --runs {shlex.quote(str(folder.parent))}"
    words = f"make {folder} again from {run.path.name} on"
    command = f"tutelage run {shlex.quote(kept['file'])} --from {run.path.name}{sets}{runs}"
    return {"do": words + _by_hand(run), "command": command}


def _alone(run: Known, file: Path) -> dict[str, str]:
    """The command that makes a run again, from its recipe."""
    recipe: dict[str, Any] = yaml.safe_load((run.path / "recipe.yaml").read_text(encoding="utf-8"))
    values = {name: value for name, value in recipe.items() if name != "stage" and value != _usual(run.stage, name)}
    if _leaves_out(run.stage):
        values[SETTING] = [*(values.get(SETTING) or []), str(file)]
    flags = " ".join(_flag(name, value) for name, value in values.items() if value is not None)
    command = f"tutelage {run.stage} {flags} --output {shlex.quote(str(run.path))}"
    return {"do": f"make {run.path} again{_by_hand(run)}", "command": " ".join(command.split())}


def _by_hand(run: Known) -> str:
    """What has to be done first where the stage cannot leave documents out."""
    reads = "documents" in catalogue.glance(run.stage).makes if run.stage in catalogue.names() else False
    return ", when you have taken the document out of its sources" if reads and not _leaves_out(run.stage) else ""


def _leaves_out(stage: str) -> bool:
    return stage in catalogue.names() and any(
        field.name == SETTING for field in dataclasses.fields(catalogue.stage(stage).recipe)
    )


def _usual(stage: str, name: str) -> object:
    """The default of a setting, as a recipe file holds it; something that no setting is, where it has none."""
    try:
        recipe = catalogue.stage(stage).recipe
    except TutelageError:
        return ...
    field = next((field for field in dataclasses.fields(recipe) if field.name == name), None)
    if field is None or field.default is dataclasses.MISSING:
        return ...
    holder = dataclasses.make_dataclass("Usual", [(name, object, field.default)], frozen=True)
    return settings.plain(holder())[name]


def _flag(name: str, value: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return flag if value else f"--no-{name.replace('_', '-')}"
    if isinstance(value, list):
        return " ".join([flag, *(shlex.quote(str(one)) for one in value)])
    if isinstance(value, dict):
        return f"{flag} {shlex.quote(yaml.safe_dump(value, default_flow_style=True).strip())}"
    return f"{flag} {shlex.quote(str(value))}"
