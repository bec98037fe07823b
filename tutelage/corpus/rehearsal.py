"""Imported by the process that workers are forked from: one small run, so that no worker has to load anything again.

Modules, compiled loops, word lists and the model of languages take a process about a second and a half to load. Workers
that are forked from one that has them share the time and the memory.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tutelage.corpus.engine import Here, alone

T = TypeVar("T")

alone()  # before any library asks how many threads there are: a process with threads cannot be forked safely

_TEXT = (
    "Two sentences of a letter that nobody wrote. They stand here so that everything that looks at a text has looked at"
    " one, 也看过一句中文。"
)


def rehearse() -> None:
    """Takes one document through all passes, in a folder that goes again."""
    from tutelage.corpus import judging, licences, parts, pipeline, quality, terms

    with tempfile.TemporaryDirectory() as folder:
        test = Path(folder) / "test.jsonl"
        test.write_text(json.dumps({"text": "What does a test ask of those who must not have read it before?"}))
        rules = judging.Rules(
            root=folder,
            cards=(terms.Card(licence="own"),),
            gate=licences.Gate(licences.OPEN),
            leave_out=(),
            extraction="fast",
            mask_personal=True,
            quality=quality.Settings(),
            quality_classifier="",
            lexicons=(),
            harm_classifier="",
            tests=(str(test),),
            near_duplicates=True,
            paragraphs=True,
            stretches=0,
            max_characters=0,
            share=0.0,
            seed=1,
        )
        row = parts.Row(_TEXT, "text", id="1", source="rehearsal", licence="own")
        made = pipeline.run(rules, [row], Here(), _quietly, {})
    if made.facts.tables["kept"]["all"][0] != 1:
        raise RuntimeError(f"the text of the rehearsal was refused: {made.facts.tables['rules']}")


def _quietly(items: Iterable[T], description: str, total: object = None) -> Iterator[T]:
    del description, total
    return iter(items)


with contextlib.suppress(Exception):  # what is wrong is told by the worker that meets it
    rehearse()
