"""From sources to documents, in parts: read and judge, compare keys, say what is repeated, write.

    read --> judge each part --> settle by keys --> word the repeated passages --> write each part --> put together
             (workers)          (some workers)     (workers)                     (workers)

Where long stretches go, parts are put down before they are written, and compared once more.

Whatever a part has been through lies on disk and is not done again. Which worker did it, and when, leaves no trace.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.corpus import counting, judging, marking, parts, reading, settling, stretches, writing
from tutelage.corpus.engine import Engine
from tutelage.corpus.facts import Facts
from tutelage.corpus.hashing import is_kept
from tutelage.corpus.judging import Clock, Rules, Told
from tutelage.run import Progress, Way


@dataclass
class Made:
    """What `run` gives."""

    told: dict[str, Any]
    """What reading found out: the number of parts, what was not read, packages."""
    facts: Facts
    numbers: range
    """The parts."""
    tests: dict[str, int]
    """How many items each test set has."""
    pace: list[tuple[str, float, int]] = field(default_factory=list)
    """(step, seconds of work, bytes it read) of what was done this time; never of what was done before."""


def run(
    rules: Rules, rows: Iterable[parts.Row], engine: Engine, progress: Progress, told: dict[str, Any],
    meter: reading.Meter | None = None,
) -> Made:  # fmt: skip
    """Does all that is not done yet; ``told`` is what reading fills in.

    meter: how far the rows are read, if that can be said.

    Raises:
        RecordError: a test set, a list of words or a classifier cannot be read; then nothing is written.
    """
    judging.tools.cache_clear()
    writing.forget()
    bench = rules.bench
    made = Made(told, Facts(), range(0), next(engine.map(_begin, [rules])))
    way = Way(meter.total, lambda count: told["ends"][count - 1], bench.known()) if meter else None
    numbers = parts.cut(bench, rows, told, meter.read if meter else int)
    results = engine.map(functools.partial(judging.judge, rules), numbers)
    _add(made, list(progress(results, "reading and judging", way)))
    made.numbers = bench.numbers()
    last_first = made.numbers[::-1]  # the first parts are small: done last, nobody waits long for another
    compare = functools.partial(_compare, rules)
    _add(made, [one for jobs in (settling.FIRST, settling.THEN) for one in engine.map(compare, jobs)])
    if rules.paragraphs:
        stay = writing.keepers(rules)[::-1]
        if stay:
            list(progress(engine.map(functools.partial(writing.say, rules), stay), "repeated passages", len(stay)))
        writing.join_said(rules, stay)
    if rules.stretches:
        results = engine.map(functools.partial(writing.strip, rules), last_first)
        _add(made, list(progress(results, "long stretches", len(made.numbers))))
        _add(made, engine.map(_compare_stretches, [rules]))
    results = engine.map(functools.partial(writing.apply, rules), last_first)
    _add(made, list(progress(results, "writing", len(made.numbers))))
    for number in made.numbers:
        made.facts.merge(Facts.read(bench.judged(number) / "facts.json"))
        made.facts.merge(Facts.read(bench.applied(number) / "facts.json"))
    made.facts.merge(Facts.read(bench.settled() / "facts.json"))
    return made


def is_compiled(rules: Rules) -> bool:
    """Whether the machine code of the longest loops is there; it takes more than half of the minute that all take."""
    return all(is_kept(loop) for loop in (counting.count_all, *([marking.mark] if rules.paragraphs else [])))


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


def _begin(rules: Rules) -> dict[str, int]:
    """Reads what every part needs, so that a fault in it is told before any work; the items of each test set."""
    index = judging.tools(rules).tests
    known: dict[str, set[str]] = {Path(file).name: set() for file in rules.tests}
    for item in (*index.items, *index.unjudged) if index else ():
        known[item.test].add(item.id)
    return {test: len(ids) for test, ids in known.items()}


def _compare(rules: Rules, job: Callable[[Rules], None]) -> Told:
    clock = Clock()
    job(rules)
    clock.lap("comparing")
    return Told(0, 0, clock.seconds)


def _compare_stretches(rules: Rules) -> Told:
    clock = Clock()
    stretches.settle(rules.bench, writing.sizes(rules), rules.stretches)
    clock.lap("comparing stretches")
    return Told(0, 0, clock.seconds)


def _add(made: Made, told: Iterable[Told]) -> None:
    seconds: dict[str, float] = {}
    size = 0
    for one in told:
        size += one.bytes
        for step, spent in one.seconds.items():
            seconds[step] = seconds.get(step, 0.0) + spent
    made.pace += [(step, spent, size) for step, spent in seconds.items()]
