"""The people of the labelling site: how they come in, and what each may do.

Nobody signs up: everyone comes by a link that works once, and of which only a hash is kept.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from tutelage.web import passwords, schema
from tutelage.web.audit import canonical
from tutelage.web.database import Database, Transaction
from tutelage.web.ids import new_id, plain
from tutelage.web.refusal import Refusal
from tutelage.web.sessions import DAY, Session, Sessions, begin, by_email, end_all, hash_of, origin_of

Role = Literal["owner", "manager", "reviewer", "annotator", "viewer"]
State = Literal["training", "active", "paused"]
Right = Literal["judge", "see_board", "see_items", "adjudicate", "manage_people", "manage_project", "export"]

RIGHTS: dict[Role, frozenset[Right]] = {
    "owner": frozenset(get_args(Right)),
    "manager": frozenset(get_args(Right)),
    "reviewer": frozenset({"judge", "see_board", "see_items", "adjudicate"}),
    "annotator": frozenset({"judge"}),
    "viewer": frozenset({"see_board"}),
}
"""What each role may do in its project. Only an owner makes or unmakes owners and managers."""

LINK_LASTS = 7 * DAY


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody's place in a project."""

    account: str
    project: str
    role: Role
    state: str

    def may(self, right: Right) -> bool:
        """Whether their role has a right, and they are not paused."""
        return self.state != "paused" and right in RIGHTS[self.role]


