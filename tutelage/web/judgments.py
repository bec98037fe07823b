"""How what people say is kept exactly once, taken back, and corrected; nothing is ever lost by either.

Each judgement is a row that stays as it is, chained into the audit log by its hash. A retraction and a correction are
rows of their own with the next revision; a person's word about an item is their last one.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, update

from tutelage.web import schema
from tutelage.web.answers import MAX_NOTE, Question, Value, clean, conflicts, digest_parts, kept, said
from tutelage.web.audit import canonical, digest
from tutelage.web.database import Ahead, Database, Transaction
from tutelage.web.ids import new_id, plain
from tutelage.web.projects import questions_of
from tutelage.web.queue import Lease, holding, lease_of, leased, may_judge, over_a_wire, release
from tutelage.web.queue_statements import (
    ADD_JUDGMENT,
    ADD_VALUES,
    BY_KEY,
    CHANGE_SEAT,
    DROP_DRAFT,
    LAST,
    MY_SEAT,
    OTHERS_SINCE,
    SETTINGS,
    VALUES,
)  # fmt: skip
from tutelage.web.queue_wire import WRITE_JUDGMENT, see
from tutelage.web.refusal import Refusal
from tutelage.web.sessions import SECOND

UNDO_WITHIN = 600 * SECOND
SKIP_REASONS = ("needs_expertise", "ambiguous_prompt", "too_long", "wrong_language", "rather_not", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A judgement as it comes in."""

    item: str
    token: str
    idem: str
    """A key that the page makes up once for each judgement: the same key is the same judgement."""
    said: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """By the questions' keys; see `answers`."""
    conflict_rule: str = ""
    note: str = ""
    active_ms: int = 0
    """How long the page was in front."""
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was kept. It is given after it is on the disk, and not before."""

    judgment: str
    item: str
    kind: str
    revision: int
    again: bool = False
    """Whether it had been kept already."""


class Judgments:
    """What is said. One for each database and process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[Question, ...]] = {}

    def submit(self, account: str, submission: Submission) -> Receipt:
        """Keeps an answer. The same submission again is no second one: it gives the first one's receipt.

        Raises:
            Refusal: "lease_lost", "bad_input", "key_reused" (the key came with something else before), "paused" or
                "closed".
        """
        key = (submission.item, submission.idem)
        ahead = Ahead(account, lambda t: see(t.connection, t.at, account, submission=key))
        return self._database.write(lambda t: self.submitting(t, account, submission), whole=True, ahead=ahead)

    def submitting(self, t: Transaction, account: str, new: Submission) -> Receipt:
        """`submit`, as work for the writer."""
        asked = _asked("answer", {name: getattr(new, name) for name in new.__slots__})
        again, place = _seen(t, account, new, asked)
        if again is not None:
            return again
        seat = holding(place, new.token)
        if seat.item_state != "open":
            raise Refusal("closed", "this item is closed by now")
        values = kept(self._questions(seat.project), json.loads(seat.shown), new.said)
        # All that can be refused is refused before anything is written: this work has no savepoint.
        rule = self._rule(t, seat, values, new.conflict_rule)
        client, note = clean(new.client, 200, "client"), clean(new.note, MAX_NOTE, "note")
        return _keep(
            t, seat, "answer", "answered", values, idem=new.idem, asked=asked, active_ms=max(0, new.active_ms),
            client=client, conflict_rule=rule, note=note, undrafted=True,
        )  # fmt: skip

    def skip(self, account: str, item: str, token: str, idem: str, reason: str, note: str = "") -> Receipt:
        """Passes an item on, saying why. This person is not asked about it again.

        Raises:
            Refusal: "lease_lost", "bad_input" or "key_reused".
        """
        asked = _asked("skip", {"item": item, "token": token, "reason": reason, "note": note})

        def work(t: Transaction) -> Receipt:
            again = _again(t, account, idem, asked)
            if again is not None:
                return again
            if reason not in SKIP_REASONS:
                raise Refusal("bad_input", f"reason {reason!r}: one of {', '.join(SKIP_REASONS)}")
            seat = leased(t, account, item, token)
            receipt = _keep(
                t, seat, "skip", "skipped", [], idem=idem, asked=asked, reason=reason,
                note=clean(note, MAX_NOTE, "note"),
            )  # fmt: skip
            release(t, seat.project, seat.item)
            return receipt

        return self._database.write(work)

    def undo(self, account: str, project: str, idem: str) -> Lease:
        """Takes back this person's last answer or skip; the item is theirs again, with what they said as a draft.

        Raises:
            Refusal: "too_late" after ten minutes, when two others have answered, or when there is nothing to take
                back; "closed"; "full" when somebody else has a skipped item's place by now.
        """
        asked = _asked("undo", {"project": project})

        def work(t: Transaction) -> Lease:
            who = may_judge(t, account, project)
            again = _again(t, account, idem, asked)
            if again is not None:
                return lease_of(leased(t, account, again.item, None))
            last = LAST.first(t.connection, {"a": account, "p": project})
            if last is None:
                raise Refusal("too_late", "there is nothing to take back")
            seat = MY_SEAT.first(t.connection, {"i": last.item_id, "a": account})
            self._check_undo(t, last, seat, account)
            before = self._values(t, last.number)
            questions = self._questions(project)
            _keep(
                t, seat, "retract", "leased", [], idem=idem, asked=asked, token=secrets.token_urlsafe(12),
                expires=t.at + who.lease_seconds * SECOND, turn=who.given + 1,
            )  # fmt: skip
            t.connection.execute(
                update(schema.membership)
                .where(schema.membership.c.account == account, schema.membership.c.project == project)
                .values(given=who.given + 1)
            )
            body = {"said": said(questions, json.loads(last.shown), before), "note": last.note}
            write_draft(t, seat.item, account, canonical(body))
            return lease_of(MY_SEAT.first(t.connection, {"i": last.item_id, "a": account}))

        return self._database.write(work)

    def correct(
        self, account: str, item: str, idem: str, said: Mapping[str, Any], *, conflict_rule: str = "", note: str = ""
    ) -> Receipt:
        """A later and better answer to an item that this person has answered; both are kept.

        Raises:
            Refusal: "unknown", "closed", "bad_input" or "key_reused".
        """
        asked = _asked("correct", {"item": item, "said": said, "conflict_rule": conflict_rule, "note": note})

        def work(t: Transaction) -> Receipt:
            again = _again(t, account, idem, asked)
            if again is not None:
                return again
            seat = MY_SEAT.first(t.connection, {"i": plain(item), "a": account})
            if seat is None or seat.state != "answered":
                raise Refusal("unknown", "there is no answer of yours to correct")
            may_judge(t, account, seat.project)
            if seat.item_state != "open":
                raise Refusal("closed", "this item is closed by now")
            values = kept(self._questions(seat.project), json.loads(seat.shown), said)
            rule = self._rule(t, seat, values, conflict_rule)
            return _keep(
                t, seat, "correction", "answered", values, idem=idem, asked=asked, conflict_rule=rule,
                note=clean(note, MAX_NOTE, "note"),
            )  # fmt: skip

        return self._database.write(work)

    def _questions(self, project: str) -> tuple[Question, ...]:
        """A project's questions, which never change."""
        if project not in self._known:
            self._known[project] = self._database.read(lambda c: questions_of(c, project))
        return self._known[project]

    def _values(self, t: Transaction, judgment: int) -> list[Value]:
        rows = VALUES.all(t.connection, {"j": judgment})
        return [Value(row.question, row.slot, row.num, row.text, row.cannot_tell) for row in rows]

    def _rule(self, t: Transaction, seat: Any, values: list[Value], rule: str) -> str:
        """The rule that was named where the safer answer is not the preferred one."""
        if not conflicts(self._questions(seat.project), values):
            return ""
        rules = json.loads(SETTINGS.scalar(t.connection, {"p": seat.project}) or "{}").get("conflict_rules", [])
        if rules and rule not in rules:
            raise Refusal(
                "bad_input", f"conflict_rule: you prefer the less safe one: name the rule, {', '.join(rules)}"
            )
        return clean(rule, 200, "conflict_rule")

    def _check_undo(self, t: Transaction, last: Any, seat: Any, account: str) -> None:
        if t.at - last.submitted > UNDO_WITHIN:
            raise Refusal("too_late", "it can be taken back for ten minutes: correct it in your history")
        if seat.item_state != "open":
            raise Refusal("closed", "this item is closed by now")
        held = select(func.max(schema.snapshot.c.upto)).where(schema.snapshot.c.project == seat.project)
        if last.number <= (t.connection.scalar(held) or 0):
            raise Refusal("too_late", "a snapshot holds it by now: correct it in your history")
        since = OTHERS_SINCE.scalar(t.connection, {"i": seat.item, "n": last.number, "a": account}) or 0
        if since >= 2:
            raise Refusal("too_late", "two others have answered since: correct it in your history")
        if seat.state == "skipped" and seat.taken >= seat.need:
            raise Refusal("full", "somebody else has this item by now")


