"""What the worker claims, and how it gives tasks back."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.jobs.job import Attempt, Job
from gateway.jobs.transitions import TaskKind
from gateway.storage import attempts as attempt_rows
from gateway.storage import deliveries as delivery_rows
from gateway.storage import jobs as job_rows
from gateway.storage import keys as key_rows
from gateway.storage import tasks as task_rows
from gateway.storage.batching import Batched
from gateway.storage.deliveries import Backlog, Delivery, DeliveryAttempt
from gateway.storage.engine import Database
from gateway.storage.tasks import Claim, Due

SUBMIT_KINDS = (TaskKind.SUBMIT,)
FOLLOW_KINDS = (TaskKind.POLL, TaskKind.CANCEL)
JOB_KINDS = (*SUBMIT_KINDS, *FOLLOW_KINDS)
DELIVERY_KINDS = (TaskKind.DELIVER,)
SWEEP_LIMIT = 200


class JobTask(Struct, frozen=True):
    """A claimed task about a job, and the job as it stood at the claim."""

    claim: Claim
    job: Job
    attempts: tuple[Attempt, ...]


class DeliveryTask(Struct, frozen=True):
    """A claimed delivery, with its owner's sealed secret."""

    claim: Claim
    delivery: Delivery
    owner_sealed_secret: str | None


class Waiting(Struct, frozen=True, kw_only=True):
    """What is to be swept now."""

    overdue: tuple[str, ...]
    hold_expired: tuple[str, ...]


class Census(Struct, frozen=True, kw_only=True):
    """What is under way in the whole store."""

    unfinished: dict[tuple[str | None, str], int]
    """Jobs by (provider, status)."""
    held: int
    backlog: Backlog


class _Unchanged(Struct, frozen=True):
    due: Due
    progress: float | None


class Dispatch:
    """Leases tasks to one worker.

    Args:
        database: where.
        clock: says what is due.
        holder: the worker's name, new at every start.
        lease_s: how long a claim holds without a heartbeat, seconds.
    """

    def __init__(self, database: Database, clock: Clock, *, holder: str, lease_s: float) -> None:
        self._database = database
        self._clock = clock
        self._holder = holder
        self._lease_ms = round(lease_s * 1000)
        self._give_back = Batched(self._give_back_batch)

    async def claim_jobs(self, limit: int, kinds: Sequence[TaskKind] = JOB_KINDS) -> list[JobTask]:
        """Lease due tasks about jobs, of these kinds."""

        def operation(connection: Connection) -> list[JobTask]:
            claims = self._claim(connection, kinds, limit)
            subjects = [claim.subject for claim in claims]
            jobs = job_rows.load_many(connection, subjects)
            attempts = attempt_rows.load_of(connection, subjects)
            return [
                JobTask(claim, jobs[claim.subject], attempts.get(claim.subject, ()))
                for claim in claims
                if claim.subject in jobs
            ]

        return await self._database.write(operation)

    async def claim_deliveries(self, limit: int) -> list[DeliveryTask]:
        """Lease due deliveries."""

        def operation(connection: Connection) -> list[DeliveryTask]:
            claims = self._claim(connection, DELIVERY_KINDS, limit)
            rows = delivery_rows.load_many(connection, [claim.subject for claim in claims])
            owners = {row.owner for row in rows.values()}
            secrets = {owner: key_rows.owner_secret(connection, owner) for owner in owners}
            return [
                DeliveryTask(claim, rows[claim.subject], secrets[rows[claim.subject].owner])
                for claim in claims
                if claim.subject in rows
            ]

        return await self._database.write(operation)

    async def next_due_ms(self, kinds: Sequence[TaskKind]) -> int | None:
        """When the next task of these kinds is due that nobody holds."""
        return await self._database.read(lambda connection: task_rows.next_due_ms(connection, kinds))

    async def unchanged(self, due: Due, *, progress: float | None) -> bool:
        """Give a poll back that found no change, in one batch with others; False when the lease is lost."""
        return await self._give_back(_Unchanged(due, progress))

    async def heartbeat(self, claims: Sequence[Claim]) -> list[Claim]:
        """Lengthen the leases of tasks under way; returns those that are lost."""
        until_ms = self._clock.now_ms() + self._lease_ms
        return await self._database.write(
            lambda connection: task_rows.extend(connection, claims, until_ms=until_ms)
        )

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give tasks back untouched."""
        await self._database.write(lambda connection: task_rows.release(connection, claims))

    async def release_all(self) -> int:
        """Give back every lease there is: for a start that is certain to be the only worker."""
        return await self._database.write(task_rows.release_all)

    async def delivered(
        self, claim: Claim, tried: DeliveryAttempt, *, state: str | None, due: Due | None
    ) -> bool:
        """Log a try, and settle the delivery or make it due again; False when the lease is lost."""

        def operation(connection: Connection) -> bool:
            closed = task_rows.finish(connection, claim) if due is None else task_rows.again(connection, due)
            if not closed:
                return False
            delivery_rows.add_try(connection, tried)
            if state is not None:
                delivery_rows.settle(connection, claim.subject, state=state, at_ms=tried.at_ms)
            return True

        return await self._database.write(operation)

    async def waiting(self) -> Waiting:
        """Find what is past its deadline or its hold."""
        now_ms = self._clock.now_ms()

        def operation(connection: Connection) -> Waiting:
            return Waiting(
                overdue=tuple(job_rows.find_overdue(connection, now_ms=now_ms, limit=SWEEP_LIMIT)),
                hold_expired=tuple(job_rows.find_hold_expired(connection, now_ms=now_ms, limit=SWEEP_LIMIT)),
            )

        return await self._database.read(operation)

    async def census(self) -> Census:
        """Count what is under way, for the gauges."""

        def operation(connection: Connection) -> Census:
            unfinished, held = job_rows.count_unfinished(connection)
            return Census(unfinished=unfinished, held=held, backlog=delivery_rows.backlog(connection))

        return await self._database.read(operation)

    def _claim(self, connection: Connection, kinds: Sequence[TaskKind], limit: int) -> list[Claim]:
        now_ms = self._clock.now_ms()
        return task_rows.claim(
            connection,
            kinds=kinds,
            limit=limit,
            now_ms=now_ms,
            until_ms=now_ms + self._lease_ms,
            holder=self._holder,
        )

    async def _give_back_batch(self, batch: list[_Unchanged]) -> list[bool]:
        def operation(connection: Connection) -> list[bool]:
            held = [task_rows.again(connection, one.due) for one in batch]
            moved = [
                (one.due.claim.subject, one.progress)
                for one, kept in zip(batch, held, strict=True)
                if kept and one.progress is not None
            ]
            if moved:
                job_rows.save_progress(connection, moved)
            return held

        return await self._database.write(operation)
