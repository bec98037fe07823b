"""A course: one YAML file that holds a model's whole education, checked whole before anything runs.

Each stage writes ``RUNS/COURSE/STAGE``. In the file a stage's name stands for its output, so what a run was made from
is known without saying more. A stage is done again when its settings, or the content of what it is made from, change.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast, get_origin, get_type_hints

import yaml

from tutelage import catalogue, settings, syllabus
from tutelage.errors import RoomError, RunError, SettingsError
from tutelage.run import Parent, Run, content_hash, is_done, processes, rank, write_json

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
STANDS_FOR = {"tokenizer": ("tokenizer", "model")}
"""What may be given where a kind is wanted; a model folder holds its tokenizer."""
FROM_HUB = ("model", "tokenizer")
OUT_OF_MEMORY = ("can't allocate memory", "Cannot allocate memory", "CUDA out of memory", "bad_alloc")
"""How torch and libraries in C++ say that there is no more memory."""
FULL = ("No space left on device", "PytorchStreamWriter failed writing", "enforce fail at inline_container")
"""How safetensors and torch say that the disk is full."""
FILES = "files"
"""The kind of an input that no stage makes: the user's own files, or a word that the stage knows."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One stage of a course."""

    name: str
    stage: str
    values: dict[str, Any]
    """As written; stages' names are not yet paths."""
    place: str
    places: dict[str, str]


@dataclass(frozen=True, slots=True)
class Course:
    """A course, checked."""

    path: Path
    text: str
    overrides: tuple[tuple[str, Any], ...]
    lessons: tuple[Lesson, ...]

    @classmethod
    def load(cls, path: Path, overrides: Sequence[tuple[str, Any]] = ()) -> Course:
        """The course of a file, with single settings laid over it: ``("sft.learning_rate", 1e-4)``.

        Raises:
            SettingsError: anything that would stop it later, with its line.
        """
        path = Path(path)
        written = syllabus.read(path)
        overrides = tuple((key, _parsed(value)) for key, value in overrides)
        seed = dict(overrides).get("seed", written.seed)
        lessons = tuple(_lesson(entry, overrides, seed) for entry in written.entries)
        _refuse_unused(overrides, lessons)
        course = cls(path, written.text, overrides, lessons)
        for lesson in lessons:
            course.recipe(lesson, Path("runs") / course.name)
        return course

    @property
    def name(self) -> str:
        """The file's name without its ending; also of the folder of its runs."""
        return self.path.stem

    def lesson(self, name: str) -> Lesson:
        """The stage of that name.

        Raises:
            SettingsError: there is none.
        """
        for lesson in self.lessons:
            if lesson.name == name:
                return lesson
        known = [lesson.name for lesson in self.lessons]
        raise SettingsError(f"{self.path}: no stage is called {name!r}: {settings.nearest(name, known)}")

    def recipe(self, lesson: Lesson, folder: Path) -> Any:
        """The stage's recipe, with earlier stages' names as paths under ``folder``.

        Raises:
            SettingsError: a wrong key or value, or an input that nothing before makes.
        """
        kind = catalogue.stage(lesson.stage).recipe
        values = dict(lesson.values)
        places = {key: f"{place}: {lesson.name}" for key, place in lesson.places.items()}
        settings.check_keys(kind, values, f"{lesson.place}: {lesson.name}", places)
        for field, mark in settings.inputs(kind).items():
            where = f"{lesson.places.get(field, lesson.place)}: {lesson.name}: {field}"
            if values.get(field) is not None:
                values[field] = self._resolved(values[field], field, kind, mark.kind, lesson, folder, where)
            elif _required(kind, field):
                raise SettingsError(f"{where}: {self._offer(mark.kind, lesson)}")
        recipe = settings.check(kind, values, f"{lesson.place}: {lesson.name}", places)
        for field, path in _given_paths(recipe):
            if field not in settings.inputs(kind) and not path.exists():
                raise SettingsError(f"{places.get(field, lesson.place)}: {field}: {path}: no such file or folder")
        return recipe

    def makers(self, kind: str, before: Lesson) -> list[str]:
        """The earlier stages that make something."""
        wanted = set(STANDS_FOR.get(kind, (kind,)))
        return [e.name for e in self._earlier(before) if wanted & set(catalogue.stage(e.stage).makes)]

    def _earlier(self, lesson: Lesson) -> tuple[Lesson, ...]:
        return self.lessons[: [other.name for other in self.lessons].index(lesson.name)]

    def _resolved(
        self, value: Any, field: str, kind: type[Any], wanted: str, lesson: Lesson, folder: Path, where: str
    ) -> Any:
        if isinstance(value, list):
            return [self._resolve(item, wanted, lesson, folder, where) for item in cast(list[Any], value)]
        one = self._resolve(value, wanted, lesson, folder, where)
        return [one] if _takes_several(kind, field) else one

    def _resolve(self, value: Any, wanted: str, lesson: Lesson, folder: Path, where: str) -> Any:
        """An input's value as a path: an earlier stage's run, a file or folder, or a model's hub id."""
        if not isinstance(value, str):
            return value
        earlier = {other.name: other for other in self._earlier(lesson)}
        if value in earlier:
            makes = catalogue.stage(earlier[value].stage).makes
            if not set(STANDS_FOR.get(wanted, (wanted,))) & set(makes):
                offer = self._offer(wanted, lesson)
                raise SettingsError(f"{where}: {value} makes {' and '.join(makes)}, not {wanted}: {offer}")
            return str(folder / value)
        if value == lesson.name or value in [other.name for other in self.lessons]:
            which = "this very stage" if value == lesson.name else "a later stage"
            raise SettingsError(f"{where}: {value} is {which}: {self._offer(wanted, lesson)}")
        path = Path(value)
        if wanted == FILES and not path.exists() and not _looks_like_path(value):
            return value
        if path.is_file() and path.stat().st_size == 0:
            raise SettingsError(f"{where}: {value}: empty file")
        if path.exists() or (wanted in FROM_HUB and is_hub_id(value)):
            return value
        if wanted == FILES:
            raise SettingsError(f"{where}: {value}: no such file or folder")
        offer = settings.nearest(value, list(earlier)) if earlier else "check the path"
        raise SettingsError(f"{where}: no stage before it and no file is called {value!r}: {offer}")

    def _offer(self, wanted: str, lesson: Lesson) -> str:
        made = self.makers(wanted, lesson)
        if made:
            return f"stages before it that make {wanted}: {', '.join(made)}"
        stages = catalogue.makers(wanted)
        add = f"add a stage before it ({' or '.join(stages)}), or give a path" if stages else "give a path"
        return f"needs {wanted}, and no earlier stage makes it: {add}"


