"""What callbacks said, and what they made due."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("callback_inbox", sa.Column("body", sa.Text(), nullable=True))
    op.add_column("callback_inbox", sa.Column("due_at_ms", sa.BigInteger(), nullable=True))
