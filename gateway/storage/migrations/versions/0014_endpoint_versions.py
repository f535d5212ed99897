"""Which tries speak of an endpoint as it is now, and how many of them failed in a row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    for name in ("version", "failures"):
        column = sa.Column(name, sa.Integer(), nullable=False, server_default="0")
        op.add_column("webhook_endpoints", column)
