"""A sealed word, to tell whether the key is the one that secrets were sealed with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004b"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "secrets_canary",
        sa.Column("place", sa.String(length=40), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_secrets_canary")),
    )
