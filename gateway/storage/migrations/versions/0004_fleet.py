"""Room for updates in place, and an early vacuum of what changes most (PostgreSQL)."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    # A job changes a few times in its life, its task dozens of times: rows that stay on their page need no
    # new index entries, and dead ones must not pile up where claims look.
    for table in ("jobs", "attempts", "tasks"):
        op.execute(f"ALTER TABLE {table} SET (fillfactor = 80)")
    op.execute("ALTER TABLE tasks SET (autovacuum_vacuum_scale_factor = 0.02)")
