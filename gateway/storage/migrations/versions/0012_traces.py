"""The trace that a job belongs to, and what its receivers are told of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("traceparent", sa.String(55), nullable=True))
    op.add_column("deliveries", sa.Column("traceparent", sa.String(55), nullable=True))
