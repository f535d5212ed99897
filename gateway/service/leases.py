"""How a worker holds what it claimed, and gives it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.errors import LeaseLost, NotWanted
from gateway.jobs.job import Job
from gateway.jobs.transitions import TaskKind
from gateway.storage import jobs as job_rows
from gateway.storage import tasks as task_rows
from gateway.storage.batching import Batched
from gateway.storage.engine import Database
from gateway.storage.tasks import Claim, Due


class _Unchanged(Struct, frozen=True):
    due: Due
    progress: float | None


class Leases:
    """What one worker holds.

    Args:
        database: where.
        clock: says what is due.
        holder: the worker's name, new at every start.
        lease_s: how long a claim holds without a heartbeat, seconds.
    """

    def __init__(self, database: Database, clock: Clock, *, holder: str, lease_s: float) -> None:
        self.database = database
        self.clock = clock
        self.holder = holder
        self._lease_ms = round(lease_s * 1000)
        self._give_back = Batched(self._give_back_batch)

    def until_ms(self, now_ms: int) -> int:
        """Until when a lease holds that begins now."""
        return now_ms + self._lease_ms

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
        now_ms = self.clock.now_ms()

        def operation(connection: Connection) -> list[Claim]:
            lost = task_rows.extend(connection, claims, until_ms=self.until_ms(now_ms))
            # Nobody else is given our lapsed leases by us: without this they would lie until we end.
            task_rows.release_lapsed(connection, holder=self.holder, now_ms=now_ms)
            return lost

        return await self.database.write(operation)

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
        began_ms, began_s = self.clock.now_ms(), self.clock.monotonic_s()
        until_ms = self.until_ms(began_ms)

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

        if await self.database.write(operation):
            raise LeaseLost(f"another worker holds the {claim.kind} task of {claim.subject}")
        took_ms = max(self.clock.now_ms() - began_ms, (self.clock.monotonic_s() - began_s) * 1000)
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
        return await self.database.write(
            lambda connection: task_rows.shift_due(connection, delta_ms=delta_ms, at_ms=at_ms)
        )

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give tasks back untouched."""
        await self.database.write(lambda connection: task_rows.release(connection, claims))

    async def put_off(self, claim: Claim, *, due_at_ms: int) -> bool:
        """Give a task back whose step failed, due later; False when it was given back or lost before."""
        return await self.database.write(
            lambda connection: task_rows.put_off(connection, claim, due_at_ms=due_at_ms)
        )

    async def release_all(self) -> int:
        """Give back every lease there is: for a start that is certain to be the only worker."""
        return await self.database.write(task_rows.release_all)

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

        return await self.database.write(operation)
