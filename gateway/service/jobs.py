"""What a client may ask about its jobs."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.errors import Refusal, Unreadable
from gateway.jobs import transitions
from gateway.jobs.job import Attempt, Job
from gateway.jobs.transitions import Step
from gateway.jobs.view import JobView, instant, view
from gateway.service.record import JobUnknown, Record
from gateway.storage import deliveries as delivery_rows
from gateway.storage import events as event_rows
from gateway.storage import exchanges as exchange_rows
from gateway.storage import jobs as job_rows
from gateway.storage.batching import Batched
from gateway.storage.deliveries import Delivery, DeliveryAttempt
from gateway.storage.engine import Database
from gateway.storage.events import EventRow
from gateway.storage.exchanges import Exchange
from gateway.storage.jobs import JobFilter

_Shown = tuple[str, JobView | Unreadable]
"""Whose it is, and the job, or why it cannot be shown."""


class EventEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="event"):
    """A fact about the job."""

    at: str
    sequence: int
    type: str
    data: Raw
    """`{note?, state?, attempt?}`: what was said, and the fields that changed."""


class PlanEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="plan"):
    """Where the job was to be tried, as it was accepted."""

    at: str
    plan: Raw


class ExchangeEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="exchange"):
    """A call to a provider, redacted."""

    at: str
    attempt_id: str
    operation: str
    outcome: str
    duration_ms: int
    request: str
    status: int | None
    response: str


class DeliveryEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="delivery"):
    """A try to tell a receiver; `number` 0 is the moment its body was frozen."""

    at: str
    delivery_id: str
    webhook_id: str
    type: str
    url: str
    state: str
    number: int
    outcome: str
    status: int | None
    duration_ms: int
    detail: str


class OwnedJob(Struct, frozen=True, kw_only=True):
    """A job, and whose it is; for operators, who see those of all."""

    id: str
    owner: str
    job: JobView


class TimelineView(Struct, frozen=True, kw_only=True):
    """Everything that happened to a job, oldest first."""

    job_id: str
    entries: list[PlanEntry | EventEntry | ExchangeEntry | DeliveryEntry]


class Jobs:
    """Reads and cancels jobs; every call is bound to an owner, or to None for an operator.

    Args:
        database: where.
        clock: stamps cancels.
        record: carries cancels out.
    """

    def __init__(self, database: Database, clock: Clock, record: Record) -> None:
        self._database = database
        self._clock = clock
        self._record = record
        self._shown: Batched[str, _Shown | None] = Batched(self._show_batch, limit=256)

    async def show(self, job_id: str, *, owner: str | None) -> JobView:
        """Return a job.

        Raises:
            Refusal: `not-found`, the same for an unknown job and another owner's.
            Unreadable: it is there, and this version cannot read it.
        """
        found = await self._shown(job_id)
        if found is None or (owner is not None and found[0] != owner):
            raise not_found()
        if isinstance(found[1], Unreadable):
            raise found[1]
        return found[1]

    async def page(self, wanted: JobFilter) -> list[JobView]:
        """Return a page of jobs, newest first."""
        return await self._database.read(lambda connection: job_rows.list_views(connection, wanted))

    async def owned(self, wanted: JobFilter) -> list[OwnedJob]:
        """Return a page of jobs with their owners, newest first."""
        found = await self._database.read(lambda connection: job_rows.list_owned(connection, wanted))
        return [OwnedJob(id=job.id, owner=owner, job=job) for owner, job in found]

    async def show_owned(self, job_id: str) -> OwnedJob:
        """Return anybody's job, with its owner; raises like `show`."""
        job = await self.show(job_id, owner=None)
        owner = await self._database.read(lambda connection: job_rows.owner_of(connection, job_id))
        return OwnedJob(id=job_id, owner=owner or "", job=job)

    async def cancel(self, job_id: str, *, owner: str | None) -> JobView:
        """Ask for the job's end.

        Raises:
            Refusal: `not-found`, or `job-already-finished`.
        """

        def decide(job: Job, attempts: tuple[Attempt, ...]) -> Step:
            if owner is not None and job.owner != owner:
                raise not_found()
            if job.state.status.terminal:
                raise Refusal("job-already-finished", f"the job is {job.state.status} already")
            return transitions.cancel_requested(job, attempts, now_ms=self._clock.now_ms())

        try:
            recorded = await self._record.transition(job_id, decide)
        except JobUnknown as error:
            raise not_found() from error
        return view(recorded.after, recorded.attempts)

    async def timeline(self, job_id: str, *, owner: str | None) -> TimelineView:
        """Return everything that happened to a job.

        Raises:
            Refusal: `not-found`.
        """
        await self.show(job_id, owner=owner)
        return await self._database.read(lambda connection: _timeline(connection, job_id))

    async def _show_batch(self, job_ids: list[str]) -> list[_Shown | None]:
        wanted = set(job_ids)
        found = await self._database.read(lambda connection: job_rows.load_views(connection, sorted(wanted)))
        return [found.get(job_id) for job_id in job_ids]


