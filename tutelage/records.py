"""The nouns of an education, and their JSONL.

A record is one line of JSONL and one frozen dataclass. `Document` is text to read; `Conversation` is an exchange to
imitate; `Comparison`, `Rating` and `Verdict` are judgements. All but `Document` say who judged, in ``judge``:
a person, a model or a rule.

Reading checks every line at the border and names the place of a fault, ``votes.jsonl:17: ranks: ...``; writing is
atomic: beside, then renamed. Documents also live in Parquet, as `prepare` writes them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tutelage.errors import RecordError

Role = Literal["system", "user", "assistant", "tool"]
Judge = Literal["person", "model", "rule"]
Split = Literal["train", "held_out"]

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text to learn from."""

    id: str
    text: str
    source: str
    """Where it is from: a file, a package, an address."""
    licence: str
    """SPDX identifier, or "unknown"."""
    language: str
    """ISO 639-1 code: "en", "zh", ... or "und"."""
    split: Split = "train"
    """A held-out document is never trained on and never an answer in training."""
    metadata: dict[str, str] = field(default_factory=dict)
    """What the source knows of it, such as the kind and name of a Python object."""

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn. Media are paths, in the order of their marks in ``content``."""

    role: Role
    content: str
    images: tuple[str, ...] = ()
    audios: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """An exchange to imitate, or, where its last turn is not the assistant's, a prompt to answer."""

    id: str
    messages: tuple[Message, ...]
    judge: Judge = "rule"
    """Who vouches for it: a person wrote it, a model did, or a rule made it."""
    rater: str = ""
    """Which person, model or rule, where that is known."""
    task: str = ""
    documents: tuple[str, ...] = ()
    """The ids of the documents it was made from."""
    split: Split = "train"
    metadata: dict[str, str] = field(default_factory=dict)

    __pydantic_config__ = STRICT

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All turns before the final answer."""
        return self.messages[:-1] if self.messages[-1].role == "assistant" else self.messages

    @property
    def answer(self) -> str | None:
        """The final answer, if it ends with one."""
        return self.messages[-1].content if self.messages[-1].role == "assistant" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A prompt, K >= 2 responses and their ranks: 1 is best, equal ranks are ties. A pair is K = 2."""

    id: str
    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    judge: Judge
    rater: str = ""
    task: str = ""
    documents: tuple[str, ...] = ()
    split: Split = "train"
    metadata: dict[str, str] = field(default_factory=dict)

    __pydantic_config__ = STRICT

    def pairs(self) -> list[tuple[int, int]]:
        """(better, worse) places in ``responses`` for every pair that is not a tie."""
        places = range(len(self.responses))
        return [(a, b) for a in places for b in places if self.ranks[a] < self.ranks[b]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """A prompt, a response, and a score on one axis with its scale."""

    id: str
    prompt: tuple[Message, ...]
    response: str
    axis: str
    score: float
    scale: tuple[float, float]
    """The lowest and the highest score that could be given."""
    judge: Judge
    rater: str = ""
    task: str = ""
    documents: tuple[str, ...] = ()
    split: Split = "train"
    metadata: dict[str, str] = field(default_factory=dict)

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A prompt, a response, and whether it is good."""

    id: str
    prompt: tuple[Message, ...]
    response: str
    good: bool
    judge: Judge
    rater: str = ""
    task: str = ""
    documents: tuple[str, ...] = ()
    split: Split = "train"
    metadata: dict[str, str] = field(default_factory=dict)

    __pydantic_config__ = STRICT


Record = Document | Conversation | Comparison | Rating | Verdict
R = TypeVar("R", Document, Conversation, Comparison, Rating, Verdict)


def identify(*parts: object) -> str:
    """A short id that depends on the content alone: 16 hexadecimal digits of SHA-256."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(path: Path, kind: type[R]) -> Iterator[R]:
    """The records of a JSONL file (``.gz`` too), each checked, in order.

    For `Document`, also a Parquet file, or a folder of Parquet or JSONL files.

    Raises:
        RecordError: no such file, an empty file, or a fault, with its line.
    """
    path = Path(path)
    files = _files(path)
    if not files:
        raise RecordError(f"{path}: no such file: give a .jsonl, .jsonl.gz or .parquet file, or a folder of them")
    found = False
    for file in files:
        rows = _parquet(file, kind) if file.suffix == ".parquet" else _lines(file, kind)
        for record in rows:
            found = True
            yield record
    if not found:
        raise RecordError(f"{path}: empty: it should hold at least one {kind.__name__}")


def write(path: Path, records: Iterable[Record]) -> int:
    """Writes JSONL beside and renames it; gives the number of records."""
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    with _open(beside, path.suffix == ".gz", "wt") as lines:
        for record in records:
            lines.write(json.dumps(as_json(record), ensure_ascii=False) + "\n")
            count += 1
        lines.flush()
    os.replace(beside, path)
    return count


def as_json(record: Record) -> dict[str, Any]:
    """The record as JSON would hold it, without the fields that are empty."""
    return {key: value for key, value in asdict(record).items() if value not in ((), "", {})} | {"id": record.id}


def validate(value: object, kind: type[R], where: str) -> R:
    """One record from parsed JSON.

    Raises:
        RecordError: naming ``where``, the field, what was found and what is wanted.
    """
    try:
        record = _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise RecordError(f"{where}: {_explain(error)}") from None
    problem = _problem(record)
    if problem:
        raise RecordError(f"{where}: {problem}")
    return record


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(``file:line``, parsed value) of each line that is not blank.

    Raises:
        RecordError: the file is missing, not UTF-8, or a line is not JSON.
    """
    try:
        with _open(path, path.suffix == ".gz", "rt") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                yield f"{path}:{number}", _parsed(line, f"{path}:{number}")
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: not UTF-8 at byte {error.start}: convert it first") from None
    except gzip.BadGzipFile:
        raise RecordError(f"{path}: named .gz but not gzip data") from None
    except (EOFError, zlib.error):
        raise RecordError(f"{path}: cut off or damaged gzip data: fetch it again") from None


def _parsed(line: str, where: str) -> Any:
    try:
        value = json.loads(line.rstrip())
        if "\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise RecordError(
            f"{where}: broken JSON at column {error.colno}: {error.msg}: one JSON object per line"
        ) from None
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise RecordError(f"{where}: half a character, {half}: its text was cut inside it: mend it") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: JSON that cannot be read: {error}") from None
    return value


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        inner = path / "documents" if (path / "documents").is_dir() else path
        return sorted(p for p in inner.iterdir() if p.suffix in (".parquet", ".jsonl") or p.name.endswith(".jsonl.gz"))
    return [path] if path.exists() else []


def _lines(path: Path, kind: type[R]) -> Iterator[R]:
    for where, value in json_lines(path):
        yield validate(value, kind, where)


def _parquet(path: Path, kind: type[R]) -> Iterator[R]:
    if kind is not Document:
        raise RecordError(f"{path}: a {kind.__name__} is read from JSONL, not from Parquet")
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise RecordError(f"{path}: not a Parquet file: {error}") from None
    row = 0
    for batch in file.iter_batches(batch_size=4096):
        for value in batch.to_pylist():
            row += 1
            if isinstance(value.get("metadata"), str):
                try:
                    value["metadata"] = json.loads(value["metadata"] or "{}")
                except json.JSONDecodeError as error:
                    raise RecordError(f"{path}: row {row}: metadata: broken JSON: {error.msg}") from None
            yield validate({k: v for k, v in value.items() if v is not None}, kind, f"{path}: row {row}")


def _open(path: Path, compressed: bool, mode: Literal["rt", "wt"]) -> IO[str]:
    if compressed:
        return gzip.open(path, mode, encoding="utf-8")  # pyright: ignore[reportReturnType]
    return open(path, mode.rstrip("t"), encoding="utf-8")


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    found = json.dumps(first["input"], ensure_ascii=False, default=str)
    found = found if len(found) <= 60 else found[:57] + "..."
    if place.endswith("role"):
        return f"{place} {found}: write {', '.join(get_args(Role))}"
    if first["type"] == "missing":
        return f"{place}: missing"
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{place}: unknown field"
    return f"{place} {found}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _problem(record: object) -> str | None:
    """What types alone cannot say."""
    match record:
        case Document():
            return None if record.text.strip() else "text: empty"
        case Conversation():
            return _conversation_problem(record)
        case Comparison():
            return _prompt_problem(record.prompt) or _comparison_problem(record)
        case Rating():
            low, high = record.scale
            if not math.isfinite(record.score) or not low <= record.score <= high:
                return f"score {record.score}: outside its scale {low:g} to {high:g}"
            return _prompt_problem(record.prompt) or ("response: empty" if not record.response.strip() else None)
        case Verdict():
            return _prompt_problem(record.prompt) or ("response: empty" if not record.response.strip() else None)
        case _:
            return None


def _conversation_problem(record: Conversation) -> str | None:
    if not record.messages:
        return "messages: empty"
    if record.messages[0].role == "assistant":
        return "messages: begin with the assistant: the first turn is the system's or the user's"
    for place, message in enumerate(record.messages):
        if not message.content.strip() and not (message.images or message.audios or message.videos):
            return f"messages.{place}: empty {message.role} turn"
    return None


def _prompt_problem(prompt: tuple[Message, ...]) -> str | None:
    if not prompt:
        return "prompt: empty"
    if prompt[-1].role == "assistant":
        return "prompt: ends with the assistant: the answers belong in responses"
    return None


def _comparison_problem(record: Comparison) -> str | None:
    if len(record.responses) < 2:
        return f"responses: {len(record.responses)}: a comparison has at least two"
    if len(record.ranks) != len(record.responses):
        return f"ranks: {len(record.ranks)} for {len(record.responses)} responses"
    if min(record.ranks) < 1:
        return f"ranks: {min(record.ranks)}: 1 is the best rank"
    seen: dict[str, int] = {}
    for place, response in enumerate(record.responses):
        if not response.strip():
            return f"responses.{place}: empty"
        twin = seen.setdefault(response, place)
        if twin != place and record.ranks[twin] != record.ranks[place]:
            return f"responses.{twin} and responses.{place} are identical but ranked differently: drop one"
        if twin != place and len(record.responses) == 2:
            return "responses are identical: a comparison needs two that differ"
    return None
