"""Chat and compare: a person writes, two answers come, the better one goes on into the conversation.

Each pair of answers is an item of the project, with the conversation so far as its prompt, made for this person and in
their hands at once. So it is judged, taken back, corrected, decided, snapshotted and exported as any other; and where
more than one person per item is wanted, it then waits in the line for the others. What goes on is read from what was
said: the better answer, the one at the first seat where they are alike (the last one, where a new one was asked for),
none where both are bad.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from tutelage.errors import SettingsError, TutelageError
from tutelage.records import Message
from tutelage.web import schema
from tutelage.web.answers import Question, clean
from tutelage.web.database import Database, Transaction
from tutelage.web.ids import new_id, plain
from tutelage.web.items import NewItem, NewResponse
from tutelage.web.models import Drawn, Models
from tutelage.web.projects import put, questions_of
from tutelage.web.queue import Lease, Waiting, check_cap, grant, lease_of, may_judge, passed_by
from tutelage.web.queue_statements import ADD_SEAT, MY_SEAT, PASS
from tutelage.web.refusal import Refusal
from tutelage.web.sampling import response_of
from tutelage.web.talk_rules import KIND, MAX_TURN, Rules, Standing, fresh, rules_from

REGENERATED = "regenerated"
"""How an item was chosen that compares an answer with the one before it."""
DRAWS = 4
"""Times that answers are drawn until two of them differ."""

_log = logging.getLogger(__name__)


class Dialogues:
    """The conversations of all projects. `ask` and `again` belong to the site's event loop."""

    def __init__(self, database: Database, models: Models) -> None:
        self._database = database
        self._models = models
        self._known: dict[str, tuple[Rules | None, tuple[Question, ...]]] = {}
        self._coming: dict[tuple[str, str], tuple[str, asyncio.Task[Lease]]] = {}

    def known(self, project: str) -> bool:
        """Whether it has been looked up how this project's conversations go: then `rules` reads nothing."""
        return project in self._known

    def rules(self, project: str) -> Rules | None:
        """How a project's conversations go; None where there are none. This never changes."""
        if project not in self._known:
            row, questions = self._database.read(
                lambda c: (
                    c.execute(
                        select(schema.project.c.kind, schema.project.c.settings).where(
                            schema.project.c.id == plain(project)
                        )
                    ).one_or_none(),
                    questions_of(c, plain(project)),
                )
            )
            if row is None:
                return None
            self._known[project] = (rules_from(row.kind, json.loads(row.settings)), questions)
        return self._known[project][0]

    def standing(self, account: str, project: str) -> Standing | None:
        """Where somebody is in the conversation that they have begun; None where there is none.

        Raises:
            Refusal: they may not judge here now.
        """
        rules = self._talking(project)

        def work(t: Transaction) -> Standing | None:
            may_judge(t, account, project)
            found = self._standing(t, account, project, rules)
            return found if found.begun or found.text else None

        return self._database.write(work)

    def may_begin(self, account: str, project: str) -> bool:
        """Whether this person may begin one more conversation."""
        rules = self._talking(project)
        mine = (schema.dialogue.c.account == account) & (schema.dialogue.c.project == plain(project))
        begun = select(func.count()).where(mine, schema.dialogue.c.turns > 0)
        return not rules.conversations or (self._database.read(lambda c: c.scalar(begun)) or 0) < rules.conversations

    async def ask(self, account: str, project: str, text: str, idem: str) -> Lease:
        """Two answers to what somebody writes. The same request again is no second turn.

        Raises:
            Refusal: they may not judge here now, have a comparison open, or the conversation is over; "bad_input".
            TutelageError: the models give no answer.
        """
        text = clean(text.replace("\r\n", "\n").strip(), MAX_TURN, "text")
        if not text:
            raise Refusal("bad_input", "text: empty: write a turn")
        return await self._once(account, project, idem, lambda: self._ask(account, project, text, idem))

    async def again(self, account: str, project: str, idem: str) -> Lease:
        """A new answer, to be compared with the one that goes on.

        Raises:
            Refusal: as for `ask`, or nothing goes on.
        """
        return await self._once(account, project, idem, lambda: self._again(account, project, idem))

    def end(self, account: str, project: str) -> None:
        """Ends a conversation; a comparison that is open in it stays this person's to judge."""

        def work(t: Transaction) -> None:
            may_judge(t, account, project)
            t.connection.execute(
                update(schema.dialogue).where(*_mine(account, project)).values(state="ended", draft="")
            )

        self._talking(project)
        self._database.write(work)

    def save(self, account: str, project: str, text: str) -> None:
        """Keeps what somebody is writing.

        Raises:
            Refusal: they may not judge here now, or "bad_input".
        """
        text = clean(text, MAX_TURN, "text")
        self._talking(project)

        def work(t: Transaction) -> None:
            may_judge(t, account, project)
            _open(t, account, project)
            t.connection.execute(update(schema.dialogue).where(*_mine(account, project)).values(draft=text))

        self._database.write(work)

    def _talking(self, project: str) -> Rules:
        rules = self.rules(project)
        if rules is None:
            raise Refusal("unknown", "there is no such project")
        return rules

    async def _once(
        self, account: str, project: str, idem: str, work: Callable[[], Coroutine[Any, Any, Lease]]
    ) -> Lease:  # fmt: skip
        """The work, or what is already being done for the same request."""
        if not 8 <= len(idem) <= 100 or not idem.isascii() or not idem.isprintable():
            raise Refusal("bad_input", "idem: 8 to 100 plain letters")
        key = (account, project)
        held = self._coming.get(key)
        if held is not None and held[0] != idem:
            raise Refusal("full", "the answers to your last turn are still coming")
        if held is None:
            held = self._coming[key] = (idem, asyncio.ensure_future(work()))
            held[1].add_done_callback(lambda _: self._coming.pop(key))
        # Who closes the page has asked nevertheless, and finds the answers when they come again.
        return await asyncio.shield(held[1])

    async def _ask(self, account: str, project: str, text: str, idem: str) -> Lease:
        rules = await asyncio.to_thread(self._talking, project)

        standing = await asyncio.to_thread(self._database.write, lambda t: self._look(t, account, project, idem, rules))
        if standing.lease is not None and standing.idem == idem:
            return standing.lease
        if standing.lease is not None:
            raise Refusal("full", "first judge the two answers that you have")
        if standing.turn > rules.turns:
            raise Refusal("closed", f"{rules.turns} turns are enough: begin a new conversation")
        if not standing.begun and not await asyncio.to_thread(self.may_begin, account, project):
            raise Refusal("closed", f"{rules.conversations} conversations are enough")
        prompt = (*standing.messages, Message(role="user", content=text))
        drawn = await self._two(rules, prompt)
        new = NewItem(
            prompt=prompt, responses=tuple(response_of(one) for one in drawn), need=rules.overlap, source=KIND
        )  # fmt: skip
        return await asyncio.to_thread(self._keep, account, project, new, standing, idem, rules)

    async def _again(self, account: str, project: str, idem: str) -> Lease:
        rules = await asyncio.to_thread(self._talking, project)

        standing = await asyncio.to_thread(self._database.write, lambda t: self._look(t, account, project, idem, rules))
        if standing.lease is not None and standing.idem == idem:
            return standing.lease
        chosen = standing.chosen
        if standing.lease is not None or chosen is None:
            raise Refusal("full", "first judge the answers that you have, and let one of them go on")
        last = await asyncio.to_thread(self._database.read, lambda c: _response(c, chosen))
        prompt = standing.messages[:-1]
        new: Drawn | None = None
        for _ in range(DRAWS):
            new = (await self._drawn(secrets.choice(rules.models), [prompt], rules))[0]
            if new.text and new.text != last.text:
                break
        assert new is not None
        item = NewItem(prompt=prompt, responses=(last, response_of(new)), source=KIND, sampled=REGENERATED)
        return await asyncio.to_thread(self._keep, account, project, item, standing, idem, rules)

    def _look(self, t: Transaction, account: str, project: str, idem: str, rules: Rules) -> Standing:
        """Where somebody is who asks for answers; a request that came before finds those that it brought."""
        who = may_judge(t, account, project)
        found = self._standing(t, account, project, rules)
        if found.lease is None or found.idem != idem:
            check_cap(who, t.at)
        return found

    async def _two(self, rules: Rules, prompt: tuple[Message, ...]) -> list[Drawn]:
        """Two answers, that differ if they can; shown when both are there, so that time tells nothing."""
        drawn: list[Drawn] = []
        for _ in range(DRAWS):
            if len(rules.models) == 1:
                drawn = await self._drawn(rules.models[0], [prompt, prompt], rules)
            else:
                both = await asyncio.gather(*(self._drawn(name, [prompt], rules) for name in rules.models))
                drawn = [one for [one] in both]
            if all(one.text for one in drawn) and drawn[0].text != drawn[1].text:
                break
        return drawn

    async def _drawn(self, name: str, prompts: Sequence[Sequence[Message]], rules: Rules) -> list[Drawn]:
        """Answers of a model. Whoever talks must not learn whose, and its name is in the words of every fault."""
        try:
            drawn = await asyncio.to_thread(self._models.ask, name, prompts, rules.sampling)
            return await asyncio.wrap_future(drawn)
        except SettingsError:
            raise Refusal("closed", "the conversation is longer than what can be answered: begin a new one") from None
        except TutelageError as error:
            _log.warning("%s", error)
            raise Refusal("no_answer", "no answer came: try again, or tell whoever runs this project") from None

    def _keep(
        self, account: str, project: str, new: NewItem, standing: Standing, idem: str, rules: Rules
    ) -> Lease:  # fmt: skip
        """Puts the answers there, in this person's hands."""

        def work(t: Transaction) -> Lease:
            who = may_judge(t, account, project)
            check_cap(who, t.at)
            found = self._standing(t, account, project, rules)
            if found.item != standing.item or found.lease is not None:
                raise Refusal("stale_draft", "the conversation has gone on in another window: load it again")
            _open(t, account, project)
            [id] = put(t, account, project, [new])
            item = t.connection.scalar(select(schema.item.c.number).where(schema.item.c.id == id)) or 0
            lease = _seated(t, who, account, project, item, id)
            turns = standing.turn - (new.sampled == REGENERATED)
            t.connection.execute(
                update(schema.dialogue)
                .where(*_mine(account, project))
                .values(item=item, turns=turns, idem=idem, draft="")
            )
            return lease

        return self._database.write(work)

    def _standing(self, t: Transaction, account: str, project: str, rules: Rules) -> Standing:
        held = t.connection.execute(select(schema.dialogue).where(*_mine(account, project))).one_or_none()
        if held is None or held.item is None:
            return replace(fresh(rules), text=held.draft if held else "")
        item = t.connection.execute(
            select(schema.item, schema.prompt.c.messages)
            .where(schema.item.c.number == held.item, schema.prompt.c.number == schema.item.c.prompt)
        ).one()  # fmt: skip
        prompt = tuple(Message(**message) for message in json.loads(item.messages))
        seat = MY_SEAT.first(t.connection, {"i": item.id, "a": account})
        if seat is None and item.taken < item.need and item.state == "open":
            # The time of the lease was over, and nobody has come for it.
            who = may_judge(t, account, project)
            _seated(t, who, account, project, item.number, item.id)
            seat = MY_SEAT.first(t.connection, {"i": item.id, "a": account})
        common: dict[str, Any] = {"begun": True, "item": held.item, "text": held.draft, "idem": held.idem}
        if seat is not None and seat.state == "leased":
            last = json.loads(seat.shown).index(0) if item.sampled == REGENERATED else None
            return Standing(messages=prompt, turn=held.turns, lease=lease_of(seat), last=last, **common)
        slot = _slot(t, self._known[project][1], seat, item.sampled) if seat is not None else None
        if slot is None:
            # Nothing goes on: the same turn may be said again, or otherwise.
            common["text"] = held.draft or prompt[-1].content
            return Standing(messages=prompt[:-1], turn=held.turns, **common)
        place = schema.item_response.c
        chosen = t.connection.execute(
            select(schema.response.c.number, schema.response.c.text)
            .where(place.item == held.item, place.slot == slot, schema.response.c.number == place.response)
        ).one()  # fmt: skip
        messages = (*prompt, Message(role="assistant", content=chosen.text))
        return Standing(messages=messages, turn=held.turns + 1, chosen=chosen.number, **common)


