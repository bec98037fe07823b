"""Conversations of people with models, in which they compare two answers at each turn."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPEN = sa.text("state = 'open'")


def upgrade() -> None:
    op.create_table(
        "dialogue",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("item", _NUMBER, nullable=True),
        sa.Column("idem", sa.Text(), nullable=False),
        sa.Column("draft", sa.Text(), nullable=False),
        sa.Column("begun", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state in ('open', 'ended')", name=op.f("ck_dialogue_state")),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_dialogue_project")),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_dialogue_account")),
        sa.ForeignKeyConstraint(["item"], ["item.number"], name=op.f("fk_dialogue_item")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dialogue")),
    )
    op.create_index(
        "ix_dialogue_open", "dialogue", ["account", "project"], unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN
    )


def downgrade() -> None:
    op.drop_table("dialogue")
