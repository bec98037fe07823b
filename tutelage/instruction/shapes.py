"""The shapes of one row of the wild: what it says, in turns.

A row is recognised by its keys alone, `formats` says which is which. Everything here takes a parsed JSON object and
gives messages, or raises `Unusable`: a row of a known shape that teaches nothing (an empty answer, equal responses).
A row that contradicts its own shape (an unknown role, no answer at all) raises `RecordError`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tutelage.errors import RecordError
from tutelage.records import Message, Role

Row = Mapping[str, Any]

ROLES: dict[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "function_call": "assistant", "tool_call": "assistant", "tool": "tool", "observation": "tool", "function": "tool",
    "function_response": "tool", "tool_response": "tool",
}  # fmt: skip
"""What the turns are called in the wild."""

QUESTION_ANSWER = (("question", "answer"), ("query", "response"), ("qnt", "ans"), ("prompt", "response"))
"""Pairs of keys that hold one question and its answer."""

_MARKS = {"images": "<image>", "audios": "<audio>", "videos": "<video>"}
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]?")


class Unusable(Exception):
    """A row of a known shape that teaches nothing; counted, and left out."""


def text(value: object, where: str) -> str:
    """A text; a list of lines or of text parts is joined; None is empty.

    Raises:
        RecordError: anything else.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        parts = cast(list[object], value)
        if all(isinstance(part, str) for part in parts):
            return "\n".join(cast(list[str], parts))
        return "".join(_part(part, where) for part in parts)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise RecordError(f"{where}: found {json.dumps(value, ensure_ascii=False)[:60]}: a text is wanted")


def turns(value: object, where: str) -> list[Message]:
    """Messages from any dialect: {role, content}, {from, value}, or one {human, assistant} a round.

    Raises:
        RecordError: an unknown role, or something that is no turn.
    """
    if not isinstance(value, list):
        raise RecordError(f"{where}: found {json.dumps(value, ensure_ascii=False)[:60]}: a list of turns is wanted")
    found: list[Message] = []
    for place, turn in enumerate(cast(list[object], value)):
        here = f"{where}.{place}"
        if not isinstance(turn, dict):
            raise RecordError(f"{here}: found {json.dumps(turn, ensure_ascii=False)[:60]}: a turn is an object")
        turn = cast(dict[str, Any], turn)
        if "human" in turn and "assistant" in turn:
            found += [_message("user", turn["human"], here), _message("assistant", turn["assistant"], here)]
            continue
        name, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if not content and turn.get("tool_calls"):
            content = json.dumps(turn["tool_calls"], ensure_ascii=False)
        role = ROLES.get(name) if isinstance(name, str) else None
        if role is None:
            known = "system, user, assistant or tool"
            raise RecordError(f"{here}: role {json.dumps(name, ensure_ascii=False)}: write {known}")
        found.append(_message(role, content, here))
    return found


def prompt(row: Row, where: str) -> list[Message]:
    """The turns before the answer, of a row in any shape that has a prompt of its own."""
    found: list[Message] = []
    if "prompt" in row:
        value = row["prompt"]
        found = hh(value) if isinstance(value, str) and _TURN.match(value) else []
        if not found:
            found = turns(value, f"{where}: prompt") if _is_turns(value) else [_user(text(value, f"{where}: prompt"))]
    elif "instruction" in row or "instruction_zh" in row:
        found = _alpaca(row, where)
    else:
        key = next((key for key in ("messages", "conversations", "conversation") if key in row), None)
        if key is not None:
            found = turns(row[key], f"{where}: {key}")
        else:
            key = next((question for question, _ in QUESTION_ANSWER if question in row), "")
            found = [_user(text(row.get(key), f"{where}: {key}"))]
    system = row.get("system")
    if isinstance(system, str) and system.strip() and found and found[0].role != "system":
        found = [Message(role="system", content=system), *found]
    return with_media(found, row)


def answer(value: object, where: str) -> list[Message]:
    """The answering turns: from a text, from one turn, or from a list of turns."""
    if isinstance(value, dict):
        value = [cast(dict[str, Any], value)]
    if _is_turns(value):
        return turns(value, where)
    return [Message(role="assistant", content=text(value, where))]


