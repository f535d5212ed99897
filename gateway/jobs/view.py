"""The job as users see it, in API replies and webhook bodies alike."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

import msgspec
from msgspec import Raw, Struct

from gateway.jobs.job import Attempt, Held, Job, JobState
from providers.contract.errors import UpstreamError
from providers.contract.status import JobStatus


class OutputView(Struct, frozen=True, kw_only=True):
    """A result at the provider's address; fetch it before it expires."""

    url: str
    content_type: str
    expires_at: str


class ErrorView(Struct, frozen=True, kw_only=True):
    """Why it failed. `retryable` says whether posting the same job again makes sense."""

    code: str
    message: str
    retryable: bool
    provider_code: str | None


class HeldView(Struct, frozen=True, kw_only=True):
    """Why it stands still, and until when at most."""

    reason: str
    since: str
    until: str


class CostView(Struct, frozen=True, kw_only=True):
    """What the provider says the attempt cost."""

    credits: float | None
    usd: float | None


class AttemptView(Struct, frozen=True, kw_only=True):
    """One provider's try."""

    id: str
    provider: str
    account: str
    state: str
    written_off: bool
    """Whether the job was submitted again although nobody knows what became of this one."""
    provider_ref: str | None
    provider_status: str | None
    started_at: str
    finished_at: str | None
    error: ErrorView | None
    cost: CostView | None


class JobCostView(Struct, frozen=True, kw_only=True):
    """USD: the estimate at acceptance, and what providers said they charged."""

    estimated_usd: float | None
    charged_usd: float | None


class JobView(Struct, frozen=True, kw_only=True):
    """A job."""

    id: str
    status: JobStatus
    progress: float | None
    provider: str | None
    model: str
    simulated: bool
    created_at: str
    started_at: str | None
    finished_at: str | None
    deadline_at: str
    cancel_requested_at: str | None
    provider_may_bill: bool
    """Whether a run of it may be billed that could not be stopped, or may have been made unknown to us."""
    request: Raw
    """The request as accepted, defaults filled in."""
    outputs: list[OutputView]
    error: ErrorView | None
    held: HeldView | None
    attempts: list[AttemptView]
    cost: JobCostView
    metadata: Raw


_SECOND = tuple(f"{second:02d}." for second in range(60))
_MILLISECOND = tuple(f"{millisecond:03d}Z" for millisecond in range(1000))


def instant(ms: int) -> str:
    """Format milliseconds since 1970 as RFC 3339 in UTC, to the millisecond."""
    minute, rest = divmod(ms, 60_000)
    return _minute(minute) + _SECOND[rest // 1000] + _MILLISECOND[rest % 1000]


@lru_cache(maxsize=65_536)
def _minute(minute: int) -> str:
    """Format the part that many instants share: a job's view holds half a dozen, most of the same day."""
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:")


def view(job: Job, attempts: tuple[Attempt, ...]) -> JobView:
    """Show a job with its attempts."""
    return compose(
        job_id=job.id,
        model=job.request.model,
        simulated=job.simulated,
        created_at_ms=job.created_at_ms,
        progress=job.progress,
        estimated_micro_usd=job.estimated_micro_usd,
        state=job.state,
        request=Raw(msgspec.json.encode(job.request)),
        metadata=Raw(msgspec.json.encode(job.metadata)),
        attempts=attempts,
    )


def compose(
    *,
    job_id: str,
    model: str,
    simulated: bool,
    created_at_ms: int,
    progress: float | None,
    estimated_micro_usd: int | None,
    state: JobState,
    request: Raw,
    metadata: Raw,
    attempts: tuple[Attempt, ...],
) -> JobView:
    """Show a job from its stored parts, whose documents need no decoding to be shown."""
    charged = [attempt.micro_usd for attempt in attempts if attempt.micro_usd is not None]
    return JobView(
        id=job_id,
        status=state.status,
        progress=progress,
        provider=state.provider,
        model=model,
        simulated=simulated,
        created_at=instant(created_at_ms),
        started_at=_maybe(state.started_at_ms),
        finished_at=_maybe(state.finished_at_ms),
        deadline_at=instant(state.deadline_at_ms),
        cancel_requested_at=_maybe(state.cancel_requested_at_ms),
        provider_may_bill=state.provider_may_bill,
        request=request,
        outputs=[
            OutputView(
                url=output.url, content_type=output.content_type, expires_at=instant(output.expires_at_ms)
            )
            for output in state.outputs
        ],
        error=_error(state.error),
        held=_held(state.held),
        attempts=[_attempt(attempt) for attempt in attempts],
        cost=JobCostView(
            estimated_usd=_usd(estimated_micro_usd),
            charged_usd=_usd(sum(charged)) if charged else None,
        ),
        metadata=metadata,
    )


def _attempt(attempt: Attempt) -> AttemptView:
    has_cost = attempt.credits is not None or attempt.micro_usd is not None
    return AttemptView(
        id=attempt.id,
        provider=attempt.provider,
        account=attempt.account,
        state=attempt.state,
        written_off=attempt.written_off,
        provider_ref=attempt.ref,
        provider_status=attempt.provider_status,
        started_at=instant(attempt.started_at_ms),
        finished_at=_maybe(attempt.finished_at_ms),
        error=_error(attempt.error),
        cost=CostView(credits=attempt.credits, usd=_usd(attempt.micro_usd)) if has_cost else None,
    )


def _error(error: UpstreamError | None) -> ErrorView | None:
    if error is None:
        return None
    return ErrorView(
        code=error.code,
        message=error.message,
        retryable=error.decision.retryable,
        provider_code=error.provider_code,
    )


def _held(held: Held | None) -> HeldView | None:
    if held is None:
        return None
    return HeldView(reason=held.reason, since=instant(held.since_ms), until=instant(held.until_ms))


def _maybe(ms: int | None) -> str | None:
    return None if ms is None else instant(ms)


def _usd(micro_usd: int | None) -> float | None:
    return None if micro_usd is None else micro_usd / 1_000_000
