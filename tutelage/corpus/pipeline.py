"""From sources to documents, in parts: read and judge, compare keys, say what is repeated, write.

    read --> judge each part --> settle by keys --> word the repeated passages --> write each part --> put together
             (workers)          (one process)      (workers)                     (workers)

Where long stretches go, parts are put down before they are written, and compared once more.

Whatever a part has been through lies on disk and is not done again. Which worker did it, and when, leaves no trace.
"""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tutelage.corpus import judging, parts, settling, stretches, writing
from tutelage.corpus.engine import Engine
from tutelage.corpus.facts import Facts
from tutelage.corpus.judging import Rules, Told

T = TypeVar("T")


class Progress(Protocol):
    """A bar for a long walk: `tutelage.run.Run.progress` is one."""

    def __call__(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]: ...


@dataclass
class Made:
    """What `run` gives."""

    told: dict[str, Any]
    """What reading found out: the number of parts, what was not read, packages."""
    facts: Facts
    numbers: range
    """The parts."""
    pace: list[tuple[str, float, int]] = field(default_factory=list)
    """(step, seconds of work, bytes it read) of what was done this time; never of what was done before."""


def begin(rules: Rules) -> None:
    """Reads what every part needs, so that a fault in it is told before anything is written.

    Raises:
        RecordError: a test set, a list of words or a classifier cannot be read.
    """
    judging.tools.cache_clear()
    writing.forget()
    judging.tools(rules)


def run(rules: Rules, rows: Iterable[parts.Row], engine: Engine, progress: Progress, told: dict[str, Any]) -> Made:
    """Does all that is not done yet; ``told`` is what reading fills in."""
    bench = rules.bench
    made = Made(told, Facts(), range(0))
    numbers = parts.cut(bench, rows, told)
    results = engine.map(functools.partial(judging.judge, rules), numbers)
    _add(made, list(progress(results, "reading and judging")))
    made.numbers = range(int(told["parts"]))
    _timed(made, "comparing", lambda: settling.settle(rules, len(made.numbers)))
    if rules.paragraphs:
        stay = writing.keepers(rules)
        list(progress(engine.map(functools.partial(writing.say, rules), stay), "repeated passages", len(stay)))
        writing.join_said(rules, stay)
    if rules.stretches:
        results = engine.map(functools.partial(writing.strip, rules), made.numbers)
        _add(made, list(progress(results, "long stretches", len(made.numbers))))
        sizes = writing.sizes(rules)
        _timed(made, "comparing stretches", lambda: stretches.settle(rules.bench, sizes, rules.stretches))
    results = engine.map(functools.partial(writing.apply, rules), made.numbers)
    _add(made, list(progress(results, "writing", len(made.numbers))))
    for number in made.numbers:
        made.facts.merge(Facts.read(bench.judged(number) / "facts.json"))
        made.facts.merge(Facts.read(bench.applied(number) / "facts.json"))
    made.facts.merge(Facts.read(bench.settled() / "facts.json"))
    return made


def publish(rules: Rules, made: Made, folder: Path) -> None:
    """Puts the parts into ``documents`` and ``refused``. Parts stay where they were until the run is sealed."""
    for name in ("documents", "refused"):
        (folder / name).mkdir(exist_ok=True)
        for number in made.numbers:
            _link(rules.bench.applied(number) / f"{name}.parquet", folder / name / f"{number:05d}.parquet")


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)  # a file system without links


def _timed(made: Made, step: str, work: Callable[[], None]) -> None:
    began = time.process_time()
    work()
    made.pace.append((step, time.process_time() - began, 0))


def _add(made: Made, told: Iterable[Told]) -> None:
    seconds: dict[str, float] = {}
    size = 0
    for one in told:
        size += one.bytes
        for step, spent in one.seconds.items():
            seconds[step] = seconds.get(step, 0.0) + spent
    made.pace += [(step, spent, size) for step, spent in seconds.items()]
