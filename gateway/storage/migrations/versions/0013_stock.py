"""When a success's outputs lapse, and which owners have a budget."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

LAPSES = sa.text("outputs_expire_at_ms IS NOT NULL")
BUDGETED = sa.text("budget_micro_usd IS NOT NULL")


def upgrade() -> None:
    # Empty for what ended before: it lapses within a day or so, and is not looked for.
    op.add_column("jobs", sa.Column("outputs_expire_at_ms", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_jobs_outputs_expire",
        "jobs",
        ["outputs_expire_at_ms"],
        sqlite_where=LAPSES,
        postgresql_where=LAPSES,
    )
    op.create_index(
        "ix_owners_budget",
        "owners",
        ["budget_micro_usd"],
        sqlite_where=BUDGETED,
        postgresql_where=BUDGETED,
    )
