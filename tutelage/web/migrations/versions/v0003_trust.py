"""What is known of an item before it is read, snapshots, and keys for programs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TABLES = ("snapshot", "snapshot_part", "api_key")
_APPEND_ONLY = ("snapshot", "snapshot_part")


def upgrade() -> None:
    op.add_column("item", sa.Column("reading", sa.Float(), nullable=True))
    op.add_column("item", sa.Column("longer", sa.SmallInteger(), nullable=True))
    op.create_index("ix_judgment_project", "judgment", ["project", "number"], unique=False)
    op.create_table(
        "snapshot",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("header", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("upto", sa.BigInteger(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("answers", sa.BigInteger(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_snapshot_project")),
        sa.ForeignKeyConstraint(["parent"], ["snapshot.id"], name=op.f("fk_snapshot_parent")),
        sa.ForeignKeyConstraint(["made_by"], ["account.id"], name=op.f("fk_snapshot_made_by")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_snapshot")),
        sa.UniqueConstraint("id", name=op.f("uq_snapshot_id")),
    )
    op.create_index("ix_snapshot_project", "snapshot", ["project"], unique=False)
    op.create_table(
        "snapshot_part",
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("snapshot", "place", name=op.f("pk_snapshot_part")),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=True),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["project.id"], name=op.f("fk_api_key_project")),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name=op.f("fk_api_key_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_key_key_hash")),
    )
    op.create_index("ix_api_key_project", "api_key", ["project"], unique=False)
    for table in _APPEND_ONLY:
        if op.get_bind().dialect.name == "postgresql":
            op.execute(
                f"create trigger {table}_kept before update or delete or truncate on {table} "
                "for each statement execute function refuse_change()"
            )
            continue
        for event in ("update", "delete"):
            op.execute(
                f"create trigger {table}_no_{event} before {event} on {table} begin "
                f"select raise(abort, '{table} is only ever added to'); end"
            )


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)
    op.drop_index("ix_judgment_project", "judgment")
    op.drop_column("item", "longer")
    op.drop_column("item", "reading")
