"""The qualifying quiz: a few questions with known answers, each explained once it is answered.

Whoever passes may judge; whoever fails may try once more, and is then a matter for the owner.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from tutelage.web import schema
from tutelage.web.accounts import membership
from tutelage.web.answers import Question, clean, kept
from tutelage.web.audit import canonical
from tutelage.web.database import Database, Transaction
from tutelage.web.ids import plain
from tutelage.web.items import NewItem
from tutelage.web.marking import is_right
from tutelage.web.projects import allowed, questions_of
from tutelage.web.refusal import Refusal

ATTEMPTS = 2
PASS_SHARE = 0.8
MAX_QUESTIONS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question of the quiz, without its answer."""

    place: int
    messages: tuple[dict[str, Any], ...]
    responses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far somebody is in the quiz."""

    asked: int
    """How many questions there are."""
    answered: int
    """Of the attempt that is under way."""
    attempt: int
    """Which attempt that is; beyond `ATTEMPTS` there is none left."""
    passed: bool
    last: tuple[int, int] | None = None
    """Right and asked in the last attempt that was finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What comes back for an answer."""

    right: bool
    wanted: dict[str, Any]
    explanation: str
    standing: Standing


class Quiz:
    """The quizzes of all projects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def fill(self, by: str, project: str, items: Sequence[NewItem], *, origin: str = "") -> int:
        """Puts these questions in place of what was asked before; gives how many there are.

        Raises:
            Refusal: not theirs to write; a question without a known answer, or too many.
        """
        if len(items) > MAX_QUESTIONS:
            raise Refusal("bad_input", f"{len(items)} questions: at most {MAX_QUESTIONS}")

        def work(t: Transaction) -> int:
            allowed(t.connection, by, project, "manage_project")
            questions = questions_of(t.connection, project)
            rows = [_row(project, place, item, questions) for place, item in enumerate(items)]
            t.connection.execute(delete(schema.quiz).where(schema.quiz.c.project == project))
            if rows:
                t.connection.execute(insert(schema.quiz), rows)
            t.log(by, "quiz.fill", project, detail=canonical({"count": len(rows)}), origin=origin)
            return len(rows)

        return self._database.write(work)

    def standing(self, account: str, project: str) -> Standing:
        """How far somebody is."""
        return self._database.read(lambda c: _standing(c, account, plain(project)))

    def question(self, account: str, project: str) -> Asked | None:
        """The next question for somebody; None when there is none, or no attempt left."""

        def look(c: Connection) -> Asked | None:
            standing = _standing(c, account, plain(project))
            if standing.passed or standing.attempt > ATTEMPTS or standing.answered >= standing.asked:
                return None
            row = c.execute(_at(project, standing.answered)).one()
            return Asked(
                place=row.place, messages=tuple(json.loads(row.messages)), responses=tuple(json.loads(row.responses))
            )  # fmt: skip

        return self._database.read(look)

    def answer(self, account: str, project: str, place: int, said: Mapping[str, Any]) -> Marked:
        """Marks an answer; the last one of an attempt decides whether it is passed.

        Raises:
            Refusal: "too_late": it is not that question's turn; "bad_input".
        """

        def work(t: Transaction) -> Marked:
            membership(t.connection, account, project)
            standing = _standing(t.connection, account, project)
            if standing.passed or standing.attempt > ATTEMPTS:
                raise Refusal("too_late", "there is no attempt left")
            if place != standing.answered:
                raise Refusal("too_late", "this question has been answered: load the page again")
            row = t.connection.execute(_at(project, place)).one()
            questions = questions_of(t.connection, project)
            kept(questions, range(len(json.loads(row.responses))), said)
            wanted = json.loads(row.gold)
            right = is_right(questions, wanted, said)
            self._note(t, account, project, standing, place, said, right)
            after = _standing(t.connection, account, project)
            if after.passed:
                _qualify(t, account, project)
            return Marked(right=right, wanted=wanted, explanation=row.explanation, standing=after)

        return self._database.write(work)

    def qualify(self, account: str, project: str) -> bool:
        """Lets somebody in training begin where no quiz is asked; whether they may judge now."""

        def work(t: Transaction) -> bool:
            member = membership(t.connection, account, project)
            if member.state == "training" and _count(t.connection, project) == 0:
                _qualify(t, account, project)
                return True
            return member.state == "active"

        return self._database.write(work)

    def again(self, by: str, project: str, account: str, *, origin: str = "") -> None:
        """Gives somebody their attempts back.

        Raises:
            Refusal: not theirs to give.
        """

        def work(t: Transaction) -> None:
            allowed(t.connection, by, project, "manage_people")
            membership(t.connection, account, project)
            mine = (schema.quiz_attempt.c.project == project) & (schema.quiz_attempt.c.account == account)
            t.connection.execute(delete(schema.quiz_attempt).where(mine))
            t.log(by, "quiz.again", f"{project}/{account}", origin=origin)

        self._database.write(work)

    def _note(
        self, t: Transaction, account: str, project: str, standing: Standing, place: int, said: Mapping[str, Any],
        right: bool,
    ) -> None:  # fmt: skip
        table = schema.quiz_attempt
        here = (table.c.project == project) & (table.c.account == account) & (table.c.number == standing.attempt)
        held = t.connection.execute(select(table).where(here)).one_or_none()
        all_said = {**(json.loads(held.said) if held else {}), str(place): said}
        good = (held.right_answers if held else 0) + right
        done = len(all_said) == standing.asked
        row = {
            "said": canonical(all_said), "right_answers": good, "asked": standing.asked,
            "finished": t.at if done else None, "passed": done and good >= standing.asked * _pass_share(t, project),
        }  # fmt: skip
        if held:
            t.connection.execute(update(table).where(here).values(row))
        else:
            new = {"project": project, "account": account, "number": standing.attempt, "started": t.at}
            t.connection.execute(insert(table), {**new, **row})
        if done:
            detail = canonical({"right": good, "asked": standing.asked})
            t.log(account, "quiz.finish", f"{project}/{account}", detail=detail)


