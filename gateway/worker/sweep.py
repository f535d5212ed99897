"""What nobody asks for and must happen all the same: deadlines, holds that end, figures that drift."""

from __future__ import annotations

from gateway.jobs import transitions
from gateway.jobs.job import Attempt, Job
from gateway.jobs.transitions import Step
from gateway.worker.tools import Tools


class Sweep:
    """Ends what is overdue.

    Args:
        tools: shared by all steps.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def __call__(self) -> None:
        """End what is past its deadline or its hold."""
        tools = self._tools
        now_ms = tools.clock.now_ms()

        def deadline(job: Job, attempts: tuple[Attempt, ...]) -> Step:
            return transitions.deadline_passed(job, attempts, now_ms=now_ms)

        def hold(job: Job, _attempts: tuple[Attempt, ...]) -> Step:
            return transitions.hold_expired(job, now_ms=now_ms)

        waiting = await tools.dispatch.waiting()
        for job_id in waiting.overdue:
            await tools.record.transition(job_id, deadline)
        for job_id in waiting.hold_expired:
            await tools.record.transition(job_id, hold)

    async def measure(self) -> None:
        """Set the gauges that belong to the store."""
        tools = self._tools
        census = await tools.dispatch.census()
        oldest_ms = census.backlog.oldest_ms
        tools.metrics.set_jobs_in_progress(census.unfinished)
        tools.metrics.jobs_held.set(census.held)
        tools.metrics.webhook_backlog.set(census.backlog.count)
        tools.metrics.webhook_oldest_seconds.set(
            0 if oldest_ms is None else (tools.clock.now_ms() - oldest_ms) / 1000
        )
