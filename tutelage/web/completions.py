"""The answers that people were given, and what they said of them: two JSONL files that only grow.

``answers.jsonl`` lies beside the model's run and holds every answer of the terminal and of the server, with the
model's content hash; ``feedback.jsonl`` beside it holds thumbs, choices and scores by the answer's id. So
``tutelage trace ID`` leads from an answer to the run that gave it, and from there to the documents.

A line is on the disk before its answer ends. Several processes may write the same file.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from tutelage.errors import RecordError, RunError
from tutelage.inference.language_model import Sampling
from tutelage.records import Message, json_lines

ANSWERS = "answers.jsonl"
FEEDBACK = "feedback.jsonl"

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer that was given."""

    id: str
    """``chatcmpl-`` and 24 hexadecimal digits; the further choices of one request end in ``.1``, ``.2``, ..."""
    time: str
    """UTC, ISO 8601."""
    model: str
    model_hash: str
    """The content hash of the model's folder; "" for a model that has none, such as a remote one."""
    prompt: tuple[Message, ...]
    response: str
    finish_reason: Literal["stop", "length", "cancelled"]
    """"cancelled": the reader stopped it, and ``response`` is what had come."""
    sampling: Sampling

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumb:
    """Good or bad, by itself."""

    completion_id: str
    kind: Literal["thumb"]
    value: Literal["up", "down"]
    time: str = ""

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Better or worse than another answer to the same prompt."""

    completion_id: str
    kind: Literal["pair"]
    other_id: str
    value: Literal["better", "same", "worse"]
    time: str = ""

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A number on a scale, on one axis."""

    completion_id: str
    kind: Literal["score"]
    value: float
    scale: tuple[float, float] = (1.0, 5.0)
    axis: str = "quality"
    time: str = ""

    __pydantic_config__ = _STRICT


Feedback = Annotated[Thumb | Pair | Score, Field(discriminator="kind")]

FEEDBACKS: TypeAdapter[Thumb | Pair | Score] = TypeAdapter(Feedback)
_ANSWERS = TypeAdapter(Answer)


class AnswersLog:
    """The answers log as one model writes it. Without a path it keeps nothing."""

    def __init__(self, path: Path | None, model: str, model_hash: str) -> None:
        self.path = path
        self.model = model
        self.model_hash = model_hash

    def keep(
        self,
        id: str,
        prompt: tuple[Message, ...],
        response: str,
        finish_reason: Literal["stop", "length", "cancelled"],
        sampling: Sampling,
    ) -> None:
        """Puts one answer on the disk.

        Raises:
            RunError: it cannot be written.
        """
        if self.path is None:
            return
        answer = Answer(
            id=id, time=now(), model=self.model, model_hash=self.model_hash, prompt=prompt, response=response,
            finish_reason=finish_reason, sampling=sampling,
        )  # fmt: skip
        append(self.path, answer_json(answer))

    def find(self, id: str) -> Answer | None:
        """The answer of this id, if it was given by any model that writes this log."""
        return None if self.path is None else find_answer(self.path, id)


def answers_beside(model: Path) -> Path:
    """Where the answers of a model are kept by default: ``runs/first/answers.jsonl`` for ``runs/first/ppo``.

    A model that is no folder here, such as one of a hub, has its answers in the current folder.
    """
    return model.absolute().parent / ANSWERS if model.exists() else Path(ANSWERS)


def new_id() -> str:
    """A fresh id of an answer."""
    return f"chatcmpl-{secrets.token_hex(12)}"


def now() -> str:
    """The time, UTC, ISO 8601, in seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def read_answers(path: Path) -> Iterator[Answer]:
    """The answers of a log, in the order in which they ended.

    Raises:
        RecordError: no such file, or a line that is not an answer.
    """
    for where, value in json_lines(path):
        yield _answer(value, where)


def find_answer(path: Path, id: str) -> Answer | None:
    """The answer of this id; None if the log does not hold it, or does not exist.

    Raises:
        RecordError: its line is not an answer.
    """
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            # Most lines are another's: parse only those that name the id at all.
            if id in line and line.endswith("\n"):
                value = json.loads(line)
                if value["id"] == id:
                    return _answer(value, f"{path}:{number}")
    return None


def keep_feedback(answers: Path, feedback: Thumb | Pair | Score) -> None:
    """Puts one judgement on the disk, in ``feedback.jsonl`` beside the answers.

    Raises:
        RunError: it cannot be written.
    """
    append(answers.with_name(FEEDBACK), {**asdict(feedback), "time": now()})


def read_feedback(path: Path) -> Iterator[Thumb | Pair | Score]:
    """The judgements of a ``feedback.jsonl``, in order; who changes their mind has the last word.

    Raises:
        RecordError: no such file, or a line that is not a judgement.
    """
    for where, value in json_lines(path):
        try:
            yield FEEDBACKS.validate_python(value)
        except ValidationError as error:
            raise RecordError(f"{where}: not a judgement: {error.errors()[0]['msg']}") from None


def append(path: Path, value: dict[str, Any]) -> None:
    """One more line of JSON at the end of a file, on the disk when this returns; on a failure, nothing.

    Raises:
        RunError: it cannot be written.
    """
    line = (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = _end_of_last_line(file)
            try:
                os.truncate(file, end)
                written = 0
                while written < len(line):
                    written += os.pwrite(file, line[written:], end + written)
                os.fsync(file)
            except OSError:
                os.truncate(file, end)
                raise
        finally:
            os.close(file)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}: make room, or choose another place") from None


def answer_json(answer: Answer) -> dict[str, Any]:
    """The answer as its line holds it: messages without their empty fields."""
    messages = [{key: value for key, value in asdict(m).items() if value != ()} for m in answer.prompt]
    return {**asdict(answer), "prompt": messages}


def _end_of_last_line(file: int) -> int:
    """Where the next line begins. A tail without its newline was cut by a crash and never promised to anyone."""
    end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _answer(value: Any, where: str) -> Answer:
    try:
        return _ANSWERS.validate_python(value)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise RecordError(f"{where}: not an answer: {place}: {error.errors()[0]['msg']}") from None
