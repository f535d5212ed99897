"""What the worker claims, and how it gives tasks back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.crash_points import Point, reach
from gateway.errors import LeaseLost, NotWanted
from gateway.jobs.job import Attempt, Job
from gateway.jobs.transitions import TaskKind
from gateway.routing.queue import Waiting as Head
from gateway.routing.queue import choose, free_in
from gateway.service.health import Healths
from gateway.storage import attempts as attempt_rows
from gateway.storage import deliveries as delivery_rows
from gateway.storage import endpoints as endpoint_rows
from gateway.storage import jobs as job_rows
from gateway.storage import keys as key_rows
from gateway.storage import queue as queue_rows
from gateway.storage import tasks as task_rows
from gateway.storage.batching import Batched
from gateway.storage.deliveries import Backlog, Delivery, DeliveryAttempt
from gateway.storage.endpoints import Endpoint, Reason
from gateway.storage.engine import Database
from gateway.storage.readable import load_readable
from gateway.storage.tasks import Claim, Due
from gateway.webhooks.endurance import disabled_for
from gateway.webhooks.outcome import Outcome

SUBMIT_KINDS = (TaskKind.SUBMIT,)
FOLLOW_KINDS = (TaskKind.POLL, TaskKind.CANCEL)
LOOK_KINDS = (TaskKind.RECONCILE,)
JOB_KINDS = (*SUBMIT_KINDS, *FOLLOW_KINDS, *LOOK_KINDS)
DELIVERY_KINDS = (TaskKind.DELIVER,)
SWEEP_LIMIT = 200
REHOUSED_AT_ONCE = 500


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
    endpoint: Endpoint | None = None
    """None: it goes to the job's own receiver."""
    lane: str = ""


class Kept(Struct, frozen=True):
    """Whether a try was logged, and what followed for its endpoint."""

    held: bool
    """False when the lease was lost, and nothing was written."""
    disabled: Reason | None = None


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
    endpoints: dict[str, int]
    """Webhook endpoints by state."""


class _Unchanged(Struct, frozen=True):
    due: Due
    progress: float | None


RoomOf = Callable[[str, int], int]
"""How many more deliveries of a lane may be taken, when so many may be of all."""

NO_LIMIT = 1_000_000


def _endless(_lane: str, left: int) -> int:
    return left


