"""Items on their way into a project's lines: what they are made of, whether it can be judged, and their rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, insert, select, update

from tutelage.feedback.conduct import reading_seconds
from tutelage.records import Message
from tutelage.web import schema
from tutelage.web.answers import Question, clean, kept
from tutelage.web.audit import canonical, digest
from tutelage.web.database import Transaction
from tutelage.web.ids import new_id
from tutelage.web.refusal import Refusal

Lane = Literal["urgent", "ordinary", "gold"]
LANES: dict[Lane, int] = {"urgent": schema.URGENT, "ordinary": schema.ORDINARY, "gold": schema.GOLD}

EVERYBODY = 1_000_000
"""The overlap of a gold item: it never has enough."""
MAX_RESPONSES = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class NewResponse:
    """A response to be judged, and where it is from. Whoever judges it sees the text alone."""

    text: str
    model: str = ""
    model_sha256: str = ""
    licence: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """A prompt and its responses, to be judged together."""

    prompt: tuple[Message, ...]
    responses: tuple[NewResponse, ...]
    need: int = 1
    """How many people are to judge it."""
    lane: Lane = "ordinary"
    gold: Mapping[str, Any] | None = None
    """The known answer by the questions' keys, its seats being the responses as they stand here."""
    explanation: str = ""
    language: str = "und"
    source: str = ""
    split: str = "train"
    worth: float | None = None
    """How much there is to be learned from it, where only some of many are to be asked about; see `web.choosing`."""
    sampled: str = "all"
    """How it was chosen: "all", "uniform", or the name of a rule."""
    p_select: float | None = None
    """With which probability it was chosen."""


@dataclass(frozen=True, slots=True)
class Row:
    """An item on its way in."""

    item: NewItem
    messages: str
    sha256: str


def checked(questions: Sequence[Question], number: int, item: NewItem) -> Row:
    """An item whose texts can be kept and whose questions can be answered."""
    where, count = f"item {number + 1}", len(item.responses)
    if not item.prompt or item.prompt[-1].role == "assistant":
        raise Refusal("bad_input", f"{where}: the prompt is what comes before the answer")
    if any(question.kind == "compare" for question in questions) and count != 2:
        raise Refusal("bad_input", f"{where}: {count} responses: two are compared")
    if any(question.kind == "rank" for question in questions) and not 2 <= count <= MAX_RESPONSES:
        raise Refusal("bad_input", f"{where}: {count} responses: 2 to {MAX_RESPONSES} are ranked")
    if count > MAX_RESPONSES or not 1 <= item.need <= EVERYBODY:
        raise Refusal("bad_input", f"{where}: {count} responses for {item.need} people")
    if (item.gold is not None) != (item.lane == "gold"):
        raise Refusal("bad_input", f"{where}: a known answer and the lane gold go together")
    for response in item.responses:
        clean(response.text, 10**6, where)
    if item.gold is not None:
        kept(questions, range(count), item.gold)
    messages = canonical([asdict(message) for message in item.prompt])
    clean(messages, 10**6, where)
    return Row(item, messages, digest([messages]))