def write_draft(t: Transaction, item: int, account: str, body: str) -> int:
    """Keeps a draft in place of the one before; gives its number."""
    here = (schema.draft.c.item == item) & (schema.draft.c.account == account)
    rev = (t.connection.scalar(select(schema.draft.c.rev).where(here)) or 0) + 1
    row = {"body": body, "rev": rev, "saved": t.at}
    if rev == 1:
        t.connection.execute(insert(schema.draft), {"item": item, "account": account, **row})
    else:
        t.connection.execute(update(schema.draft).where(here).values(row))
    return rev


def _asked(kind: str, request: Mapping[str, Any]) -> str:
    """A hash of what was asked for."""
    try:
        return digest({"kind": kind, **{name: value for name, value in request.items() if name != "idem"}})
    except (ValueError, TypeError, RecursionError):
        raise Refusal("bad_input", "what was sent is no plain JSON in sound letters") from None


def _again(t: Transaction, account: str, idem: str, asked: str) -> Receipt | None:
    """The receipt of a request that came before."""
    _check_key(idem)
    row = BY_KEY.first(t.connection, {"a": account, "idem": idem})
    return None if row is None else _receipt(row, asked)


def _seen(t: Transaction, account: str, new: Submission, asked: str) -> tuple[Receipt | None, Any]:
    """(the receipt of the same request before, the seat)."""
    _check_key(new.idem)
    if not over_a_wire(t):
        again = _again(t, account, new.idem, asked)
        return again, None if again else MY_SEAT.first(t.connection, {"i": plain(new.item), "a": account})
    found = t.seen or see(t.connection, t.at, account, submission=(new.item, new.idem))()
    return None if found.key is None else _receipt(found.key, asked), found.place


