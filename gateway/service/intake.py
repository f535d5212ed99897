"""Accepting a job: one durable transaction for the job, its first event and its submit task.

Concurrent requests share a transaction: fifty jobs cost three statements more than one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gateway.clock import Clock
from gateway.crash_points import Point, reach
from gateway.errors import FieldProblem, OutcomeUnknown, Refusal, StorageUnavailable
from gateway.ids import JOB, Ids
from gateway.jobs import history
from gateway.jobs.job import Job, JobRequest, JobState
from gateway.jobs.spend import Money, booked, day_of
from gateway.routing.plan import LeftOut, Plan, named, why_nobody
from gateway.routing.queue import room_of
from gateway.service.plans import Planner, PlanView
from gateway.service.quotas import Denied, Quotas, Room, refusal
from gateway.storage import events as event_rows
from gateway.storage import jobs as job_rows
from gateway.storage import queue as queue_rows
from gateway.storage import spend as spend_rows
from gateway.storage.batching import Batched
from gateway.storage.engine import Database
from gateway.storage.jobs import Kept
from gateway.storage.sealing import Sealer

ACCEPTED = "job.accepted"
PLACES = {
    "model_not_offered": "/model",
    "not_requested": "/routing/providers",
    "excluded": "/routing/exclude",
    "too_expensive": "/routing/max_cost_usd",
}
"""Where in a body the reason lies why an account is left out."""
PAUSES_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Between the looks for jobs that may have been stored, while the server comes back."""


class NewJob(Struct, frozen=True, kw_only=True):
    """What a caller asks for, checked."""

    owner: str
    request: JobRequest
    metadata: Mapping[str, str]
    webhook_secret: str | None
    """In clear; sealed before it is stored."""
    idempotency_key: str | None
    fingerprint: str
    traceparent: str | None = None
    """The trace it belongs to."""


class Accepted(Struct, frozen=True):
    """The job that answers the request."""

    job_id: str
    job: Job | None
    """None when it was accepted before and is replayed."""


Stored = Kept | Denied | None
"""What kept a job from being stored: one that has its key, or a limit; None when it is stored."""


class _Prepared(Struct, frozen=True):
    """A job with its rows, written down before it meets others: what cannot be, fails alone."""

    job: Job
    idempotency_key: str | None
    fingerprint: str
    row: dict[str, object]
    event: dict[str, object]


async def up_to_date() -> None:
    """Learn nothing: a worker in this process hears of the accounts with each claim."""


