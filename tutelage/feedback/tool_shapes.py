"""The shapes of other tools, one entry for each item: Open-Assistant's trees, Label Studio's tasks, Argilla's records,
and a table for people.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any, cast

from tutelage.errors import RecordError
from tutelage.feedback.pair_shapes import (
    Line,
    Questions,
    _messages,  # pyright: ignore[reportPrivateUsage]
    _said,  # pyright: ignore[reportPrivateUsage]
    opinions,
    ranks_of,
)  # fmt: skip
from tutelage.feedback.snapshot import Candidate, Given, Opinion, Row
from tutelage.records import Message, identify

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
COLUMNS = ("item", "rater", "question", "slot", "value", "text", "cannot_tell", "seconds", "prompt", "response")


def open_assistant(questions: Questions, row: Row) -> Iterator[Line]:
    """A tree: the prompt, and the responses as its replies, ranked by all who judged (0 is best)."""
    roles = {"user": "prompter", "assistant": "assistant"}
    if any(message.role not in roles for message in row.prompt):
        return
    everyones = [ranks for opinion in opinions(row) if (ranks := ranks_of(questions, row, opinion))]
    sums = [sum(ranks[slot] for ranks in everyones) for slot in range(len(row.responses))]
    replies: list[Line] = [
        {
            "message_id": identify(row.item, slot), "text": response.text, "role": "assistant", "lang": row.language,
            **({"rank": sorted(set(sums)).index(sums[slot])} if everyones else {}), "replies": [],
        }
        for slot, response in enumerate(row.responses)
    ]  # fmt: skip
    for place in range(len(row.prompt) - 1, -1, -1):
        message = row.prompt[place]
        replies = [
            {
                "message_id": identify(row.item, "prompt", place), "text": message.content,
                "role": roles[message.role], "lang": row.language, "replies": replies,
            }
        ]  # fmt: skip
    yield {"message_tree_id": row.item, "tree_state": "ready_for_export", "prompt": replies[0]}


def read_open_assistant(line: Mapping[str, Any], where: str) -> Row:
    prompt: list[Message] = []
    node = line.get("prompt")
    while True:
        if not isinstance(node, dict) or not isinstance(node.get("text"), str) or node.get("role") not in _ROLES:  # pyright: ignore[reportUnknownArgumentType]
            raise RecordError(f"{where}: prompt: a message has text, role (prompter, assistant) and replies")
        node = cast(dict[str, Any], node)
        prompt.append(Message(role=_ROLES[node["role"]], content=node["text"]))  # pyright: ignore[reportArgumentType]
        replies = node.get("replies") or []
        # The replies of the last prompter are the candidates, unless the conversation goes on.
        if prompt[-1].role == "user" and not any(reply.get("replies") for reply in replies):
            break
        if not replies:
            raise RecordError(f"{where}: prompt: a conversation that ends with the assistant: nothing to compare")
        node = next((reply for reply in replies if reply.get("replies")), replies[0])
    texts = [str(reply.get("text", "")) for reply in replies]
    ranked = texts and all(isinstance(reply.get("rank"), int) for reply in replies)
    values = tuple(
        Given(question="order", slot=slot, num=float(reply["rank"] + 1)) for slot, reply in enumerate(replies)
    ) if ranked else ()  # fmt: skip
    return Row(
        item=str(line.get("message_tree_id", "")) or identify(texts), prompt=tuple(prompt),
        responses=tuple(Candidate(text=text) for text in texts), language=str(node.get("lang", "und")),
        answers=(Opinion(id="", rater="", values=values),) if values else (),
    )  # fmt: skip


def label_studio(questions: Questions, row: Row) -> Iterator[Line]:
    """A task with its annotations, whose results are named by our questions."""
    kinds = {asked.key: asked.kind for asked in questions}
    yield {
        "id": row.item,
        "data": {
            "prompt": _messages(row.prompt),
            **{f"answer{slot + 1}": response.text for slot, response in enumerate(row.responses)},
        },
        "meta": {"split": row.split, "language": row.language},
        "annotations": [
            {
                "completed_by": opinion.rater, "lead_time": opinion.seconds, "ground_truth": opinion is row.decided,
                "result": [
                    {
                        "from_name": given.question,
                        "to_name": "prompt" if given.slot < 0 else f"answer{given.slot + 1}",
                        "type": _TYPES[kinds[given.question]], "value": _value(kinds[given.question], given),
                    }
                    for given in opinion.values
                ],
            }
            for opinion in opinions(row)
        ],
    }  # fmt: skip


def read_label_studio(line: Mapping[str, Any], where: str) -> Row:
    data = line.get("data")
    if not isinstance(data, dict):
        raise RecordError(f"{where}: data: a task has its texts there")
    data = cast(dict[str, Any], data)
    prompt, texts = _task_texts(data, where)
    answers: list[Opinion] = []
    decided: Opinion | None = None
    for annotation in line.get("annotations") or []:
        values = tuple(value for result in annotation.get("result") or [] if (value := _result(result, texts)))
        opinion = Opinion(
            id="", rater=str(annotation.get("completed_by", "")), values=values,
            seconds=float(annotation.get("lead_time") or 0),
        )  # fmt: skip
        if annotation.get("ground_truth"):
            decided = opinion
        else:
            answers.append(opinion)
    meta = line.get("meta") or {}
    return Row(
        item=str(line.get("id", "")) or identify(texts), prompt=prompt, answers=tuple(answers), decided=decided,
        responses=tuple(Candidate(text=text) for text in texts), language=str(meta.get("language", "und")),
        split="held_out" if meta.get("split") == "held_out" else "train",
    )  # fmt: skip


def argilla(questions: Questions, row: Row) -> Iterator[Line]:
    """A record with its responses by question."""
    kinds = {asked.key: asked.kind for asked in questions}
    responses: dict[str, list[Line]] = {}
    for opinion in opinions(row):
        by_question: dict[str, list[Given]] = {}
        for given in opinion.values:
            by_question.setdefault(given.question, []).append(given)
        for key, values in by_question.items():
            told = [{"slot": given.slot, **_value(kinds[key], given)} for given in values]
            responses.setdefault(key, []).append({"user_id": opinion.rater, "status": "submitted", "value": told})
    yield {
        "id": row.item, "status": "completed" if responses else "pending",
        "fields": {
            "prompt": _messages(row.prompt),
            **{f"response-{slot + 1}": response.text for slot, response in enumerate(row.responses)},
        },
        "metadata": {"split": row.split, "language": row.language}, "suggestions": {}, "responses": responses,
        "vectors": {},
    }  # fmt: skip


def read_argilla(line: Mapping[str, Any], where: str) -> Row:
    fields = line.get("fields")
    if not isinstance(fields, dict):
        raise RecordError(f"{where}: fields: a record has its texts there")
    prompt, texts = _task_texts(cast(dict[str, Any], fields), where)
    held: dict[str, list[Given]] = {}
    for key, responses in (line.get("responses") or {}).items():
        for response in responses:
            told = response.get("value")
            told = told if isinstance(told, list) else [told]
            for one in told:
                given = _given(str(key), one.get("slot", -1) if isinstance(one, dict) else -1, one)
                if given:
                    held.setdefault(str(response.get("user_id", "")), []).append(given)
    meta = line.get("metadata") or {}
    return Row(
        item=str(line.get("id", "")) or identify(texts), prompt=prompt,
        responses=tuple(Candidate(text=text) for text in texts), language=str(meta.get("language", "und")),
        split="held_out" if meta.get("split") == "held_out" else "train",
        answers=tuple(Opinion(id="", rater=rater, values=tuple(values)) for rater, values in held.items()),
    )  # fmt: skip


def table(_questions: Questions, row: Row) -> Iterator[Line]:
    """A line for each value of each answer; see `csv_text`."""
    for opinion in opinions(row):
        for given in opinion.values:
            yield {
                "item": row.item, "rater": opinion.rater, "question": given.question, "slot": given.slot,
                "value": "" if given.num is None else f"{given.num:g}", "text": given.text or "",
                "cannot_tell": given.cannot_tell or "", "seconds": f"{opinion.seconds:g}",
                "prompt": row.prompt[-1].content,
                "response": row.responses[given.slot].text if 0 <= given.slot < len(row.responses) else "",
            }  # fmt: skip


def csv_text(lines: Iterator[Line] | list[Line], columns: tuple[str, ...] = COLUMNS, *, heading: bool = False) -> str:
    """Lines of a CSV. A cell that a spreadsheet would take for a formula gets an apostrophe before it.

    Source: OWASP, "CSV Injection".
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if heading:
        writer.writerow(columns)
    for line in lines:
        writer.writerow([cell(line.get(name, "")) for name in columns])
    return text.getvalue()


