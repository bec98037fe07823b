"""An answer as a person gives it, by seats, and as it is kept, by slots.

A person sees the responses in an order of their own: seat 0 may hold slot 1. What they say is about seats; what is kept
is about slots, with the order beside it, so that nobody has to turn anything round later.

=========  ==========================================================  ==========================================
kind       said                                                        kept
=========  ==========================================================  ==========================================
compare    1 (the first is much better) ... 4 (same) ... 7             num, as if slot 0 had been shown first
           "both_bad"                                                  text
rank       the place of each seat, [1, 2, 2]; "all_bad"                num for each slot; text
scale      a whole number, or one for each seat                        num
binary     true or false, or one for each seat                         num 1 or 0
text       a text                                                      text
any        {"cannot_tell": REASON}                                     cannot_tell
=========  ==========================================================  ==========================================
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tutelage.web.refusal import Refusal
from tutelage.web.schema import WHOLE

Kind = Literal["compare", "rank", "scale", "binary", "text"]
CannotTell = Literal["needs_expertise", "ambiguous_prompt", "equal_values"]

MAX_TEXT = 100_000
MAX_NOTE = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing that is asked about each item of a project."""

    key: str
    kind: Kind
    dimension: str = "overall"
    low: int = 1
    """The lowest score of a scale."""
    high: int = 5
    per_response: bool = False
    """Whether a scale or a good-or-bad is asked of each response, or of the whole."""
    required: bool = True


@dataclass(frozen=True, slots=True)
class Value:
    """One row of what was said."""

    question: str
    slot: int
    num: float | None = None
    text: str | None = None
    cannot_tell: str | None = None


def kept(questions: Sequence[Question], shown: Sequence[int], said: Mapping[str, Any]) -> list[Value]:
    """An answer by slots.

    Args:
        shown: the slot at each seat.
        said: by the questions' keys.

    Raises:
        Refusal: "bad_input", with the question and what is wrong.
    """
    known = {question.key for question in questions}
    for key in said:
        if key not in known:
            raise Refusal("bad_input", f"{key!r}: no such question here")
    values: list[Value] = []
    for question in questions:
        if said.get(question.key) is None:
            if question.required:
                raise Refusal("bad_input", f"{question.key}: not answered yet")
            continue
        values += _values(question, shown, said[question.key])
    if not values:
        raise Refusal("bad_input", "nothing is answered")
    return values


def said(questions: Sequence[Question], shown: Sequence[int], values: Iterable[Value]) -> dict[str, Any]:
    """An answer by seats again: the inverse of `kept`, for drafts and for one's own history."""
    rows: dict[str, dict[int, Value]] = {}
    for value in values:
        rows.setdefault(value.question, {})[value.slot] = value
    again: dict[str, Any] = {}
    for question in questions:
        row = rows.get(question.key)
        if row is None:
            continue
        if WHOLE in row:
            again[question.key] = _said(question, shown, row[WHOLE])
        else:
            again[question.key] = [_said(question, shown, row[slot]) for slot in shown]
    return again


def conflicts(questions: Sequence[Question], values: Iterable[Value]) -> bool:
    """Whether the safer answer is not the preferred one: then a rule must be named."""
    dimension = {question.key: question.dimension for question in questions if question.kind == "compare"}
    leaning = {dimension.get(value.question): value.num - 4 for value in values if value.num is not None}
    return leaning.get("harmless", 0) * leaning.get("overall", 0) < 0


def digest_parts(row: Mapping[Any, Any], values: Iterable[Value]) -> list[Any]:
    """All that a judgement says and how it came about, to be hashed."""
    rows = [[value.question, value.slot, value.num, value.text, value.cannot_tell] for value in values]
    return [*(row[name] for name in _HASHED), sorted(rows, key=_by_place)]