class Accounts:
    """People, their links, their sessions and their roles."""

    def __init__(self, database: Database, sessions: Sessions) -> None:
        self._database = database
        self._sessions = sessions

    # Coming in

    def invite_owner(self) -> str:
        """A one-time link for someone who may make projects. For the command line: nobody is there to give it."""
        return self._database.write(lambda t: _link(t, "owner", "", role=None))

    def invite(self, by: str, project: str, role: Role, *, origin: str = "") -> str:
        """A one-time link to a role in a project; it is shown once.

        Raises:
            Refusal: not theirs to give.
        """

        def work(t: Transaction) -> str:
            _check_gives(membership(t.connection, by, project), role)
            return _link(t, "member", by, project=project, role=role, origin=origin)

        return self._database.write(work)

    def invite_reset(self, by: str, project: str, account: str, *, origin: str = "") -> str:
        """A one-time link with which somebody in one's project sets a new password.

        Raises:
            Refusal: no such person there, or not one's to help: only owners help owners and managers.
        """

        def work(t: Transaction) -> str:
            helper, helped = membership(t.connection, by, project), membership(t.connection, account, project)
            _check_gives(helper, helped.role)
            person = t.connection.execute(select(schema.account).where(schema.account.c.id == account)).one()
            elsewhere = select(schema.membership.c.project).where(schema.membership.c.account == account)
            # Who may set this password has the whole account: also what it may do in other projects.
            if person.owner or any(other != project for other in t.connection.scalars(elsewhere)):
                raise Refusal("not_allowed", "this person is not in your project alone: ask who runs the server")
            return _link(t, "reset", by, account=account, origin=origin)

        return self._database.write(work)

    def accept(
        self, link: str, email: str, password: str, *, name: str = "", locale: str = "en", address: str = ""
    ) -> Session:
        """Comes in by a link: as a new person, or as one who already has an account and gives its password.

        Raises:
            Refusal: the link is used, old or none; the password is too weak, or not that person's.
        """
        email = passwords.email(email)
        kind = self._database.read(lambda c: _find_link(c, link, self._database.clock()).kind)
        if kind == "reset":
            raise Refusal("bad_link", "this link sets a new password")
        if self._database.read(lambda c: by_email(c, email)) is not None:
            known = self._sessions.sign_in(email, password, address=address)
            self.join(link, known.account, origin=origin_of(address))
            return known
        passwords.check(password, email, name)
        name = passwords.clean_name(name)
        hashed = self._sessions.hash(password)

        def work(t: Transaction) -> Session:
            if by_email(t.connection, email) is not None:
                raise Refusal("sign_in", "sign in first, then open the link again")
            id, origin = new_id(t.at), origin_of(address)
            person = {
                "id": id, "email": email, "email_key": passwords.email_key(email), "name": name, "password": hashed,
                "status": "active", "owner": False, "locale": locale, "created": t.at,
            }  # fmt: skip
            t.connection.execute(insert(schema.account), person)
            t.log(id, "account.make", id, origin=origin)
            owner = _use_link(t, link, id, origin)
            return begin(t, id, name, owner, locale, address)

        return self._database.write(work)

    def join(self, link: str, account: str, *, origin: str = "") -> None:
        """Someone who has an account comes into another project.

        Raises:
            Refusal: the link is used, old or none.
        """
        self._database.write(lambda t: _use_link(t, link, account, origin))

    def reset(self, link: str, password: str, *, address: str = "") -> None:
        """Sets a new password by a link, and ends all the person's sessions.

        Raises:
            Refusal: the link is used, old or none; the password is too weak.
        """

        def whose(c: Connection) -> Row[Any]:
            row = _find_link(c, link, self._database.clock())
            if row.kind != "reset":
                raise Refusal("bad_link", "this link does not set a password")
            return c.execute(select(schema.account).where(schema.account.c.id == row.account)).one()

        person = self._database.read(whose)
        passwords.check(password, person.email or "", person.name)
        hashed = self._sessions.hash(password)

        def work(t: Transaction) -> None:
            _take_link(t, link, person.id)
            t.connection.execute(
                update(schema.account).where(schema.account.c.id == person.id).values(password=hashed)
            )  # fmt: skip
            end_all(t, person.id)
            t.log(person.id, "account.reset", person.id, origin=origin_of(address))

        self._database.write(work)

    # Roles

    def member(self, account: str, project: str) -> Member:
        """Somebody's place in a project.

        Raises:
            Refusal: "unknown": for who is not in it, the project does not exist.
        """
        return self._database.read(lambda c: membership(c, account, project))

    def set_member(
        self, by: str, project: str, account: str, *, role: Role | None = None, state: State | None = None,
        origin: str = "",
    ) -> None:  # fmt: skip
        """Changes somebody's role, or pauses them (``state="paused"``) and takes them back (``"active"``).

        Raises:
            Refusal: not theirs to change, or the project would have no owner left.
        """

        def work(t: Transaction) -> None:
            giver, other = membership(t.connection, by, project), membership(t.connection, account, project)
            _check_gives(giver, other.role)
            _check_gives(giver, role or other.role)
            if state not in (None, *get_args(State)):
                raise Refusal("bad_input", f"state {state!r}: one of {', '.join(get_args(State))}")
            after = {"role": role or other.role, "state": state or other.state}
            member = schema.membership
            here = (member.c.project == project) & (member.c.account == account)
            t.connection.execute(update(member).where(here).values(after))
            owners = (member.c.project == project) & (member.c.role == "owner") & (member.c.state != "paused")
            if not t.connection.scalar(select(func.count()).select_from(member).where(owners)):
                raise Refusal("last_owner", "a project keeps at least one owner: make somebody else one first")
            t.connection.execute(
                update(schema.session).where(schema.session.c.account == account).values(renew=True)
            )  # fmt: skip
            t.log(by, "member.set", f"{project}/{account}", detail=canonical(after), origin=origin)

        self._database.write(work)

    def erase(self, account: str, *, by: str, origin: str = "") -> None:
        """Forgets who somebody is, at their wish. Their judgements stay, under an id that leads to nobody.

        Raises:
            Refusal: no such person.
        """

        def work(t: Transaction) -> None:
            gone = t.connection.execute(
                update(schema.account)
                .where(schema.account.c.id == account)
                .values(email=None, email_key=None, name="", password=None, status="erased", owner=False)
            )
            if gone.rowcount != 1:
                raise Refusal("unknown", "there is no such person")
            t.connection.execute(delete(schema.draft).where(schema.draft.c.account == account))
            mine = schema.dialogue.c.account == account
            t.connection.execute(update(schema.dialogue).where(mine).values(state="ended", draft=""))
            t.connection.execute(
                update(schema.membership).where(schema.membership.c.account == account).values(state="paused")
            )  # fmt: skip
            end_all(t, account)
            t.log(by, "account.erase", account, origin=origin)

        self._database.write(work)


