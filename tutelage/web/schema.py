"""The tables of the labelling site, and the rules that the database itself keeps.

Judgements, their values, guidelines and the audit log are only ever added to: triggers refuse anything else. How many
people stand at an item is counted by triggers too, under a check that it is never more than were asked for. The
triggers are made by the migrations, which are the only way to make these tables.

Times are microseconds since 1970 (UTC) and are data: whatever needs an order has a sequence of its own. A number is a
row's key inside; an id is its name outside, and tells nothing.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

Number = BigInteger().with_variant(Integer, "sqlite")
"""A key that counts up; SQLite counts only in its own INTEGER."""

URGENT, ORDINARY, GOLD = 0, 1, 2
"""The lanes in which items wait. Gold items have a lane of their own, so that their share can be kept."""

WHOLE = -1
"""The slot of a value that is about the item, not about one of its responses."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _one_of(column: str, *values: str) -> CheckConstraint:
    return CheckConstraint(f"{column} in ({', '.join(repr(value) for value in values)})", name=column)


# People ---------------------------------------------------------------------------------------------------------------

account = Table(
    "account", metadata,
    Column("id", Text, primary_key=True),
    Column("email", Text),  # as written; empty once the person's data are erased
    Column("email_key", Text, unique=True),  # NFKC and casefolded: one person, one account
    Column("name", Text, nullable=False),
    Column("password", Text),
    Column("status", Text, nullable=False),
    Column("owner", Boolean, nullable=False),  # may make projects, and owns those they make
    Column("locale", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    _one_of("status", "active", "paused", "erased"),
)  # fmt: skip

session = Table(
    "session", metadata,
    Column("token_hash", Text, primary_key=True),
    Column("account", ForeignKey("account.id"), nullable=False, index=True),
    Column("created", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
    Column("origin", Text, nullable=False),  # a hash of the address
    Column("renew", Boolean, nullable=False),  # rights have changed: the token is to be replaced
)  # fmt: skip

invite = Table(
    "invite", metadata,
    Column("token_hash", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("project", ForeignKey("project.id")),
    Column("role", Text),
    Column("account", ForeignKey("account.id")),  # whose password a "reset" sets
    Column("made_by", ForeignKey("account.id")),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("used_by", ForeignKey("account.id")),
    _one_of("kind", "owner", "member", "reset"),
)  # fmt: skip

attempt = Table(
    "attempt", metadata,
    Column("key", Text, primary_key=True),  # a hash of an e-mail address, known or not, or of a network address
    Column("failures", Integer, nullable=False),
    Column("last", BigInteger, nullable=False),
)  # fmt: skip

# Projects -------------------------------------------------------------------------------------------------------------

project = Table(
    "project", metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("lease_seconds", Integer, nullable=False),
    Column("daily_cap", Integer),  # items that a person is given in a day (UTC); none: as many as they like
    Column("gold_share", Float, nullable=False),
    Column("settings", Text, nullable=False),  # JSON: what only the pages and the exports need
    Column("secret", Text, nullable=False),  # what draws are made with, so that nobody can foresee them
    Column("guideline", Integer, nullable=False),  # the version in force
    Column("guideline_major", Integer, nullable=False),  # the last version that everyone must have read
    Column("tail", BigInteger, nullable=False),  # the last place given out in the lines
    Column("created", BigInteger, nullable=False),
    CheckConstraint("gold_share >= 0 and gold_share <= 1", name="gold_share"),
    CheckConstraint("lease_seconds > 0", name="lease_seconds"),
    _one_of("state", "draft", "open", "paused", "closed"),
)  # fmt: skip

membership = Table(
    "membership", metadata,
    Column("project", ForeignKey("project.id"), primary_key=True),
    Column("account", ForeignKey("account.id"), primary_key=True, index=True),
    Column("role", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("guideline_read", Integer, nullable=False),  # the last version that they have confirmed
    # How far along each lane they are: what waits further on is all that they can still be given.
    Column("passed_urgent", BigInteger, nullable=False, server_default=text("0")),
    Column("passed_ordinary", BigInteger, nullable=False, server_default=text("0")),
    Column("passed_gold", BigInteger, nullable=False, server_default=text("0")),
    Column("given", BigInteger, nullable=False, server_default=text("0")),  # items, ever
    Column("day", Integer, nullable=False, server_default=text("0")),  # the last day (UTC, since 1970)
    Column("given_today", Integer, nullable=False, server_default=text("0")),  # and what was given on it
    _one_of("role", "owner", "manager", "reviewer", "annotator", "viewer"),
    _one_of("state", "training", "active", "paused"),
)  # fmt: skip

guideline = Table(
    "guideline", metadata,
    Column("project", ForeignKey("project.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("major", Boolean, nullable=False),  # to be read again before going on
    Column("text", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("author", ForeignKey("account.id"), nullable=False),
    Column("published", BigInteger, nullable=False),
)  # fmt: skip

question = Table(
    "question", metadata,
    Column("project", ForeignKey("project.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("place", SmallInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("dimension", Text, nullable=False),  # helpful, honest, harmless, overall, ... or one of their own
    Column("low", Integer),
    Column("high", Integer),
    Column("per_response", Boolean, nullable=False),
    Column("required", Boolean, nullable=False),
    _one_of("kind", "compare", "rank", "scale", "binary", "text"),
)  # fmt: skip

# What is judged -------------------------------------------------------------------------------------------------------

model = Table(
    "model", metadata,
    Column("number", Number, primary_key=True),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("licence", Text, nullable=False),
    Column("cut_off", Text, nullable=False),
    UniqueConstraint("name", "sha256"),
)  # fmt: skip

prompt = Table(
    "prompt", metadata,
    Column("number", Number, primary_key=True),
    Column("messages", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("split", Text, nullable=False),
    Column("sha256", Text, nullable=False, unique=True),
)  # fmt: skip

response = Table(
    "response", metadata,
    Column("number", Number, primary_key=True),
    Column("prompt", ForeignKey("prompt.number"), nullable=False),
    Column("model", ForeignKey("model.number")),
    Column("text", Text, nullable=False),
    Column("sampling", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    UniqueConstraint("prompt", "sha256"),
)  # fmt: skip

item = Table(
    "item", metadata,
    Column("number", Number, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("project", ForeignKey("project.id"), nullable=False),
    Column("prompt", ForeignKey("prompt.number"), nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("need", Integer, nullable=False),  # how many people are asked
    Column("taken", Integer, nullable=False, server_default=text("0")),  # how many hold it or have answered
    Column("done", Integer, nullable=False, server_default=text("0")),  # how many have answered
    Column("state", Text, nullable=False, server_default="open"),
    Column("gold", Text),  # JSON: the known answer
    Column("explanation", Text),
    Column("sampled", Text, nullable=False),  # how it was chosen: "all", "uniform", or the name of a rule
    Column("p_select", Float),  # with which probability
    Column("reading", Float),  # how many seconds it takes to read
    Column("longer", SmallInteger),  # which slot of two holds the longer response; none if they are as long
    CheckConstraint("0 <= done and done <= taken and taken <= need", name="overlap"),
    _one_of("state", "open", "closed"),
)  # fmt: skip
WAITING = "taken < need and state = 'open'"
Index(
    "ix_item_waiting", item.c.project, item.c.lane, item.c.position,
    unique=True, sqlite_where=text(WAITING), postgresql_where=text(WAITING),
)  # fmt: skip

item_response = Table(
    "item_response", metadata,
    Column("item", ForeignKey("item.number"), primary_key=True),
    Column("slot", SmallInteger, primary_key=True),
    Column("response", ForeignKey("response.number"), nullable=False),
)  # fmt: skip

# Judgements -----------------------------------------------------------------------------------------------------------

seat = Table(
    "seat", metadata,
    # One person's place at one item. The key is what keeps two tabs from being two people.
    Column("item", ForeignKey("item.number"), primary_key=True),
    Column("account", ForeignKey("account.id"), primary_key=True),
    Column("project", ForeignKey("project.id"), nullable=False),
    Column("state", Text, nullable=False),
    Column("token", Text, nullable=False, unique=True),
    Column("shown", Text, nullable=False),  # JSON: the slots in the order in which this person sees them
    Column("guideline", Integer, nullable=False),
    Column("granted", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("turn", BigInteger, nullable=False),  # which of the items given to this person it was
    Column("revision", Integer, nullable=False),  # the last judgement of this person about this item
    _one_of("state", "leased", "answered", "skipped"),
)  # fmt: skip
LEASED = "state = 'leased'"
Index("ix_seat_leases", seat.c.project, seat.c.expires, sqlite_where=text(LEASED), postgresql_where=text(LEASED))
Index("ix_seat_mine", seat.c.account, seat.c.project, sqlite_where=text(LEASED), postgresql_where=text(LEASED))

draft = Table(
    "draft", metadata,
    Column("item", ForeignKey("item.number"), primary_key=True),
    Column("account", ForeignKey("account.id"), primary_key=True),
    Column("body", Text, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("saved", BigInteger, nullable=False),
)  # fmt: skip

judgment = Table(
    "judgment", metadata,
    Column("number", Number, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("item", ForeignKey("item.number"), nullable=False),
    Column("account", ForeignKey("account.id"), nullable=False),
    Column("project", ForeignKey("project.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("guideline", Integer, nullable=False),
    Column("shown", Text, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("submitted", BigInteger, nullable=False),
    Column("active_ms", BigInteger, nullable=False),
    Column("client", Text, nullable=False),
    Column("idem", Text, nullable=False),
    Column("asked", Text, nullable=False),  # a hash of the request: the same key is the same request
    Column("reason", Text, nullable=False),  # why it was skipped
    Column("conflict_rule", Text, nullable=False),  # which rule decided where safety and helpfulness pull apart
    Column("note", Text, nullable=False),
    Column("digest", Text, nullable=False),  # of all that was said; the audit log holds the same
    UniqueConstraint("account", "idem"),
    UniqueConstraint("item", "account", "revision"),
    _one_of("kind", "answer", "correction", "skip", "retract"),
)  # fmt: skip
Index("ix_judgment_mine", judgment.c.account, judgment.c.project, judgment.c.number)
Index("ix_judgment_project", judgment.c.project, judgment.c.number)

judgment_value = Table(
    "judgment_value", metadata,
    Column("judgment", ForeignKey("judgment.number"), primary_key=True),
    Column("question", Text, primary_key=True),
    Column("slot", SmallInteger, primary_key=True),
    Column("num", Float),
    Column("text", Text),
    Column("cannot_tell", Text),
)  # fmt: skip

flag = Table(
    "flag", metadata,
    Column("id", Text, primary_key=True),
    Column("item", ForeignKey("item.number"), nullable=False),
    Column("account", ForeignKey("account.id"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    UniqueConstraint("item", "account", "reason"),
    _one_of("reason", "unsafe", "personal_data", "wrong_language", "broken"),
)  # fmt: skip

dialogue = Table(
    "dialogue", metadata,
    # One person's conversation with models. Its turns are items; what was said is the last one's prompt and choice.
    Column("id", Text, primary_key=True),
    Column("project", ForeignKey("project.id"), nullable=False),
    Column("account", ForeignKey("account.id"), nullable=False),
    Column("state", Text, nullable=False),
    Column("turns", Integer, nullable=False),  # that were begun
    Column("item", ForeignKey("item.number")),  # the last comparison; none: nothing is asked yet
    Column("idem", Text, nullable=False),  # the key of the request that it came by
    Column("draft", Text, nullable=False),  # what is being written
    Column("begun", BigInteger, nullable=False),
    _one_of("state", "open", "ended"),
)  # fmt: skip
OPEN = "state = 'open'"
Index(
    "ix_dialogue_open", dialogue.c.account, dialogue.c.project,
    unique=True, sqlite_where=text(OPEN), postgresql_where=text(OPEN),
)  # fmt: skip

# Trust ----------------------------------------------------------------------------------------------------------------

quiz = Table(
    "quiz", metadata,
    # What people answer before they judge; it stands apart from the items, whose answers are used.
    Column("project", ForeignKey("project.id"), primary_key=True),
    Column("place", SmallInteger, primary_key=True),
    Column("messages", Text, nullable=False),
    Column("responses", Text, nullable=False),  # JSON: a list of texts
    Column("gold", Text, nullable=False),  # JSON: the known answer, its seats being the responses as they stand
    Column("explanation", Text, nullable=False),
)  # fmt: skip

quiz_attempt = Table(
    "quiz_attempt", metadata,
    Column("project", ForeignKey("project.id"), primary_key=True),
    Column("account", ForeignKey("account.id"), primary_key=True),
    Column("number", SmallInteger, primary_key=True),
    Column("started", BigInteger, nullable=False),
    Column("finished", BigInteger),
    Column("said", Text, nullable=False),  # JSON: by the questions' places
    Column("right_answers", Integer, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("passed", Boolean, nullable=False),
)  # fmt: skip

set_aside = Table(
    "set_aside", metadata,
    # While it is not lifted, what this person said since then does not count.
    Column("id", Text, primary_key=True),
    Column("project", ForeignKey("project.id"), nullable=False),
    Column("account", ForeignKey("account.id"), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("made_by", ForeignKey("account.id"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("lifted_by", ForeignKey("account.id")),
    Column("lifted_at", BigInteger),
    Index("ix_set_aside_project_account", "project", "account"),
)  # fmt: skip

decision = Table(
    "decision", metadata,
    # What a reviewer says about an item; the last one counts. It is about slots: nothing was shuffled.
    Column("number", Number, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("item", ForeignKey("item.number"), nullable=False, index=True),
    Column("project", ForeignKey("project.id"), nullable=False),
    Column("account", ForeignKey("account.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("said", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    _one_of("kind", "decide", "send_back", "gold"),
)  # fmt: skip

snapshot = Table(
    "snapshot", metadata,
    # What people had said at one moment, as training takes it; it stays as it is.
    Column("number", Number, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("project", ForeignKey("project.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("header", Text, nullable=False),  # JSON: what was asked for, the questions, the guidelines
    Column("sha256", Text, nullable=False),  # of its lines
    Column("upto", BigInteger, nullable=False),  # the last judgement that it could hold
    Column("items", BigInteger, nullable=False),
    Column("answers", BigInteger, nullable=False),
    Column("parent", ForeignKey("snapshot.id")),
    Column("made_by", ForeignKey("account.id"), nullable=False),
    Column("at", BigInteger, nullable=False),
)  # fmt: skip

snapshot_part = Table(
    "snapshot_part", metadata,
    # Its lines, some hundreds at a time, compressed. They are put there before the snapshot is.
    Column("snapshot", Text, primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)  # fmt: skip

api_key = Table(
    "api_key", metadata,
    Column("id", Text, primary_key=True),
    Column("prefix", Text, nullable=False),  # its first letters, by which people know it
    Column("key_hash", Text, nullable=False, unique=True),
    Column("project", ForeignKey("project.id"), nullable=False, index=True),
    Column("account", ForeignKey("account.id"), nullable=False),  # in whose name it acts
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("made", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("used", BigInteger),
    Column("revoked", BigInteger),
)  # fmt: skip

# The log --------------------------------------------------------------------------------------------------------------

audit = Table(
    "audit", metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("content", Text, nullable=False),  # the hash of what the object then was
    Column("origin", Text, nullable=False),  # a hash of the address
    Column("prev", Text, nullable=False),
    Column("hash", Text, nullable=False),
)  # fmt: skip

chain = Table(
    "chain", metadata,
    # One row: where the log ends. Whoever writes holds it.
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
    CheckConstraint("one = 1", name="one"),
)  # fmt: skip
