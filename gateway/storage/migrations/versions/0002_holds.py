"""Adoptions, the callback inbox, and an index on attempts that are not settled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

UNSETTLED = "state IN ('submitting','unknown')"


def upgrade() -> None:
    op.create_table(
        "adoptions",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.String(length=40), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "ref", name=op.f("pk_adoptions")),
    )
    op.create_table(
        "callback_inbox",
        sa.Column("attempt_id", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("received_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "digest", name=op.f("pk_callback_inbox")),
    )
    op.create_index(
        "ix_attempts_unsettled",
        "attempts",
        ["provider", "account"],
        unique=False,
        sqlite_where=sa.text(UNSETTLED),
        postgresql_where=sa.text(UNSETTLED),
    )