def membership(connection: Connection, account: str, project: str) -> Member:
    """Somebody's place in a project, within a transaction.

    Raises:
        Refusal: "unknown": for who is not in it, the project does not exist.
    """
    row = connection.execute(_MEMBER, {"a": plain(account), "p": plain(project)}).one_or_none()
    if row is None:
        raise Refusal("unknown", "there is no such project")
    return Member(account, project, row.role, row.state)


def _check_gives(giver: Member, role: Role) -> None:
    """That somebody may give or take a role."""
    if role not in RIGHTS:
        raise Refusal("bad_input", f"role {role!r}: one of {', '.join(RIGHTS)}")
    if not giver.may("manage_people") or (role in ("owner", "manager") and giver.role != "owner"):
        raise Refusal("not_allowed", f"a {giver.role} does not decide who is {role}")


def _link(
    t: Transaction, kind: str, by: str, *, project: str | None = None, role: Role | None = None,
    account: str | None = None, origin: str = "",
) -> str:  # fmt: skip
    token = secrets.token_urlsafe(32)
    row = {
        "token_hash": hash_of(token), "kind": kind, "project": project, "role": role, "account": account,
        "made_by": by or None, "created": t.at, "expires": t.at + LINK_LASTS,
    }  # fmt: skip
    t.connection.execute(insert(schema.invite), row)
    object = f"{project or ''}/{account or ''}"
    t.log(by, f"link.{kind}", object, detail=canonical({"role": role}), origin=origin)
    return token


def _find_link(connection: Connection, link: str, now: int) -> Row[Any]:
    """A link that still works."""
    row = connection.execute(select(schema.invite).where(schema.invite.c.token_hash == hash_of(link))).one_or_none()
    if row is None or row.used_by is not None or now >= row.expires:
        raise Refusal("bad_link", "this link does not work any more: ask for a new one")
    return row


def _take_link(t: Transaction, link: str, account: str) -> Row[Any]:
    """Uses a link up."""
    row = _find_link(t.connection, link, t.at)
    used = update(schema.invite).where(schema.invite.c.token_hash == row.token_hash).values(used_by=account)
    t.connection.execute(used)
    return row


def _use_link(t: Transaction, link: str, account: str, origin: str) -> bool:
    """Gives an account what a link promises; whether it may make projects afterwards."""
    row = _take_link(t, link, account)
    person = schema.account.c.id == account
    match row.kind:
        case "owner":
            t.connection.execute(update(schema.account).where(person).values(owner=True))
            t.log(account, "account.owner", account, origin=origin)
        case "member":
            here = {"account": account, "project": row.project}
            held = t.connection.execute(_MEMBER, {"a": account, "p": row.project}).one_or_none()
            if held is not None:
                raise Refusal("bad_link", "you are in this project already")
            member = {**here, "role": row.role, "state": "training" if row.role == "annotator" else "active"}
            t.connection.execute(insert(schema.membership), {**member, "guideline_read": 0})
            object = f"{row.project}/{account}"
            t.log(account, "member.join", object, detail=canonical({"role": row.role}), origin=origin)
        case _:
            raise Refusal("bad_link", "this link sets a new password")
    t.connection.execute(update(schema.session).where(schema.session.c.account == account).values(renew=True))
    return bool(t.connection.scalar(select(schema.account.c.owner).where(person)))


_MEMBER = select(schema.membership.c.role, schema.membership.c.state).where(
    schema.membership.c.account == bindparam("a"), schema.membership.c.project == bindparam("p")
)
