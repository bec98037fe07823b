"""Keys for programs: shown once, kept as a hash, good for one project and for what they were made for.

A key acts in the name of whoever made it, and never with more rights than they have at that moment.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import insert, select, update

from tutelage.web import schema
from tutelage.web.accounts import Right, membership
from tutelage.web.answers import clean
from tutelage.web.audit import canonical
from tutelage.web.database import Database, Transaction
from tutelage.web.ids import new_id, plain
from tutelage.web.projects import allowed
from tutelage.web.refusal import Refusal
from tutelage.web.sessions import DAY, SEEN_EVERY, hash_of

Scope = Literal["read", "items", "export"]
NEEDS: dict[Scope, Right] = {"read": "see_board", "items": "manage_project", "export": "export"}
"""What its holder must be allowed to do, for a key to do it."""
MARK = "tut_"
"""What a key begins with, so that it is known for one where it should not stand."""
LONGEST = 366


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is shown, once."""

    id: str
    secret: str


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What is known of a key afterwards."""

    id: str
    name: str
    prefix: str
    scopes: tuple[Scope, ...]
    made: int
    expires: int
    used: int | None
    """When it was last used, to within five minutes."""
    revoked: int | None


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """In whose name a request comes."""

    key: str
    """Its id: what the log says of where a change came from."""
    account: str
    project: str
    scopes: frozenset[Scope]


class Keys:
    """Making, showing, taking back and looking at keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def make(
        self, by: str, project: str, name: str, scopes: Iterable[Scope], days: int = 90, *, origin: str = ""
    ) -> NewKey:
        """A new key; its secret is nowhere afterwards.

        Raises:
            Refusal: not theirs to make, a scope that is none, or a length that is none.
        """
        wanted = sorted(set(scopes))
        if not wanted or not set(wanted) <= set(get_args(Scope)):
            raise Refusal("bad_input", f"scopes: one or more of {', '.join(get_args(Scope))}")
        if not 1 <= days <= LONGEST:
            raise Refusal("bad_input", f"days {days}: 1 to {LONGEST}")
        name = clean(name.strip(), 100, "name")
        if not name:
            raise Refusal("bad_input", "name: none: say what it is for")
        prefix = secrets.token_hex(4)
        secret = f"{MARK}{prefix}_{secrets.token_urlsafe(32)}"

        def work(t: Transaction) -> NewKey:
            allowed(t.connection, by, project, "manage_project")
            id = new_id(t.at)
            row = {
                "id": id, "prefix": prefix, "key_hash": hash_of(secret), "project": project, "account": by,
                "name": name, "scopes": " ".join(wanted), "made": t.at, "expires": t.at + days * DAY, "used": None,
                "revoked": None,
            }  # fmt: skip
            t.connection.execute(insert(schema.api_key), row)
            detail = canonical({"key": id, "scopes": wanted})
            t.log(by, "key.make", project, detail=detail, origin=origin)
            return NewKey(id, secret)

        return self._database.write(work)

    def listed(self, by: str, project: str) -> tuple[KeyInfo, ...]:
        """The keys of a project, newest first, those that are worth nothing any more too.

        Raises:
            Refusal: not theirs to see.
        """

        def look(c: Any) -> tuple[KeyInfo, ...]:
            allowed(c, by, project, "manage_project")
            key = schema.api_key
            rows = c.execute(select(key).where(key.c.project == plain(project)).order_by(key.c.made.desc(), key.c.id))
            return tuple(
                KeyInfo(
                    row.id, row.name, MARK + row.prefix, tuple(row.scopes.split()), row.made, row.expires, row.used,
                    row.revoked,
                )
                for row in rows
            )  # fmt: skip

        return self._database.read(look)

    def revoke(self, by: str, project: str, key: str, *, origin: str = "") -> None:
        """From now on the key is worth nothing.

        Raises:
            Refusal: not theirs, or there is no such key.
        """

        def work(t: Transaction) -> None:
            allowed(t.connection, by, project, "manage_project")
            table = schema.api_key
            here = (table.c.id == plain(key)) & (table.c.project == project)
            if t.connection.scalar(select(table.c.id).where(here)) is None:
                raise Refusal("unknown", "there is no such key")
            t.connection.execute(update(table).where(here, table.c.revoked.is_(None)).values(revoked=t.at))
            t.log(by, "key.revoke", project, detail=canonical({"key": key}), origin=origin)

        self._database.write(work)

    def holder(self, secret: str, project: str, scope: Scope) -> KeyHolder:
        """In whose name a key speaks.

        Raises:
            Refusal: "sign_in": no such key, or it has ended; "unknown": it is another project's; "not_allowed": not for
                this, or its holder may not.
        """
        now, key = self._database.clock(), schema.api_key
        wanted = select(key, schema.account.c.status).where(
            key.c.key_hash == hash_of(secret), schema.account.c.id == key.c.account
        )
        row = self._database.read(lambda c: c.execute(wanted).one_or_none())
        if row is None or row.revoked is not None or now >= row.expires or row.status != "active":
            raise Refusal("sign_in", "this key is worth nothing: ask for another")
        if row.project != project:
            raise Refusal("unknown", "there is no such project")
        member = self._database.read(lambda c: membership(c, row.account, row.project))
        if scope not in row.scopes.split() or not member.may(NEEDS[scope]):
            raise Refusal("not_allowed", f"this key is not for {scope!r}")
        if row.used is None or now - row.used >= SEEN_EVERY:
            self._database.write(
                lambda t: t.connection.execute(update(key).where(key.c.id == row.id).values(used=t.at)) and None
            )
        return KeyHolder(row.id, row.account, row.project, frozenset(row.scopes.split()))
