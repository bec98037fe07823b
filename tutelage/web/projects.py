"""What people are asked to judge: projects, their questions and guideline, and the items that wait in their lines."""

from __future__ import annotations

import itertools
import json
import math
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from sqlalchemy import Connection, bindparam, insert, select, update

from tutelage.feedback.conduct import reading_seconds
from tutelage.records import Message
from tutelage.web import schema
from tutelage.web.accounts import Member, Right, membership
from tutelage.web.answers import Kind, Question, clean, kept
from tutelage.web.audit import canonical, digest
from tutelage.web.database import Database, Transaction
from tutelage.web.ids import new_id, plain
from tutelage.web.refusal import Refusal

Lane = Literal["urgent", "ordinary", "gold"]
LANES: dict[Lane, int] = {"urgent": schema.URGENT, "ordinary": schema.ORDINARY, "gold": schema.GOLD}

EVERYBODY = 1_000_000
"""The overlap of a gold item: it never has enough."""
MAX_RESPONSES = 26
AT_A_TIME = 500
"""Items in one piece of work: the writer is for those who judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProject:
    """What a project is made from."""

    name: str
    kind: str
    questions: tuple[Question, ...]
    guideline: str
    lease_seconds: int = 600
    daily_cap: int | None = None
    gold_share: float = 0.05
    conflict_rules: tuple[str, ...] = ()
    """What may be named where the safer answer is not the preferred one."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


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
    sampled: str = "all"
    """How it was chosen: "all", "uniform", or the name of a rule."""
    p_select: float | None = None
    """With which probability it was chosen."""