def not_found() -> Refusal:
    """Make the one answer for jobs that do not exist and jobs that are somebody else's."""
    return Refusal("not-found", "there is no such job")


def _timeline(connection: Connection, job_id: str) -> TimelineView:
    frozen = {delivery.id: delivery for delivery in delivery_rows.load_of(connection, job_id)}
    entries: list[tuple[int, PlanEntry | EventEntry | ExchangeEntry | DeliveryEntry]] = [
        *((row.at_ms, one) for row in event_rows.load_of(connection, job_id) for one in _events(row)),
        *((row.at_ms, _exchange(row)) for row in exchange_rows.load_of(connection, job_id)),
        *((one.created_at_ms, _frozen(one)) for one in frozen.values()),
        *(
            (row.at_ms, _try(frozen[row.delivery_id], row))
            for row in delivery_rows.load_tries(connection, list(frozen))
        ),
    ]
    return TimelineView(
        job_id=job_id, entries=[entry for _, entry in sorted(entries, key=lambda pair: pair[0])]
    )


def _events(row: EventRow) -> list[PlanEntry | EventEntry]:
    """Show an event; the plan that is stored with a job's first stands by itself, before it."""
    at, data = instant(row.at_ms), row.data
    shown: list[PlanEntry | EventEntry] = []
    if row.sequence == 1:
        parts = msgspec.json.decode(data, type=dict[str, Raw])
        planned = parts.pop("plan", None)
        if planned is not None:
            shown.append(PlanEntry(at=at, plan=Raw(bytes(planned))))
            data = Raw(msgspec.json.encode(parts))
    return [*shown, EventEntry(at=at, sequence=row.sequence, type=row.type, data=data)]


def _exchange(row: Exchange) -> ExchangeEntry:
    return ExchangeEntry(
        at=instant(row.at_ms),
        attempt_id=row.attempt_id,
        operation=row.operation,
        outcome=row.outcome,
        duration_ms=row.duration_ms,
        request=row.request,
        status=row.status,
        response=row.response,
    )


def _frozen(delivery: Delivery) -> DeliveryEntry:
    frozen = DeliveryAttempt(
        delivery_id=delivery.id,
        number=0,
        at_ms=delivery.created_at_ms,
        duration_ms=0,
        outcome="frozen",
        status=None,
        detail="",
    )
    return _try(delivery, frozen)


def _try(delivery: Delivery, row: DeliveryAttempt) -> DeliveryEntry:
    return DeliveryEntry(
        at=instant(row.at_ms),
        delivery_id=delivery.id,
        webhook_id=delivery.message_id,
        type=delivery.type,
        url=delivery.url,
        state=delivery.state,
        number=row.number,
        outcome=row.outcome,
        status=row.status,
        duration_ms=row.duration_ms,
        detail=row.detail,
    )
