"""What people had said at one moment, as a file: the folder that `collect` takes, and that never changes.

    snapshot.json   what was asked of whom, by which guideline, and the hash of the rows
    rows.jsonl      one line an item: its prompt, its responses, and every answer as it was given

or both as one file, whose first line is the header.

Answers keep who gave them (an id, never a name), how long it took, in which order the responses were shown, and the
number that was said. Nothing is pooled or rounded here: what training makes of it is `judged`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tutelage.errors import RecordError
from tutelage.records import Message, Split, json_lines
from tutelage.run import sync

HEADER, ROWS = "snapshot.json", "rows.jsonl"
FORMAT = 1
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question, as the project asks it."""

    key: str
    kind: Literal["compare", "rank", "scale", "binary", "text"]
    dimension: str
    low: int | None = None
    high: int | None = None
    per_response: bool = False

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One value of an answer: about one response (by its place), or about the item (-1)."""

    question: str
    slot: int = -1
    num: float | None = None
    text: str | None = None
    cannot_tell: str | None = None

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What one person says of an item."""

    id: str
    rater: str
    values: tuple[Given, ...]
    guideline: int = 0
    shown: tuple[int, ...] = ()
    """The place of the response at each seat."""
    seconds: float = 0.0
    submitted: int = 0
    """Microseconds since 1970."""
    rule: str = ""
    """Which rule decided where safety and helpfulness pull apart."""
    note: str = ""

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A response, and where it is from."""

    text: str
    model: str = ""
    model_sha256: str = ""
    licence: str = ""
    sampling: dict[str, Any] = field(default_factory=dict[str, Any])

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An item and all that counts of what was said of it."""

    item: str
    prompt: tuple[Message, ...]
    responses: tuple[Candidate, ...]
    answers: tuple[Opinion, ...] = ()
    decided: Opinion | None = None
    """A reviewer's word, which then stands for all others'."""
    language: str = "und"
    source: str = ""
    split: Split = "train"
    sampled: str = "all"
    p_select: float | None = None
    gold: bool = False

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a snapshot is of."""

    project: str
    name: str
    questions: tuple[Asked, ...]
    guidelines: dict[str, str]
    """The hash of each version."""
    query: dict[str, Any]
    """What was asked for."""
    items: int
    answers: int
    people: int
    sha256: str
    """Of the rows' bytes."""
    parent: str = ""
    """The hash of the project's snapshot before."""
    format: int = FORMAT

    __pydantic_config__ = _STRICT


def line(row: Row) -> str:
    """A row as it stands in the file: sorted keys, nothing that is empty, and a line end."""
    return _canonical(_lean(asdict(row))) + "\n"


def header_text(header: Header) -> str:
    """A header as it stands in the file."""
    return json.dumps(asdict(header), ensure_ascii=False, sort_keys=True, indent=2) + "\n"


def save(folder: Path, header: Header, lines: Iterable[str]) -> Path:
    """Writes a snapshot's folder: beside, then renamed. Gives its path.

    Raises:
        RecordError: something is there already, or the lines are not those of the header.
    """
    if folder.exists():
        raise RecordError(f"{folder}: is there already: a snapshot is never changed: name another place")
    beside = folder.with_name(folder.name + ".tmp")
    beside.mkdir(parents=True, exist_ok=True)
    hashed = hashlib.sha256()
    with (beside / ROWS).open("wb") as file:
        for one in lines:
            hashed.update(one.encode())
            file.write(one.encode())
    if hashed.hexdigest() != header.sha256:
        raise RecordError(f"{folder}: the rows are not those of the snapshot {header.name!r}: nothing is kept")
    (beside / HEADER).write_text(header_text(header), encoding="utf-8")
    for name in (ROWS, HEADER):
        sync(beside / name)
    beside.rename(folder)
    return folder


def one_file(header: Header, lines: Iterable[str]) -> Iterator[str]:
    """A snapshot as one file: its header as the first line, then its rows."""
    yield _canonical(asdict(header)) + "\n"
    yield from lines


def is_header(value: object) -> bool:
    """Whether parsed JSON is the first line of such a file."""
    return isinstance(value, Mapping) and {"questions", "guidelines", "sha256"} <= value.keys()


def is_row(value: object) -> bool:
    """Whether parsed JSON is a row."""
    return isinstance(value, Mapping) and {"item", "prompt", "responses"} <= value.keys()


def header(place: Path) -> Header:
    """The header of a snapshot's folder or file.

    Raises:
        RecordError: no snapshot, or a damaged one.
    """
    file = place / HEADER if place.is_dir() else place
    try:
        with file.open(encoding="utf-8") as opened:
            held = json.loads(opened.read() if place.is_dir() else opened.readline())
    except FileNotFoundError:
        raise RecordError(f"{place}: no snapshot: `tutelage label snapshot` makes one") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise RecordError(f"{file}: damaged: export the snapshot again") from None
    found = header_of(held, str(file))
    if found.format != FORMAT:
        raise RecordError(f"{file}: format {found.format}, known is {FORMAT}: update tutelage")
    return found


def rows(place: Path) -> Iterator[Row]:
    """The rows of a snapshot's folder or file, in order; the hash is looked at before the first.

    Raises:
        RecordError: no snapshot, or one that was changed, with its line.
    """
    promised = header(place).sha256
    file, before = (place / ROWS, 0) if place.is_dir() else (place, 1)
    with file.open("rb") as opened:
        for _ in range(before):
            opened.readline()
        if hashlib.file_digest(opened, "sha256").hexdigest() != promised:
            raise RecordError(f"{file}: not what it was when the snapshot was made: export it again")
    for where, value in islice(json_lines(file), before, None):
        yield row_of(value, where)


def header_of(value: object, where: str) -> Header:
    """A header from parsed JSON.

    Raises:
        RecordError: with its place.
    """
    return _checked(Header, value, where)


def prompt_of(value: object, where: str) -> tuple[Message, ...]:
    """A prompt's turns from parsed JSON.

    Raises:
        RecordError: with its place.
    """
    return _checked(tuple[Message, ...], value, where)


def row_of(value: object, where: str) -> Row:
    """A row from parsed JSON.

    Raises:
        RecordError: with its place.
    """
    return _checked(Row, value, where)


def opening(prompt: Iterable[Message]) -> Iterator[Message]:
    """The turns up to the user's first, with it: what all turns of one conversation have in common."""
    for message in prompt:
        yield message
        if message.role == "user":
            return


def split_of(prompt: Iterable[Message], share: float) -> Split:
    """Where a prompt belongs: by the words that open it, so that all of a conversation stays together for ever."""
    text = json.dumps([[message.role, message.content] for message in opening(prompt)], ensure_ascii=False)
    drawn = int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 16**12
    return "held_out" if drawn < share else "train"


def _checked(kind: Any, value: object, where: str) -> Any:
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{where}: {place}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _lean(value: Any) -> Any:
    """Without what is as if it were not there."""
    if isinstance(value, Mapping):
        return {key: _lean(item) for key, item in value.items() if item not in (None, "", (), [], {})}
    if isinstance(value, list | tuple):
        return [_lean(item) for item in value]
    return value


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
