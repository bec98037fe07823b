"""Test sets: the items of their files, as texts that can be looked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from tutelage.corpus import compression, files, rows
from tutelage.corpus.hashing import column, units_of
from tutelage.errors import RecordError

FIELDS = (
    "question", "prompt", "query", "instruction", "input", "problem", "premise", "hypothesis", "sentence", "sentence1",
    "sentence2", "context", "passage", "story", "text", "turns", "choices", "options", "endings", "answer", "answers",
    "output", "response", "solution", "canonical_solution", "target", "explanation",
)  # fmt: skip
"""Names of fields that hold an item's text; of a row that has none of them all text is taken."""
IDS = ("id", "tid", "task_id", "question_id", "example_id", "uid", "idx", "qid")
SHORT = 8
"""Units of the shortest text that can be looked for."""
_LONGEST = 64 << 20


class Item(NamedTuple):
    """A text of a test."""

    test: str
    """The name of the file."""
    id: str
    field: str
    text: str


def read(given: Sequence[str], fields: Sequence[str] = ()) -> list[Item]:
    """The items of test files: .jsonl, .json, .csv, .tsv and .parquet a row each, other files a paragraph each; also
    compressed.

    Args:
        fields: names of the fields to take; without any those of `FIELDS` that a row has.

    Raises:
        RecordError: a file cannot be read, a row is no record, or there is no text in a file.
    """
    items: list[Item] = []
    for name in given:
        path = Path(name)
        found = [
            Item(path.name, identity, field, text)
            for identity, row in _rows(path)
            for field, text in _texts(row, fields)
            if text.strip()
        ]
        if not found:
            wanted = f"none of the fields {', '.join(fields)}" if fields else "no text"
            raise RecordError(f"{path}: {wanted} found in it: name the fields that hold the questions")
        items += found
    return items


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Id and content of each row."""
    kind = files.extension(path)
    if not path.is_file():
        raise RecordError(f"{path}: no such file: give the file of a test")
    if kind in (*rows.JSON, *rows.SEPARATED):
        for row in rows.rows(path, kind, _LONGEST):
            if row.fault:
                raise RecordError(f"{row.place}: {row.fault}")
            yield _named(row.value, row.number), row.value
    elif kind == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(path)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise RecordError(f"{path}: not a Parquet file: {error}") from None
        for number, value in enumerate(table.to_pylist(), start=1):
            yield _named(value, number), value
    elif kind == ".json":
        for number, value in enumerate(_listed(path), start=1):
            yield _named(value, number), value
    else:
        text = compression.whole(path, _LONGEST).decode("utf-8", "replace")
        for number, value in enumerate(text.replace("\r\n", "\n").split("\n\n"), start=1):
            yield str(number), {"text": value}


def _listed(path: Path) -> list[Any]:
    """The rows of a JSON file: a list, or the longest list in an object."""
    try:
        whole: Any = json.loads(compression.whole(path, _LONGEST))
    except ValueError as error:
        raise RecordError(f"{path}: not JSON: {error}") from None
    if isinstance(whole, dict):
        lists = [value for value in cast("dict[str, Any]", whole).values() if isinstance(value, list)]
        whole = max(lists, key=len, default=[])
    if not isinstance(whole, list):
        raise RecordError(f"{path}: neither a list nor an object with one: give one row a question")
    return cast("list[Any]", whole)


def _named(row: Any, number: int) -> str:
    if isinstance(row, dict):
        known = cast("dict[str, Any]", row)
        for name in IDS:
            if isinstance(known.get(name), str | int):
                return str(known[name])
    return str(number)


def _texts(row: Any, fields: Sequence[str]) -> list[tuple[str, str]]:
    """Field and text. What is too short by itself is looked for together with the others."""
    if not isinstance(row, dict):
        return [("text", _said(row))]
    known = {str(name): value for name, value in cast("dict[Any, Any]", row).items()}
    lower = {name.lower(): name for name in known}
    names = [name for name in fields if name in known] if fields else [lower[name] for name in FIELDS if name in lower]
    if not names and not fields:
        names = [name for name in known if name.lower() not in IDS]
    found = [(name, text) for name in names if (text := _said(known[name])).strip()]
    long = [(name, text) for name, text in found if _units(text) >= SHORT]
    if len(long) == len(found) or not found:
        return long
    return [*long, ("+".join(name for name, _ in found), "\n".join(text for _, text in found))]


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "\n".join(_said(one) for one in cast("Mapping[Any, Any]", value).values())
    if isinstance(value, Sequence):
        return "\n".join(_said(one) for one in cast("Sequence[Any]", value))
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _units(text: str) -> int:
    """How many units a text has."""
    return int(units_of(column([text])).last[0])
