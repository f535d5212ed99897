"""Ends that no provider brings about: a caller's wish, the deadline, a hold that is over, nobody left."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.jobs.job import LIVE, Attempt, AttemptState, Job, latest
from gateway.jobs.transitions.step import Event, FollowUp, Step, TaskKind, ended
from gateway.jobs.transitions.submission import abandoned
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.status import JobStatus


def cancel_requested(job: Job, attempts: tuple[Attempt, ...], *, now_ms: int) -> Step:
    """A caller wants it to end: at once when nothing was submitted, else once the provider was asked."""
    if job.state.status.terminal or job.state.cancel_requested_at_ms is not None:
        return Step(job=job)
    asked = replace(job, state=replace(job.state, cancel_requested_at_ms=now_ms))
    event = Event(type="cancel.requested")
    current = latest(attempts)
    if current is None or current.state not in LIVE:
        return ended(asked, JobStatus.CANCELLED, now_ms, told=(event,))
    if current.state is AttemptState.UNKNOWN:
        # There is no ref to cancel by; whatever runs there runs on and may bill.
        return ended(asked, JobStatus.CANCELLED, now_ms, told=(event,), may_bill=True)
    # While SUBMITTING there is no ref yet: `accepted` brings the cancel up again.
    accepted_already = current.state is AttemptState.ACCEPTED
    follow_ups = (FollowUp(TaskKind.CANCEL, now_ms),) if accepted_already else ()
    return Step(job=asked, events=(event,), follow_ups=follow_ups)


def deadline_passed(
    job: Job, attempts: tuple[Attempt, ...], *, now_ms: int, unasked_until_ms: int = 0
) -> Step:
    """The deadline is over: fail the job and have the provider asked to cancel.

    A held job's deadline stands still, and one whose submission is in flight waits for its outcome. A job
    that a provider accepted is left alone until `unasked_until_ms`: the provider is asked once more at the
    deadline, since a run that ended in time was paid for, however long we were away.
    """
    current = latest(attempts)
    in_flight = current is not None and current.state is AttemptState.SUBMITTING
    running = current is not None and current.state is AttemptState.ACCEPTED
    if (
        job.state.status.terminal
        or job.state.held is not None
        or now_ms < job.state.deadline_at_ms
        or (running and now_ms < unasked_until_ms)
        or in_flight
    ):
        return Step(job=job)
    follow_ups = (FollowUp(TaskKind.CANCEL, now_ms),) if running else ()
    if job.state.cancel_requested_at_ms is not None:
        return ended(job, JobStatus.CANCELLED, now_ms, follow_ups=follow_ups, may_bill=running)
    message = f"the job did not end within its deadline of {job.request.deadline_s} s"
    error = UpstreamError(code=ErrorCode.DEADLINE_EXCEEDED, message=message)
    return ended(job, JobStatus.FAILED, now_ms, error=error, follow_ups=follow_ups)


def hold_expired(job: Job, *, now_ms: int) -> Step:
    """Nobody settled the unknown submission in time: give the job up, still without repeating it."""
    held = job.state.held
    if held is None or job.state.status.terminal or now_ms < held.until_ms:
        return Step(job=job)
    message = "the submission's outcome stayed unknown until the hold ended; it was not repeated"
    return abandoned(job, message=message, now_ms=now_ms)


def restored(job: Job, attempts: tuple[Attempt, ...], *, now_ms: int) -> Step:
    """A backup brought it back, and nobody knows what was submitted for it since: nothing is any more.

    What has a run, or may have one, goes on with that. What has none ends; a simulated job costs nothing and
    goes on as it was.
    """
    if job.state.status.terminal or job.simulated:
        return Step(job=job)
    back = Event(type="backup.restored")
    marked = replace(job, state=replace(job.state, restored_at_ms=job.state.restored_at_ms or now_ms))
    current = latest(attempts)
    if current is not None and current.state in LIVE and not current.written_off:
        told = () if job.state.restored_at_ms is not None else (back,)
        return Step(job=marked if told else job, events=told)
    message = "a backup brought the job back, and it may have been submitted since the backup was made"
    error = UpstreamError(code=ErrorCode.SUBMISSION_UNKNOWN, message=message)
    return ended(marked, JobStatus.FAILED, now_ms, told=(back,), error=error, may_bill=True)


def given_up(job: Job, *, error: UpstreamError, now_ms: int) -> Step:
    """It cannot be submitted anywhere."""
    if job.state.status.terminal:
        return Step(job=job)
    return ended(job, JobStatus.FAILED, now_ms, error=error)
