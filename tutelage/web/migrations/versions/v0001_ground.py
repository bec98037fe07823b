"""People, projects, items, judgements, and the log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TABLES = (
    "account",
    "attempt",
    "audit",
    "chain",
    "model",
    "project",
    "prompt",
    "guideline",
    "invite",
    "item",
    "membership",
    "question",
    "response",
    "session",
    "draft",
    "flag",
    "item_response",
    "judgment",
    "seat",
    "judgment_value",
)
"""In the order in which they refer to one another."""
_BEGINNING = "0" * 64
_APPEND_ONLY = ("audit", "judgment", "judgment_value", "guideline")

_SQLITE_COUNT = """
create trigger seat_{name} after {event} on seat begin
    update item set taken = taken + {taken}, done = done + {done} where number = {row}.item;
end"""

_POSTGRES_COUNT = """
create function count_seats() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        update item set taken = taken + (new.state <> 'skipped')::int, done = done + (new.state = 'answered')::int
            where number = new.item;
    elsif tg_op = 'DELETE' then
        update item set taken = taken - (old.state <> 'skipped')::int, done = done - (old.state = 'answered')::int
            where number = old.item;
    else
        update item set taken = taken + (new.state <> 'skipped')::int - (old.state <> 'skipped')::int,
            done = done + (new.state = 'answered')::int - (old.state = 'answered')::int where number = new.item;
    end if;
    return null;
