"""A job's log, told: each event with the job as it was then, in the very form of a webhook's body.

Whoever asks names the event that was told last; those who ask at the same time share a
query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Raw, Struct

from gateway.errors import Unreadable
from gateway.jobs.history import Changes, Replay
from gateway.jobs.view import JobView, compose, instant
from gateway.service.jobs import not_found
from gateway.service.messages import JobEvent
from gateway.storage.batching import Batched
from gateway.storage.engine import Database
from gateway.storage.events import EventRow
from gateway.storage.watched import JobLog, Stamp, load_logs
from providers.contract.status import JobStatus

BATCH = 64
"""Logs read in one query: some hundred kilobytes, usually."""


class Told(Struct, frozen=True):
    """An event, ready to be sent."""

    sequence: int
    type: str
    body: bytes
    """A `JobEvent` as JSON, in one line."""


class Story(Struct, frozen=True, kw_only=True):
    """What there is to tell of a job."""

    events: tuple[Told, ...]
    """Those after the one that was told last."""
    stamp: Stamp
    """How the job stood when they were read."""


class _Entry(Struct):
    """What an event's row holds of a job's history."""

    state: Changes | None = None
    attempt: Changes | None = None
    note: Mapping[str, object] = {}


_decode = msgspec.json.Decoder(_Entry).decode
_encode = msgspec.json.encode


class Stories:
    """Tells the logs of jobs.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read = Batched(self._read_batch, limit=BATCH)

    async def tell(self, job_id: str, *, owner: str | None, after: int) -> Story:
        """Tell what happened to a job after its event of that number; 0 tells everything.

        Args:
            job_id: the job.
            owner: whose it must be; None for an operator.
            after: the number of the event that was told last.

        Raises:
            Refusal: `not-found`, the same for an unknown job and another owner's.
            Unreadable: it is there, and this version cannot read it.
            StorageUnavailable: it may be tried again.
        """
        log = await self._read(job_id)
        if log is None or (owner is not None and log.owner != owner):
            raise not_found()
        return Story(events=tuple(told(log, after=after)), stamp=log.stamp)

    async def _read_batch(self, job_ids: list[str]) -> list[JobLog | None]:
        wanted = sorted(set(job_ids))
        found = await self._database.read(lambda connection: load_logs(connection, wanted))
        return [found.get(job_id) for job_id in job_ids]


def told(log: JobLog, *, after: int) -> Iterable[Told]:
    """Tell a log's events after one.

    Raises:
        Unreadable: a newer version wrote it, or it is damaged.
    """
    replay = Replay()
    for row in log.events:
        try:
            entry = _decode(row.data)
            replay.take(entry.state, entry.attempt)
            if row.sequence > after:
                yield _tell(row, _shown(log, row, entry, replay))
        except (msgspec.DecodeError, KeyError) as error:
            raise Unreadable(f"event {row.sequence} of {log.job_id} cannot be read: {error}") from error


def _tell(row: EventRow, shown: JobView) -> Told:
    event = JobEvent(type=row.type, timestamp=instant(row.at_ms), sequence=row.sequence, data=shown)
    return Told(row.sequence, row.type, _encode(event))


def _shown(log: JobLog, row: EventRow, entry: _Entry, replay: Replay) -> JobView:
    state = replay.state()
    return compose(
        job_id=log.job_id,
        model=log.model,
        simulated=log.simulated,
        created_at_ms=log.created_at_ms,
        progress=_progress(log, row, entry, state.status),
        estimated_micro_usd=log.estimated_micro_usd,
        state=state,
        request=Raw(bytes(log.request)),
        metadata=Raw(bytes(log.metadata)),
        attempts=replay.attempts(),
    )


def _progress(log: JobLog, row: EventRow, entry: _Entry, status: JobStatus) -> float | None:
    """Return the progress at an event: it changes without one, so that of the past little is known."""
    if row.sequence >= log.stamp.sequence:
        return log.stamp.progress
    noted = entry.note.get("progress")
    if row.type == "job.progress" and isinstance(noted, int | float):
        return float(noted)
    return 1.0 if status is JobStatus.SUCCEEDED else None
