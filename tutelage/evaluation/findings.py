"""What a run folder tells about itself: its settings, its parents, its numbers, what it wrote."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from tutelage.errors import RunError
from tutelage.evaluation.charts import Series, final
from tutelage.run import read_metrics, read_parents

HELD_OUT = "held_out_"
"""Before the name of a number that was measured on held-out data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One model's answer in a sample."""

    name: str
    text: str
    stopped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A prompt, and what models said to it, in the order of their education."""

    prompt: tuple[tuple[str, str], ...]
    """(role, content) of each turn."""
    answers: tuple[Said, ...]
    reference: str = ""
    """The answer that stands in the documents, where it is known."""


def recipe(folder: Path) -> dict[str, Any]:
    """The settings of a run, and its ``stage``.

    Raises:
        RunError: the folder is no run.
    """
    file = folder / "recipe.yaml"
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{folder}: not a run: it has no file named recipe.yaml") from None
    except yaml.YAMLError:
        raise RunError(f"{file}: damaged: delete the folder and run the stage again") from None
    if not isinstance(value, dict) or "stage" not in value:
        raise RunError(f"{file}: damaged: it names no stage: delete the folder and run the stage again")
    return cast(dict[str, Any], value)


def settings(folder: Path) -> dict[str, str]:
    """The settings of a run as text; what it was made from by name and hash, wherever it stands."""
    parents = {str(p.path): f"{p.path.name} {p.hash[:8]}" for p in read_parents(folder)}

    def text(value: Any) -> str:
        match value:
            case None:
                return "none"
            case bool():
                return "yes" if value else "no"
            case list():
                return ", ".join(text(item) for item in cast(list[Any], value)) or "none"
            case dict():
                return ", ".join(f"{k}: {text(v)}" for k, v in cast(dict[str, Any], value).items()) or "none"
            case _:
                return parents.get(str(value), str(value))

    return {name: text(value) for name, value in recipe(folder).items() if name != "stage"}


def curves(folder: Path) -> dict[str, Series]:
    """Every series of numbers that a run measured, by name; those on held-out data begin with `HELD_OUT`.

    A line that carries words beside its split is part of a table, not of a curve. Numbers that are not finite are left
    out.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for line in read_metrics(folder):
        words = {name for name, value in line.items() if isinstance(value, str)}
        if words - {"split"}:
            continue
        prefix = "" if line.get("split", "train") == "train" else f"{line['split']}_"
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                found.setdefault(prefix + name, []).append((float(line["step"]), float(value)))
    return dict(found)


def metrics(series: dict[str, Series]) -> dict[str, float]:
    """One number for each series: the mean over its last tenth; held-out ones their last; ``tokens`` their sum."""
    numbers: dict[str, float] = {}
    for name, points in series.items():
        if name == "tokens":
            numbers[name] = sum(value for _, value in points)
        else:
            numbers[name] = points[-1][1] if name.startswith(HELD_OUT) else final(points)
    return numbers


def samples(folder: Path) -> tuple[Sample, ...]:
    """The samples that a stage wrote, before and after it; none if it wrote none, or others of its own."""
    found = read_json(folder / "samples.json")
    if not isinstance(found, list):
        return ()
    return tuple(
        Sample(
            prompt=tuple((turn["role"], turn["content"]) for turn in sample["prompt"]),
            answers=tuple(
                Said(name=said["name"], text=said["text"], stopped=bool(said.get("stopped", True)))
                for said in sample["answers"]
            ),
            reference=sample.get("reference") or "",
        )
        for sample in cast(list[Any], found)
    )


def read_json(file: Path) -> Any:
    """What a JSON file of a run holds; None if there is no such file.

    Raises:
        RunError: it is damaged.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise RunError(f"{file}: damaged: delete the folder and run the stage again") from None


def parameters(folder: Path) -> int:
    """How many weights a model folder holds, read from the heads of its safetensors files; 0 if there are none."""
    count = 0
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            tensors: dict[str, Any] = json.loads(opened.read(length))
        count += sum(math.prod(tensor["shape"]) for name, tensor in tensors.items() if name != "__metadata__")
    return count


def lines(file: Path) -> int:
    """Records in a JSONL file; 0 if there is none."""
    if not file.exists():
        return 0
    with file.open("rb") as opened:
        return sum(1 for line in opened if line.strip())
