"""What a restored backup means for the jobs in it: it is older than the world.

What was submitted since is not in it. So that nothing is paid twice, each job that has not ended either goes
on with the run it has, or may have, or it ends; `jobs.transitions.restored` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import Struct

from gateway.clock import Clock
from gateway.jobs import transitions
from gateway.service.record import Record
from gateway.storage import jobs as job_rows
from gateway.storage.engine import Database


class Settled(Struct, frozen=True, kw_only=True):
    """What became of the jobs of a backup that had not ended."""

    ended: int = 0
    """May have been submitted since; they failed with `submission_unknown`."""
    followed: int = 0
    """Have a run, or may have one, which is looked after as before."""


async def count_unfinished(database: Database) -> int:
    """Count the jobs that have not ended."""
    return len(await database.read(job_rows.find_unfinished))


async def settle_restored(
    database: Database, record: Record, clock: Clock, *, on_settled: Callable[[int, int], None]
) -> Settled:
    """Have nothing submitted that may have been submitted since the backup was made. May be done again.

    Args:
        database: restored, and used by nobody else.
        record: carries it out.
        clock: stamps it.
        on_settled: told how many are done, and of how many.

    Raises:
        StorageUnavailable: some jobs are not settled yet.
        Unreadable: one of them cannot be read by this version.
    """
    found = await database.read(job_rows.find_unfinished)
    ended = followed = 0
    for done, job_id in enumerate(found, start=1):
        recorded = await record.transition(job_id, partial(transitions.restored, now_ms=clock.now_ms()))
        over = recorded.after.state.status.terminal
        ended, followed = ended + over, followed + (not over)
        on_settled(done, len(found))
    return Settled(ended=ended, followed=followed)