def cell(value: Any) -> str:
    """A value as a cell that calculates nothing."""
    text = str(value)
    return f"'{text}" if text.startswith(FORMULAS) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_ROLES = {"prompter": "user", "assistant": "assistant", "user": "user"}
_TYPES = {"compare": "pairwise", "rank": "ranker", "scale": "rating", "binary": "choices", "text": "textarea"}


def _value(kind: str, given: Given) -> Line:
    """What was said, in Label Studio's words, and the number beside it."""
    if given.cannot_tell is not None:
        return {"cannot_tell": given.cannot_tell}
    if given.num is None:
        return {"text": [given.text or ""]}
    match kind:
        case "compare":
            side = "left" if given.num < 4 else "right" if given.num > 4 else "tie"
            return {"selected": side, "score": given.num}
        case "rank":
            return {"rank": int(given.num)}
        case "binary":
            return {"choices": ["good" if given.num else "bad"]}
        case _:
            return {"rating": given.num}


def _given(question: str, slot: int, value: Any) -> Given | None:
    """What a value in another tool's words says."""
    if not isinstance(value, dict):
        value = {"rating": value} if isinstance(value, int | float) else {"text": [value]}
    value = cast(dict[str, Any], value)
    if "cannot_tell" in value:
        return Given(question=question, slot=slot, cannot_tell=str(value["cannot_tell"]))
    if "selected" in value:
        side = {"left": 2.0, "right": 6.0, "tie": 4.0}.get(value["selected"])
        return None if side is None else Given(question=question, slot=slot, num=float(value.get("score", side)))
    for name in ("rank", "rating"):
        if isinstance(value.get(name), int | float):
            return Given(question=question, slot=slot, num=float(value[name]))
    if isinstance(value.get("choices"), list) and value["choices"] in (["good"], ["bad"]):
        return Given(question=question, slot=slot, num=float(value["choices"] == ["good"]))
    text = value.get("text")
    text = text[0] if isinstance(text, list) and text else text
    return Given(question=question, slot=slot, text=text) if isinstance(text, str) else None


def _result(result: Any, texts: list[str]) -> Given | None:
    to = str(result.get("to_name", ""))
    place = to.removeprefix("answer")
    slot = int(place) - 1 if to.startswith("answer") and place.isdigit() else -1
    return _given(str(result.get("from_name", "")), slot if slot < len(texts) else -1, result.get("value"))


def _task_texts(data: Mapping[str, Any], where: str) -> tuple[tuple[Message, ...], list[str]]:
    """The prompt and the responses among a task's texts."""
    asked = data.get("prompt", data.get("instruction", data.get("question")))
    prompt = (Message(role="user", content=asked),) if isinstance(asked, str) else tuple(_said(asked, where))
    names = ("answer", "response", "response-", "answer_", "response_", "completion_")
    texts: list[str] = []
    for stem in names:
        numbered = [data.get(f"{stem}{number}") for number in range(27)]
        texts = texts or [text for text in numbered if isinstance(text, str)]
    lone = data.get("response", data.get("answer"))
    if not texts and isinstance(lone, str):
        texts = [lone]
    if not texts and isinstance(data.get("responses"), list):
        texts = [str(text) for text in data["responses"]]
    return prompt, texts