def run(
    course: Course,
    from_stage: str | None = None,
    only: str | None = None,
    runs: Path = Path("runs"),
    quiet: bool = False,
    overrides: Sequence[tuple[str, Any]] = (),
) -> Path:
    """Does what is not done of a course. Gives the folder of its runs.

    from_stage: do this stage and all after it again; only: do just this one.

    Raises:
        TutelageError: what stopped it; half a run can go on with the same command.
    """
    from tutelage.evaluation import report

    if overrides:
        course = Course.load(course.path, overrides)
    if processes() > 1:
        raise SettingsError(
            "torchrun: a course is run by one process: give it one stage at a time, as in "
            "`torchrun --nproc-per-node 2 -m tutelage sft --model ... --output ...`"
        )
    if from_stage and only:
        raise SettingsError("--from and --only: give one of them")
    folder = Path(runs) / course.name
    first = course.lessons.index(course.lesson(from_stage)) if from_stage else len(course.lessons)
    alone = course.lesson(only) if only else None
    if alone:
        _require_parents(course, alone, folder)
    remember(course, folder)
    began = time.monotonic()
    for number, lesson in enumerate(course.lessons):
        if alone and lesson is not alone:
            continue
        recipe = course.recipe(lesson, folder)
        again = number >= first
        _say(quiet, _headline(course, number, time.monotonic() - began))
        if execute_stage(lesson.stage, recipe, folder / lesson.name, quiet, again):
            report.write(folder, report.course_card(folder))
            if not quiet:
                report.print_samples(folder / lesson.name)
    report.write(folder, report.course_card(folder))
    return folder


def execute_stage(stage: str, recipe: Any, path: Path, quiet: bool = False, again: bool = False) -> bool:
    """Executes one stage into ``path``, or says that it is done already; ``again`` does it even so.

    Gives whether it was executed now.

    Raises:
        TutelageError: what stopped it.
    """
    path = Path(path)
    plain = settings.plain(recipe)
    parents = parents_of(recipe)
    quiet = quiet or rank() > 0
    executed = again or not is_done(path, stage, plain, parents)
    if executed:
        with Run.begin(path, stage, plain, parents, quiet) as at_work, _Exhausted(path):
            catalogue.stage(stage).execute(recipe, at_work)
            at_work.finish()
    else:
        _say(quiet, f"{path}: done already")
    if rank() == 0 and (executed or not (path / "report.json").exists()):
        from tutelage.evaluation import report

        with _Exhausted(path):
            report.write(path, report.stage_card(path))
    return executed


