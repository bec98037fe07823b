"""What people are asked to judge: projects, their questions and guideline, and the items that wait in their lines."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from sqlalchemy import Connection, bindparam, insert, select, update

from tutelage.web import schema
from tutelage.web.accounts import Member, Right, membership
from tutelage.web.answers import Kind, Question, clean
from tutelage.web.audit import canonical, digest
from tutelage.web.database import Database, Transaction
from tutelage.web.ids import new_id, plain
from tutelage.web.items import NewItem, Row, added, checked
from tutelage.web.refusal import Refusal

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
            rows = [checked(questions, number, item) for number, item in chunk]

            def work(t: Transaction, rows: Sequence[Row] = rows) -> list[str]:
                allowed(t.connection, by, project, "manage_project")
                return added(t, by, project, rows, origin)

            ids += self._database.write(work)
        return ids


def put(t: Transaction, by: str, project: str, items: Sequence[NewItem], *, origin: str = "") -> list[str]:
    """Puts items at the end of their lines, as work for the writer; gives their ids. Whose they are is not asked.

    Raises:
        Refusal: an item is wrong, with its number.
    """
    questions = questions_of(t.connection, project)
    return added(t, by, project, [checked(questions, number, item) for number, item in enumerate(items)], origin)


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


_QUESTIONS = (
    select(schema.question).where(schema.question.c.project == bindparam("p")).order_by(schema.question.c.place)
)
