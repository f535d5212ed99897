"""From the intent to the provider's answer, and out of every doubt."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.jobs.job import Attempt, AttemptState, Held, Job
from gateway.jobs.transitions.step import Event, FollowUp, Note, Step, TaskKind, ended, released
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.status import JobStatus


def begin(job: Job, attempt: Attempt) -> Step:
    """Intent: an attempt is about to be submitted. Committed before the paid call."""
    note: Note = {"provider": attempt.provider, "account": attempt.account}
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
    return Step(job=released(job, now_ms), attempt=after, events=(event,), follow_ups=(follow_up,))


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
    note: Note = {"code": error.code, "message": error.message}
    event = Event(type="attempt.refused", note=note if then is None else note | {"then": then})
    return _unmade(job, after, event, now_ms=now_ms, again_at_ms=again_at_ms)


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
    return _unmade(job, after, event, now_ms=now_ms, again_at_ms=again_at_ms)


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
        return ended(job, JobStatus.CANCELLED, now_ms, attempt=after, told=(event,), may_bill=True)
    policy = job.request.on_unknown_submission
    if policy == "fail":
        return ended(job, JobStatus.FAILED, now_ms, attempt=after, told=(event,), error=error, may_bill=True)
    again = not resubmitted and job.state.restored_at_ms is None
    if policy == "resubmit" and again and look_at_ms is None:
        step = written_off(job, after, by="policy", now_ms=now_ms)
        return replace(step, events=(event, *step.events))
    held = Held(reason=ErrorCode.SUBMISSION_UNKNOWN, since_ms=now_ms, until_ms=hold_until_ms)
    return Step(
        job=replace(job, state=replace(job.state, held=held)),
        attempt=after,
        events=(event, Event(type="job.held", note={"reason": held.reason})),
        follow_ups=() if look_at_ms is None else (FollowUp(TaskKind.RECONCILE, look_at_ms),),
    )


def resubmits(job: Job, attempts: tuple[Attempt, ...]) -> bool:
    """Whether a job in doubt is to be submitted again by itself, once the provider was looked at."""
    wanted = job.request.on_unknown_submission == "resubmit" and job.state.restored_at_ms is None
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
    return Step(job=released(job, now_ms), attempt=after, events=(event,), follow_ups=follow_ups)


def written_off(job: Job, attempt: Attempt, *, by: str, now_ms: int) -> Step:
    """Give up learning what became of a submission, and submit again: it may be paid twice.

    Args:
        job: as it stands; its deadline moves by the time it was held.
        attempt: the one in doubt; what it may have made may be billed.
        by: who accepts that: policy (the job asked for it) or operator, whose word holds for a job that a
            backup brought back, too.
        now_ms: the instant.
    """
    going_on = released(job, now_ms)
    state = replace(going_on.state, provider_may_bill=True, restored_at_ms=None)
    return Step(
        job=replace(going_on, state=state),
        attempt=replace(attempt, written_off=True),
        events=(Event(type="attempt.written_off", note={"by": by}),),
        follow_ups=(FollowUp(TaskKind.SUBMIT, now_ms),),
    )


def abandoned(job: Job, *, message: str, now_ms: int) -> Step:
    """Give a held job up, without submitting again."""
    error = UpstreamError(code=ErrorCode.SUBMISSION_UNKNOWN, message=message)
    return ended(job, JobStatus.FAILED, now_ms, error=error, may_bill=True)


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


def _unmade(job: Job, attempt: Attempt, event: Event, *, now_ms: int, again_at_ms: int | None) -> Step:
    """Go on after an attempt that was not made: again at that instant, or nowhere where there is none."""
    if job.state.status.terminal:
        return Step(job=job, attempt=attempt, events=(event,))
    if job.state.cancel_requested_at_ms is not None:
        return ended(job, JobStatus.CANCELLED, now_ms, attempt=attempt, told=(event,))
    if again_at_ms is None:
        return ended(job, JobStatus.FAILED, now_ms, attempt=attempt, told=(event,), error=attempt.error)
    follow_up = FollowUp(TaskKind.SUBMIT, again_at_ms)
    return Step(job=released(job, now_ms), attempt=attempt, events=(event,), follow_ups=(follow_up,))


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
