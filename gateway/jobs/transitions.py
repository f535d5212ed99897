"""Every change a job can undergo. Everything that moves a job lives in this file.

Each function takes the job as it stands, the fact, and the instant, and returns a `Step`: the job and the
attempt as they are to be, the events to tell, and the tasks that follow. Three rules hold throughout:

* a terminal job never changes; what is learnt later changes its attempt alone, save `provider_may_bill`: a
  run that could not be stopped sets it, and proof that a run written off was never made takes it back;
* a rank never falls: a provider that says PENDING after RUNNING changes nothing;
* an attempt in doubt (UNKNOWN) is never followed by another submission, unless it was written off: the job
  itself or an operator asked for that, and accepted the risk of paying twice.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.job import LIVE, Attempt, AttemptState, Held, Job, Output, latest
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.normalize import Update
from providers.contract.spec import Spec
from providers.contract.status import JobStatus


class TaskKind(StrEnum):
    """The kinds of internal work that can be due."""

    SUBMIT = "submit"
    POLL = "poll"
    RECONCILE = "reconcile"
    CANCEL = "cancel"
    DELIVER = "deliver"


class FollowUp(Struct, frozen=True):
    """A task of this job that is to be due."""

    kind: TaskKind
    due_at_ms: int


class Event(Struct, frozen=True, kw_only=True):
    """A fact worth telling. Types that begin with `job.` can be sent as webhooks."""

    type: str
    note: dict[str, str | int | float | None] = {}


class Step(Struct, frozen=True, kw_only=True):
    """What a change makes of a job."""

    job: Job
    attempt: Attempt | None = None
    """The attempt that is new or changed."""
    events: tuple[Event, ...] = ()
    follow_ups: tuple[FollowUp, ...] = ()


ENDED = {
    JobStatus.SUCCEEDED: "job.succeeded",
    JobStatus.FAILED: "job.failed",
    JobStatus.CANCELLED: "job.cancelled",
}


def begin(job: Job, attempt: Attempt) -> Step:
    """Intent: an attempt is about to be submitted. Committed before the paid call."""
    note: dict[str, str | int | float | None] = {"provider": attempt.provider, "account": attempt.account}
    return Step(
        job=replace(job, state=replace(job.state, provider=attempt.provider)),
        attempt=attempt,
        events=(Event(type="attempt.submitting", note=note),),
    )


def accepted(job: Job, attempt: Attempt, *, ref: str, now_ms: int, poll_at_ms: int) -> Step:
    """The provider took it: keep the ref and ask again later, or cancel what was cancelled meanwhile.

    Also the late answer to a submission that was given up for unknown: the job goes on, and its deadline
    moves by the time it was held. One that was written off keeps its ref, and changes nothing else.
    """
    if attempt.written_off:
        if attempt.ref is not None:
            return Step(job=job)  # told before
        late = Event(type="attempt.late", note={"provider_ref": ref})
        billed = replace(job, state=replace(job.state, provider_may_bill=True))
        return Step(job=billed, attempt=replace(attempt, ref=ref), events=(late,))
    after = replace(attempt, state=AttemptState.ACCEPTED, ref=ref, accepted_at_ms=now_ms, error=None)
    unwanted = job.state.status.terminal or job.state.cancel_requested_at_ms is not None
    follow_up = FollowUp(TaskKind.CANCEL, now_ms) if unwanted else FollowUp(TaskKind.POLL, poll_at_ms)
    event = Event(type="attempt.accepted", note={"provider_ref": ref})
    return Step(job=_released(job, now_ms), attempt=after, events=(event,), follow_ups=(follow_up,))


def refused(
    job: Job,
    attempt: Attempt,
    *,
    error: UpstreamError,
    now_ms: int,
    again_at_ms: int | None,
    others: tuple[Attempt, ...],
    then: str | None = None,
) -> Step:
    """Nothing was made, for certain: submit again later, or end the job.

    Args:
        job: as it stands.
        attempt: the one that was refused.
        error: why.
        now_ms: the instant.
        again_at_ms: when to submit again, there or elsewhere; None gives the job up.
        others: the job's attempts.
        then: what follows, in a word for the timeline.
    """
    after = replace(attempt, state=AttemptState.REFUSED, error=error, finished_at_ms=now_ms)
    if attempt.written_off:
        late = Event(type="attempt.late", note={"code": error.code, "message": error.message})
        return Step(job=_unbilled(job, after, others), attempt=after, events=(late,))
    note: dict[str, str | int | float | None] = {"code": error.code, "message": error.message}
    event = Event(type="attempt.refused", note=note if then is None else note | {"then": then})
    if job.state.status.terminal:
        return Step(job=job, attempt=after, events=(event,))
    if job.state.cancel_requested_at_ms is not None:
        return _ended(job, JobStatus.CANCELLED, now_ms, attempt=after, told=(event,))
    if again_at_ms is None:
        return _ended(job, JobStatus.FAILED, now_ms, attempt=after, told=(event,), error=error)
    follow_up = FollowUp(TaskKind.SUBMIT, again_at_ms)
    return Step(job=_released(job, now_ms), attempt=after, events=(event,), follow_ups=(follow_up,))


def withheld(
    job: Job,
    attempt: Attempt,
    *,
    reason: str,
    now_ms: int,
    again_at_ms: int,
    others: tuple[Attempt, ...],
) -> Step:
    """Our own last check kept the submission back: nothing was made, and it may be made later."""
    after = replace(attempt, state=AttemptState.REFUSED, error=None, finished_at_ms=now_ms)
    event = Event(type="attempt.withheld", note={"reason": reason})
    if attempt.written_off:
        return Step(job=_unbilled(job, after, others), attempt=after, events=(event,))
    if job.state.status.terminal:
        return Step(job=job, attempt=after, events=(event,))
    if job.state.cancel_requested_at_ms is not None:
        return _ended(job, JobStatus.CANCELLED, now_ms, attempt=after, told=(event,))
    follow_up = FollowUp(TaskKind.SUBMIT, again_at_ms)
    return Step(job=_released(job, now_ms), attempt=after, events=(event,), follow_ups=(follow_up,))


def unknown(
    job: Job,
    attempt: Attempt,
    *,
    reason: str,
    now_ms: int,
    hold_until_ms: int,
    look_at_ms: int | None = None,
    resubmitted: bool = False,
) -> Step:
    """The submission may have been made: hold the job, or do what it asked for in this case.

    A job that was to be cancelled meanwhile ends instead, as it does when the cancel comes after the doubt.

    Args:
        job: as it stands.
        attempt: the one in doubt.
        reason: why nobody can tell, in words.
        now_ms: the instant.
        hold_until_ms: when a held job is given up.
        look_at_ms: when the provider is first asked whether it has it; None where it cannot be asked.
        resubmitted: whether another attempt of the job was written off before: a job submits again by itself
            once at most, so that a provider that is broken cannot bill without end.
    """
    error = UpstreamError(code=ErrorCode.SUBMISSION_UNKNOWN, message=reason)
    after = replace(attempt, state=AttemptState.UNKNOWN, error=error, doubted_at_ms=now_ms)
    event = Event(type="attempt.unknown", note={"reason": reason})
    if job.state.status.terminal:
        return Step(job=job, attempt=after, events=(event,))
    if job.state.cancel_requested_at_ms is not None:
        return _ended(job, JobStatus.CANCELLED, now_ms, attempt=after, told=(event,), may_bill=True)
    policy = job.request.on_unknown_submission
    if policy == "fail":
        return _ended(job, JobStatus.FAILED, now_ms, attempt=after, told=(event,), error=error, may_bill=True)
    if policy == "resubmit" and not resubmitted and look_at_ms is None:
        again = written_off(job, after, by="policy", now_ms=now_ms)
        return replace(again, events=(event, *again.events))
    held = Held(reason=ErrorCode.SUBMISSION_UNKNOWN, since_ms=now_ms, until_ms=hold_until_ms)
    return Step(
        job=replace(job, state=replace(job.state, held=held)),
        attempt=after,
        events=(event, Event(type="job.held", note={"reason": held.reason})),
        follow_ups=() if look_at_ms is None else (FollowUp(TaskKind.RECONCILE, look_at_ms),),
    )


def resubmits(job: Job, attempts: tuple[Attempt, ...]) -> bool:
    """Whether a job in doubt is to be submitted again by itself, once the provider was looked at."""
    wanted = job.request.on_unknown_submission == "resubmit"
    return wanted and not any(attempt.written_off for attempt in attempts)


def adopted(job: Job, attempt: Attempt, *, ref: str, by: str, now_ms: int) -> Step:
    """The run that the submission in doubt made was found: the job goes on with it.

    Args:
        job: as it stands; its deadline moves by the time it was held.
        attempt: the one in doubt.
        ref: of the run.
        by: what told that it is ours: client_id, inputs, callback or operator.
        now_ms: the instant.
    """
    after = replace(attempt, state=AttemptState.ACCEPTED, ref=ref, accepted_at_ms=now_ms, error=None)
    event = Event(type="attempt.adopted", note={"provider_ref": ref, "by": by})
    follow_ups = (FollowUp(TaskKind.POLL, now_ms),)
    return Step(job=_released(job, now_ms), attempt=after, events=(event,), follow_ups=follow_ups)


def written_off(job: Job, attempt: Attempt, *, by: str, now_ms: int) -> Step:
    """Give up learning what became of a submission, and submit again: it may be paid twice.

    Args:
        job: as it stands; its deadline moves by the time it was held.
        attempt: the one in doubt; what it may have made may be billed.
        by: who accepts that: policy (the job asked for it) or operator.
        now_ms: the instant.
    """
    released = _released(job, now_ms)
    return Step(
        job=replace(released, state=replace(released.state, provider_may_bill=True)),
        attempt=replace(attempt, written_off=True),
        events=(Event(type="attempt.written_off", note={"by": by}),),
        follow_ups=(FollowUp(TaskKind.SUBMIT, now_ms),),
    )


def abandoned(job: Job, *, message: str, now_ms: int) -> Step:
    """Give a held job up, without submitting again."""
    error = UpstreamError(code=ErrorCode.SUBMISSION_UNKNOWN, message=message)
    return _ended(job, JobStatus.FAILED, now_ms, error=error, may_bill=True)


def resolved(step: Step, *, action: str, by: str) -> Step:
    """Note before a step that an operator decided on it.

    Args:
        step: what follows.
        action: adopt, resubmit or fail.
        by: the operator's key.
    """
    return replace(
        step, events=(Event(type="hold.resolved", note={"action": action, "by": by}), *step.events)
    )


def observed(job: Job, attempt: Attempt, *, update: Update, spec: Spec, now_ms: int) -> Step:
    """What a poll said. A step without events means that nothing worth an event changed."""
    after = replace(
        attempt,
        provider_status=update.provider_status,
        credits=attempt.credits if update.cost is None else update.cost.credits,
        micro_usd=attempt.micro_usd if update.cost is None else update.cost.micro_usd,
    )
    match update.status:
        case None | JobStatus.QUEUED:
            return _reworded(job, attempt, after, update)
        case JobStatus.RUNNING:
            return _running(job, attempt, after, update, now_ms)
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
    note: dict[str, str | int | float | None] = {"code": error.code, "message": error.message, "then": then}
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
    return _ended(job, JobStatus.CANCELLED, now_ms, attempt=after, may_bill=may_bill)


def runs_on(job: Job, attempt: Attempt, *, now_ms: int, poll_at_ms: int) -> Step:
    """No cancel could stop the run: the job ends all the same, and the run is followed for what it costs."""
    event = Event(type="attempt.runs_on", note={"provider_ref": attempt.ref})
    follow_ups = (FollowUp(TaskKind.POLL, poll_at_ms),)
    if job.state.status.terminal:
        billed = replace(job, state=replace(job.state, provider_may_bill=True))
        return Step(job=billed, attempt=attempt, events=(event,), follow_ups=follow_ups)
    return _ended(
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


def cancel_requested(job: Job, attempts: tuple[Attempt, ...], *, now_ms: int) -> Step:
    """A caller wants it to end: at once when nothing was submitted, else once the provider was asked."""
    if job.state.status.terminal or job.state.cancel_requested_at_ms is not None:
        return Step(job=job)
    asked = replace(job, state=replace(job.state, cancel_requested_at_ms=now_ms))
    event = Event(type="cancel.requested")
    current = latest(attempts)
    if current is None or current.state not in LIVE:
        return _ended(asked, JobStatus.CANCELLED, now_ms, told=(event,))
    if current.state is AttemptState.UNKNOWN:
        # There is no ref to cancel by; whatever runs there runs on and may bill.
        return _ended(asked, JobStatus.CANCELLED, now_ms, told=(event,), may_bill=True)
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
        return _ended(job, JobStatus.CANCELLED, now_ms, follow_ups=follow_ups, may_bill=running)
    message = f"the job did not end within its deadline of {job.request.deadline_s} s"
    error = UpstreamError(code=ErrorCode.DEADLINE_EXCEEDED, message=message)
    return _ended(job, JobStatus.FAILED, now_ms, error=error, follow_ups=follow_ups)


def hold_expired(job: Job, *, now_ms: int) -> Step:
    """Nobody settled the unknown submission in time: give the job up, still without repeating it."""
    held = job.state.held
    if held is None or job.state.status.terminal or now_ms < held.until_ms:
        return Step(job=job)
    message = "the submission's outcome stayed unknown until the hold ended; it was not repeated"
    return abandoned(job, message=message, now_ms=now_ms)


def given_up(job: Job, *, error: UpstreamError, now_ms: int) -> Step:
    """It cannot be submitted anywhere."""
    if job.state.status.terminal:
        return Step(job=job)
    return _ended(job, JobStatus.FAILED, now_ms, error=error)


def _unbilled(job: Job, unmade: Attempt, others: tuple[Attempt, ...]) -> Job:
    """Take `provider_may_bill` back, as what was written off was never made; but not with another reason."""
    left = [attempt for attempt in others if attempt.id != unmade.id]
    doubted = any(attempt.state is AttemptState.UNKNOWN for attempt in left)
    # One that ended without success may have been cancelled where nobody can tell, or run on.
    unsure = job.state.status in {JobStatus.CANCELLED, JobStatus.FAILED} and any(
        attempt.accepted_at_ms is not None for attempt in left
    )
    if doubted or unsure or unmade.ref is not None:
        return job
    return replace(job, state=replace(job.state, provider_may_bill=False))


def _released(job: Job, now_ms: int) -> Job:
    held = job.state.held
    if held is None:
        return job
    deadline_at_ms = job.state.deadline_at_ms + now_ms - held.since_ms
    return replace(job, state=replace(job.state, held=None, deadline_at_ms=deadline_at_ms))


def _reworded(job: Job, attempt: Attempt, after: Attempt, update: Update) -> Step:
    progressed = _progressed(job, update)
    events: list[Event] = []
    if after != attempt:
        events.append(Event(type="attempt.observed", note={"provider_status": update.provider_status}))
    webhook = job.request.webhook
    if progressed is not job and webhook is not None and "job.progress" in webhook.events:
        # Only for those who asked: otherwise progress is written in batches, without an event.
        events.append(Event(type="job.progress", note={"progress": progressed.progress}))
    return Step(job=progressed, attempt=after, events=tuple(events))


def _running(job: Job, attempt: Attempt, after: Attempt, update: Update, now_ms: int) -> Step:
    if job.state.status is not JobStatus.QUEUED:
        return _reworded(job, attempt, after, update)
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
        note: dict[str, str | int | float | None] = {"state": attempt.state, "micro_usd": attempt.micro_usd}
        return Step(job=job, attempt=attempt, events=(Event(type="attempt.late", note=note),))
    progress = 1.0 if status is JobStatus.SUCCEEDED else None
    return _ended(
        job, status, now_ms, attempt=attempt, error=attempt.error, outputs=outputs, progress=progress
    )


def _ended(
    job: Job,
    status: JobStatus,
    now_ms: int,
    *,
    attempt: Attempt | None = None,
    told: tuple[Event, ...] = (),
    error: UpstreamError | None = None,
    outputs: tuple[Output, ...] = (),
    progress: float | None = None,
    may_bill: bool = False,
    follow_ups: tuple[FollowUp, ...] = (),
) -> Step:
    state = replace(
        job.state,
        status=status,
        finished_at_ms=now_ms,
        error=error,
        outputs=outputs,
        held=None,
        provider_may_bill=may_bill or job.state.provider_may_bill,
    )
    ended = replace(job, state=state, progress=job.progress if progress is None else progress)
    note: dict[str, str | int | float | None] = {} if error is None else {"code": error.code}
    event = Event(type=ENDED[status], note=note)
    return Step(job=ended, attempt=attempt, events=(*told, event), follow_ups=follow_ups)