class Dispatch:
    """Leases tasks to one worker.

    Args:
        database: where.
        clock: says what is due.
        healths: which accounts have openings.
        holder: the worker's name, new at every start.
        lease_s: how long a claim holds without a heartbeat, seconds.
    """

    def __init__(
        self, database: Database, clock: Clock, healths: Healths, *, holder: str, lease_s: float
    ) -> None:
        self._healths = healths
        self._claimed_ms: int | None = None
        self._database = database
        self._clock = clock
        self._holder = holder
        self._lease_ms = round(lease_s * 1000)
        self._give_back = Batched(self._give_back_batch)

    async def claim_jobs(self, limit: int, kinds: Sequence[TaskKind] = JOB_KINDS) -> list[JobTask]:
        """Lease due tasks about jobs, of these kinds; submits as there are openings for them."""
        now_ms = self._clock.now_ms()  # here, not when the writer comes to it: the clock may jump meanwhile
        others = [kind for kind in kinds if kind is not TaskKind.SUBMIT]
        if TaskKind.SUBMIT in kinds:
            self._claimed_ms = now_ms

        def operation(connection: Connection) -> list[JobTask]:
            claims = self._claim_submits(connection, limit, now_ms) if TaskKind.SUBMIT in kinds else []
            if others and len(claims) < limit:
                claims += self._claim(connection, others, limit - len(claims), now_ms)
            # What cannot be read stays leased, and so is looked at again only when the lease has lapsed.
            found = load_readable(connection, [claim.subject for claim in claims])
            return [JobTask(claim, *found[claim.subject]) for claim in claims if claim.subject in found]

        # While the disk is full nothing new is bought; what was bought is followed.
        claimed = await self._database.write(operation, vital=TaskKind.SUBMIT not in kinds)
        if claimed:
            reach(Point.CLAIM_AFTER_COMMIT)
        return claimed

    def _claim_submits(self, connection: Connection, limit: int, now_ms: int) -> list[Claim]:
        """Lease those whose turn it is."""
        # First what somebody left behind in the midst of it, which may hold the last opening there is.
        begun = queue_rows.begun(connection, limit=limit, now_ms=now_ms, holder=self._holder)
        turns = self._next(connection, limit - len(begun), now_ms)
        if turns:
            queue_rows.serve(connection, turns[-1].turn)
        subjects = [*begun, *(one.job_id for one in turns)]
        if not subjects:
            return []
        claims = task_rows.claim_named(
            connection,
            {TaskKind.SUBMIT.value: subjects},
            now_ms=now_ms,
            until_ms=now_ms + self._lease_ms,
            holder=self._holder,
        )
        order = {subject: number for number, subject in enumerate(subjects)}
        return sorted(claims, key=lambda claim: order[claim.subject])

    def _next(self, connection: Connection, limit: int, now_ms: int) -> list[Head]:
        """Choose whose turn it is, each at an opening."""
        openings = self._healths.openings(connection)
        rooms = queue_rows.rooms(connection)
        heads: list[Head] = []
        for room in rooms:
            free = free_in(room, openings, most=limit)
            if free:
                heads += queue_rows.heads(connection, room, limit=free, now_ms=now_ms, holder=self._holder)
        if not heads:
            return []
        # Those claimed a moment ago take an opening each, though the store does not show it yet.
        limited = any(opening is not None for opening in openings.values())
        beginning = queue_rows.beginning(connection, now_ms=now_ms) if limited else []
        chosen = choose(heads, openings, most=limit, beginning=beginning)
        return queue_rows.most_urgent(connection, chosen, rooms, now_ms=now_ms, holder=self._holder)

    async def rehouse(self, room_of: Callable[[Job], str], *, alone: bool) -> int:
        """Let waiting jobs wait where they can be run by these settings; how many moved.

        Args:
            room_of: where, empty for nowhere.
            alone: whether there is no other worker, whose settings may let it run a job that these cannot.
        """
        moved, after = 0, ""
        while True:
            start = after

            def operation(connection: Connection, start: str = start) -> tuple[str | None, int]:
                housed = queue_rows.housed(connection, after=start, limit=REHOUSED_AT_ONCE)
                jobs = job_rows.load_many(connection, [job_id for job_id, _ in housed])
                rooms = {job_id: room_of(jobs[job_id]) for job_id, _ in housed if job_id in jobs}
                wrong = [
                    job_id
                    for job_id, room in housed
                    if rooms.get(job_id, room) != room and (rooms[job_id] or alone)
                ]
                for job_id in wrong:  # the job before its task, as everywhere
                    job_rows.house(connection, job_id, rooms[job_id])
                    queue_rows.move(connection, job_id, rooms[job_id])
                return housed[-1][0] if housed else None, len(wrong)

            last, wrong = await self._database.write(operation)
            moved += wrong
            if last is None:
                return moved
            after = last

    async def claim_deliveries(self, limit: int, room: RoomOf = _endless) -> list[DeliveryTask]:
        """Lease due deliveries, the longest due lane first.

        What is for an endpoint that is disabled, or deleted, is given up instead: its bytes are kept.

        Args:
            limit: most of them.
            room: how many more of a lane may be taken, when so many may be of all.
        """
        now_ms = self._clock.now_ms()

        def operation(connection: Connection) -> list[DeliveryTask]:
            found = self._due_deliveries(connection, limit, room, now_ms)
            if not found:
                return []
            claims = task_rows.claim_named(
                connection,
                {TaskKind.DELIVER.value: list(found)},
                now_ms=now_ms,
                until_ms=now_ms + self._lease_ms,
                holder=self._holder,
            )
            rows = delivery_rows.load_many(connection, [claim.subject for claim in claims])
            owners = {row.owner for row in rows.values() if row.endpoint_id is None}
            secrets = {owner: key_rows.owner_secret(connection, owner) for owner in owners}
            wanted = {row.endpoint_id for row in rows.values() if row.endpoint_id is not None}
            endpoints = endpoint_rows.load_many(connection, sorted(wanted))
            tasks: list[DeliveryTask] = []
            for claim in claims:
                row = rows.get(claim.subject)
                if row is None:
                    continue
                endpoint = endpoints.get(row.endpoint_id or "")
                if row.endpoint_id is not None and (endpoint is None or not endpoint.enabled):
                    task_rows.finish(connection, claim)
                    delivery_rows.settle(connection, row.id, state="given_up", at_ms=now_ms)
                    continue
                secret = secrets.get(row.owner)
                tasks.append(DeliveryTask(claim, row, secret, endpoint, found[claim.subject]))
            return tasks

        return await self._database.write(operation)

    def _due_deliveries(
        self, connection: Connection, limit: int, room: RoomOf, now_ms: int
    ) -> dict[str, str]:
        """Read what is to be claimed, with its lane."""
        due = task_rows.lanes(connection, now_ms=now_ms, holder=self._holder)
        found: dict[str, str] = {}
        for lane, at_ms in sorted(due.items(), key=lambda one: one[1]):
            left = limit - len(found)
            most = min(room(lane, left), left)
            if at_ms > now_ms or left <= 0:
                break
            if most > 0:
                subjects = task_rows.waiting_in(
                    connection, lane, limit=most, now_ms=now_ms, holder=self._holder
                )
                found |= dict.fromkeys(subjects, lane)
        return found

    async def next_delivery_ms(self, room: RoomOf = _endless) -> int | None:
        """When the next delivery may be claimed of a lane that has room for it; None: there is none."""
        now_ms = self._clock.now_ms()
        due = await self._database.read(
            lambda connection: task_rows.lanes(connection, now_ms=now_ms, holder=self._holder)
        )
        return min((at_ms for lane, at_ms in due.items() if room(lane, NO_LIMIT) > 0), default=None)

    async def next_due_ms(self, kinds: Sequence[TaskKind]) -> int | None:
        """When the next task of these kinds may be claimed that nobody holds, as far as time decides that.

        A submit that is due waits for its turn and for an opening, which other changes bring about.
        """
        # As of the last claim, unless the clock was set back since: what became due later was not looked at.
        now_ms = self._clock.now_ms()
        if self._claimed_ms is not None:
            now_ms = min(now_ms, self._claimed_ms)
        others = [kind for kind in kinds if kind is not TaskKind.SUBMIT]

        def operation(connection: Connection) -> list[int | None]:
            found = [task_rows.next_due_ms(connection, others)]
            if TaskKind.SUBMIT in kinds:
                found += [queue_rows.next_due_ms(connection, now_ms=now_ms), self._healths.reopens_ms()]
            return found

        known = await self._database.read(operation)
        return min((at_ms for at_ms in known if at_ms is not None), default=None)

    async def unchanged(self, due: Due, *, progress: float | None) -> bool:
        """Give a poll back that found no change, in one batch with others; False when the lease is lost."""
        return await self._give_back(_Unchanged(due, progress))

    async def heartbeat(self, claims: Sequence[Claim]) -> list[Claim]:
        """Lengthen the leases of all that is under way, and give this worker's lapsed ones back.

        Args:
            claims: everything that this worker is at.

        Returns:
            Those that are lost.
        """
        now_ms = self._clock.now_ms()

        def operation(connection: Connection) -> list[Claim]:
            lost = task_rows.extend(connection, claims, until_ms=now_ms + self._lease_ms)
            # Nobody else is given our lapsed leases by us: without this they would lie until we end.
            task_rows.release_lapsed(connection, holder=self._holder, now_ms=now_ms)
            return lost

        return await self._database.write(operation)

    async def confirm(
        self,
        claim: Claim,
        *,
        unless: Callable[[Job], str | None] | None = None,
        instead_of: TaskKind | None = None,
    ) -> None:
        """Make sure, right before something that must not happen twice, that the task is still ours.

        Lengthens its lease, and counts how long that took: a process that was stopped meanwhile, for longer
        than half a lease by either clock, cannot rely on the answer.

        Args:
            claim: the task.
            unless: says of the job as it stands why it must not happen; None lets it.
            instead_of: the job's task of this kind waits until the lease would end, and what somebody is
                finding out under it is not written any more: it may be untrue in a moment.

        Raises:
            LeaseLost: another worker holds the task, or may by now.
            NotWanted: what `unless` said.
            StorageUnavailable: it cannot be known just now.
        """
        began_ms, began_s = self._clock.now_ms(), self._clock.monotonic_s()
        until_ms = began_ms + self._lease_ms

        def operation(connection: Connection) -> list[Claim]:
            # Locked before its tasks, as everywhere.
            job = job_rows.load(connection, claim.subject, lock=instead_of is not None)
            reason = None if unless is None or job is None else unless(job)
            if reason is not None:
                raise NotWanted(reason)
            lost = task_rows.extend(connection, [claim], until_ms=until_ms)
            if instead_of is not None and not lost:
                task_rows.take_away(connection, instead_of, claim.subject, at_ms=until_ms)
            return lost

        if await self._database.write(operation):
            raise LeaseLost(f"another worker holds the {claim.kind} task of {claim.subject}")
        took_ms = max(self._clock.now_ms() - began_ms, (self._clock.monotonic_s() - began_s) * 1000)
        if took_ms > self._lease_ms / 2:
            raise LeaseLost(f"to extend the lease on {claim.subject} took {took_ms / 1000:.1f} s")

    async def shift_due(self, delta_ms: int, *, at_ms: int) -> int:
        """Move what waits along with the wall clock, which jumped; only where no other worker lives.

        Args:
            delta_ms: how far it jumped, milliseconds; negative is backward.
            at_ms: what it said right after that.

        Returns:
            How many tasks moved.
        """
        return await self._database.write(
            lambda connection: task_rows.shift_due(connection, delta_ms=delta_ms, at_ms=at_ms)
        )

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give tasks back untouched."""
        await self._database.write(lambda connection: task_rows.release(connection, claims))

    async def put_off(self, claim: Claim, *, due_at_ms: int) -> bool:
        """Give a task back whose step failed, due later; False when it was given back or lost before."""
        return await self._database.write(
            lambda connection: task_rows.put_off(connection, claim, due_at_ms=due_at_ms)
        )

    async def release_all(self) -> int:
        """Give back every lease there is: for a start that is certain to be the only worker."""
        return await self._database.write(task_rows.release_all)

    async def delivered(
        self,
        claim: Claim,
        tried: DeliveryAttempt,
        *,
        state: str | None,
        due: Due | None,
        endpoint_id: str | None = None,
    ) -> Kept:
        """Log a try, and settle the delivery or make it due again; its endpoint is judged by it.

        May be said again after `OutcomeUnknown`: a try that is there is not stored twice.

        Args:
            claim: the task.
            tried: what came of it.
            state: how the delivery is settled; None when it is not.
            due: when it is tried again; None when it is settled.
            endpoint_id: whose it is; None for a job's own receiver.
        """

        def operation(connection: Connection) -> Kept:
            closed = task_rows.finish(connection, claim) if due is None else task_rows.again(connection, due)
            if not closed:  # by somebody else, unless this very result was stored and its answer lost
                stands = delivery_rows.has_try(connection, tried)
                return Kept(stands, _disabled_by(connection, endpoint_id, tried) if stands else None)
            delivery_rows.add_try(connection, tried)
            if state is not None:
                delivery_rows.settle(connection, claim.subject, state=state, at_ms=tried.at_ms)
            return Kept(True, _judge(connection, endpoint_id, tried))

        return await self._database.write(operation)

    async def waiting(self, *, last_word_ms: int) -> Waiting:
        """Find what is past its deadline or its hold.

        Args:
            last_word_ms: a job that a provider accepted is left alone when its deadline was later than that.
        """
        now_ms = self._clock.now_ms()

        def operation(connection: Connection) -> Waiting:
            return Waiting(
                overdue=tuple(
                    job_rows.find_overdue(
                        connection, now_ms=now_ms, last_word_ms=last_word_ms, limit=SWEEP_LIMIT
                    )
                ),
                hold_expired=tuple(job_rows.find_hold_expired(connection, now_ms=now_ms, limit=SWEEP_LIMIT)),
            )

        return await self._database.read(operation)

    async def needed_accounts(self) -> dict[tuple[str, str], int]:
        """Count the jobs under way by the (provider, account) that may be working on them."""
        return await self._database.read(attempt_rows.count_needed)

    async def census(self) -> Census:
        """Count what is under way, for the gauges."""

        def operation(connection: Connection) -> Census:
            unfinished, held = job_rows.count_unfinished(connection)
            return Census(
                unfinished=unfinished,
                held=held,
                backlog=delivery_rows.backlog(connection),
                endpoints=endpoint_rows.count_by_state(connection),
            )

        return await self._database.read(operation)

    def _claim(
        self, connection: Connection, kinds: Sequence[TaskKind], limit: int, now_ms: int
    ) -> list[Claim]:
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
            advanced = [one.due.claim.subject for one in batch if one.progress is not None]
            if advanced:  # jobs before tasks, as everywhere
                job_rows.lock(connection, advanced)
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


def _judge(connection: Connection, endpoint_id: str | None, tried: DeliveryAttempt) -> Reason | None:
    """Note on an endpoint what a try says of it; why it is disabled by it, if it is."""
    if endpoint_id is None:
        return None
    if tried.outcome == Outcome.DELIVERED:
        endpoint_rows.well(connection, endpoint_id)
        return None
    endpoint = endpoint_rows.load(connection, endpoint_id, lock=True)
    if endpoint is None or not endpoint.enabled:
        return None
    since_ms = endpoint.failing_since_ms
    reason = disabled_for(tried.outcome, failing_since_ms=since_ms, at_ms=tried.at_ms)
    changes: dict[str, object] = {} if since_ms is not None else {"failing_since_ms": tried.at_ms}
    if reason is not None:
        changes |= endpoint_rows.disabling(reason, tried.at_ms)
    if changes:
        endpoint_rows.change(connection, endpoint_id, changes)
    return reason


def _disabled_by(connection: Connection, endpoint_id: str | None, tried: DeliveryAttempt) -> Reason | None:
    """Why this try, whose record stands, disabled its endpoint; None when it did not."""
    endpoint = None if endpoint_id is None else endpoint_rows.load(connection, endpoint_id)
    return None if endpoint is None or endpoint.disabled_at_ms != tried.at_ms else endpoint.disabled_reason
