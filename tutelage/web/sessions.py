"""Who is signed in, and how they prove who they are.

Of sessions and passwords only hashes are kept. A wrong password and an unknown person look and cost the same, and both
are slowed down the same way.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from tutelage.errors import MissingExtraError

try:
    import argon2
except ModuleNotFoundError:
    raise MissingExtraError("argon2-cffi", "label", "the labelling site") from None

from tutelage.web import passwords, schema
from tutelage.web.database import Database, Transaction
from tutelage.web.prepared import Prepared
from tutelage.web.refusal import Refusal

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
SESSION_LASTS = 14 * DAY
SESSION_IDLES = 12 * HOUR
SEEN_EVERY = 5 * MINUTE
"""How exactly it is known when a session was last used: noting it is a write."""
FREE_FAILURES = {"account": 5, "address": 20}
"""So many wrong passwords in a row cost no waiting; a whole office may share one address."""
LONGEST_WAIT = 15 * MINUTE
FORGET_AFTER = DAY

HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""Source: OWASP Password Storage Cheat Sheet: argon2id, 19 MiB, two passes, one lane."""
_AT_ONCE = threading.BoundedSemaphore(2)
"""How many passwords are hashed at a time: a hundred would need 2 GB."""


@dataclass(frozen=True, slots=True)
class Session:
    """Someone who is signed in."""

    token: str
    """The secret in their cookie. It is nowhere in the database."""
    account: str
    name: str
    owner: bool
    locale: str
    renew: bool = False
    """Their rights have changed: call `Sessions.renew` and set the new token."""

    @property
    def csrf(self) -> str:
        """What each of their forms must bring back; it says nothing about the token."""
        return hashlib.sha256(f"csrf:{self.token}".encode()).hexdigest()

    def brings(self, csrf: str) -> bool:
        """Whether a form comes from a page of this session."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())


class Sessions:
    """Signing in and out."""

    def __init__(self, database: Database, hasher: argon2.PasswordHasher = HASHER) -> None:
        self._database = database
        self._hasher = hasher
        # What an unknown person's password is compared with, so that it takes as long.
        self._nobody = hasher.hash(secrets.token_urlsafe())

    def sign_in(self, email: str, password: str, *, address: str = "", old: str = "") -> Session:
        """A new session, whose token nobody has seen before.

        Args:
            address: where they come from; only a hash is kept.
            old: the token that their browser still has; its session ends.

        Raises:
            Refusal: "sign_in", whatever was wrong; "slow_down" after too many of these, with the seconds to wait.
        """
        keys = {"account": _key("account", passwords.email_key(email)), "address": _key("address", address)}
        # Counted before the password is looked at: a hundred guesses at once are a hundred.
        self._database.write(lambda t: _count_attempt(t, keys))
        person = self._database.read(lambda c: by_email(c, email))
        if person is not None and (person.status != "active" or person.password is None):
            person = None
        right = self._matches(str(person.password) if person else self._nobody, password)
        if person is None or not right:
            who = str(person.id) if person else ""
            self._database.write(lambda t: t.log("", "session.refuse", who, origin=origin_of(address)))
            raise Refusal("sign_in", "the address or the password is wrong")
        anew = self.hash(password) if self._hasher.check_needs_rehash(str(person.password)) else None

        def work(t: Transaction) -> Session:
            now = t.connection.scalar(select(schema.account.c.password).where(schema.account.c.id == person.id))
            if now != person.password:
                raise Refusal("sign_in", "the password has just been changed: sign in again")
            t.connection.execute(delete(schema.attempt).where(schema.attempt.c.key == keys["account"]))
            _forgive(t, keys["address"])
            t.connection.execute(delete(schema.session).where(schema.session.c.token_hash == hash_of(old)))
            if anew is not None:
                changed = update(schema.account).where(schema.account.c.id == person.id).values(password=anew)
                t.connection.execute(changed)
            return begin(t, person.id, person.name, person.owner, person.locale, address)

        return self._database.write(work)

    def sign_out(self, token: str) -> None:
        """Ends a session; one that is none ends as well."""
        self._database.write(
            lambda t: t.connection.execute(delete(schema.session).where(schema.session.c.token_hash == hash_of(token)))
        )

    def session(self, token: str) -> Session:
        """Who a cookie belongs to.

        Raises:
            Refusal: nobody: it has ended, or never was.
        """
        return self._of(token, self._database.glance(_SESSION, {"hash": hash_of(token)}))

    async def found(self, token: str) -> Session:
        """`session`, while the event loop goes on; that they were here is noted in its own time.

        Raises:
            Refusal: nobody: it has ended, or never was.
        """
        return self._of(token, await self._database.peek(_SESSION, {"hash": hash_of(token)}), patient=False)

    def _of(self, token: str, row: Any, *, patient: bool = True) -> Session:
        now = self._database.clock()
        if row is None or row.status != "active" or now >= row.expires or now - row.seen >= SESSION_IDLES:
            raise Refusal("sign_in", "sign in first")
        if now - row.seen >= SEEN_EVERY:
            noted = self._database.submit(
                lambda t: t.connection.execute(
                    update(schema.session).where(schema.session.c.token_hash == hash_of(token)).values(seen=t.at)
                )
            )
            if patient:
                noted.result()
        return Session(token, row.account, row.name, bool(row.owner), row.locale, bool(row.renew))

    def renew(self, token: str) -> Session:
        """The same session under a new token; the old one is worth nothing any more.

        Raises:
            Refusal: the session has ended.
        """
        held = self.session(token)

        def work(t: Transaction) -> Session:
            fresh = secrets.token_urlsafe(32)
            changed = t.connection.execute(
                update(schema.session)
                .where(schema.session.c.token_hash == hash_of(token))
                .values(token_hash=hash_of(fresh), renew=False)
            )
            if changed.rowcount != 1:
                raise Refusal("sign_in", "sign in first")
            return Session(fresh, held.account, held.name, held.owner, held.locale)

        return self._database.write(work)

    def hash(self, password: str) -> str:
        with _AT_ONCE:
            return self._hasher.hash(passwords.normal(password))

    def _matches(self, hashed: str, password: str) -> bool:
        with _AT_ONCE:
            try:
                return self._hasher.verify(hashed, passwords.normal(password))
            except argon2.exceptions.VerifyMismatchError:
                return False


def hash_of(token: str) -> str:
    """What is kept of a token. It is long and random, so a plain hash is enough."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _key(kind: str, value: str) -> str:
    return f"{kind}:{hashlib.sha256(value.encode(errors='replace')).hexdigest()}"


