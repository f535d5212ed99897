"""Jobs with their attempts, as many as can be read.

A row may hold what this version does not know: a newer one wrote it while a deployment rolls, or it was
damaged. It must not keep the others from their work, so it is left out here, and the log names it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from gateway.errors import Unreadable
from gateway.jobs.job import Attempt, Job
from gateway.storage import attempts as attempt_rows
from gateway.storage import jobs as job_rows
from gateway.telemetry import get_logger

_log = get_logger("gateway.storage")

Found = dict[str, tuple[Job, tuple[Attempt, ...]]]


def load_readable(connection: Connection, job_ids: Sequence[str]) -> Found:
    """Read these jobs and their attempts, by id; unknown ids and what cannot be read are left out."""
    try:
        return _load(connection, job_ids)
    except Unreadable:  # one of them: which, only a look at each tells
        found: Found = {}
        for job_id in job_ids:
            try:
                found |= _load(connection, [job_id])
            except Unreadable as error:
                _log.error("storage.unreadable", job_id=job_id, error=str(error))
        return found


def _load(connection: Connection, job_ids: Sequence[str]) -> Found:
    jobs, attempts = job_rows.load_many(connection, job_ids), attempt_rows.load_of(connection, job_ids)
    return {job_id: (job, attempts.get(job_id, ())) for job_id, job in jobs.items()}