def hh(transcript: str) -> list[Message]:
    """The turns of an hh-rlhf transcript, ``\\n\\nHuman: ...\\n\\nAssistant: ...``; none if it is no such thing."""
    places = list(_TURN.finditer(transcript))
    if not places or transcript[: places[0].start()].strip():
        return []
    ends = [*[place.start() for place in places[1:]], len(transcript)]
    return [
        Message(role="user" if place[1] == "Human" else "assistant", content=transcript[place.end() : end].strip())
        for place, end in zip(places, ends, strict=True)
    ]


def complete(messages: Sequence[Message], where: str) -> tuple[tuple[Message, ...], bool]:
    """A conversation that ends with its answer, and whether a question after the last answer was cut.

    Raises:
        Unusable: a turn is empty.
        RecordError: nobody answers, or the assistant begins.
    """
    found = list(messages)
    last = max((place for place, message in enumerate(found) if message.role == "assistant"), default=None)
    if last is None:
        raise RecordError(f"{where}: a conversation without an answer: it should end with an assistant turn")
    cut = last + 1 < len(found)
    return usable(found[: last + 1]), cut


def usable(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The turns, if they begin with the user's or the system's and none is empty.

    Raises:
        Unusable: they do not.
    """
    if not messages:
        raise Unusable("no turns")
    for message in messages:
        if not message.content.strip() and not (message.images or message.audios or message.videos):
            raise Unusable(f"empty {message.role} turn")
    if messages[0].role not in ("system", "user"):
        raise Unusable(f"begins with the {messages[0].role}")
    return tuple(messages)


def with_media(messages: list[Message], row: Row) -> list[Message]:
    """The row's ``images``, ``audios`` and ``videos`` laid on the turns that have their marks, in order.

    Raises:
        Unusable: there are more or fewer paths than marks.
    """
    for field, mark in _MARKS.items():
        paths = row.get(field) or []
        if not paths:
            continue
        left = [str(path) for path in ([paths] if isinstance(paths, str) else cast(list[object], paths))]
        for place, message in enumerate(messages):
            count = message.content.count(mark)
            if count:
                taken, left = tuple(left[:count]), left[count:]
                messages[place] = _with(message, field, taken)
        if left or sum(message.content.count(mark) for message in messages) != len(paths):
            raise Unusable(f"{field}: not as many paths as {mark} marks")
    return messages


def refuse_nan(row: Row, where: str) -> None:
    """Stops at a number that is none.

    Raises:
        RecordError: NaN or an infinity, in a field or a list of the row.
    """
    for key, value in row.items():
        for item in cast(list[object], value) if isinstance(value, list) else [value]:
            if isinstance(item, float) and not math.isfinite(item):
                raise RecordError(f"{where}: {key}: {item}: a finite number is wanted")


def _alpaca(row: Row, where: str) -> list[Message]:
    tail = "" if "instruction" in row else "_zh"
    instruction = text(row["instruction" + tail], f"{where}: instruction{tail}")
    given = text(row.get("input" + tail), f"{where}: input{tail}")
    found: list[Message] = []
    history = row.get("history" + tail) or []
    if not isinstance(history, list):
        raise RecordError(f"{where}: history: a list of [question, answer] is wanted")
    for place, pair in enumerate(cast(list[object], history)):
        here = f"{where}: history.{place}"
        if not isinstance(pair, list) or len(cast(list[object], pair)) != 2:
            raise RecordError(f"{here}: a pair [question, answer] is wanted")
        question, reply = cast(list[object], pair)
        found += [_user(text(question, here)), Message(role="assistant", content=text(reply, here))]
    return [*found, _user("\n".join(part for part in (instruction, given) if part.strip()))]


def _is_turns(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(turn, dict) for turn in cast(list[object], value)) and value != []


def _message(role: Role, content: object, where: str) -> Message:
    return Message(role=role, content=text(content, where))


def _user(content: str) -> Message:
    return Message(role="user", content=content)


def _part(part: object, where: str) -> str:
    if isinstance(part, dict):
        part = cast(dict[str, Any], part)
        value = part.get("text", part.get("value"))
        if part.get("type", "text") in ("text", "input_text", "output_text") and isinstance(value, str):
            return value
        raise Unusable(f"a content part of type {part.get('type')}")
    raise RecordError(f"{where}: found {json.dumps(part, ensure_ascii=False)[:60]}: a text part is wanted")


def _with(message: Message, field: str, paths: tuple[str, ...]) -> Message:
    values = {"images": message.images, "audios": message.audios, "videos": message.videos, field: paths}
    return Message(role=message.role, content=message.content, **values)
