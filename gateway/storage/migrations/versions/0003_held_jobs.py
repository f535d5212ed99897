"""An index on held jobs, which the sweep looks for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

HELD = "hold_until_ms IS NOT NULL"


def upgrade() -> None:
    op.create_index(
        "ix_jobs_held",
        "jobs",
        ["hold_until_ms"],
        unique=False,
        sqlite_where=sa.text(HELD),
        postgresql_where=sa.text(HELD),
    )
