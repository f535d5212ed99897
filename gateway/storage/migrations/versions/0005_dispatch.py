"""Turns of waiting jobs, the health of accounts, and who has a slot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004b"

WAITING = sa.text("room IS NOT NULL")
LIVE = sa.text("state IN ('submitting','accepted','unknown')")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("room", sa.Text(), nullable=False, server_default=""))
    op.add_column("attempts", sa.Column("started_at_ms", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index(
        "ix_attempts_live", "attempts", ["provider", "account"], sqlite_where=LIVE, postgresql_where=LIVE
    )
    for column in (
        sa.Column("owner", sa.Text()),
        sa.Column("room", sa.Text()),
        sa.Column("turn", sa.BigInteger()),
        sa.Column("rank", sa.Integer()),
    ):
        op.add_column("tasks", column)
    # What waits already waits on, in the order in which it came; a start gives it its room.
    op.execute(
        "UPDATE tasks SET owner = (SELECT owner FROM jobs WHERE id = subject), room = '', turn = 0, rank = 0"
        " WHERE kind = 'submit'"
    )
    for name, columns in (
        ("ix_tasks_room_turn", ["room", "turn"]),
        ("ix_tasks_owner_rank", ["owner", "room", "rank", "turn"]),
    ):
        op.create_index(name, "tasks", columns, sqlite_where=WAITING, postgresql_where=WAITING)
    op.create_table(
        "turns",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_turns"),
    )
    op.execute("INSERT INTO turns (owner, turn) VALUES ('', 0)")
    op.create_table(
        "accounts",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("health", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "account", name="pk_accounts"),
    )
