"""Files of prompts and responses, in whatever shape, to items that people are to judge.

JSONL, one JSON array, CSV and Parquet, each also ``.gz``. A row is recognised by its keys: those of
`feedback.exchange`, or plainly

    prompt (a text, or turns of {role, content}), and one of
        responses     a list of texts, or of {text, model}
        chosen, rejected;   response_a, response_b, ...;   response1, response2, ...;   response
    beside them, as wanted: models (a list), gold (the known answer by the questions' keys), explanation, need, lane,
    worth (how much there is to be learned from it), language, source

What others said of a row does not come along: it is to be judged anew. A file that unpacks to far more than it is, or
nests deeper than any honest one, is refused before it is held in memory.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pyarrow
import pyarrow.parquet

from tutelage.errors import RecordError
from tutelage.feedback import exchange
from tutelage.feedback.snapshot import Candidate, is_header
from tutelage.records import Message
from tutelage.web.items import NewItem, NewResponse
from tutelage.web.refusal import Refusal

MAX_BYTES = 1 << 30
"""Unpacked."""
MAX_RATIO = 200
"""Of what is unpacked to what came."""
FREE_BYTES = 1 << 20
"""Up to this a small file may unpack however it likes."""
MAX_LINE = 4 << 20
MAX_DEPTH = 32
MAX_ROWS = 2_000_000

_SLOTS = (
    tuple(f"response_{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    tuple(f"response{number}" for number in range(1, 27)),
    tuple(f"response_{number}" for number in range(27)),
    tuple(f"answer{number}" for number in range(1, 27)),
)


def items(path: Path, name: str = "", need: int = 1) -> Iterator[NewItem]:
    """The items of a file, in order, as they are asked for.

    Args:
        path: where it lies.
        name: what it is called, for its ending; without it, the path's own.
        need: how many people are to judge those that do not say.

    Raises:
        Refusal: "bad_input", with the row and what is wrong with it.
    """
    found = 0
    for number, row in enumerate(_rows(path, (name or path.name).lower()), start=1):
        if number > MAX_ROWS:
            raise Refusal("bad_input", f"more than {MAX_ROWS} rows: cut the file in pieces")
        if number == 1 and is_header(row):
            continue
        found += 1
        yield _item(row, f"row {number}", need)
    if not found:
        raise Refusal("bad_input", "the file holds no rows")


def _item(row: Any, where: str, need: int) -> NewItem:
    if not isinstance(row, Mapping):
        raise Refusal("bad_input", f"{where}: found {str(row)[:40]!r}: an object is wanted")
    row = cast(Mapping[str, Any], row)
    shape = exchange.sniffed(row)
    try:
        if shape is not None and shape.read is not None and not _is_plain(row):
            read = shape.read(row, where)
            prompt, candidates = read.prompt, read.responses
        else:
            prompt, candidates = _prompt(row.get("prompt"), where), _candidates(row, where)
    except RecordError as error:
        raise Refusal("bad_input", str(error)) from None
    gold = _json(row.get("gold"), f"{where}: gold") or None
    if gold is not None and not isinstance(gold, dict):
        raise Refusal("bad_input", f"{where}: gold: the known answer by the questions' keys")
    lane = row.get("lane") or ("gold" if gold is not None else "ordinary")
    if lane not in ("urgent", "ordinary", "gold"):
        raise Refusal("bad_input", f"{where}: lane {lane!r}: urgent, ordinary or gold")
    return NewItem(
        prompt=prompt, responses=tuple(
            NewResponse(text=one.text, model=one.model, model_sha256=one.model_sha256, licence=one.licence,
                        sampling=one.sampling)
            for one in candidates
        ),
        need=_whole(row.get("need"), need, f"{where}: need"), lane=lane, gold=cast(Any, gold),
        worth=_worth(row.get("worth"), f"{where}: worth"),
        explanation=str(row.get("explanation") or ""), language=str(row.get("language") or "und"),
        source=str(row.get("source") or ""), split="held_out" if row.get("split") == "held_out" else "train",
    )  # fmt: skip


def _is_plain(row: Mapping[str, Any]) -> bool:
    """Whether a row says its responses in our plain way, though its keys may look like another shape."""
    return isinstance(row.get("responses"), list | str) and not {"ranks", "answers"} & row.keys()


def _prompt(value: Any, where: str) -> tuple[Message, ...]:
    if isinstance(value, str) and value.startswith("[{"):
        # Turns in a cell of a table; or else a text that looks like them.
        with contextlib.suppress(Refusal):
            value = _parsed(value, where)
    if isinstance(value, str) and value.strip():
        return (Message(role="user", content=value),)
    if not isinstance(value, list) or not value:
        raise RecordError(f"{where}: prompt: a text, or turns of {{role, content}}")
    turns: list[Message] = []
    for turn in cast(list[Any], value):
        role = turn.get("role") if isinstance(turn, dict) else None
        if role not in ("system", "user", "assistant", "tool") or not isinstance(turn.get("content"), str):
            raise RecordError(f"{where}: prompt: a turn has a role (system, user, assistant, tool) and a content")
        turns.append(Message(role=role, content=turn["content"]))
    return tuple(turns)


def _candidates(row: Mapping[str, Any], where: str) -> tuple[Candidate, ...]:
    found: Any = _json(row.get("responses"), f"{where}: responses")
    if found is None:
        for names in _SLOTS:
            found = [row[name] for name in names if row.get(name) not in (None, "")]
            if found:
                break
    if not found:
        found = [row[name] for name in ("chosen", "rejected", "response") if row.get(name)]
    if not isinstance(found, list):
        raise RecordError(f"{where}: responses: a list of texts")
    models: Any = _json(row.get("models"), f"{where}: models") or []
    candidates: list[Candidate] = []
    for place, one in enumerate(cast(list[Any], found)):
        model = models[place] if isinstance(models, list) and place < len(models) else ""
        if isinstance(one, dict):
            one, model = one.get("text"), one.get("model", model)
        if not isinstance(one, str):
            raise RecordError(f"{where}: response {place + 1}: a text is wanted")
        candidates.append(Candidate(text=one, model=str(model or "")))
    return tuple(candidates)


def _json(value: Any, where: str) -> Any:
    """What stands in a cell as JSON; other values as they are."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    return _parsed(value, where)


