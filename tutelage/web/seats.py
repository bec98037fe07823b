"""What a person sees of an item that is, or was, theirs: its texts in their order, their draft, their own answers.

Nothing else leaves: no model's name, no other person's answer, no mark of gold. Whoever has no seat at an item learns
not even that it exists.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select

from tutelage.web import schema
from tutelage.web.answers import MAX_NOTE, Question, Value, clean, said
from tutelage.web.audit import canonical
from tutelage.web.database import Database, Transaction
from tutelage.web.ids import new_id, plain
from tutelage.web.judgments import write_draft
from tutelage.web.projects import questions_of
from tutelage.web.queue import leased
from tutelage.web.queue_statements import MY_SEAT
from tutelage.web.refusal import Refusal

FlagReason = Literal["unsafe", "personal_data", "wrong_language", "broken"]
FLAG_REASONS: tuple[FlagReason, ...] = ("unsafe", "personal_data", "wrong_language", "broken")
MAX_DRAFT = 64 * 1024
HISTORY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An item as one person sees it."""

    item: str
    messages: tuple[dict[str, Any], ...]
    """The prompt's turns."""
    responses: tuple[str, ...]
    """By seats."""
    questions: tuple[Question, ...]
    state: str
    """The person's seat: leased, answered or skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What someone has begun to say."""

    body: str
    rev: int
    """Counts up; the page that saves says which one it goes on from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One thing that this person said."""

    item: str
    kind: str
    revision: int
    submitted: int
    guideline: int
    said: dict[str, Any]
    note: str
    open: bool
    """Whether it can still be corrected."""


class Seats:
    """Reading what is one's own, and writing beside it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def show(self, account: str, item: str) -> Shown:
        """An item's texts.

        Raises:
            Refusal: "unknown": this person has no seat there.
        """

        def look(c: Connection) -> Shown:
            seat = _seat(c, account, item)
            texts = (
                select(schema.item_response.c.slot, schema.response.c.text)
                .where(schema.item_response.c.item == seat.item)
                .where(schema.response.c.number == schema.item_response.c.response)
            )
            by_slot = {row.slot: row.text for row in c.execute(texts)}
            prompt = select(schema.prompt.c.messages).where(schema.prompt.c.number == schema.item.c.prompt)
            messages = c.scalar(prompt.where(schema.item.c.number == seat.item)) or "[]"
            return Shown(
                item=item, messages=tuple(json.loads(messages)), state=seat.state,
                responses=tuple(by_slot[slot] for slot in json.loads(seat.shown)),
                questions=questions_of(c, seat.project),
            )  # fmt: skip

        return self._database.read(look)

    def draft(self, account: str, item: str) -> Draft | None:
        """What this person has begun to say about an item, also after they lost it."""
        wanted = select(schema.draft.c.body, schema.draft.c.rev).where(
            schema.item.c.id == plain(item),
            schema.draft.c.item == schema.item.c.number,
            schema.draft.c.account == account,
        )
        row = self._database.read(lambda c: c.execute(wanted).first())
        return None if row is None else Draft(body=row.body, rev=row.rev)

    def save_draft(self, account: str, item: str, token: str, body: str, rev: int) -> Draft:
        """Keeps a draft that goes on from draft ``rev`` (0: from none).

        Raises:
            Refusal: "stale_draft": another tab has saved since; "lease_lost"; "bad_input".
        """
        if len(body.encode(errors="replace")) > MAX_DRAFT:
            raise Refusal("bad_input", f"draft: longer than {MAX_DRAFT} bytes")
        body = clean(body, MAX_DRAFT, "draft")

        def work(t: Transaction) -> Draft:
            seat = leased(t, account, item, token)
            mine = (schema.draft.c.item == seat.item) & (schema.draft.c.account == account)
            held = t.connection.scalar(select(schema.draft.c.rev).where(mine)) or 0
            if held != rev:
                raise Refusal("stale_draft", "this draft was changed in another window: load it again")
            return Draft(body=body, rev=write_draft(t, seat.item, account, body))

        return self._database.write(work)

    def flag(self, account: str, item: str, reason: FlagReason, note: str = "") -> None:
        """Says that something is wrong with an item; the same person says the same thing once.

        Raises:
            Refusal: "unknown": this person has no seat there; "bad_input".
        """
        if reason not in FLAG_REASONS:
            raise Refusal("bad_input", f"flag {reason!r}: one of {', '.join(FLAG_REASONS)}")
        note = clean(note, MAX_NOTE, "note")

        def work(t: Transaction) -> None:
            seat = _seat(t.connection, account, item)
            flag = schema.flag
            mine = (flag.c.item == seat.item) & (flag.c.account == account) & (flag.c.reason == reason)
            if t.connection.scalar(select(func.count()).select_from(flag).where(mine)):
                return
            row = {"id": new_id(t.at), "item": seat.item, "account": account, "reason": reason, "note": note}
            t.connection.execute(insert(flag), {**row, "at": t.at})
            t.log(account, "item.flag", item, detail=canonical({"reason": reason}))

        self._database.write(work)

    def history(self, account: str, project: str, limit: int = HISTORY) -> list[Past]:
        """What this person said last, newest first, each item as it stands now."""
        judgment, seat, item = schema.judgment.c, schema.seat.c, schema.item.c
        wanted = (
            select(schema.judgment, item.id.label("item_id"), item.state.label("item_state"))
            .where(judgment.account == account, judgment.project == plain(project), item.number == judgment.item)
            .where(seat.item == judgment.item, seat.account == judgment.account, seat.revision == judgment.revision)
            .where(seat.state != "leased")
            .order_by(judgment.number.desc())
            .limit(limit)
        )

        def look(c: Connection) -> list[Past]:
            rows = c.execute(wanted).all()
            values: dict[int, list[Value]] = {}
            rated = schema.judgment_value
            for row in c.execute(select(rated).where(rated.c.judgment.in_([row.number for row in rows]))):
                value = Value(row.question, row.slot, row.num, row.text, row.cannot_tell)
                values.setdefault(row.judgment, []).append(value)
            questions = questions_of(c, plain(project))
            return [
                Past(
                    item=row.item_id, kind=row.kind, revision=row.revision, submitted=row.submitted,
                    guideline=row.guideline, said=said(questions, json.loads(row.shown), values.get(row.number, [])),
                    note=row.note, open=row.item_state == "open" and row.kind != "skip",
                )
                for row in rows
            ]  # fmt: skip

        return self._database.read(look)


def _seat(c: Connection, account: str, item: str) -> Any:
    seat = MY_SEAT.first(c, {"i": plain(item), "a": account})
    if seat is None:
        raise Refusal("unknown", "there is no such item")
    return seat
