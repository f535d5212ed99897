"""The only translation from a provider's words into ours: (spec, report) -> Update or UpstreamError."""

from __future__ import annotations

from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from providers.contract.errors import HTTP_DEFAULTS, ErrorCode, UpstreamError
from providers.contract.reading import MAX_NUMBER, is_http_url, message_of
from providers.contract.report import Cost, Failure, Observation
from providers.contract.spec import FailureRule, Spec
from providers.contract.status import JobStatus

_Number = TypeVar("_Number", int, float)


class Update(Struct, frozen=True, kw_only=True):
    """What a poll means for the job."""

    provider_status: str
    """The provider's own word."""
    status: JobStatus | None
    """None when the word is unknown: the job stays where it is."""
    slow: bool = False
    progress: float | None = None
    outputs: tuple[str, ...] = ()
    error: UpstreamError | None = None
    cost: Cost | None = None
    drift: bool = False
    """The reply contradicts the provider's own contract: ask again before believing it."""


def normalize(spec: Spec, seen: Observation, *, allow_http: bool = False) -> Update:
    """Say what an observation means.

    Args:
        spec: the provider's tables.
        seen: what its poll reader returned.
        allow_http: whether a result may be plain http, as a provider on loopback gives it.
    """
    entry = spec.word(seen.status)
    word = message_of(seen.status)
    if entry is None:
        return Update(provider_status=word, status=None, progress=_progress(seen.progress))
    update = Update(provider_status=word, status=entry.means, slow=entry.slow, cost=priced(spec, seen.cost))
    match entry.means:
        case JobStatus.SUCCEEDED:
            return _succeeded(update, seen, allow_http=allow_http)
        case JobStatus.FAILED:
            error = classify(spec, seen.failure or Failure(), http_status=None)
            return replace(update, error=error)
        case JobStatus.QUEUED | JobStatus.RUNNING:
            return replace(update, progress=_progress(seen.progress))
        case JobStatus.CANCELLED:
            return update


def classify(spec: Spec, failure: Failure, *, http_status: int | None) -> UpstreamError:
    """Say what a failure means: the first rule of the spec that fits, else the contract's default.

    Args:
        spec: the provider's tables.
        failure: what the adapter's reader made of it.
        http_status: the status of the reply that carried it; None for a failure inside a poll.
    """
    rule = rule_for(spec, failure, http_status=http_status)
    code = _default(http_status) if rule is None else rule.code
    message = message_of(failure.message) or f"{spec.title} gave no reason"
    return UpstreamError(code=code, message=message, provider_code=message_of(failure.code) or None)


def rule_for(spec: Spec, failure: Failure, *, http_status: int | None) -> FailureRule | None:
    """Return the row of the failure table that decides, or None where the contract's default does."""
    return next((rule for rule in spec.failures if _fits(rule, failure, http_status)), None)


def priced(spec: Spec, cost: Cost | None) -> Cost | None:
    """Fill in the USD of a cost given in credits; figures that cannot be true are left out."""
    if cost is None:
        return None
    amount, micro_usd = _amount(cost.credits), _amount(cost.micro_usd)
    if micro_usd is None and amount is not None and spec.micro_usd_per_credit is not None:
        micro_usd = _amount(round(amount * spec.micro_usd_per_credit))
    return None if amount is None and micro_usd is None else Cost(credits=amount, micro_usd=micro_usd)


def _succeeded(update: Update, seen: Observation, *, allow_http: bool) -> Update:
    usable = tuple(url for url in seen.outputs if is_http_url(url, allow_http=allow_http))
    if usable:
        return replace(update, progress=1.0, outputs=usable)
    reason = "no output" if not seen.outputs else f"an output that is no usable URL: {seen.outputs[0][:80]!r}"
    error = UpstreamError(code=ErrorCode.PROVIDER_CONTRACT, message=f"success was reported with {reason}")
    return replace(update, status=JobStatus.FAILED, error=error, drift=True)


def _amount(value: _Number | None) -> _Number | None:
    # Below zero it would pay us; beyond the bound it is rubbish that would not fit a database's BIGINT.
    return value if value is not None and 0 <= value < MAX_NUMBER else None


def _progress(value: float | None) -> float | None:
    return None if value is None or not 0 <= value <= 1 else value


def _fits(rule: FailureRule, failure: Failure, http_status: int | None) -> bool:
    if rule.http_status is not None and rule.http_status != http_status:
        return False
    if rule.transient and not failure.transient:
        return False
    if (
        rule.message_contains is not None
        and rule.message_contains.casefold() not in failure.message.casefold()
    ):
        return False
    if rule.provider_code is None:
        return rule.transient or rule.http_status is not None or rule.message_contains is not None
    given = failure.code or ""
    if rule.provider_code.endswith("."):
        return given.startswith(rule.provider_code) or given == rule.provider_code[:-1]
    return given == rule.provider_code


def _default(http_status: int | None) -> ErrorCode:
    if http_status is None:
        return ErrorCode.PROVIDER_ERROR
    if http_status in HTTP_DEFAULTS:
        return HTTP_DEFAULTS[http_status]
    return ErrorCode.INVALID_REQUEST if 400 <= http_status < 500 else ErrorCode.PROVIDER_ERROR