def added(t: Transaction, by: str, project: str, rows: Sequence[Row], origin: str) -> list[str]:
    """Items with all that they refer to."""
    prompts = _numbers(
        t.connection, schema.prompt, "sha256",
        {
            row.sha256: {
                "messages": row.messages, "language": row.item.language, "source": row.item.source,
                "split": row.item.split, "sha256": row.sha256,
            }
            for row in rows
        },
    )  # fmt: skip
    models = _models(t.connection, rows)
    responses: dict[tuple[int, str], dict[str, Any]] = {}
    held: list[list[tuple[int, str]]] = []
    for row in rows:
        held.append([])
        for response in row.item.responses:
            sampling = canonical(response.sampling)
            name = (response.model, response.model_sha256)
            key = (prompts[row.sha256], digest([*name, response.text, sampling]))
            held[-1].append(key)
            responses[key] = {
                "prompt": key[0], "model": models.get(name), "text": response.text, "sampling": sampling,
                "sha256": key[1],
            }  # fmt: skip
    numbers = _response_numbers(t.connection, responses)
    tail = t.connection.scalar(_ADVANCE, {"p": project, "by": len(rows)}) or 0
    ids = [new_id(t.at) for _ in rows]
    items = [
        {
            "id": id, "project": project, "prompt": prompts[row.sha256], "lane": LANES[row.item.lane],
            "position": tail - len(rows) + place + 1, "need": EVERYBODY if row.item.gold is not None else row.item.need,
            "gold": None if row.item.gold is None else json.dumps(row.item.gold), "explanation": row.item.explanation,
            "sampled": row.item.sampled, "p_select": row.item.p_select, "reading": _reading(row.item),
            "longer": _longer(row.item),
        }
        for place, (id, row) in enumerate(zip(ids, rows, strict=True))
    ]  # fmt: skip
    inserted = insert(schema.item).returning(schema.item.c.number, sort_by_parameter_order=True)
    places = [
        {"item": number, "slot": slot, "response": numbers[key]}
        for number, keys in zip(t.connection.scalars(inserted, items), held, strict=True)
        for slot, key in enumerate(keys)
    ]
    if places:
        t.connection.execute(insert(schema.item_response), places)
    t.log(by, "items.add", project, detail=canonical({"count": len(ids)}), content=digest(ids), origin=origin)
    return ids


def _reading(item: NewItem) -> float:
    """How many seconds it takes to read an item."""
    texts = [message.content for message in item.prompt] + [response.text for response in item.responses]
    return math.fsum(reading_seconds(text) for text in texts)


def _longer(item: NewItem) -> int | None:
    """Which of two responses is the longer one."""
    sizes = [len(response.text) for response in item.responses]
    return None if len(sizes) != 2 or sizes[0] == sizes[1] else int(sizes[1] > sizes[0])


def _numbers(connection: Connection, table: Any, key: str, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The numbers of rows that are there by their key, or are put there now."""
    found: dict[str, int] = {}
    for some in _chunks(list(wanted)):
        rows = connection.execute(select(table.c[key], table.c.number).where(table.c[key].in_(some)))
        found |= {row[0]: row.number for row in rows}
    missing = [row for name, row in wanted.items() if name not in found]
    if missing:
        added = insert(table).returning(table.c[key], table.c.number)
        found |= {row[0]: row.number for row in connection.execute(added, missing)}
    return found


def _models(connection: Connection, rows: Sequence[Row]) -> dict[tuple[str, str], int]:
    """The numbers of the models that the responses are from."""
    wanted = {(r.model, r.model_sha256): r for row in rows for r in row.item.responses if r.model}
    found: dict[tuple[str, str], int] = {}
    table = schema.model
    for (name, sha256), response in wanted.items():
        here = (table.c.name == name) & (table.c.sha256 == sha256)
        number = connection.scalar(select(table.c.number).where(here))
        if number is None:
            row = {"name": name, "sha256": sha256, "licence": response.licence, "cut_off": ""}
            number = connection.scalar(insert(table).returning(table.c.number), row)
        found[name, sha256] = int(number or 0)
    return found


def _response_numbers(
    connection: Connection, wanted: Mapping[tuple[int, str], Mapping[str, Any]]
) -> dict[tuple[int, str], int]:
    table = schema.response
    found: dict[tuple[int, str], int] = {}
    columns = (table.c.prompt, table.c.sha256, table.c.number)
    for some in _chunks(list({prompt for prompt, _ in wanted})):
        for row in connection.execute(select(*columns).where(table.c.prompt.in_(some))):
            found[row.prompt, row.sha256] = row.number
    missing = [row for key, row in wanted.items() if key not in found]
    if missing:
        for row in connection.execute(insert(table).returning(*columns), missing):
            found[row.prompt, row.sha256] = row.number
    return found


def _chunks(values: list[Any]) -> Iterator[list[Any]]:
    """Few enough for one statement's parameters."""
    return (values[start : start + 400] for start in range(0, len(values), 400))


_ADVANCE = (
    update(schema.project)
    .where(schema.project.c.id == bindparam("p"))
    .values(tail=schema.project.c.tail + bindparam("by"))
    .returning(schema.project.c.tail)
)
