"""Why a job failed, and the one table that says what follows from it."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class ErrorCode(StrEnum):
    """Why an attempt or a job failed, in words that are the same for every provider.

    A word that is not listed here is kept as it is: a newer version may have stored it, and both versions
    work on one database while a deployment rolls. `listed` tells them apart.
    """

    INVALID_REQUEST = "invalid_request"
    INVALID_MEDIA = "invalid_media"
    CONTENT_REJECTED = "content_rejected"
    UNAUTHORIZED = "unauthorized"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    RATE_LIMITED = "rate_limited"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    PROVIDER_ERROR = "provider_error"
    PROVIDER_CONTRACT = "provider_contract"
    TIMEOUT = "timeout"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    SUBMISSION_UNKNOWN = "submission_unknown"
    PROVIDER_LOST = "provider_lost"
    NO_PROVIDER = "no_provider"

    @classmethod
    def _missing_(cls, value: object) -> ErrorCode | None:
        if not isinstance(value, str):
            return None
        unlisted = str.__new__(cls, value)
        unlisted._name_ = unlisted._value_ = value
        return unlisted

    @property
    def listed(self) -> bool:
        """Whether this version knows the word."""
        return self.name in ErrorCode.__members__


class Fault(StrEnum):
    """Who can mend it."""

    CALLER = "caller"
    OPERATOR = "operator"
    PROVIDER = "provider"


class Decision(Struct, frozen=True, kw_only=True):
    """What a code means for the job and for whoever reads it."""

    retry: bool
    """Whether the gateway may submit again on the same account while nothing was made."""
    failover: bool
    """Whether another provider may be tried once the failure is definite and unbilled."""
    fault: Fault
    http_status: int
    """The status by which a client of ours would be told, were it told in a response."""
    retryable: bool
    """Whether the caller may sensibly post the same job again; shown as `error.retryable`."""


def _decide(*, retry: bool, failover: bool, fault: Fault, http: int, again: bool) -> Decision:
    return Decision(retry=retry, failover=failover, fault=fault, http_status=http, retryable=again)


#: The decision table. A submission whose outcome is unknown is never repeated, whatever stands here.
DECISIONS: dict[ErrorCode, Decision] = {
    ErrorCode.INVALID_REQUEST: _decide(
        retry=False, failover=False, fault=Fault.CALLER, http=422, again=False
    ),
    ErrorCode.INVALID_MEDIA: _decide(retry=False, failover=False, fault=Fault.CALLER, http=422, again=False),
    ErrorCode.CONTENT_REJECTED: _decide(
        retry=False, failover=False, fault=Fault.CALLER, http=422, again=False
    ),
    # The account's failing, not the job's: it waits until the account is mended, or for its deadline.
    ErrorCode.UNAUTHORIZED: _decide(retry=True, failover=True, fault=Fault.OPERATOR, http=502, again=False),
    ErrorCode.INSUFFICIENT_FUNDS: _decide(
        retry=True, failover=True, fault=Fault.OPERATOR, http=502, again=False
    ),
    ErrorCode.RATE_LIMITED: _decide(retry=True, failover=True, fault=Fault.PROVIDER, http=503, again=True),
    ErrorCode.PROVIDER_UNAVAILABLE: _decide(
        retry=True, failover=True, fault=Fault.PROVIDER, http=503, again=True
    ),
    ErrorCode.PROVIDER_ERROR: _decide(retry=False, failover=True, fault=Fault.PROVIDER, http=502, again=True),
    ErrorCode.PROVIDER_CONTRACT: _decide(
        retry=False, failover=False, fault=Fault.PROVIDER, http=502, again=False
    ),
    ErrorCode.TIMEOUT: _decide(retry=False, failover=True, fault=Fault.PROVIDER, http=504, again=True),
    # The run may have been paid for: posting the same job again is no safe advice.
    ErrorCode.DEADLINE_EXCEEDED: _decide(
        retry=False, failover=False, fault=Fault.PROVIDER, http=504, again=False
    ),
    ErrorCode.SUBMISSION_UNKNOWN: _decide(
        retry=False, failover=False, fault=Fault.PROVIDER, http=502, again=False
    ),
    ErrorCode.PROVIDER_LOST: _decide(retry=False, failover=False, fault=Fault.PROVIDER, http=502, again=True),
    ErrorCode.NO_PROVIDER: _decide(retry=False, failover=False, fault=Fault.OPERATOR, http=422, again=False),
}

#: Codes after which a job is submitted nowhere again, whatever settings say, and why.
FINAL: dict[ErrorCode, str] = {
    ErrorCode.INVALID_REQUEST: "the same request is wrong everywhere",
    ErrorCode.INVALID_MEDIA: "the same media is wrong everywhere",
    ErrorCode.CONTENT_REJECTED: "rejected content that is submitted again can cost the account",
    ErrorCode.DEADLINE_EXCEEDED: "the job's time is over, and its run may be billed",
    ErrorCode.SUBMISSION_UNKNOWN: "the submission may have been made, and would be paid for twice",
    ErrorCode.PROVIDER_LOST: "the run that the provider lost may be billed",
    ErrorCode.NO_PROVIDER: "it says that nobody is left",
}
#: For a word that only a newer version knows: the careful reading.
UNLISTED = _decide(retry=False, failover=False, fault=Fault.PROVIDER, http=502, again=False)

#: What a provider's HTTP status means where its spec has no rule of its own (RFC 9110, section 15).
HTTP_DEFAULTS: dict[int, ErrorCode] = {
    400: ErrorCode.INVALID_REQUEST,
    401: ErrorCode.UNAUTHORIZED,
    402: ErrorCode.INSUFFICIENT_FUNDS,
    403: ErrorCode.UNAUTHORIZED,
    408: ErrorCode.TIMEOUT,
    422: ErrorCode.INVALID_REQUEST,
    429: ErrorCode.RATE_LIMITED,
    500: ErrorCode.PROVIDER_ERROR,
    502: ErrorCode.PROVIDER_UNAVAILABLE,
    503: ErrorCode.PROVIDER_UNAVAILABLE,
    504: ErrorCode.TIMEOUT,
}


class UpstreamError(Struct, frozen=True, kw_only=True):
    """A provider's failure in our words, with its own kept beside them."""

    code: ErrorCode
    message: str
    provider_code: str | None = None

    @property
    def decision(self) -> Decision:
        """The row of the table for this code."""
        return DECISIONS.get(self.code, UNLISTED)


class UnexpectedPayload(ValueError):
    """A provider's reply cannot be read as its contract says; the text says where and why."""
