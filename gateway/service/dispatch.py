"""Whose turn it is: what the worker claims of the tasks about jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from sqlalchemy import Connection

from gateway.crash_points import Point, reach
from gateway.jobs.job import Attempt, Job
from gateway.jobs.transitions import TaskKind
from gateway.routing.queue import Waiting, choose, free_in
from gateway.service.health import Healths
from gateway.service.leases import Leases
from gateway.storage import jobs as job_rows
from gateway.storage import queue as queue_rows
from gateway.storage import tasks as task_rows
from gateway.storage.readable import load_readable
from gateway.storage.tasks import Claim

SUBMIT_KINDS = (TaskKind.SUBMIT,)
FOLLOW_KINDS = (TaskKind.POLL, TaskKind.CANCEL)
LOOK_KINDS = (TaskKind.RECONCILE,)
JOB_KINDS = (*SUBMIT_KINDS, *FOLLOW_KINDS, *LOOK_KINDS)
REHOUSED_AT_ONCE = 500


class JobTask(Struct, frozen=True):
    """A claimed task about a job, and the job as it stood at the claim."""

    claim: Claim
    job: Job
    attempts: tuple[Attempt, ...]


class Dispatch:
    """Leases tasks about jobs to one worker.

    Args:
        leases: the worker's.
        healths: which accounts have openings.
    """

    def __init__(self, leases: Leases, healths: Healths) -> None:
        self._leases = leases
        self._database = leases.database
        self._clock = leases.clock
        self._healths = healths
        self._claimed_ms: int | None = None
        self._next_due: dict[tuple[TaskKind, ...], int | None] = {}
        self.submits_wait = True
        """Whether jobs waited for an opening when last looked for."""

    async def claim(self, limit: int, kinds: Sequence[TaskKind] = JOB_KINDS) -> list[JobTask]:
        """Lease due tasks about jobs, of these kinds; submits as there are openings for them.

        Unless there was no room for more, what is due after them is read in the same transaction, for
        `next_due_ms`, which is asked next.
        """
        now_ms = self._clock.now_ms()  # here, not when the writer comes to it: the clock may jump meanwhile
        others = [kind for kind in kinds if kind is not TaskKind.SUBMIT]
        if TaskKind.SUBMIT in kinds:
            self._claimed_ms = now_ms

        def operation(connection: Connection) -> tuple[list[JobTask], int | None]:
            claims = self._claim_submits(connection, limit, now_ms) if TaskKind.SUBMIT in kinds else []
            if others and len(claims) < limit:
                claims += self._claim(connection, others, limit - len(claims), now_ms)
            # What cannot be read stays leased, and so is looked at again only when the lease has lapsed.
            found = load_readable(connection, [claim.subject for claim in claims])
            tasks = [JobTask(claim, *found[claim.subject]) for claim in claims if claim.subject in found]
            # As many as there was room for: more may be due.
            due_ms = now_ms if len(claims) >= limit else self._read_next_due(connection, kinds, now_ms)
            return tasks, due_ms

        # While the disk is full nothing new is bought; what was bought is followed.
        claimed, self._next_due[tuple(kinds)] = await self._database.write(
            operation, vital=TaskKind.SUBMIT not in kinds
        )
        if claimed:
            reach(Point.CLAIM_AFTER_COMMIT)
        return claimed

    def _claim_submits(self, connection: Connection, limit: int, now_ms: int) -> list[Claim]:
        """Lease those whose turn it is."""
        # First what somebody left behind in the midst of it, which may hold the last opening there is.
        begun = queue_rows.begun(connection, limit=limit, now_ms=now_ms, holder=self._leases.holder)
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
            until_ms=self._leases.until_ms(now_ms),
            holder=self._leases.holder,
        )
        order = {subject: number for number, subject in enumerate(subjects)}
        return sorted(claims, key=lambda claim: order[claim.subject])

    def _next(self, connection: Connection, limit: int, now_ms: int) -> list[Waiting]:
        """Choose whose turn it is, each at an opening."""
        rooms = queue_rows.rooms(connection)
        self.submits_wait = bool(rooms)
        if not rooms:
            return []
        openings, holder = self._healths.openings(connection), self._leases.holder
        heads: list[Waiting] = []
        for room in rooms:
            free = free_in(room, openings, most=limit)
            if free:
                heads += queue_rows.heads(connection, room, limit=free, now_ms=now_ms, holder=holder)
        if not heads:
            return []
        # Those claimed a moment ago take an opening each, though the store does not show it yet.
        limited = any(opening is not None for opening in openings.values())
        beginning = queue_rows.beginning(connection, now_ms=now_ms) if limited else []
        chosen = choose(heads, openings, most=limit, beginning=beginning)
        return queue_rows.most_urgent(connection, chosen, rooms, now_ms=now_ms, holder=holder)

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

    async def next_due_ms(self, kinds: Sequence[TaskKind] = JOB_KINDS) -> int | None:
        """When the next task of these kinds may be claimed that nobody holds, as far as time decides that.

        A submit that is due waits for its turn and for an opening, which other changes bring about. Right
        after a claim it is as the claim found it.
        """
        if tuple(kinds) in self._next_due:
            return self._next_due.pop(tuple(kinds))
        # As of the last claim, unless the clock was set back since: what became due later was not looked at.
        now_ms = self._clock.now_ms()
        if self._claimed_ms is not None:
            now_ms = min(now_ms, self._claimed_ms)
        return await self._database.read(lambda connection: self._read_next_due(connection, kinds, now_ms))

    def _read_next_due(self, connection: Connection, kinds: Sequence[TaskKind], now_ms: int) -> int | None:
        found = [task_rows.next_due_ms(connection, [kind for kind in kinds if kind is not TaskKind.SUBMIT])]
        if TaskKind.SUBMIT in kinds:
            found += [queue_rows.next_due_ms(connection, now_ms=now_ms), self._healths.reopens_ms()]
        return min((at_ms for at_ms in found if at_ms is not None), default=None)

    def _claim(
        self, connection: Connection, kinds: Sequence[TaskKind], limit: int, now_ms: int
    ) -> list[Claim]:
        return task_rows.claim(
            connection,
            kinds=kinds,
            limit=limit,
            now_ms=now_ms,
            until_ms=self._leases.until_ms(now_ms),
            holder=self._leases.holder,
        )