def _check_key(idem: str) -> None:
    if not 8 <= len(idem) <= 100 or not idem.isascii() or not idem.isprintable():
        raise Refusal("bad_input", "idem: 8 to 100 plain letters")


def _receipt(row: Any, asked: str) -> Receipt:
    """The receipt of a judgement that is there, if it was asked for in the same words."""
    if row.asked != asked:
        raise Refusal("key_reused", "this key came with another request before: make a new one")
    return Receipt(judgment=row.id, item=row.item_id, kind=row.kind, revision=row.revision, again=True)


def _keep(
    t: Transaction, seat: Any, kind: str, state: str, values: list[Value], *, idem: str, asked: str,
    active_ms: int = 0, client: str = "", reason: str = "", conflict_rule: str = "", note: str = "",
    token: str | None = None, expires: int | None = None, turn: int | None = None, undrafted: bool = False,
) -> Receipt:  # fmt: skip
    """Adds a judgement, moves the seat, and says so in the log."""
    row: dict[str, Any] = {
        "id": new_id(t.at), "item": seat.item, "account": seat.account, "project": seat.project, "kind": kind,
        "revision": seat.revision + 1, "guideline": seat.guideline, "shown": seat.shown, "started": seat.granted,
        "submitted": t.at, "active_ms": min(active_ms, 2**53), "client": client, "idem": idem, "asked": asked,
        "reason": reason, "conflict_rule": conflict_rule, "note": note,
    }  # fmt: skip
    row["digest"] = digest(digest_parts(row, values))
    moved = {
        "to_state": state, "to_token": token or seat.token, "to_expires": expires or seat.expires,
        "to_turn": seat.turn if turn is None else turn,
    }  # fmt: skip
    rows = [
        {
            "question": value.question, "slot": value.slot, "num": value.num, "text": value.text,
            "cannot_tell": value.cannot_tell,
        }
        for value in values
    ]  # fmt: skip
    if over_a_wire(t):
        WRITE_JUDGMENT.run(t.connection, {**row, **moved, "said": json.dumps(rows), "undrafted": undrafted})
    else:
        if undrafted:
            DROP_DRAFT.run(t.connection, {"i": seat.item, "a": seat.account})
        number = ADD_JUDGMENT.scalar(t.connection, row)
        if rows:
            ADD_VALUES.run(t.connection, *({"judgment": number, **one} for one in rows))
        CHANGE_SEAT.run(
            t.connection, {"i": seat.item, "a": seat.account, "to_revision": row["revision"], **moved}
        )  # fmt: skip
    t.log(seat.account, f"judgment.{kind}", row["id"], content=row["digest"])
    return Receipt(judgment=row["id"], item=seat.item_id, kind=kind, revision=row["revision"])


def verify(connection: Connection) -> str:
    """Whether every judgement says what it said when it was kept; the first fault, or nothing.

    The log itself is looked at by `audit.verify`.
    """
    judgment, value = schema.judgment, schema.judgment_value
    stream = connection.execution_options(yield_per=1000)
    with (
        stream.execute(select(judgment).order_by(judgment.c.number)).mappings() as rows,
        stream.execute(select(value).order_by(value.c.judgment)) as values,
    ):
        held = _by_judgment(values)
        number, said_then = next(held, (0, []))
        for row in rows:
            mine: list[Value] = []
            if number == row["number"]:
                mine = said_then
                number, said_then = next(held, (0, []))
            if digest(digest_parts(row, mine)) != row["digest"]:
                return f"judgement {row['id']} has been changed"
    if said_then:
        return f"there are values of a judgement {number} that is not there"
    log = schema.audit
    same = (log.c.object == judgment.c.id) & (log.c.content == judgment.c.digest)
    same &= log.c.action == literal("judgment.") + judgment.c.kind
    unlogged = connection.scalar(select(judgment.c.id).outerjoin(log, same).where(log.c.seq.is_(None)).limit(1))
    if unlogged is not None:
        return f"judgement {unlogged} is not in the log"
    gone = select(log.c.seq).outerjoin(judgment, log.c.object == judgment.c.id)
    lost = connection.scalar(gone.where(log.c.action.like("judgment.%"), judgment.c.id.is_(None)).limit(1))
    return "" if lost is None else f"the judgement of row {lost} of the log is not there"


def _by_judgment(rows: Any) -> Iterator[tuple[int, list[Value]]]:
    """Values that follow one another and belong together."""
    for number, group in itertools.groupby(rows, key=lambda row: row.judgment):
        yield number, [Value(row.question, row.slot, row.num, row.text, row.cannot_tell) for row in group]