end $$"""


def _triggers(dialect: str) -> list[str]:
    if dialect == "sqlite":
        counts = [
            ("in", "insert", "(new.state <> 'skipped')", "(new.state = 'answered')", "new"),
            ("out", "delete", "-(old.state <> 'skipped')", "-(old.state = 'answered')", "old"),
            (
                "change", "update of state", "(new.state <> 'skipped') - (old.state <> 'skipped')",
                "(new.state = 'answered') - (old.state = 'answered')", "new",
            ),
        ]  # fmt: skip
        return [
            *(
                f"create trigger {table}_no_{event} before {event} on {table} begin "
                f"select raise(abort, '{table} is only ever added to'); end"
                for table in _APPEND_ONLY
                for event in ("update", "delete")
            ),
            "create trigger seat_fixed before update of item, account on seat begin "
            "select raise(abort, 'a seat stays at its item'); end",
            *(
                _SQLITE_COUNT.format(name=name, event=event, taken=taken, done=done, row=row)
                for name, event, taken, done, row in counts
            ),
        ]
    return [
        "create function refuse_change() returns trigger language plpgsql as $$ begin "
        "raise exception '% is only ever added to', tg_table_name; end $$",
        "create function refuse_move() returns trigger language plpgsql as $$ begin "
        "raise exception 'a seat stays at its item'; end $$",
        _POSTGRES_COUNT,
        *(
            f"create trigger {table}_kept before update or delete or truncate on {table} "
            "for each statement execute function refuse_change()"
            for table in _APPEND_ONLY
        ),
        "create trigger seat_fixed before update of item, account on seat for each row execute function refuse_move()",
        "create trigger seat_counted after insert or delete or update of state on seat "
        "for each row execute function count_seats()",
    ]


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("email_key", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("owner", sa.Boolean(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status in ('active', 'paused', 'erased')", name=op.f("ck_account_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("email_key", name=op.f("uq_account_email_key")),
    )
    op.create_table(
        "attempt",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_attempt")),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("prev", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    op.create_table(
        "chain",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_chain_one")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_chain")),
    )
    op.create_table(
        "model",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("cut_off", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_model")),
        sa.UniqueConstraint("name", "sha256", name=op.f("uq_model_name_sha256")),
    )
    op.create_table(
        "project",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("lease_seconds", sa.Integer(), nullable=False),
        sa.Column("daily_cap", sa.Integer(), nullable=True),
        sa.Column("gold_share", sa.Float(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("guideline", sa.Integer(), nullable=False),
        sa.Column("guideline_major", sa.Integer(), nullable=False),
        sa.Column("tail", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state in ('draft', 'open', 'paused', 'closed')", name=op.f("ck_project_state")),
        sa.CheckConstraint("gold_share >= 0 and gold_share <= 1", name=op.f("ck_project_gold_share")),
        sa.CheckConstraint("lease_seconds > 0", name=op.f("ck_project_lease_seconds")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
    )
    op.create_table(
        "prompt",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("messages", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_prompt")),
        sa.UniqueConstraint("sha256", name=op.f("uq_prompt_sha256")),
    )
    op.create_table(
        "guideline",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("major", sa.Boolean(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("published", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["author"], ["account.id"], name=op.f("fk_guideline_author")),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_guideline_project")),
        sa.PrimaryKeyConstraint("project", "version", name=op.f("pk_guideline")),
    )
    op.create_table(
        "invite",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("made_by", sa.Text(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("used_by", sa.Text(), nullable=True),
        sa.CheckConstraint("kind in ('owner', 'member', 'reset')", name=op.f("ck_invite_kind")),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_invite_account")),
        sa.ForeignKeyConstraint(["made_by"], ["account.id"], name=op.f("fk_invite_made_by")),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_invite_project")),
        sa.ForeignKeyConstraint(["used_by"], ["account.id"], name=op.f("fk_invite_used_by")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_invite")),
    )
    op.create_table(
        "item",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("prompt", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("need", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("gold", sa.Text(), nullable=True),
        sa.Column("explanation", sa.Text(), nullable=True),
        sa.Column("sampled", sa.Text(), nullable=False),
        sa.Column("p_select", sa.Float(), nullable=True),
        sa.CheckConstraint("state in ('open', 'closed')", name=op.f("ck_item_state")),
        sa.CheckConstraint("0 <= done and done <= taken and taken <= need", name=op.f("ck_item_overlap")),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_item_project")),
        sa.ForeignKeyConstraint(["prompt"], ["prompt.number"], name=op.f("fk_item_prompt")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_item")),
        sa.UniqueConstraint("id", name=op.f("uq_item_id")),
    )
    op.create_index(
        "ix_item_waiting",
        "item",
        ["project", "lane", "position"],
        unique=True,
        sqlite_where=sa.text("taken < need and state = 'open'"),
        postgresql_where=sa.text("taken < need and state = 'open'"),
    )
    op.create_table(
        "membership",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("guideline_read", sa.Integer(), nullable=False),
        sa.Column("passed_urgent", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("passed_ordinary", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("passed_gold", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("given", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("day", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("given_today", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "role in ('owner', 'manager', 'reviewer', 'annotator', 'viewer')", name=op.f("ck_membership_role")
        ),
        sa.CheckConstraint("state in ('training', 'active', 'paused')", name=op.f("ck_membership_state")),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_membership_account")),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_membership_project")),
        sa.PrimaryKeyConstraint("project", "account", name=op.f("pk_membership")),
    )
    op.create_index(op.f("ix_membership_account"), "membership", ["account"], unique=False)
    op.create_table(
        "question",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("place", sa.SmallInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Text(), nullable=False),
        sa.Column("low", sa.Integer(), nullable=True),
        sa.Column("high", sa.Integer(), nullable=True),
        sa.Column("per_response", sa.Boolean(), nullable=False),
        sa.Column("required", sa.Boolean(), nullable=False),
        sa.CheckConstraint("kind in ('compare', 'rank', 'scale', 'binary', 'text')", name=op.f("ck_question_kind")),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_question_project")),
        sa.PrimaryKeyConstraint("project", "key", name=op.f("pk_question")),
    )
    op.create_table(
        "response",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("prompt", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("model", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("sampling", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.number"], name=op.f("fk_response_model")),
        sa.ForeignKeyConstraint(["prompt"], ["prompt.number"], name=op.f("fk_response_prompt")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_response")),
        sa.UniqueConstraint("prompt", "sha256", name=op.f("uq_response_prompt_sha256")),
    )
    op.create_table(
        "session",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("renew", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_session_account")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_session")),
    )
    op.create_index(op.f("ix_session_account"), "session", ["account"], unique=False)
    op.create_index(op.f("ix_session_expires"), "session", ["expires"], unique=False)
    op.create_table(
        "draft",
        sa.Column("item", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("saved", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_draft_account")),
        sa.ForeignKeyConstraint(["item"], ["item.number"], name=op.f("fk_draft_item")),
        sa.PrimaryKeyConstraint("item", "account", name=op.f("pk_draft")),
    )
    op.create_table(
        "flag",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("item", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "reason in ('unsafe', 'personal_data', 'wrong_language', 'broken')", name=op.f("ck_flag_reason")
        ),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_flag_account")),
        sa.ForeignKeyConstraint(["item"], ["item.number"], name=op.f("fk_flag_item")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flag")),
        sa.UniqueConstraint("item", "account", "reason", name=op.f("uq_flag_item_account_reason")),
    )
    op.create_table(
        "item_response",
        sa.Column("item", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("response", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["item"], ["item.number"], name=op.f("fk_item_response_item")),
        sa.ForeignKeyConstraint(["response"], ["response.number"], name=op.f("fk_item_response_response")),
        sa.PrimaryKeyConstraint("item", "slot", name=op.f("pk_item_response")),
    )
    op.create_table(
        "judgment",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("item", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("guideline", sa.Integer(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("submitted", sa.BigInteger(), nullable=False),
        sa.Column("active_ms", sa.BigInteger(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("idem", sa.Text(), nullable=False),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("conflict_rule", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.CheckConstraint("kind in ('answer', 'correction', 'skip', 'retract')", name=op.f("ck_judgment_kind")),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_judgment_account")),
        sa.ForeignKeyConstraint(["item"], ["item.number"], name=op.f("fk_judgment_item")),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_judgment_project")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_judgment")),
        sa.UniqueConstraint("account", "idem", name=op.f("uq_judgment_account_idem")),
        sa.UniqueConstraint("id", name=op.f("uq_judgment_id")),
        sa.UniqueConstraint("item", "account", "revision", name=op.f("uq_judgment_item_account_revision")),
    )
    op.create_index("ix_judgment_mine", "judgment", ["account", "project", "number"], unique=False)
    op.create_table(
        "seat",
        sa.Column("item", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("guideline", sa.Integer(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.CheckConstraint("state in ('leased', 'answered', 'skipped')", name=op.f("ck_seat_state")),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_seat_account")),
        sa.ForeignKeyConstraint(["item"], ["item.number"], name=op.f("fk_seat_item")),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_seat_project")),
        sa.PrimaryKeyConstraint("item", "account", name=op.f("pk_seat")),
        sa.UniqueConstraint("token", name=op.f("uq_seat_token")),
    )
    op.create_index(
        "ix_seat_leases",
        "seat",
        ["project", "expires"],
        unique=False,
        sqlite_where=sa.text("state = 'leased'"),
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_index(
        "ix_seat_mine",
        "seat",
        ["account", "project"],
        unique=False,
        sqlite_where=sa.text("state = 'leased'"),
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_table(
        "judgment_value",
        sa.Column("judgment", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("num", sa.Float(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("cannot_tell", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["judgment"], ["judgment.number"], name=op.f("fk_judgment_value_judgment")),
        sa.PrimaryKeyConstraint("judgment", "question", "slot", name=op.f("pk_judgment_value")),
    )
    op.execute(f"insert into chain (one, seq, hash) values (1, 0, '{_BEGINNING}')")
    for trigger in _triggers(op.get_bind().dialect.name):
        op.execute(sa.text(trigger.replace(":", "\\:")))


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for function in ("refuse_change", "refuse_move", "count_seats"):
            op.execute(f"drop function {function}()")
