"""Tells metrics, logs and sleepers of what was committed."""

from __future__ import annotations

from gateway.jobs.job import Job, latest
from gateway.service.record import Recorded
from gateway.service.wakeup import Wakeup
from gateway.telemetry import Metrics, get_logger

_log = get_logger("gateway.jobs")


class Announcer:
    """Hears of every commit that concerns a job."""

    def __init__(self, metrics: Metrics, wakeup: Wakeup) -> None:
        self._metrics = metrics
        self._wakeup = wakeup

    def accepted(self, job: Job) -> None:
        """A job was stored."""
        self._metrics.job_accepted(job.request.model)
        _log.info("job.accepted", job_id=job.id, owner=job.owner, model=job.request.model)
        self._wakeup.wake()

    def recorded(self, recorded: Recorded) -> None:
        """A transition was committed."""
        if not recorded.events:
            return
        job = recorded.after
        attempt = latest(recorded.attempts)
        for event in recorded.events:
            warn = event.type in {"attempt.unknown", "attempt.refused", "job.failed", "job.held"}
            (_log.warning if warn else _log.info)(
                event.type,
                job_id=job.id,
                attempt_id=None if attempt is None else attempt.id,
                status=job.state.status,
                **event.note,
            )
            if event.type == "attempt.unknown" and attempt is not None:
                self._metrics.submission_unknown(attempt.provider)
        if job.state.status.terminal and not recorded.before.state.status.terminal:
            self._count_end(job)
        self._wakeup.wake()

    def _count_end(self, job: Job) -> None:
        state = job.state
        code = None if state.error is None else state.error.code
        ended_ms = job.created_at_ms if state.finished_at_ms is None else state.finished_at_ms
        self._metrics.job_finished(state.provider, state.status, code, (ended_ms - job.created_at_ms) / 1000)
