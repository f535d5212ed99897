"""What becomes of a run that a provider accepted."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.jobs.job import Attempt, AttemptState, Job, Output
from gateway.jobs.transitions.step import Event, FollowUp, Note, Step, TaskKind, ended
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.normalize import Update
from providers.contract.spec import Spec
from providers.contract.status import JobStatus


def observed(
    job: Job, attempt: Attempt, *, update: Update, spec: Spec, now_ms: int, progress_told: bool = False
) -> Step:
    """What a poll said. A step without events means that nothing worth an event changed.

    Args:
        job: as it stands.
        attempt: that was asked about.
        update: what was said.
        spec: the provider's.
        now_ms: the instant.
        progress_told: whether somebody hears of its progress besides its own receiver.
    """
    after = replace(
        attempt,
        provider_status=update.provider_status,
        credits=attempt.credits if update.cost is None else update.cost.credits,
        micro_usd=attempt.micro_usd if update.cost is None else update.cost.micro_usd,
    )
    match update.status:
        case None | JobStatus.QUEUED:
            return _reworded(job, attempt, after, update, progress_told=progress_told)
        case JobStatus.RUNNING:
            return _running(job, attempt, after, update, now_ms, progress_told=progress_told)
        case JobStatus.SUCCEEDED:
            after = replace(after, state=AttemptState.SUCCEEDED, finished_at_ms=now_ms)
            expires_at_ms = now_ms + spec.output.life_s * 1000
            outputs = tuple(
                Output(url=url, content_type=spec.output.content_type, expires_at_ms=expires_at_ms)
                for url in update.outputs
            )
            return _settled(job, after, JobStatus.SUCCEEDED, now_ms, outputs=outputs)
        case JobStatus.FAILED:
            after = replace(after, state=AttemptState.FAILED, finished_at_ms=now_ms, error=update.error)
            return _settled(job, after, JobStatus.FAILED, now_ms)
        case JobStatus.CANCELLED:
            if spec.cancel is None or spec.cancel.stops:
                return cancelled_upstream(job, after, now_ms=now_ms)
            # Where a cancel only detaches, the word says nothing of the run behind it.
            return runs_on(job, after, now_ms=now_ms, poll_at_ms=now_ms + round(spec.poll.later_s * 1000))


def moved_on(job: Job, attempt: Attempt, *, error: UpstreamError, again_at_ms: int, then: str) -> Step:
    """A run failed for certain, and the job goes to another candidate instead of ending.

    Its status stays, since a rank never falls; its progress was of the run that failed.

    Args:
        job: as it stands, neither ended nor to be cancelled.
        attempt: as it ended.
        error: why it failed.
        again_at_ms: when to submit it elsewhere.
        then: what follows, in a word for the timeline.
    """
    note: Note = {"code": error.code, "message": error.message, "then": then}
    return Step(
        job=replace(job, progress=None),
        attempt=attempt,
        events=(Event(type="attempt.failed", note=note),),
        follow_ups=(FollowUp(TaskKind.SUBMIT, again_at_ms),),
    )


def lost(job: Job, attempt: Attempt, *, now_ms: int) -> Step:
    """The provider no longer knows a job it accepted, and not because we cancelled it."""
    error = UpstreamError(
        code=ErrorCode.PROVIDER_LOST, message="the provider no longer knows the job it accepted"
    )
    after = replace(attempt, state=AttemptState.FAILED, error=error, finished_at_ms=now_ms)
    return _settled(job, after, JobStatus.FAILED, now_ms)


def cancelled_upstream(job: Job, attempt: Attempt, *, now_ms: int, may_bill: bool = False) -> Step:
    """The provider's run is over by a cancel, ours or somebody else's."""
    after = replace(attempt, state=AttemptState.CANCELLED, finished_at_ms=now_ms, may_bill=may_bill)
    if job.state.status.terminal:
        changed = job if not may_bill else replace(job, state=replace(job.state, provider_may_bill=True))
        return Step(job=changed, attempt=after, events=(Event(type="attempt.cancelled"),))
    return ended(job, JobStatus.CANCELLED, now_ms, attempt=after, may_bill=may_bill)


def runs_on(job: Job, attempt: Attempt, *, now_ms: int, poll_at_ms: int) -> Step:
    """No cancel could stop the run: the job ends all the same, and the run is followed for what it costs."""
    event = Event(type="attempt.runs_on", note={"provider_ref": attempt.ref})
    follow_ups = (FollowUp(TaskKind.POLL, poll_at_ms),)
    if job.state.status.terminal:
        billed = replace(job, state=replace(job.state, provider_may_bill=True))
        return Step(job=billed, attempt=attempt, events=(event,), follow_ups=follow_ups)
    return ended(
        job,
        JobStatus.CANCELLED,
        now_ms,
        attempt=attempt,
        told=(event,),
        may_bill=True,
        follow_ups=follow_ups,
    )


def unheard(job: Job, attempt: Attempt, *, now_ms: int, reason: str) -> Step:
    """Nobody will say any more how the run of a job that has ended came out."""
    after = replace(attempt, state=AttemptState.CANCELLED, finished_at_ms=now_ms, may_bill=True)
    event = Event(type="attempt.unheard", note={"reason": reason})
    return Step(job=job, attempt=after, events=(event,))


def _reworded(job: Job, attempt: Attempt, after: Attempt, update: Update, *, progress_told: bool) -> Step:
    progressed = _progressed(job, update)
    events: list[Event] = []
    if after != attempt:
        events.append(Event(type="attempt.observed", note={"provider_status": update.provider_status}))
    webhook = job.request.webhook
    told = progress_told or (webhook is not None and "job.progress" in webhook.events)
    if progressed is not job and told:
        # Only for those who asked: otherwise progress is written in batches, without an event.
        events.append(Event(type="job.progress", note={"progress": progressed.progress}))
    return Step(job=progressed, attempt=after, events=tuple(events))


def _running(
    job: Job, attempt: Attempt, after: Attempt, update: Update, now_ms: int, *, progress_told: bool
) -> Step:
    if job.state.status is not JobStatus.QUEUED:
        return _reworded(job, attempt, after, update, progress_told=progress_told)
    running = replace(job, state=replace(job.state, status=JobStatus.RUNNING, started_at_ms=now_ms))
    event = Event(type="job.running", note={"provider_status": update.provider_status})
    return Step(job=_progressed(running, update), attempt=after, events=(event,))


def _progressed(job: Job, update: Update) -> Job:
    if update.progress is None or update.progress <= (job.progress or 0.0) or job.state.status.terminal:
        return job
    return replace(job, progress=update.progress)


def _settled(
    job: Job, attempt: Attempt, status: JobStatus, now_ms: int, *, outputs: tuple[Output, ...] = ()
) -> Step:
    """End the job as its attempt ended; a job that ended before keeps its end, and learns the cost."""
    if job.state.status.terminal:
        note: Note = {"state": attempt.state, "micro_usd": attempt.micro_usd}
        return Step(job=job, attempt=attempt, events=(Event(type="attempt.late", note=note),))
    progress = 1.0 if status is JobStatus.SUCCEEDED else None
    return ended(
        job, status, now_ms, attempt=attempt, error=attempt.error, outputs=outputs, progress=progress
    )
