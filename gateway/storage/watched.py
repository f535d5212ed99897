"""Statements for those who watch jobs: how their jobs stand, in one look, and what there is to tell."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct
from sqlalchemy import Connection, bindparam, select

from gateway.storage.events import EventRow
from gateway.storage.tables import events, jobs


class Stamp(Struct, frozen=True):
    """What of a job moves."""

    sequence: int
    """The number of its latest event."""
    progress: float | None
    ended: bool


class JobLog(Struct, frozen=True, kw_only=True):
    """A job's log, with what its view needs besides: documents as they are stored."""

    job_id: str
    owner: str
    model: str
    created_at_ms: int
    simulated: bool
    estimated_micro_usd: int | None
    request: Raw
    metadata: Raw
    stamp: Stamp
    events: tuple[EventRow, ...]
    """Oldest first."""


_MOVING = (jobs.c.id, jobs.c.sequence, jobs.c.progress, jobs.c.finished_at_ms)
_LOOK = select(*_MOVING).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
_JOBS = select(
    *_MOVING,
    jobs.c.owner,
    jobs.c.model,
    jobs.c.created_at_ms,
    jobs.c.simulated,
    jobs.c.estimated_micro_usd,
    jobs.c.request,
    jobs.c.metadata,
).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
_EVENTS = (
    select(events)
    .where(events.c.job_id.in_(bindparam("ids", expanding=True)))
    .order_by(events.c.job_id, events.c.sequence)
)


def look(connection: Connection, job_ids: Sequence[str]) -> dict[str, Stamp]:
    """Tell how these jobs stand; unknown ids are left out."""
    return {
        job_id: Stamp(sequence, progress, finished_at_ms is not None)
        for job_id, sequence, progress, finished_at_ms in connection.execute(_LOOK, {"ids": list(job_ids)})
    }


def load_logs(connection: Connection, job_ids: Sequence[str]) -> dict[str, JobLog]:
    """Read the logs of these jobs; unknown ids are left out."""
    asked = {"ids": list(job_ids)}
    # The jobs first: where two statements do not see one snapshot, the log is then the newer of the two.
    rows = connection.execute(_JOBS, asked).all()
    logged: dict[str, list[EventRow]] = {}
    for row in connection.execute(_EVENTS, asked):
        logged.setdefault(row.job_id, []).append(
            EventRow(
                job_id=row.job_id,
                sequence=row.sequence,
                at_ms=row.at_ms,
                type=row.type,
                data=msgspec.Raw(row.data.encode()),
            )
        )
    return {
        row.id: JobLog(
            job_id=row.id,
            owner=row.owner,
            model=row.model,
            created_at_ms=row.created_at_ms,
            simulated=row.simulated,
            estimated_micro_usd=row.estimated_micro_usd,
            request=msgspec.Raw(row.request.encode()),
            metadata=msgspec.Raw(row.metadata.encode()),
            stamp=Stamp(row.sequence, row.progress, row.finished_at_ms is not None),
            events=tuple(logged.get(row.id, ())),
        )
        for row in rows
    }