def _whole(value: Any, otherwise: int, where: str) -> int:
    if value in (None, ""):
        return otherwise
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Refusal("bad_input", f"{where}: a whole number") from None


def _worth(value: Any, where: str) -> float | None:
    if value in (None, ""):
        return None
    try:
        worth = float(value)
    except (TypeError, ValueError):
        worth = math.nan
    if not 0 <= worth < math.inf:
        raise Refusal("bad_input", f"{where}: a number from 0")
    return worth


# Files ----------------------------------------------------------------------------------------------------------------


def _rows(path: Path, name: str) -> Iterator[Any]:
    name = name.removesuffix(".gz")
    if name.endswith(".parquet"):
        yield from _parquet(path)
        return
    with _Unpacked(path) as raw:
        text = io.TextIOWrapper(io.BufferedReader(raw), encoding="utf-8-sig", newline="")
        try:
            if name.endswith(".csv"):
                yield from _csv(text)
            elif name.endswith((".jsonl", ".ndjson", ".json")):
                yield from _json_rows(text)
            else:
                raise Refusal("bad_input", f"{name}: JSONL, JSON, CSV or Parquet, and each as .gz")
        except UnicodeDecodeError as error:
            raise Refusal("bad_input", f"not UTF-8 at byte {error.start}: convert it first") from None
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise Refusal("bad_input", "cut off or damaged gzip data") from None


def _json_rows(text: io.TextIOWrapper) -> Iterator[Any]:
    """The rows of JSONL, or of one array."""
    first = text.readline(MAX_LINE)
    while first and not first.strip():
        first = text.readline(MAX_LINE)
    if first.lstrip().startswith("["):
        # An array is read whole; what it unpacks to is bounded, and so is its depth.
        whole = first + text.read()
        found = _parsed(whole, "the file")
        if not isinstance(found, list):
            raise Refusal("bad_input", "the file: a list of objects is wanted")
        yield from cast(list[Any], found)
        return
    number = 1
    line = first
    while line:
        if len(line) >= MAX_LINE:
            raise Refusal("bad_input", f"row {number}: longer than {MAX_LINE >> 20} MiB")
        if line.strip():
            yield _parsed(line, f"row {number}")
            number += 1
        line = text.readline(MAX_LINE)


def _parsed(text: str, where: str) -> Any:
    _check_depth(text, where)
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise Refusal("bad_input", f"{where}: broken JSON: {reason}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _check_depth(text: str, where: str) -> None:
    """Refuses what nests too deep, before it is parsed."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    quoted = False
    skip = False
    for letter in text:
        if skip:
            skip = False
        elif quoted:
            skip = letter == "\\"
            quoted = letter != '"'
        elif letter == '"':
            quoted = True
        elif letter in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Refusal("bad_input", f"{where}: nested deeper than {MAX_DEPTH}")
        elif letter in "]}":
            depth -= 1


def _csv(text: io.TextIOWrapper) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(MAX_LINE)
    reader = csv.DictReader(text, restkey="", strict=True)
    try:
        for row in reader:
            if "" in row or None in row.values():
                raise Refusal("bad_input", f"line {reader.line_num}: as many cells as the first line has are wanted")
            yield row
    except csv.Error as error:
        raise Refusal("bad_input", f"line {reader.line_num}: broken CSV: {error}") from None


def _parquet(path: Path) -> Iterator[Any]:
    try:
        file = pyarrow.parquet.ParquetFile(path)
        packed = max(1, path.stat().st_size)
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        _check_size(sum(group.total_byte_size for group in groups), packed)
        for batch in file.iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise Refusal("bad_input", f"not a sound Parquet file: {str(error).splitlines()[0][:100]}") from None


class _Unpacked(io.RawIOBase):
    """A file's bytes, unpacked if they are gzip's, counted as they come."""

    def __init__(self, path: Path) -> None:
        self._packed = max(1, path.stat().st_size)
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        self._file: Any = gzip.open(path) if zipped else path.open("rb")  # noqa: SIM115  closed with us
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        self._read += len(data)
        _check_size(self._read, self._packed)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _check_size(unpacked: int, packed: int) -> None:
    if unpacked > MAX_BYTES:
        raise Refusal("bad_input", f"unpacks to more than {MAX_BYTES >> 20} MiB: cut it in pieces")
    if unpacked > max(FREE_BYTES, MAX_RATIO * packed):
        raise Refusal("bad_input", f"unpacks to more than {MAX_RATIO} times its size: no honest text does")