class Intake:
    """Accepts jobs.

    Args:
        database: where.
        clock: stamps them.
        ids: names them.
        sealer: seals their webhook secrets.
        planner: says who could run them.
        on_accepted: told of each job stored, by model.
        quotas: limits from the settings; owners' own are in the database.
        on_denied: told of each job that a limit kept out, by policy.
        spread: random numbers from 0 to 1, for what refused callers are told to wait.
        renew: learns what other processes found out of the accounts, where that is not done already.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        *,
        planner: Planner,
        on_accepted: Callable[[Job], None],
        quotas: Quotas,
        on_denied: Callable[[str], None],
        spread: Callable[[], float],
        renew: Callable[[], Awaitable[None]] = up_to_date,
    ) -> None:
        self._renew = renew
        self._database = database
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._planner = planner
        self._on_accepted = on_accepted
        self._quotas = quotas
        self._on_denied = on_denied
        self._spread = spread
        self._store = Batched(self._store_batch)

    async def accept(self, new: NewJob) -> Accepted:
        """Store a job, or find the one that this idempotency key already stored.

        Raises:
            Refusal: `no-provider` when none qualifies, `idempotency-key-reused` for another body under a
                known key; `quota-exceeded`, `spend-limit-reached` or `temporary-reduced-capacity` for a new
                job beyond a limit.
            StorageUnavailable: it is not known to be stored; the same key may be tried again.
        """
        await self._renew()
        job_id = self._ids.new(JOB)
        planned = self._planner.plan(new.request, seed=job_id)
        if not planned.candidates:
            kept = await self._kept(new)
            if kept is None:
                raise _nobody(planned)
            return _replayed(kept, new)
        prepared = self._prepare(job_id, new, planned)
        found = await self._store(prepared)
        if isinstance(found, Denied):
            self._on_denied(found.policy)
            raise refusal(found, spread=self._spread())
        if found is not None:
            return _replayed(found, new)
        reach(Point.ACCEPT_AFTER_COMMIT)
        self._on_accepted(prepared.job)
        return Accepted(prepared.job.id, prepared.job)

    def _prepare(self, job_id: str, new: NewJob, planned: Plan) -> _Prepared:
        now_ms = self._clock.now_ms()
        secret = new.webhook_secret
        first = planned.candidates[0]
        job = Job(
            id=job_id,
            owner=new.owner,
            created_at_ms=now_ms,
            request=new.request,
            metadata=new.metadata,
            state=JobState(deadline_at_ms=now_ms + new.request.deadline_s * 1000),
            sequence=1,
            estimated_micro_usd=first.estimated_micro_usd,
            simulated=first.simulated,
            room=room_of([one.place for one in planned.candidates]),
            traceparent=new.traceparent,
            sealed_webhook_secret=None if secret is None else self._sealer.seal(secret, bound_to=job_id),
        )
        key, fingerprint = new.idempotency_key, new.fingerprint
        row = job_rows.row_of(job, idempotency_key=key, fingerprint=fingerprint)
        shown = self._planner.show(new.request, planned)
        return _Prepared(job, key, fingerprint, row, _event_row(job, shown))

    async def _kept(self, new: NewJob) -> Kept | None:
        key = new.idempotency_key
        if key is None:
            return None
        found = await self._database.read(
            lambda connection: job_rows.find_kept(connection, [(new.owner, key)])
        )
        return found[0] if found else None

    async def _store_batch(self, batch: list[_Prepared]) -> list[Stored]:
        doubt = False
        for pause_s in (*PAUSES_S, None):
            try:
                insert = partial(_insert, batch=batch, doubt=doubt, quotas=self._quotas)
                return await self._database.write(insert, vital=False)
            except IntegrityError:
                # Another replica stored the same key between our look and our insert: look again.
                if pause_s is None:
                    raise
            except StorageUnavailable as error:
                # The answer to the commit was lost, so perhaps they are stored: whoever asks must hear so.
                doubt = doubt or isinstance(error, OutcomeUnknown)
                if pause_s is None or not doubt:
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError("unreachable")


def _insert(connection: Connection, *, batch: list[_Prepared], doubt: bool, quotas: Quotas) -> list[Stored]:
    """Store those whose key is free and that no limit keeps out; return, for each, what did.

    The owners are locked before keys are looked for: whoever waited for the lock then sees the job that the
    other stored under the same key, and is not refused for a place or the money that it has itself.

    With `doubt`, some or all may have been stored by an earlier try. A commit that comes through even later
    does no harm: the ids are the same, so that only one of the two can stand.
    """
    room = Room(connection, (one.job.owner for one in batch), quotas)
    stored = job_rows.find_stored(connection, [one.job.id for one in batch]) if doubt else frozenset[str]()
    keys = {
        (prepared.job.owner, prepared.idempotency_key)
        for prepared in batch
        if prepared.idempotency_key is not None
    }
    held = {
        (kept.owner, kept.idempotency_key): kept
        for kept in (job_rows.find_kept(connection, sorted(keys)) if keys else ())
    }
    outcome: list[Stored] = []
    fresh: list[_Prepared] = []
    for prepared in batch:
        key = prepared.idempotency_key
        kept = None if key is None else held.get((prepared.job.owner, key))
        if prepared.job.id in stored:
            outcome.append(None)
            continue
        denied = room.take(prepared.job) if kept is None else None
        outcome.append(kept or denied)
        if kept is None and denied is None:
            fresh.append(prepared)
            if key is not None:  # the same key twice in one batch: the later replays the earlier
                owner = prepared.job.owner
                held[owner, key] = Kept(prepared.job.id, owner, key, prepared.fingerprint)
    if fresh:
        # In one order, so that batches of two replicas with the same keys wait for each other one way only.
        fresh.sort(key=lambda one: (one.idempotency_key or "", one.job.owner))
        _insert_fresh(connection, fresh)
        reach(Point.ACCEPT_BEFORE_COMMIT)
    return outcome


def _insert_fresh(connection: Connection, fresh: list[_Prepared]) -> None:
    job_rows.insert_many(connection, [one.row for one in fresh])
    event_rows.insert_many(connection, [one.event for one in fresh])
    queue_rows.enter(connection, [queue_rows.entry_of(one.job, one.job.created_at_ms) for one in fresh])
    sums: dict[tuple[str, str, str], Money] = {}
    for job in (one.job for one in fresh):
        for provider, money in booked(job, ()).items():
            key = job.owner, day_of(job.created_at_ms), provider
            before = sums.get(key, Money())
            sums[key] = Money(before.jobs + money.jobs, before.reserved + money.reserved)
    spend_rows.add(connection, sums)


def _event_row(job: Job, planned: PlanView) -> dict[str, object]:
    data = {"plan": planned, "state": history.changed(None, job.state)}
    return {
        "job_id": job.id,
        "sequence": job.sequence,
        "at_ms": job.created_at_ms,
        "type": ACCEPTED,
        "data": msgspec.json.encode(data).decode(),
    }


def _replayed(kept: Kept, new: NewJob) -> Accepted:
    if kept.fingerprint != new.fingerprint:
        detail = f"this Idempotency-Key was used for {kept.job_id}, whose body was another one"
        raise Refusal("idempotency-key-reused", detail)
    return Accepted(kept.job_id, None)


def _nobody(planned: Plan) -> Refusal:
    reasons = why_nobody(planned) or "None is installed."
    errors = tuple(problem for one in planned.left_out for problem in _problems(one))
    return Refusal("no-provider", f"no provider can take this job. {reasons}", errors=errors)


def _problems(one: LeftOut) -> tuple[FieldProblem, ...]:
    """Say where in the body the reason lies."""
    if one.options:
        return tuple(
            FieldProblem("/" + problem.option.replace(".", "/"), f"{named(one)}: {problem.reason}")
            for problem in one.options
        )
    return (FieldProblem(PLACES.get(one.code, "/routing"), f"{named(one)}: {one.reason}"),)