class Projects:
    """Making projects and filling their lines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def make(self, owner: str, new: NewProject, *, origin: str = "") -> str:
        """A project that is open to be judged; gives its id.

        Its questions stay as they are: other questions are another project.

        Raises:
            Refusal: this account may not make projects, or something of the project is wrong.
        """
        questions = _questions(new)

        def work(t: Transaction) -> str:
            if not t.connection.scalar(select(schema.account.c.owner).where(schema.account.c.id == owner)):
                raise Refusal("not_allowed", "only owners make projects")
            project = new_id(t.at)
            settings = {**new.settings, "conflict_rules": list(new.conflict_rules)}
            row = {
                "id": project, "name": clean(new.name, 200, "name"), "kind": clean(new.kind, 40, "kind"),
                "state": "open", "lease_seconds": new.lease_seconds, "daily_cap": new.daily_cap,
                "gold_share": new.gold_share, "settings": canonical(settings), "secret": secrets.token_hex(16),
                "guideline": 1, "guideline_major": 1, "tail": 0, "created": t.at,
            }  # fmt: skip
            t.connection.execute(insert(schema.project), row)
            t.connection.execute(insert(schema.question), [{"project": project, **question} for question in questions])
            member = {"project": project, "account": owner, "role": "owner", "state": "active", "guideline_read": 1}
            t.connection.execute(insert(schema.membership), member)
            _publish(t, project, owner, 1, True, new.guideline, origin)
            content = digest({**{name: row[name] for name in row if name != "secret"}, "questions": questions})
            t.log(owner, "project.make", project, content=content, origin=origin)
            return project

        return self._database.write(work)

    def set_state(self, by: str, project: str, state: Literal["open", "paused", "closed"], *, origin: str = "") -> None:
        """Opens a project to be judged, or lets it rest.

        Raises:
            Refusal: not theirs to do.
        """

        def work(t: Transaction) -> None:
            allowed(t.connection, by, project, "manage_project")
            t.connection.execute(update(schema.project).where(schema.project.c.id == project).values(state=state))
            t.log(by, "project.state", project, detail=canonical({"state": state}), origin=origin)

        self._database.write(work)

    def publish(self, by: str, project: str, text: str, *, major: bool, origin: str = "") -> int:
        """A new version of the guideline; gives its number. After a major one everyone reads it before going on.

        Raises:
            Refusal: not theirs to write, or no text.
        """

        def work(t: Transaction) -> int:
            allowed(t.connection, by, project, "manage_project")
            here = schema.project.c.id == project
            version = (t.connection.scalar(select(schema.project.c.guideline).where(here)) or 0) + 1
            changed = {"guideline": version, **({"guideline_major": version} if major else {})}
            t.connection.execute(update(schema.project).where(here).values(changed))
            _publish(t, project, by, version, major, text, origin)
            return version

        return self._database.write(work)

    def confirm_guideline(self, account: str, project: str, version: int) -> None:
        """Somebody has read the guideline up to a version.

        Raises:
            Refusal: there is no such version.
        """

        def work(t: Transaction) -> None:
            membership(t.connection, account, project)
            held = schema.guideline.c
            exists = select(held.version).where(held.project == project, held.version == version)
            if t.connection.scalar(exists) is None:
                raise Refusal("unknown", f"the guideline has no version {version}")
            mine = (schema.membership.c.project == project) & (schema.membership.c.account == account)
            older = schema.membership.c.guideline_read < version
            t.connection.execute(update(schema.membership).where(mine, older).values(guideline_read=version))
            t.log(account, "guideline.read", project, detail=canonical({"version": version}))

        self._database.write(work)

    def add_items(self, by: str, project: str, items: Iterable[NewItem], *, origin: str = "") -> list[str]:
        """Puts items at the end of their lines, in this order; gives their ids.

        They go in some hundreds at a time: what was put in before a faulty item stays.

        Raises:
            Refusal: not theirs to fill, or an item is wrong, with its number.
        """
        questions = self._database.read(lambda c: questions_of(c, plain(project)))
        ids: list[str] = []
        numbered = enumerate(items)
        while chunk := list(itertools.islice(numbered, AT_A_TIME)):
            rows = [_checked(questions, number, item) for number, item in chunk]

            def work(t: Transaction, rows: Sequence[_Row] = rows) -> list[str]:
                allowed(t.connection, by, project, "manage_project")
                return _insert(t, by, project, rows, origin)

            ids += self._database.write(work)
        return ids


def put(t: Transaction, by: str, project: str, items: Sequence[NewItem], *, origin: str = "") -> list[str]:
    """Puts items at the end of their lines, as work for the writer; gives their ids. Whose they are is not asked.

    Raises:
        Refusal: an item is wrong, with its number.
    """
    questions = questions_of(t.connection, project)
    return _insert(t, by, project, [_checked(questions, number, item) for number, item in enumerate(items)], origin)


def questions_of(connection: Connection, project: str) -> tuple[Question, ...]:
    """What is asked in a project, in order."""
    rows = connection.execute(_QUESTIONS, {"p": project})
    return tuple(
        Question(
            key=row.key, kind=row.kind, dimension=row.dimension, low=row.low, high=row.high,
            per_response=row.per_response, required=row.required,
        )
        for row in rows
    )  # fmt: skip


def allowed(connection: Connection, account: str, project: str, right: Right) -> Member:
    """Somebody's place in a project, where they have a right.

    Raises:
        Refusal: "unknown" for strangers, "not_allowed" for those inside.
    """
    member = membership(connection, account, project)
    if not member.may(right):
        raise Refusal("not_allowed", f"not for a {member.role}" if member.state != "paused" else "you are paused here")
    return member


@dataclass(frozen=True, slots=True)
class _Row:
    """An item on its way in."""

    item: NewItem
    messages: str
    sha256: str


def _questions(new: NewProject) -> list[dict[str, Any]]:
    """The rows of a project's questions, checked."""
    if not new.questions:
        raise Refusal("bad_input", "questions: none: a project asks at least one")
    rows: list[dict[str, Any]] = []
    for place, question in enumerate(new.questions):
        where = f"question {question.key!r}"
        if not question.key.isidentifier() or any(row["key"] == question.key for row in rows):
            raise Refusal("bad_input", f"{where}: a key is a word, and is there once")
        if question.kind not in get_args(Kind):
            raise Refusal("bad_input", f"{where}: kind {question.kind!r}: one of {', '.join(get_args(Kind))}")
        if question.kind == "scale" and not 1 <= question.high - question.low <= 100:
            raise Refusal("bad_input", f"{where}: a scale has 2 to 101 steps")
        rows.append({"place": place, **asdict(question), "dimension": clean(question.dimension, 40, where)})
    return rows


def _publish(t: Transaction, project: str, by: str, version: int, major: bool, text: str, origin: str) -> None:
    text = clean(text, 200_000, "guideline")
    if not text.strip():
        raise Refusal("bad_input", "guideline: empty: say how to judge")
    content = digest([text])
    row = {
        "project": project, "version": version, "major": major, "text": text, "sha256": content, "author": by,
        "published": t.at,
    }  # fmt: skip
    t.connection.execute(insert(schema.guideline), row)
    detail = canonical({"version": version, "major": major})
    t.log(by, "guideline.publish", project, detail=detail, content=content, origin=origin)


def _checked(questions: Sequence[Question], number: int, item: NewItem) -> _Row:
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
    return _Row(item, messages, digest([messages]))


def _insert(t: Transaction, by: str, project: str, rows: Sequence[_Row], origin: str) -> list[str]:
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
    added = insert(schema.item).returning(schema.item.c.number, sort_by_parameter_order=True)
    places = [
        {"item": number, "slot": slot, "response": numbers[key]}
        for number, keys in zip(t.connection.scalars(added, items), held, strict=True)
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


def _models(connection: Connection, rows: Sequence[_Row]) -> dict[tuple[str, str], int]:
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


_QUESTIONS = (
    select(schema.question).where(schema.question.c.project == bindparam("p")).order_by(schema.question.c.place)
)
_ADVANCE = (
    update(schema.project)
    .where(schema.project.c.id == bindparam("p"))
    .values(tail=schema.project.c.tail + bindparam("by"))
    .returning(schema.project.c.tail)
)