def _mine(account: str, project: str) -> tuple[Any, ...]:
    held = schema.dialogue.c
    return held.account == account, held.project == project, held.state == "open"


def _open(t: Transaction, account: str, project: str) -> None:
    """Makes the row of a conversation, if none is open."""
    if t.connection.execute(select(schema.dialogue.c.id).where(*_mine(account, project))).first() is None:
        new = {
            "id": new_id(t.at), "project": project, "account": account, "state": "open", "turns": 0, "item": None,
            "idem": "", "draft": "", "begun": t.at,
        }  # fmt: skip
        t.connection.execute(insert(schema.dialogue), new)


def _seated(t: Transaction, who: Any, account: str, project: str, item: int, id: str) -> Lease:
    """Gives a person the item that was made for them; they are where they were in every lane."""
    mine = Waiting(number=item, id=id, position=0, slots=2, revision=_revision(t, item, account))
    lease, seat, member = grant(t.at, who, account, project, mine, passed_by(who))
    ADD_SEAT.run(t.connection, seat)
    PASS.run(t.connection, member)
    return lease


def _revision(t: Transaction, item: int, account: str) -> int:
    said = schema.judgment.c
    return t.connection.scalar(select(func.max(said.revision)).where(said.item == item, said.account == account)) or 0


def _slot(t: Transaction, questions: Sequence[Question], seat: Any, sampled: str) -> int | None:
    """Which response goes on, by this person's last word about it; None where none does."""
    if seat.state != "answered":
        return None
    main = next((question for question in questions if question.dimension == "overall"), questions[0])
    said, value = schema.judgment.c, schema.judgment_value.c
    row = t.connection.execute(
        select(value.num, value.text)
        .where(said.item == seat.item, said.account == seat.account, said.revision == seat.revision)
        .where(value.judgment == said.number, value.question == main.key)
    ).first()  # fmt: skip
    if row is not None and row.text == "both_bad":
        return None
    if row is None or row.num is None or row.num == 4:
        return 0 if sampled == REGENERATED else json.loads(seat.shown)[0]
    return int(row.num > 4)


def _response(c: Connection, number: int) -> NewResponse:
    """A response that is there, to be put beside another."""
    response, model = schema.response.c, schema.model.c
    row = c.execute(
        select(response.text, response.sampling, model.name, model.sha256, model.licence)
        .outerjoin(schema.model, model.number == response.model)
        .where(response.number == number)
    ).one()  # fmt: skip
    return NewResponse(
        text=row.text, model=row.name or "", model_sha256=row.sha256 or "", licence=row.licence or "",
        sampling=json.loads(row.sampling),
    )  # fmt: skip
