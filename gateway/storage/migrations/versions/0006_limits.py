"""Limits of keys and owners, and the ledger of what their jobs cost."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from alembic import op

from gateway.jobs.job import Attempt
from gateway.jobs.spend import Money, book, day_of

revision = "0006"
down_revision = "0005"

UNFINISHED = "finished_at_ms IS NULL"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("rate", sa.Text()))
    op.add_column("owners", sa.Column("max_in_flight", sa.Integer()))
    op.add_column("owners", sa.Column("budget_micro_usd", sa.BigInteger()))
    op.create_index(
        "ix_jobs_unfinished_owner",
        "jobs",
        ["owner"],
        unique=False,
        sqlite_where=sa.text(UNFINISHED),
        postgresql_where=sa.text(UNFINISHED),
    )
    op.create_table(
        "limits",
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("arrival_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_limits"),
    )
    spend = op.create_table(
        "spend",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.Column("reserved_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("charged_micro_usd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "day", "provider", name="pk_spend"),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Few rows, changed all the time and in place.
        for table in ("limits", "spend"):
            op.execute(f"ALTER TABLE {table} SET (fillfactor = 50)")
    rows = _ledger(op.get_bind())
    if rows:
        op.bulk_insert(spend, rows)


def _ledger(connection: sa.Connection) -> list[dict[str, object]]:
    """Sum up the jobs there are, as the running gateway will go on to do."""
    decode = msgspec.json.Decoder(Attempt).decode
    attempts: dict[str, list[Attempt]] = {}
    for job_id, document in connection.execute(sa.text("SELECT job_id, document FROM attempts")):
        attempts.setdefault(job_id, []).append(decode(document))
    sums: dict[tuple[str, str, str], Money] = {}
    jobs = sa.text(
        "SELECT id, owner, created_at_ms, finished_at_ms, estimated_micro_usd, simulated FROM jobs"
    ).columns(simulated=sa.Boolean())
    for row in connection.execute(jobs):
        ended = row.finished_at_ms is not None
        booking = book(
            row.estimated_micro_usd, attempts.get(row.id, ()), ended=ended, simulated=row.simulated
        )
        for provider, money in booking.items():
            key = row.owner, day_of(row.created_at_ms), provider
            old = sums.get(key, Money())
            sums[key] = Money(
                old.jobs + money.jobs, old.reserved + money.reserved, old.charged + money.charged
            )
    return [
        {
            "owner": owner,
            "day": day,
            "provider": provider,
            "jobs": money.jobs,
            "reserved_micro_usd": money.reserved,
            "charged_micro_usd": money.charged,
        }
        for (owner, day, provider), money in sums.items()
    ]
