"""Submits leave the queue when they begin; turns are counted by account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

BEGINNING = sa.text("room IS NOT NULL AND leased_by IS NOT NULL")
BEGUN = sa.text("kind = 'submit' AND room IS NULL")


def upgrade() -> None:
    op.create_index(
        "ix_tasks_beginning", "tasks", ["room"], sqlite_where=BEGINNING, postgresql_where=BEGINNING
    )
    op.create_index(
        "ix_tasks_begun", "tasks", ["kind", "due_at_ms"], sqlite_where=BEGUN, postgresql_where=BEGUN
    )
    # What was begun by a version before this one, and may have been left behind.
    op.execute(
        "UPDATE tasks SET room = NULL WHERE kind = 'submit' AND EXISTS ("
        "SELECT 1 FROM attempts WHERE attempts.job_id = tasks.subject AND attempts.state = 'submitting')"
    )
    # Attempts from before 0005 have no start in their column, and an attempt in doubt has a slot by it.
    started = (
        "(document::json->>'started_at_ms')::bigint"
        if op.get_bind().dialect.name == "postgresql"
        else "json_extract(document, '$.started_at_ms')"
    )
    op.execute(
        f"UPDATE attempts SET started_at_ms = {started}"  # noqa: S608  (of the two texts above)
        " WHERE started_at_ms = 0 AND state IN ('submitting','accepted','unknown')"
    )