def clean(text: str, longest: int, what: str) -> str:
    """A text in NFC that every database can keep.

    Raises:
        Refusal: "bad_input".
    """
    text = unicodedata.normalize("NFC", text)
    if len(text) > longest:
        raise Refusal("bad_input", f"{what}: {len(text)} characters, at most {longest}")
    if any(letter == "\x00" or "\ud800" <= letter <= "\udfff" for letter in text):
        raise Refusal("bad_input", f"{what}: holds what is no character")
    return text


_HASHED = (
    "id", "item", "account", "project", "kind", "revision", "guideline", "shown", "started", "submitted", "active_ms",
    "client", "idem", "asked", "reason", "conflict_rule", "note",
)  # fmt: skip


def _by_place(value: list[Any]) -> tuple[str, int]:
    return value[0], value[1]


def _values(question: Question, shown: Sequence[int], said: Any) -> list[Value]:
    key = question.key
    if isinstance(said, dict):
        reason = said.get("cannot_tell") if len(said) == 1 else None  # pyright: ignore[reportUnknownVariableType]
        if reason not in get_args(CannotTell):
            raise Refusal("bad_input", f"{key}: cannot_tell is one of {', '.join(get_args(CannotTell))}")
        return [Value(key, WHOLE, cannot_tell=str(reason))]
    match question.kind, said:
        case "compare", "both_bad":
            return [Value(key, WHOLE, text="both_bad")]
        case "compare", int() if _whole(said, 1, 7):
            return [Value(key, WHOLE, num=float(_turned(said, shown)))]
        case "rank", "all_bad":
            return [Value(key, WHOLE, text="all_bad")]
        case "rank", list():
            sound = len(said) == len(shown) and all(_whole(place, 1, len(shown)) for place in said)
            if sound and set(said) == set(range(1, max(said) + 1)):
                return [Value(key, slot, num=float(place)) for slot, place in zip(shown, said, strict=True)]
            raise Refusal("bad_input", f"{key}: a place for each answer, 1 for the best, none left out")
        case (("scale" | "binary"), list()) if question.per_response:
            if len(said) != len(shown):
                raise Refusal("bad_input", f"{key}: {len(said)} values for {len(shown)} answers")
            return [_mark(question, slot, mark) for slot, mark in zip(shown, said, strict=True)]
        case (("scale" | "binary"), _) if not question.per_response:
            return [_mark(question, WHOLE, said)]
        case "text", str():
            text = clean(said, MAX_TEXT, key)
            if not text.strip():
                raise Refusal("bad_input", f"{key}: empty")
            return [Value(key, WHOLE, text=text)]
        case _:
            raise Refusal("bad_input", f"{key}: {_short(said)}: {_WANTED[question.kind]}")


def _mark(question: Question, slot: int, said: Any) -> Value:
    if question.kind == "binary" and isinstance(said, bool):
        return Value(question.key, slot, num=float(said))
    if question.kind == "scale" and _whole(said, question.low, question.high):
        return Value(question.key, slot, num=float(said))
    wanted = "true or false" if question.kind == "binary" else f"a whole number from {question.low} to {question.high}"
    raise Refusal("bad_input", f"{question.key}: {_short(said)}: {wanted}")


def _said(question: Question, shown: Sequence[int], value: Value) -> Any:
    if value.cannot_tell is not None:
        return {"cannot_tell": value.cannot_tell}
    if value.num is None:
        return value.text
    match question.kind:
        case "compare":
            return _turned(int(value.num), shown)
        case "binary":
            return bool(value.num)
        case _:
            return int(value.num)


def _turned(choice: int, shown: Sequence[int]) -> int:
    """A choice between seats as one between slots, and back."""
    return choice if shown[0] == 0 else 8 - choice


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_WANTED: dict[Kind, str] = {
    "compare": "a whole number from 1 to 7, or both_bad",
    "rank": "a place for each answer, or all_bad",
    "scale": "a whole number, for each answer or for all",
    "binary": "true or false, for each answer or for all",
    "text": "a text",
}