def _row(project: str, place: int, item: NewItem, questions: Sequence[Question]) -> dict[str, Any]:
    where = f"question {place + 1}"
    if item.gold is None:
        raise Refusal("bad_input", f"{where}: has no known answer: give it as gold")
    kept(questions, range(len(item.responses)), item.gold)
    return {
        "project": project, "place": place, "messages": canonical([asdict(message) for message in item.prompt]),
        "responses": canonical([clean(response.text, 10**6, where) for response in item.responses]),
        "gold": canonical(item.gold), "explanation": clean(item.explanation, 20_000, where),
    }  # fmt: skip


def _at(project: str, place: int) -> Any:
    """The question at a place; a quiz that was changed may have gaps nowhere, for it is written whole."""
    return select(schema.quiz).where(schema.quiz.c.project == project, schema.quiz.c.place == place)


def _count(c: Connection, project: str) -> int:
    return c.scalar(select(func.count()).select_from(schema.quiz).where(schema.quiz.c.project == project)) or 0


def _standing(c: Connection, account: str, project: str) -> Standing:
    asked = _count(c, project)
    table = schema.quiz_attempt
    rows = c.execute(
        select(table).where(table.c.project == project, table.c.account == account).order_by(table.c.number)
    ).all()
    finished = [row for row in rows if row.finished is not None or len(json.loads(row.said)) >= asked]
    going = [row for row in rows if row not in finished]
    last = (finished[-1].right_answers, finished[-1].asked) if finished else None
    return Standing(
        asked=asked, answered=len(json.loads(going[-1].said)) if going else 0, attempt=len(finished) + 1,
        passed=any(row.passed for row in rows), last=last,
    )  # fmt: skip


def _pass_share(t: Transaction, project: str) -> float:
    settings = t.connection.scalar(select(schema.project.c.settings).where(schema.project.c.id == project))
    return float(json.loads(settings or "{}").get("pass_share", PASS_SHARE))


def _qualify(t: Transaction, account: str, project: str) -> None:
    member = schema.membership
    here = (member.c.project == project) & (member.c.account == account) & (member.c.state == "training")
    t.connection.execute(update(member).where(here).values(state="active"))
    t.log(account, "member.qualify", f"{project}/{account}")
