"""What is known of run times: learned by every process, kept in the database, read by all.

A process gathers the runs it sees succeed and stores them some seconds later, many in one transaction; a
crash loses those, which changes nothing worth a write of their own. What it polls by is a copy that is
renewed in the same step, so a fleet learns together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.routing.pacing import Pace, pace
from gateway.routing.run_times import Learned
from gateway.settings.model import POLLS_PER_JOB
from gateway.storage import run_times as rows
from gateway.storage.engine import Database
from gateway.storage.run_times import Run, RunKind

WAITING = 1000
"""Runs kept while they cannot be stored; the oldest go first."""
FRESH_S = 5.0


class RunTimes:
    """What was learned, as of the last look.

    Args:
        database: where it is kept.
        clock: stamps it, and ages the copy.
        polls_per_job: how many polls a run is to take on average, by provider.
    """

    def __init__(
        self, database: Database, clock: Clock, *, polls_per_job: Mapping[str, float] | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._polls_per_job = polls_per_job or {}
        self._waiting: deque[Run] = deque(maxlen=WAITING)
        self._learned: dict[RunKind, Learned] = {}
        self._paces: dict[RunKind, Pace] = {}
        self._read_at_s: float | None = None
        self._renewing = asyncio.Lock()

    def median_s(self, provider: str, model: str, *, simulated: bool = False) -> float | None:
        """Return the run time that half of the runs do not exceed, seconds; None until enough is learned."""
        learned = self._learned.get(RunKind(provider, model, simulated))
        return learned.median_s if learned is not None and learned.enough else None

    def pace(self, provider: str, model: str, *, simulated: bool = False) -> Pace | None:
        """Return when to poll such a run; None until enough is learned."""
        return self._paces.get(RunKind(provider, model, simulated))

    def ended(self, run: Run) -> None:
        """Hear of a run that succeeded; the next `renew` stores it."""
        self._waiting.append(run)

    async def renew(self) -> None:
        """Store what was heard, and read what every process has learned.

        Raises:
            StorageUnavailable: nothing was lost but time; it is tried again by the next call.
        """
        async with self._renewing:  # or an older copy could replace a newer
            await self._renew()

    async def _renew(self) -> None:
        runs, at_ms, now_s = list(self._waiting), self._clock.now_ms(), self._clock.monotonic_s()

        def operation(connection: Connection) -> dict[RunKind, Learned]:
            rows.teach(connection, runs, at_ms=at_ms)
            return rows.load_all(connection)

        self._waiting.clear()
        try:
            # Not vital: while there is little room on the disk it is left to the results of paid runs.
            learned = (
                await self._database.write(operation, vital=False)
                if runs
                else await self._database.read(rows.load_all)
            )
        except BaseException:
            # Those that came meanwhile are newer; where there is no room, the oldest are dropped.
            self._waiting = deque([*runs, *self._waiting], maxlen=WAITING)
            raise
        self._take(learned)
        self._read_at_s = now_s

    async def fresh(self) -> None:
        """Renew a copy that is old: for processes that plan and do not work, so nothing else renews it."""
        if self._read_at_s is None or self._clock.monotonic_s() - self._read_at_s >= FRESH_S:
            await self.renew()

    def _take(self, learned: dict[RunKind, Learned]) -> None:
        for kind, now in learned.items():
            if self._learned.get(kind) != now:  # the table takes some time to make, and changes seldom
                made = pace(now, polls_per_job=self._polls_per_job.get(kind.provider, POLLS_PER_JOB))
                if made is not None:
                    self._paces[kind] = made
        self._learned = learned
