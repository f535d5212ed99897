"""What of the given-up is progress that is no news any more, and on how many days endpoints failed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

MISSED = sa.text("state = 'given_up' AND endpoint_id IS NOT NULL AND overtaken = 0")


def upgrade() -> None:
    column = sa.Column("overtaken", sa.Integer(), nullable=False, server_default="0")
    op.add_column("deliveries", column)
    op.create_index(
        "ix_deliveries_missed",
        "deliveries",
        ["endpoint_id", "id"],
        sqlite_where=MISSED,
        postgresql_where=MISSED,
    )
    # A version that asked by it finds the same by the index on all of an endpoint's deliveries.
    op.drop_index("ix_deliveries_given_up", "deliveries")
    op.add_column("webhook_endpoints", sa.Column("failed_ms", sa.BigInteger(), nullable=True))
