"""What leaves and enters in the shapes that others use: a table of shapes, and their files.

Going out and coming back gives the same bytes: whatever a shape says of an answer is read as an answer that says it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.errors import RecordError
from tutelage.feedback import pair_shapes as pairs
from tutelage.feedback import snapshot as snapshots
from tutelage.feedback import tool_shapes as tools
from tutelage.feedback.pair_shapes import BETTER, GOOD, IDEAL, ORDER, Line, Questions
from tutelage.feedback.snapshot import Asked, Row

_SAFE: Questions = (
    BETTER, Asked(key="safer", kind="compare", dimension="harmless"),
    Asked(key="safe", kind="binary", dimension="harmless", per_response=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """A format of others."""

    name: str
    file_name: str
    media_type: str
    text: str
    """What it is, for a person who chooses."""
    write: Callable[[Questions, Row], Iterator[Line]]
    read: Callable[[Mapping[str, Any], str], Row] | None = None
    asked: Questions = ()
    """The questions that its answers answer, where it does not say them itself."""
    array: bool = False
    """Whether its file is one JSON array."""


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape(
            "preference", "preference.jsonl", "application/jsonl", "TRL: prompt, chosen, rejected", pairs.preference,
            pairs.read_preference, (BETTER, ORDER),
        ),
        Shape("kto", "kto.jsonl", "application/jsonl", "TRL, KTO: prompt, completion, label", pairs.kto,
              pairs.read_kto, (GOOD,)),
        Shape("completion", "completion.jsonl", "application/jsonl", "TRL, SFT: prompt, completion", pairs.completion,
              pairs.read_completion, (IDEAL,)),
        Shape("reward", "reward.jsonl", "application/jsonl", "UltraFeedback, HelpSteer: response, scores",
              pairs.reward, pairs.read_reward),
        Shape("ranking", "ranking.jsonl", "application/jsonl", "prompt, responses, ranks", pairs.ranking,
              pairs.read_ranking, (ORDER,)),
        Shape("hh", "hh-rlhf.jsonl", "application/jsonl", "hh-rlhf: transcripts, chosen and rejected", pairs.hh,
              pairs.read_hh, (BETTER,)),
        Shape("arena", "arena.jsonl", "application/jsonl", "arena: model_a, model_b, winner", pairs.arena,
              pairs.read_arena, (BETTER,)),
        Shape("safe_rlhf", "safe-rlhf.jsonl", "application/jsonl", "SafeRLHF: better, safer", pairs.safe_rlhf,
              pairs.read_safe_rlhf, _SAFE),
        Shape("alpaca", "alpaca-comparison.jsonl", "application/jsonl", "Alpaca: instruction, outputs, best first",
              pairs.alpaca, pairs.read_alpaca, (ORDER,)),
        Shape("open_assistant", "open-assistant.jsonl", "application/jsonl", "Open-Assistant: trees",
              tools.open_assistant, tools.read_open_assistant, (ORDER,)),
        Shape("label_studio", "label-studio.json", "application/json", "Label Studio: tasks and annotations",
              tools.label_studio, tools.read_label_studio, array=True),
        Shape("argilla", "argilla.json", "application/json", "Argilla: records and responses", tools.argilla,
              tools.read_argilla, array=True),
        Shape("csv", "answers.csv", "text/csv; charset=utf-8", "a table for a spreadsheet", tools.table),
        Shape("snapshot", "snapshot.jsonl", "application/jsonl", "everything, as `collect` takes it",
              lambda _, row: iter([json.loads(snapshots.line(row))]), snapshots.row_of),
    )
}  # fmt: skip


def export(name: str, questions: Questions, rows: Iterable[Row]) -> Iterator[bytes]:
    """Rows in a shape, a piece for each row, in their order.

    Raises:
        RecordError: no such shape.
    """
    shape = known(name)
    if shape.name == "snapshot":
        yield from (snapshots.line(row).encode() for row in rows)
        return
    if shape.name == "csv":
        yield tools.csv_text([], heading=True).encode()
        for row in rows:
            yield tools.csv_text(shape.write(questions, row)).encode()
        return
    first = True
    if shape.array:
        yield b"[\n"
    for row in rows:
        lines = [_dump(line) for line in shape.write(questions, row)]
        if shape.array and lines:
            yield (b"" if first else b",\n") + b",\n".join(lines)
            first = False
        elif lines:
            yield b"\n".join(lines) + b"\n"
    if shape.array:
        yield b"\n]\n"


def questions_of(name: str, lines: Iterable[Mapping[str, Any]]) -> Questions:
    """The questions that lines of a shape answer."""
    shape = known(name)
    if shape.asked:
        return shape.asked
    found: dict[str, Asked] = {}
    for line in lines:
        for asked in _told(shape.name, line):
            found.setdefault(asked.key, asked)
    return tuple(found.values())


def known(name: str) -> Shape:
    """A shape by its name.

    Raises:
        RecordError: there is none.
    """
    if name not in SHAPES:
        raise RecordError(f"shape {name!r}: one of {', '.join(SHAPES)}")
    return SHAPES[name]


def sniffed(line: Mapping[str, Any]) -> Shape | None:
    """The shape that a line has, by its keys."""
    for keys, name in _KEYS:
        if keys <= line.keys():
            return SHAPES[name]
    return None


_KEYS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"model_a", "model_b", "winner"}), "arena"),
    (frozenset({"better_response_id", "safer_response_id"}), "safe_rlhf"),
    (frozenset({"message_tree_id", "prompt"}), "open_assistant"),
    (frozenset({"data", "annotations"}), "label_studio"),
    (frozenset({"fields", "responses"}), "argilla"),
    (frozenset({"item", "prompt", "responses", "answers"}), "snapshot"),
    (frozenset({"prompt", "responses", "ranks"}), "ranking"),
    (frozenset({"prompt", "response", "scores"}), "reward"),
    (frozenset({"prompt", "chosen", "rejected"}), "preference"),
    (frozenset({"chosen", "rejected"}), "hh"),
    (frozenset({"prompt", "completion", "label"}), "kto"),
    (frozenset({"prompt", "completion"}), "completion"),
    (frozenset({"instruction", "output"}), "alpaca"),
)
"""The keys that tell a shape, the most telling first."""

_KINDS = {"pairwise": "compare", "ranker": "rank", "rating": "scale", "choices": "binary", "textarea": "text"}


def _told(name: str, line: Mapping[str, Any]) -> Iterator[Asked]:
    """The questions that one line speaks of."""
    if name == "reward":
        yield from pairs.scales_of(line)
    elif name == "label_studio":
        for annotation in line.get("annotations") or []:
            for result in annotation.get("result") or []:
                kind: Any = _KINDS.get(str(result.get("type")))
                if kind:
                    yield Asked(key=str(result["from_name"]), kind=kind, dimension=_dimension(result["from_name"]))
    elif name == "argilla":
        for key, responses in (line.get("responses") or {}).items():
            for one in responses[0]["value"] if responses and isinstance(responses[0].get("value"), list) else []:
                yield Asked(key=str(key), kind=_kind(one), dimension=_dimension(key))


def _dimension(key: Any) -> str:
    return "overall" if str(key) in ("better", "overall", "order") else str(key)


def _kind(value: Mapping[str, Any]) -> Any:
    names = {"selected": "compare", "rank": "rank", "rating": "scale", "choices": "binary"}
    return next((kind for name, kind in names.items() if name in value), "text")


def _dump(line: Line) -> bytes:
    return json.dumps(line, ensure_ascii=False, allow_nan=False).encode()
