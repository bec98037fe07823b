"""What the pages need: the qualifying quiz, decisions about items, and answers that are set aside."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TABLES = ("quiz", "quiz_attempt", "set_aside", "decision")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "quiz",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("place", sa.SmallInteger(), nullable=False),
        sa.Column("messages", sa.Text(), nullable=False),
        sa.Column("responses", sa.Text(), nullable=False),
        sa.Column("gold", sa.Text(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_quiz_project")),
        sa.PrimaryKeyConstraint("project", "place", name=op.f("pk_quiz")),
    )
    op.create_table(
        "quiz_attempt",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("finished", sa.BigInteger(), nullable=True),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("right_answers", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_quiz_attempt_project")),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_quiz_attempt_account")),
        sa.PrimaryKeyConstraint("project", "account", "number", name=op.f("pk_quiz_attempt")),
    )
    op.create_table(
        "set_aside",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("lifted_by", sa.Text(), nullable=True),
        sa.Column("lifted_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_set_aside_project")),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_set_aside_account")),
        sa.ForeignKeyConstraint(["made_by"], ["account.id"], name=op.f("fk_set_aside_made_by")),
        sa.ForeignKeyConstraint(["lifted_by"], ["account.id"], name=op.f("fk_set_aside_lifted_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_set_aside")),
    )
    op.create_index("ix_set_aside_project_account", "set_aside", ["project", "account"], unique=False)
    op.create_table(
        "decision",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("item", _NUMBER, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind in ('decide', 'send_back', 'gold')", name=op.f("ck_decision_kind")),
        sa.ForeignKeyConstraint(["item"], ["item.number"], name=op.f("fk_decision_item")),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_decision_project")),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_decision_account")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_decision")),
        sa.UniqueConstraint("id", name=op.f("uq_decision_id")),
    )
    op.create_index("ix_decision_item", "decision", ["item"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "create trigger decision_kept before update or delete or truncate on decision "
            "for each statement execute function refuse_change()"
        )
        return
    for event in ("update", "delete"):
        op.execute(
            f"create trigger decision_no_{event} before {event} on decision begin "
            "select raise(abort, 'decision is only ever added to'); end"
        )


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)
