"""Webhook endpoints, and deliveries in lanes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

DELIVERS = sa.text("kind = 'deliver'")
OWN = sa.text("endpoint_id IS NULL")
OF_ENDPOINTS = sa.text("endpoint_id IS NOT NULL")
GIVEN_UP = sa.text("state = 'given_up' AND endpoint_id IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("signing", sa.String(length=8), nullable=False),
        sa.Column("sealed_secret", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text()),
        sa.Column("sealed_previous_secret", sa.Text()),
        sa.Column("previous_until_ms", sa.BigInteger()),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("disabled_reason", sa.String(length=16)),
        sa.Column("disabled_at_ms", sa.BigInteger()),
        sa.Column("failing_since_ms", sa.BigInteger()),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("signing IN ('hmac','ed25519')", name="ck_webhook_endpoints_signing"),
        sa.CheckConstraint("state IN ('enabled','disabled')", name="ck_webhook_endpoints_state"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoints"),
    )
    op.create_index("ix_webhook_endpoints_owner_id", "webhook_endpoints", ["owner", "id"])
    op.create_index("ix_webhook_endpoints_state", "webhook_endpoints", ["state"])
    op.add_column("deliveries", sa.Column("endpoint_id", sa.String(length=40)))
    op.create_index(
        "uq_deliveries_job_id_sequence_endpoint_id",
        "deliveries",
        ["job_id", "sequence", "endpoint_id"],
        unique=True,
    )
    op.create_index(
        "uq_deliveries_own",
        "deliveries",
        ["job_id", "sequence"],
        unique=True,
        sqlite_where=OWN,
        postgresql_where=OWN,
    )
    # Two endpoints may have one URL.
    op.drop_index("uq_deliveries_job_id_sequence_url", "deliveries")
    for name, where in (
        ("ix_deliveries_endpoint_id_id", OF_ENDPOINTS),
        ("ix_deliveries_given_up", GIVEN_UP),
    ):
        op.create_index(name, "deliveries", ["endpoint_id", "id"], sqlite_where=where, postgresql_where=where)
    op.add_column("tasks", sa.Column("lane", sa.Text(), nullable=False, server_default=""))
    _give_lanes()
    op.create_index(
        "ix_tasks_lane", "tasks", ["lane", "due_at_ms"], sqlite_where=DELIVERS, postgresql_where=DELIVERS
    )


def _give_lanes() -> None:
    """Give what waits to be delivered the host and port of its URL; URLs are stored in normal form."""
    connection = op.get_bind()
    waiting = connection.execute(
        sa.text(
            "SELECT deliveries.id, deliveries.url FROM tasks JOIN deliveries ON deliveries.id = tasks.subject"
            " WHERE tasks.kind = 'deliver'"
        )
    ).all()
    lanes = [{"of": row.id, "lane": row.url.partition("://")[2].partition("/")[0]} for row in waiting]
    if lanes:
        connection.execute(
            sa.text("UPDATE tasks SET lane = :lane WHERE kind = 'deliver' AND subject = :of"), lanes
        )
