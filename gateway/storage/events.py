"""Statements on events, the log that replays to a job's row."""

from __future__ import annotations

from msgspec import Raw, Struct
from sqlalchemy import Connection, bindparam, insert, select

from gateway.storage.tables import events


class EventRow(Struct, frozen=True, kw_only=True):
    """One logged fact."""

    job_id: str
    sequence: int
    at_ms: int
    type: str
    data: Raw
    """`{note?, plan?, state?, attempt?}`: what was said, and the fields that changed."""


_INSERT = insert(events)
_OF = select(events).where(events.c.job_id == bindparam("job_id")).order_by(events.c.sequence)


def insert_many(connection: Connection, rows: list[dict[str, object]]) -> None:
    """Store events.

    Raises:
        IntegrityError: a job's sequence number is taken: another transaction changed the job.
    """
    connection.execute(_INSERT, rows)


def load_of(connection: Connection, job_id: str) -> list[EventRow]:
    """Read a job's log, oldest first."""
    return [
        EventRow(
            job_id=row.job_id,
            sequence=row.sequence,
            at_ms=row.at_ms,
            type=row.type,
            data=Raw(row.data.encode()),
        )
        for row in connection.execute(_OF, {"job_id": job_id})
    ]