def origin_of(address: str) -> str:
    return hashlib.sha256(address.encode(errors="replace")).hexdigest()[:16] if address else ""


def by_email(connection: Connection, email: str) -> Row[Any] | None:
    key = passwords.email_key(email)
    return connection.execute(select(schema.account).where(schema.account.c.email_key == key)).one_or_none()


def begin(t: Transaction, account: str, name: str, owner: bool, locale: str, address: str) -> Session:
    token = secrets.token_urlsafe(32)
    row = {
        "token_hash": hash_of(token), "account": account, "created": t.at, "seen": t.at,
        "expires": t.at + SESSION_LASTS, "origin": origin_of(address), "renew": False,
    }  # fmt: skip
    t.connection.execute(insert(schema.session), row)
    t.connection.execute(delete(schema.session).where(schema.session.c.expires <= t.at))
    t.log(account, "session.make", account, origin=origin_of(address))
    return Session(token, account, name, owner, locale)


def end_all(t: Transaction, account: str) -> None:
    t.connection.execute(delete(schema.session).where(schema.session.c.account == account))


def _count_attempt(t: Transaction, keys: dict[str, str]) -> None:
    """Counts one attempt under each key, or refuses it where the last ones were too many."""
    attempt = schema.attempt
    t.connection.execute(delete(attempt).where(attempt.c.last <= t.at - FORGET_AFTER))
    found = {row.key: row for row in t.connection.execute(select(attempt).where(attempt.c.key.in_(keys.values())))}
    for kind, key in keys.items():
        row = found.get(key)
        over = row.failures - FREE_FAILURES[kind] if row else -1
        if row and over >= 0:
            # A clock that went back must not lock anybody out for longer.
            waited = max(0, t.at - row.last) if row.last <= t.at else LONGEST_WAIT
            wait = min(LONGEST_WAIT, 2 ** min(over, 20) * SECOND) - waited
            if wait > 0:
                raise Refusal("slow_down", "too many attempts: wait a little", retry_after=-(-wait // SECOND))
    for key in keys.values():
        if key in found:
            again = update(attempt).where(attempt.c.key == key)
            t.connection.execute(again.values(failures=attempt.c.failures + 1, last=t.at))
        else:
            t.connection.execute(insert(attempt), {"key": key, "failures": 1, "last": t.at})


def _forgive(t: Transaction, key: str) -> None:
    """Takes back the one attempt that succeeded; the others from there still count."""
    attempt = schema.attempt
    here = (attempt.c.key == key) & (attempt.c.failures > 0)
    t.connection.execute(update(attempt).where(here).values(failures=attempt.c.failures - 1))


_SESSION = Prepared(
    select(
        schema.session.c.account, schema.session.c.seen, schema.session.c.expires, schema.session.c.renew,
        schema.account.c.name, schema.account.c.owner, schema.account.c.locale, schema.account.c.status,
    ).where(schema.session.c.token_hash == bindparam("hash"), schema.account.c.id == schema.session.c.account)
)  # fmt: skip
