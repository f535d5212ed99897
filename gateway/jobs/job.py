"""A job and its attempts, as values."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from providers.contract.errors import UpstreamError
from providers.contract.motion import MotionRequest
from providers.contract.status import JobStatus

UnknownPolicy = Literal["hold", "fail", "resubmit"]
"""What happens to a job when nobody can tell whether its paid submission was made."""


Policy = Literal["priority", "cheapest", "fastest", "weighted"]
"""How the candidates for a job are ordered."""

Priority = Literal["low", "normal", "high"]
"""Which of an owner's waiting jobs goes first."""
RANKS: Mapping[Priority, int] = {"low": -1, "normal": 0, "high": 1}
"""What each priority is worth; the highest goes first."""


class RoutingWish(Struct, frozen=True, kw_only=True):
    """Where the caller wants the job to run; without providers, anywhere."""

    providers: tuple[str, ...] = ()
    """Only these; tried in this order where the policy is `priority`."""
    exclude: tuple[str, ...] = ()
    policy: Policy = "priority"
    failover: bool = False
    """Whether another candidate may be tried; False for jobs of versions that could not."""
    max_cost_usd: float | None = None

    @property
    def max_cost_micro_usd(self) -> int | None:
        """What all its runs together may cost, micro-USD: what the caller wrote, exactly, rounded down."""
        if self.max_cost_usd is None:
            return None
        exact = Decimal(str(self.max_cost_usd)) * 1_000_000
        return int(exact.to_integral_value(ROUND_FLOOR))


class JobWebhook(Struct, frozen=True, kw_only=True):
    """Whom to tell, and of what. The secret is kept apart, sealed."""

    url: str
    events: tuple[str, ...]


class JobRequest(MotionRequest, frozen=True, kw_only=True):
    """What was accepted, every default filled in; its JSON is the `request` users read back."""

    routing: RoutingWish = RoutingWish()
    webhook: JobWebhook | None = None
    deadline_s: int
    priority: Priority = "normal"
    on_unknown_submission: UnknownPolicy = "hold"


class Output(Struct, frozen=True, kw_only=True):
    """One result, at the provider's address."""

    url: str
    content_type: str
    expires_at_ms: int


class Held(Struct, frozen=True, kw_only=True):
    """Why a job stands still, since when, and when it is given up."""

    reason: str
    since_ms: int
    until_ms: int


class JobState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything about a job that changes. Only `transitions` makes new ones."""

    status: JobStatus = JobStatus.QUEUED
    deadline_at_ms: int
    provider: str | None = None
    """Of the latest attempt."""
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    outputs: tuple[Output, ...] = ()
    error: UpstreamError | None = None
    held: Held | None = None
    cancel_requested_at_ms: int | None = None
    provider_may_bill: bool = False
    """A run of it may be billed that could not be stopped, or of which nobody knows whether it was made."""
    restored_at_ms: int | None = None
    """When a backup brought it back: it may have been submitted since the backup was made, so nothing is
    submitted for it any more but on an operator's word."""


class Job(Struct, frozen=True, kw_only=True):
    """A job: what was asked, which never changes, and how it stands."""

    id: str
    owner: str
    created_at_ms: int
    request: JobRequest
    metadata: Mapping[str, str]
    state: JobState
    progress: float | None = None
    """0 to 1; written apart from the state, since it changes with no event."""
    sequence: int = 0
    """The number of its latest event, and so the version that a change must find unchanged."""
    estimated_micro_usd: int | None = None
    simulated: bool = False
    sealed_webhook_secret: str | None = None
    """The secret given with the job; None means its owner's."""
    room: str = ""
    """Which accounts can run it, as `routing.queue.room_of` writes it: where it waits for its turn."""
    traceparent: str | None = None
    """The trace it belongs to, as W3C's header writes it; None where there is none."""

    @property
    def rank(self) -> int:
        """What its priority is among its owner's jobs."""
        return RANKS[self.request.priority]


class AttemptState(StrEnum):
    """How one provider's try at a job stands.

    SUBMITTING is written before the paid call and left after it; an attempt found in it after a crash
    may or may not have been made, and becomes UNKNOWN.
    """

    SUBMITTING = "submitting"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: The provider may be working on it, or have worked on it.
LIVE = frozenset({AttemptState.SUBMITTING, AttemptState.ACCEPTED, AttemptState.UNKNOWN})


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One provider's try at a job."""

    id: str
    job_id: str
    number: int
    provider: str
    account: str
    options: Mapping[str, str] = {}
    """The adapter's options, frozen here so that a poll asks the way the submit was made."""
    state: AttemptState
    written_off: bool = False
    """Its outcome was never learnt, and somebody accepted the risk of submitting again."""
    ref: str | None = None
    provider_status: str | None = None
    started_at_ms: int
    doubted_at_ms: int | None = None
    """When its answer was given up: it was made before that, or not at all."""
    accepted_at_ms: int | None = None
    finished_at_ms: int | None = None
    error: UpstreamError | None = None
    credits: float | None = None
    micro_usd: int | None = None
    estimated_micro_usd: int | None = None
    """What it was expected to cost there; None for the job's own estimate."""
    may_bill: bool = False
    """It is over for us, but its run may have been billed, and nobody will say so any more."""


def latest(attempts: tuple[Attempt, ...]) -> Attempt | None:
    """Return the attempt with the highest number, or None."""
    return max(attempts, key=lambda attempt: attempt.number, default=None)


def in_doubt(attempts: tuple[Attempt, ...]) -> Attempt | None:
    """Return the attempt whose outcome is unknown and waited for, or None; a job has one at most."""
    current = latest(attempts)
    waits = current is not None and current.state is AttemptState.UNKNOWN and not current.written_off
    return current if waits else None
