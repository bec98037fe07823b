"""Data of the wild: sniffed, never registered.

Each function takes a path and gives records of one kind: a JSONL file, a JSON array (both also ``.gz``), a folder of
them, or the folder of a finished run. Every row is recognised by its own keys:

    our own records         as `records` writes them
    Alpaca                  instruction, input, output (a list, with history, with system, in *_zh columns)
    ShareGPT                conversations of {from, value}; conversation of {human, assistant}
    OpenAI                  messages of {role, content}
    prompt and completion   texts or messages; question and answer, query and response
    preferences             prompt, chosen, rejected (texts, messages, or whole conversations with a shared beginning)
    hh-rlhf                 chosen and rejected as transcripts
    rankings                prompt, responses or completions, ranks (1 is best) or ranking (places, best first)
    KTO                     prompt, completion, label; messages or conversations with label or kto_tag

What contradicts its shape stops the reading at its line: broken JSON, an unknown role, a conversation that nobody
answers, NaN. What is of a known shape and teaches nothing (an empty answer, two equal responses) is left out and
counted by reason; when more than ``max_dropped`` of the rows are, the reading stops. No row is left out for being a
repeat of another.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from tutelage import records
from tutelage.errors import RecordError
from tutelage.instruction import shapes
from tutelage.instruction.shapes import Row, Unusable
from tutelage.records import Comparison, Conversation, Judge, Message, Verdict

MAX_DROPPED = 0.01
CUT = "a question after the last answer was cut"

T = TypeVar("T", Conversation, Comparison, Verdict)
# Gives the record of a row, and whether something was cut from it.
Reader = Callable[[Row, str], tuple[T, bool]]


def conversations(
    path: Path, max_dropped: float = MAX_DROPPED, dropped: Counter[str] | None = None, judge: Judge = "person"
) -> list[Conversation]:
    """The conversations of a file or folder, each ending with the assistant's answer.

    ``dropped`` is filled with the rows left out or cut, by reason. ``judge``: who vouches, where the file does not say.

    Raises:
        RecordError: no such file, an empty one, a fault with its line, or too many rows left out.
    """

    def read(row: Row, where: str) -> tuple[Conversation, bool]:
        if _is_own(row, Conversation):
            record = records.validate(dict(row), Conversation, where)
            if record.answer is None:
                raise RecordError(f"{where}: a conversation without an answer: it should end with an assistant turn")
            return record, False
        messages, cut = shapes.complete(_whole(row, where), where)
        return _conversation(messages, judge), cut

    return _read(path, "conversations.jsonl", read, max_dropped, dropped)


def prompts(
    path: Path, max_dropped: float = MAX_DROPPED, dropped: Counter[str] | None = None, judge: Judge = "person"
) -> list[Conversation]:
    """What is to be answered: use ``.prompt`` of each. An answer that the file has stays, as the reference;
    one that was judged does not.

    Takes whatever `conversations`, `comparisons` and `verdicts` take, and rows with a prompt alone.

    Raises:
        RecordError: as for `conversations`.
    """

    def read(row: Row, where: str) -> tuple[Conversation, bool]:
        if _is_own(row, Conversation):
            return records.validate(dict(row), Conversation, where), False
        if _is_own(row, Comparison):
            return _from_judgement(records.validate(dict(row), Comparison, where)), False
        if _is_own(row, Verdict):
            return _from_judgement(records.validate(dict(row), Verdict, where)), False
        if "chosen" in row or "chosen_messages" in row:
            return _conversation(_pair(row, where)[0], judge), False
        alone = "prompt" in row and not _answer_key(row)
        messages = shapes.usable(shapes.prompt(row, where) if alone else _whole(row, where, needed=False))
        if ("label" in row or "kto_tag" in row) and messages[-1].role == "assistant":
            messages = shapes.usable(messages[:-1])
        return _conversation(messages, judge), False

    return _read(path, "conversations.jsonl comparisons.jsonl verdicts.jsonl", read, max_dropped, dropped)


def comparisons(
    path: Path, max_dropped: float = MAX_DROPPED, dropped: Counter[str] | None = None, judge: Judge = "person"
) -> list[Comparison]:
    """Prompts with two or more responses and their ranks.

    Raises:
        RecordError: as for `conversations`.
    """

    def read(row: Row, where: str) -> tuple[Comparison, bool]:
        if _is_own(row, Comparison):
            return records.validate(dict(row), Comparison, where), False
        prompt, responses, ranks = _ranked(row, where)
        if any(not response.strip() for response in responses):
            raise Unusable("empty response")
        if len(set(responses)) < len(responses):
            raise Unusable("identical responses")
        record = Comparison(
            id=records.identify("comparison", [dataclasses.asdict(m) for m in prompt], responses, ranks),
            prompt=prompt, responses=responses, ranks=ranks, judge=judge,
        )  # fmt: skip
        return records.validate(dataclasses.asdict(record), Comparison, where), False

    return _read(path, "comparisons.jsonl", read, max_dropped, dropped)


def verdicts(
    path: Path, max_dropped: float = MAX_DROPPED, dropped: Counter[str] | None = None, judge: Judge = "person"
) -> list[Verdict]:
    """Prompts with one response and whether it is good.

    Raises:
        RecordError: as for `conversations`.
    """

    def read(row: Row, where: str) -> tuple[Verdict, bool]:
        if _is_own(row, Verdict):
            return records.validate(dict(row), Verdict, where), False
        good = _label(row, where)
        messages, cut = shapes.complete(_whole(row, where), where)
        prompt, response = messages[:-1], messages[-1].content
        if not prompt:
            raise Unusable("no prompt")
        key = records.identify("verdict", [dataclasses.asdict(m) for m in messages], good)
        return Verdict(id=key, prompt=prompt, response=response, good=good, judge=judge), cut

    return _read(path, "verdicts.jsonl", read, max_dropped, dropped)


def rows(path: Path, names: str = "") -> Iterator[tuple[str, Any]]:
    """(place, parsed value) of every row of a JSONL file, a JSON array, or a folder of them.

    In a folder the first file of ``names`` (a space between) that is there is read, or else every .jsonl and .json.

    Raises:
        RecordError: missing, empty or broken, with its line.
    """
    path = Path(path)
    files = _files(path, names.split())
    found = False
    for file in files:
        for place in _array(file) if _begins_with(file, "[") else records.json_lines(file):
            found = True
            yield place
    if not found:
        raise RecordError(f"{path}: empty: it should hold at least one row")


def _read(path: Path, names: str, read: Reader[T], max_dropped: float, dropped: Counter[str] | None) -> list[T]:
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    found: list[T] = []
    total = 0
    for where, row in rows(path, names):
        total += 1
        if not isinstance(row, dict):
            raise RecordError(f"{where}: found {json.dumps(row, ensure_ascii=False)[:60]}: an object is wanted")
        row = cast(dict[str, Any], row)
        shapes.refuse_nan(row, where)
        try:
            record, cut = read(row, where)
        except Unusable as reason:
            counts[str(reason)] += 1
            first.setdefault(str(reason), where)
            continue
        if cut:
            counts[CUT] += 1
            first.setdefault(CUT, where)
        found.append(record)
    if dropped is not None:
        dropped.update(counts)
    if counts.total() > max_dropped * total:
        reason, count = counts.most_common(1)[0]
        others = f", {counts.total() - count} for other reasons" if counts.total() > count else ""
        raise RecordError(
            f"{first[reason]}: {reason}: so are {count} of {total} rows{others}: more than {max_dropped:.0%} would be "
            "lost: mend them, or raise max_dropped"
        )
    if not found:
        raise RecordError(f"{path}: none of its {total} rows can be used: {counts.most_common(1)[0][0]}")
    return found


def _whole(row: Row, where: str, needed: bool = True) -> list[Message]:
    """All turns of a row in any shape of conversation."""
    if any(key in row for key in ("messages", "conversations", "conversation")):
        return shapes.prompt({key: row[key] for key in row if key != "prompt"}, where)
    key = _answer_key(row)
    asks = "prompt" in row or "instruction" in row or "instruction_zh" in row or any(q in row for q, _ in _PAIRS)
    if not asks or (needed and key is None):
        raise RecordError(
            f"{where}: no known shape: its keys are {', '.join(map(str, row)) or 'none'}: "
            "write messages, instruction and output, or prompt and completion"
        )
    messages = shapes.prompt(row, where)
    if key is None:
        return messages
    value = row[key]
    if key.startswith("output") and isinstance(value, list) and value:
        value = cast(list[object], value)[0]
    return [*messages, *shapes.answer(value, f"{where}: {key}")]


_PAIRS = shapes.QUESTION_ANSWER


def _answer_key(row: Row) -> str | None:
    if "prompt" in row and "completion" in row:
        return "completion"
    for key in ("output", "output_zh"):
        if key in row and ("instruction" in row or "instruction_zh" in row):
            return key
    return next((answer for question, answer in _PAIRS if question in row and answer in row), None)


def _ranked(row: Row, where: str) -> tuple[tuple[Message, ...], tuple[str, ...], tuple[int, ...]]:
    """Prompt, responses and ranks of a row in any shape of preference."""
    several = next((key for key in ("responses", "completions") if isinstance(row.get(key), list)), None)
    if several is not None:
        values = cast(list[object], row[several])
        responses = tuple(shapes.text(value, f"{where}: {several}") for value in values)
        return shapes.usable(shapes.prompt(row, where)), responses, _ranks(row, len(responses), where)
    output = row.get("output")
    if isinstance(output, list) and "instruction" in row:
        values = cast(list[object], output)
        if len(values) < 2:
            raise Unusable("one response")
        responses = tuple(shapes.text(value, f"{where}: output") for value in values)
        return shapes.usable(shapes.prompt(row, where)), responses, tuple(range(1, len(values) + 1))
    prompt, chosen, rejected = _pair(row, where)
    return prompt, (chosen, rejected), (1, 2)


def _pair(row: Row, where: str) -> tuple[tuple[Message, ...], str, str]:
    """Prompt, better and worse response."""
    if "rejected_response" in row and "messages" in row:
        messages, _ = shapes.complete(shapes.prompt(row, where), where)
        return shapes.usable(messages[:-1]), messages[-1].content, shapes.text(row["rejected_response"], where)
    names = ("chosen", "rejected") if "chosen" in row else ("chosen_messages", "rejected_messages")
    if not all(name in row for name in names):
        raise RecordError(
            f"{where}: no known shape: its keys are {', '.join(map(str, row)) or 'none'}: "
            "write prompt, chosen and rejected, or prompt, responses and ranks"
        )
    sides = [_side(row[name], f"{where}: {name}") for name in names]
    for side in sides:
        if not side or side[-1].role != "assistant":
            raise Unusable("a response that is not the assistant's")
    explicit = any(key in row for key in ("prompt", "instruction", "instruction_zh", "messages", "conversations"))
    before = [side[:-1] for side in sides]
    if before[0] != before[1]:
        raise Unusable("chosen and rejected do not share their prompt")
    prompt = shapes.prompt(row, where) if explicit else []
    if not explicit or before[0][: len(prompt)] == prompt:
        prompt = before[0] or prompt
    elif before[0]:
        prompt = [*prompt, *before[0]]
    return shapes.usable(prompt), sides[0][-1].content, sides[1][-1].content


def _side(value: object, where: str) -> list[Message]:
    transcript = shapes.hh(value) if isinstance(value, str) else []
    return transcript or shapes.answer(value, where)


def _ranks(row: Row, count: int, where: str) -> tuple[int, ...]:
    for key in ("ranks", "ranking"):
        if key not in row:
            continue
        value = row[key]
        items = cast(list[object], value) if isinstance(value, list) else []
        whole = [item for item in items if isinstance(item, int) and not isinstance(item, bool)]
        if len(whole) != count or len(whole) != len(items):
            raise RecordError(f"{where}: {key}: found {json.dumps(value)[:60]}: {count} whole numbers are wanted")
        if key == "ranks":
            return tuple(whole)
        if sorted(whole) != list(range(count)):
            raise RecordError(f"{where}: ranking: found {whole}: the places 0 to {count - 1} are wanted, best first")
        return tuple(whole.index(place) + 1 for place in range(count))
    raise RecordError(f"{where}: {count} responses without ranks: write ranks (1 is best) or ranking (best first)")


def _label(row: Row, where: str) -> bool:
    for key in ("label", "kto_tag"):
        if key in row:
            value = row[key]
            if isinstance(value, bool) or value in (0, 1):
                return bool(value)
            if isinstance(value, str) and value.lower() in ("true", "false"):
                return value.lower() == "true"
            raise RecordError(f"{where}: {key}: found {json.dumps(value)[:60]}: write true or false")
    raise RecordError(f"{where}: no label: a verdict is prompt, completion and label (true or false)")


def _conversation(messages: tuple[Message, ...], judge: Judge) -> Conversation:
    key = records.identify("conversation", [dataclasses.asdict(message) for message in messages])
    return Conversation(id=key, messages=messages, judge=judge)


def _from_judgement(record: Comparison | Verdict) -> Conversation:
    return Conversation(
        id=record.id, messages=record.prompt, judge=record.judge, rater=record.rater, task=record.task,
        documents=record.documents, split=record.split, metadata=record.metadata,
    )  # fmt: skip


def _is_own(row: Row, kind: type[Any]) -> bool:
    """Whether the row is meant as a record of ours: its id and the two fields that only this kind has."""
    marks = {Conversation: ("messages",), Comparison: ("responses", "ranks", "judge"), Verdict: ("response", "good")}
    known = {field.name for field in dataclasses.fields(kind)}
    return "id" in row and all(mark in row for mark in marks[kind]) and set(row) <= known


def _files(path: Path, names: list[str]) -> list[Path]:
    if not path.exists():
        raise RecordError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    for name in names:
        if (path / name).is_file():
            return [path / name]
    ends = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
    found = sorted(file for file in path.iterdir() if file.is_file() and file.name.endswith(ends))
    if (path / "done").exists() or not found:
        wanted = " or ".join(names) or "a .jsonl or .json file"
        raise RecordError(f"{path}: holds no {wanted}: name a file, or the run of a stage that makes one")
    return found


def _begins_with(path: Path, mark: str) -> bool:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == mark.encode()
    except gzip.BadGzipFile:
        raise RecordError(f"{path}: named .gz but not gzip data") from None


def _array(path: Path) -> Iterator[tuple[str, Any]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        data = file.read()
    try:
        items = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise RecordError(f"{path}:{error.lineno}: broken JSON at column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: not UTF-8 at byte {error.start}: convert it first") from None
    for place, item in enumerate(cast(list[object], items), start=1):
        yield f"{path}: item {place}", item
