"""What a transition comes to, and the two pieces that several need."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.job import Attempt, Job, Output
from providers.contract.errors import UpstreamError
from providers.contract.status import JobStatus

Note = dict[str, str | int | float | None]
"""What an event says besides its type."""


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
    note: Note = {}


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


def released(job: Job, now_ms: int) -> Job:
    """Hold a job no longer; its deadline moves by the time it was held."""
    held = job.state.held
    if held is None:
        return job
    deadline_at_ms = job.state.deadline_at_ms + now_ms - held.since_ms
    return replace(job, state=replace(job.state, held=None, deadline_at_ms=deadline_at_ms))


def ended(
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
    """End a job.

    Args:
        job: as it stands.
        status: how it ends.
        now_ms: the instant.
        attempt: that is changed with it.
        told: events that come before its end.
        error: why, unless it succeeded.
        outputs: of a success.
        progress: None leaves it as it is.
        may_bill: whether something may be billed that nobody follows.
        follow_ups: tasks that outlive it.
    """
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
    note: Note = {} if error is None else {"code": error.code}
    event = Event(type=ENDED[status], note=note)
    return Step(job=ended, attempt=attempt, events=(*told, event), follow_ups=follow_ups)