def parents_of(recipe: Any) -> list[Parent]:
    """What a recipe's run is made from, by content. A hub id stands for itself."""
    return [Parent(field, path, _hash(path)) for field, path in _given_paths(recipe)]


def remember(course: Course, folder: Path) -> None:
    """Keeps the course beside its runs, so that `status` can tell what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"file": str(course.path), "set": [list(pair) for pair in course.overrides], "text": course.text}
    write_json(folder / "course.json", kept)


def is_hub_id(value: str) -> bool:
    """Whether it looks like ``organisation/name``, and not like a path under a folder that is here or will be."""
    head = value.partition("/")[0]
    return bool(HUB_ID.fullmatch(value)) and head != "runs" and not Path(head).exists()


def _hash(path: Path) -> str:
    if not path.exists() and is_hub_id(str(path)):
        return hashlib.sha256(str(path).encode()).hexdigest()
    return content_hash(path)


def _given_paths(recipe: Any) -> Iterator[tuple[str, Path]]:
    """The paths in a recipe, with their fields. Text is one if its field is an input and it is there."""
    marked = settings.inputs(type(recipe))
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        for path in settings.paths(value):
            yield field.name, path
        if field.name in marked:
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and Path(text).exists():
                    yield field.name, Path(text)


def _looks_like_path(value: str) -> bool:
    return "/" in value or "." in value


def _lesson(entry: syllabus.Entry, overrides: Sequence[tuple[str, Any]], seed: Any) -> Lesson:
    if entry.stage not in catalogue.names():
        nearest = settings.nearest(entry.stage, catalogue.names())
        hint = "" if entry.stage != entry.name else "; a name of your own needs `stage: ` with a stage's name in it"
        raise SettingsError(f"{entry.place}: unknown stage {entry.stage!r}: {nearest}{hint}")
    if "service" in catalogue.glance(entry.stage).makes:
        raise SettingsError(
            f"{entry.place}: {entry.stage} teaches nothing: after the course, `tutelage {entry.stage} RUN`"
        )
    values, places = dict(entry.values), dict(entry.places)
    for key, value in overrides:
        name, _, setting = key.partition(".")
        if name == entry.name:
            values[setting] = value
            places[setting] = f"--set {key}"
    recipe = catalogue.stage(entry.stage).recipe
    if seed is not None and "seed" in [field.name for field in dataclasses.fields(recipe)]:
        values.setdefault("seed", seed)
    return Lesson(entry.name, entry.stage, values, entry.place, places)


def _parsed(value: Any) -> Any:
    """A value of the command line, read as YAML would."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _refuse_unused(overrides: Sequence[tuple[str, Any]], lessons: Sequence[Lesson]) -> None:
    names = [lesson.name for lesson in lessons]
    for key, _ in overrides:
        name, dot, _ = key.partition(".")
        if key != "seed" and (not dot or name not in names):
            raise SettingsError(f"--set {key}: write stage.key=value: {settings.nearest(name, names)}")


def _required(kind: type[Any], name: str) -> bool:
    field = next(f for f in dataclasses.fields(kind) if f.name == name)
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _takes_several(kind: type[Any], name: str) -> bool:
    return get_origin(get_type_hints(kind)[name]) is tuple


def _require_parents(course: Course, lesson: Lesson, folder: Path) -> None:
    names = [other.name for other in course.lessons]
    for _, path in _given_paths(course.recipe(lesson, folder)):
        if path.parent == folder and path.name in names and not (path / "done").exists():
            raise RunError(
                f"{path}: not done, and {lesson.name} is made from it: "
                f"first `tutelage run {course.path} --only {path.name}`"
            )


def _headline(course: Course, number: int, seconds: float) -> str:
    lesson = course.lessons[number]
    minutes, rest = divmod(round(seconds), 60)
    summary = catalogue.glance(lesson.stage).summary
    return f"stage {number + 1} of {len(course.lessons)}: {lesson.name}: {summary} [{minutes}:{rest:02d} so far]"


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        from rich.console import Console
        from rich.markup import escape

        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold]{escape(text)}[/bold]")


class _Exhausted:
    """Turns a full disk or a lack of memory, by whichever library it shows, into one line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, Exception) and _says_full(error):
            raise RunError(
                f"{self.path}: the disk is full: free some space, then give the same command: "
                "it goes on from where it stopped"
            ) from error
        if isinstance(error, Exception) and _says_out_of_memory(error):
            raise RoomError(
                f"{self.path}: there is no more memory: end other programs, or lower max_batch_tokens or set "
                "gradient_checkpointing where the stage has them, then give the same command"
            ) from error


def _says_out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def _says_full(error: BaseException | None) -> bool:
    """Libraries written in other languages tell it only in their words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error) for words in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False
