"""What nobody asks for and must happen all the same: deadlines, holds that end, figures that drift."""

from __future__ import annotations

import math

from gateway.errors import StorageUnavailable
from gateway.jobs import transitions
from gateway.jobs.job import Attempt, Job
from gateway.jobs.transitions import Step
from gateway.service.record import Decide
from gateway.telemetry import get_logger
from gateway.worker.tools import Tools

_log = get_logger("gateway.worker")

GRACE_MS = 60_000
"""How long past its deadline, our start or a jump of the clock a running job waits for its last poll."""

STOCK_KEPT_S = 60.0
"""How old the figures that move slowly may be that are shown."""


class Sweep:
    """Ends what is overdue.

    Args:
        tools: shared by all steps.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._started_ms = tools.clock.now_ms()
        self._stock_s = -math.inf

    def clock_jumped(self) -> None:
        """Give the polls time for their last word, as after a start: deadlines may have passed in no time."""
        self._started_ms = self._tools.clock.now_ms()

    async def __call__(self) -> None:
        """End what is past its deadline or its hold."""
        tools = self._tools
        now_ms = tools.clock.now_ms()

        def deadline(job: Job, attempts: tuple[Attempt, ...]) -> Step:
            asked_by_ms = max(job.state.deadline_at_ms, self._started_ms) + GRACE_MS
            return transitions.deadline_passed(job, attempts, now_ms=now_ms, unasked_until_ms=asked_by_ms)

        def hold(job: Job, _attempts: tuple[Attempt, ...]) -> Step:
            return transitions.hold_expired(job, now_ms=now_ms)

        # Not asked for every second: they would be locked and left as they are, and take others' places.
        asked_since_ms = now_ms - GRACE_MS
        waiting = await tools.census.waiting(
            last_word_ms=asked_since_ms if asked_since_ms >= self._started_ms else 0
        )
        for job_ids, decide in ((waiting.overdue, deadline), (waiting.hold_expired, hold)):
            for job_id in job_ids:
                await self._end(job_id, decide)

    async def _end(self, job_id: str, decide: Decide) -> None:
        try:
            await self._tools.record.transition(job_id, decide)
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  (one broken job must not keep the others from their end)
            _log.exception("sweep.job_failed", job_id=job_id, error=str(error))

    async def measure(self) -> None:
        """Set the gauges that belong to the store; those that nobody can tell just now are forgotten."""
        try:
            await self._measure()
        except BaseException:
            self._tools.metrics.forget_store(slow=False)
            raise

    async def take_stock(self) -> None:
        """Set those that move slowly, and cost more to look at; one look that fails does not forget them."""
        now_s = self._tools.clock.monotonic_s()
        try:
            stock = await self._tools.census.stock()
        except BaseException:
            if now_s - self._stock_s >= STOCK_KEPT_S:
                self._tools.metrics.forget_store(slow=True)
            raise
        self._stock_s = now_s
        self._tools.metrics.set_at_budget(stock.at_budget)
        self._tools.metrics.set_expiring(stock.expiring)

    async def _measure(self) -> None:
        tools = self._tools
        await tools.healths.refresh()
        for (provider, account), (in_use, limit) in tools.healths.in_use().items():
            tools.metrics.set_slots(provider, account, in_use, limit)
        for ((provider, account), operation), unwell in tools.healths.unwell().items():
            tools.metrics.set_unwell(provider, account, operation, unwell=unwell)
        census = await tools.census.count()
        now_ms = tools.clock.now_ms()
        tools.metrics.set_jobs_in_progress(census.unfinished)
        tools.metrics.jobs_held.set(census.held)
        tools.metrics.webhook_backlog.set(census.backlog.count)
        tools.metrics.set_endpoints(census.endpoints)
        tools.metrics.webhook_oldest_seconds.set(_age_s(census.backlog.oldest_ms, now_ms))
        tools.metrics.queue_oldest_seconds.set(_age_s(census.oldest_waiting_ms, now_ms))


def _age_s(since_ms: int | None, now_ms: int) -> float:
    return 0.0 if since_ms is None else max(0, now_ms - since_ms) / 1000
