"""A course file as it was written: plain values, and the line on which each stands.

    seed: 1
    stages:
      prepare: {sources: [python]}
      sft-zh: {stage: sft, model: pretrain}     # the key is the name; `stage` where that is not a stage's

Nothing is checked here but the shape; `tutelage.course` knows what the values mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tutelage.errors import SettingsError
from tutelage.settings import nearest

NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One stage of a course, as written."""

    name: str
    stage: str
    values: dict[str, Any]
    place: str
    """``file:line`` of its name."""
    places: dict[str, str]
    """``file:line`` of each key."""


@dataclass(frozen=True, slots=True)
class Syllabus:
    """A course file, as written."""

    text: str
    seed: int | None
    entries: list[Entry]


def read(path: Path) -> Syllabus:
    """The course file.

    Raises:
        SettingsError: missing, empty, not YAML, or not of the shape of a course; with the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file: give a course file, such as courses/first.yaml") from None
    except IsADirectoryError:
        raise SettingsError(f"{path}: is a folder: give a course file, such as courses/first.yaml") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}: is this a course file?") from None
    return _Reader(path, text).syllabus()


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        try:
            self.loader = yaml.SafeLoader(text)
        except yaml.reader.ReaderError as error:
            raise SettingsError(f"{path}: not YAML: {error.reason} at character {error.position}") from None

    def syllabus(self) -> Syllabus:
        try:
            root = self.loader.get_single_node()
            if root is None:
                raise SettingsError(f"{self.path}: empty: write `stages:` and, under it, a stage on each line")
            top = self._pairs(root, "a course")
            for key, (mark, _) in top.items():
                if key not in ("seed", "stages"):
                    raise SettingsError(f"{self._at(mark)}: unknown key {key!r}: {nearest(key, ['seed', 'stages'])}")
            if "stages" not in top:
                raise SettingsError(f"{self.path}: no `stages:`: under it, write a stage on each line")
            stages = self._pairs(top["stages"][1], "stages")
            if not stages:
                raise SettingsError(f"{self._at(top['stages'][0])}: stages: empty: write a stage on each line")
            entries = [self._entry(name, mark, node) for name, (mark, node) in stages.items()]
            return Syllabus(self.text, self._seed(top.get("seed")), entries)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = " ".join(part for part in (error.context, error.problem) if part)
            raise SettingsError(f"{self._at(mark) if mark else self.path}: not YAML: {problem}") from None

    def _entry(self, name: str, mark: yaml.Mark, node: yaml.Node) -> Entry:
        place = self._at(mark)
        if not NAME.fullmatch(name) or name.endswith(".partial"):
            raise SettingsError(f"{place}: {name!r} cannot name a folder: use letters, digits, - and _")
        pairs = self._pairs(node, name)
        values = {key: self.loader.construct_object(value, deep=True) for key, (_, value) in pairs.items()}
        stage = values.pop("stage", name)
        places = {key: self._at(mark) for key, (mark, _) in pairs.items()}
        return Entry(name, str(stage), values, places.get("stage", place), places)

    def _seed(self, found: tuple[yaml.Mark, yaml.Node] | None) -> int | None:
        if found is None:
            return None
        value = self.loader.construct_object(found[1])
        if not isinstance(value, int) or isinstance(value, bool):
            raise SettingsError(f"{self._at(found[0])}: seed: found {value!r}: write a whole number")
        return value

    def _pairs(self, node: yaml.Node, what: str) -> dict[str, tuple[yaml.Mark, yaml.Node]]:
        """The keys of a mapping, with their marks and values. Twice the same key is an error, also further in."""
        if isinstance(node, yaml.ScalarNode) and self.loader.construct_object(node) is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise SettingsError(f"{self._at(node.start_mark)}: {what}: write settings as `key: value`")
        self._refuse_twins(node, set())
        self.loader.flatten_mapping(node)
        pairs: dict[str, tuple[yaml.Mark, yaml.Node]] = {}
        for key, value in node.value:
            pairs[str(self.loader.construct_object(key))] = (key.start_mark, value)
        return pairs

    def _refuse_twins(self, node: yaml.Node, seen: set[int]) -> None:
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            return
        seen.add(id(node))
        lines: dict[str, int] = {}
        for part in node.value:
            if isinstance(node, yaml.MappingNode):
                key, part = part
                if key.value in lines and isinstance(key, yaml.ScalarNode):
                    raise SettingsError(
                        f"{self._at(key.start_mark)}: {key.value!r} stands twice, also on line {lines[key.value]}: "
                        "give each its own name"
                    )
                if isinstance(key, yaml.ScalarNode):
                    lines[key.value] = key.start_mark.line + 1
            self._refuse_twins(part, seen)

    def _at(self, mark: yaml.Mark) -> str:
        return f"{self.path}:{mark.line + 1}"
