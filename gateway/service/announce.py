"""Tells metrics, logs and sleepers of what was committed."""

from __future__ import annotations

from collections.abc import Callable

from gateway.jobs.job import LIVE, Attempt, AttemptState, Job, latest
from gateway.jobs.transitions import TaskKind
from gateway.service.record import Recorded
from gateway.service.wakeup import Wakeup
from gateway.telemetry import Metrics, get_logger
from providers.contract.status import JobStatus

_log = get_logger("gateway.jobs")

WARNED = frozenset(
    {
        "attempt.unknown",
        "attempt.refused",
        "attempt.written_off",
        "attempt.late",
        "job.failed",
        "job.held",
        "hold.resolved",
        "hold.undecided",
    }
)
"""Events that somebody may have to look at."""
_TO_BE_TOLD = frozenset({TaskKind.DELIVER})
_AFTER_THE_END = _TO_BE_TOLD | {TaskKind.SUBMIT}
"""Its receivers are to be told, and it may have left an opening for another."""


class Announcer:
    """Hears of every commit that concerns a job.

    Args:
        metrics: count it.
        wakeup: wakes those who carry out what is due.
        moved: told of each job that changed.
        submits_wait: says whether jobs waited for an opening when this process last looked.
    """

    def __init__(
        self,
        metrics: Metrics,
        wakeup: Wakeup,
        moved: Callable[[str], None],
        submits_wait: Callable[[], bool] = lambda: True,
    ) -> None:
        self._metrics = metrics
        self._wakeup = wakeup
        self._moved = moved
        self._submits_wait = submits_wait

    def accepted(self, job: Job) -> None:
        """A job was stored."""
        self._metrics.job_accepted(job.request.model)
        _log.info("job.accepted", job_id=job.id, owner=job.owner, model=job.request.model)
        self._wakeup.wake()

    def recorded(self, recorded: Recorded) -> None:
        """A transition was committed."""
        if not recorded.events:
            return
        job, attempt = recorded.after, _attempt_of(recorded)
        log(recorded)
        if attempt is not None and any(event.type == "attempt.unknown" for event in recorded.events):
            self._metrics.submission_unknown(attempt.provider)
        if job.state.status.terminal and not recorded.before.state.status.terminal:
            self._count_end(job)
        for provider, money in recorded.spent.items():
            if money.charged > 0:
                self._metrics.spent(provider, money.charged)
        how = settled(recorded)
        if how is not None and attempt is not None:
            self._metrics.submission_settled(attempt.provider, how)
        self._moved(job.id)
        if job.state.status.terminal and not any(one.state in LIVE for one in recorded.attempts):
            # The commonest: nobody else need look.
            self._wakeup.wake(_AFTER_THE_END if self._submits_wait() else _TO_BE_TOLD)
        else:
            self._wakeup.wake()

    def _count_end(self, job: Job) -> None:
        state = job.state
        code = None if state.error is None else state.error.code
        ended_ms = job.created_at_ms if state.finished_at_ms is None else state.finished_at_ms
        self._metrics.job_finished(state.provider, state.status, code, (ended_ms - job.created_at_ms) / 1000)


def log(recorded: Recorded) -> None:
    """Log a transition, for whoever has no metrics to count it in as well."""
    job, attempt = recorded.after, _attempt_of(recorded)
    attempt_id = None if attempt is None else attempt.id
    for event in recorded.events:
        (_log.warning if event.type in WARNED else _log.info)(
            event.type, job_id=job.id, attempt_id=attempt_id, status=job.state.status, **event.note
        )
    how = settled(recorded)
    if how is not None and attempt is not None:
        _log.warning("submission.settled", job_id=job.id, attempt_id=attempt_id, how=how)


def _attempt_of(recorded: Recorded) -> Attempt | None:
    return recorded.attempt or latest(recorded.attempts)


def settled(recorded: Recorded) -> str | None:
    """Name how a transition settled a submission in doubt; None when it settled none."""
    types = {event.type for event in recorded.events}
    for kind, how in (("attempt.adopted", "adopted"), ("attempt.written_off", "resubmitted")):
        if kind in types:
            return how
    before, state = recorded.attempt_before, recorded.after.state
    if before is not None and before.state is AttemptState.UNKNOWN:
        return "late"  # its own answer, after it was given up
    doubted = "attempt.unknown" in types
    if not state.status.terminal or not (doubted or recorded.before.state.held is not None):
        return None
    if state.status is JobStatus.CANCELLED:
        return "cancelled"
    return "failed" if doubted or "hold.resolved" in types else "expired"
