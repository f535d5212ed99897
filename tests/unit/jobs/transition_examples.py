"""Jobs, attempts and steps for the tests of transitions."""

from __future__ import annotations

from job_examples import DEADLINE_S, NOW_MS, a_job, a_spec, an_attempt
from msgspec.structs import replace

from gateway.jobs import transitions
from gateway.jobs.job import Attempt, AttemptState, Held, Job
from gateway.jobs.transitions import Step
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.normalize import Update
from providers.contract.status import TERMINAL, JobStatus

LATER_MS = NOW_MS + 60_000
OVERDUE_MS = NOW_MS + DEADLINE_S * 1000
SPEC = a_spec()
ERROR = UpstreamError(code=ErrorCode.RATE_LIMITED, message="slow down")
HELD = Held(reason="submission_unknown", since_ms=NOW_MS + 1000, until_ms=NOW_MS + 90_000)
ENDED = [a_job(status=status, finished_at_ms=NOW_MS) for status in sorted(TERMINAL)]
RUNNING = a_job(status=JobStatus.RUNNING, started_at_ms=NOW_MS, provider="acme")
CANCELLING = a_job(cancel_requested_at_ms=NOW_MS)
WRITTEN_OFF = an_attempt(AttemptState.UNKNOWN, written_off=True)


def told(step: Step) -> list[str]:
    return [event.type for event in step.events]


def attempt_of(step: Step) -> Attempt:
    assert step.attempt is not None
    return step.attempt


def accepted(job: Job, attempt: Attempt) -> Step:
    return transitions.accepted(job, attempt, ref="r-9", now_ms=LATER_MS, poll_at_ms=LATER_MS + 5)


def refused(job: Job, attempt: Attempt, again_at_ms: int | None = None) -> Step:
    return transitions.refused(
        job, attempt, error=ERROR, now_ms=LATER_MS, again_at_ms=again_at_ms, others=(attempt,)
    )


def unknown(job: Job, attempt: Attempt) -> Step:
    return transitions.unknown(job, attempt, reason="silence", now_ms=LATER_MS, hold_until_ms=LATER_MS + 1000)


def observed(job: Job, attempt: Attempt, status: JobStatus | None, **changes: object) -> Step:
    word = "WEIRD" if status is None else status.value.upper()
    update = replace(Update(provider_status=word, status=status), **changes)
    return transitions.observed(job, attempt, update=update, spec=SPEC, now_ms=LATER_MS)
