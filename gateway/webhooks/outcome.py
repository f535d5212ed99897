"""What came of one try to deliver, and how it is told from a status or an error. Pure."""

from __future__ import annotations

import ssl
from enum import StrEnum

import httpx
from msgspec import Struct

from gateway.net import DialRefused, LookupsBusy

BLOCKED_PREFIX = "ssrf-blocked: "
"""How the detail of a try begins that the guard did not let through."""

_THROTTLED = frozenset({429, 502, 503, 504})


class Outcome(StrEnum):
    """A closed set, fit for a metric's label."""

    DELIVERED = "delivered"
    """2xx, whatever the body."""
    GONE = "gone"
    """410: the receiver wants no more."""
    THROTTLED = "throttled"
    """429, 502, 503 or 504: the receiver, or what stands before it, is overloaded."""
    REDIRECTED = "redirected"
    """3xx, which is never followed."""
    HTTP_ERROR = "http_error"
    """Any other status."""
    TIMEOUT = "timeout"
    """No look-up, connection or status in time."""
    TLS = "tls"
    """The certificate or the handshake was bad."""
    CONNECTION = "connection"
    """No address, nobody there, or what came back was broken off or no HTTP."""
    BLOCKED = "blocked"
    """Must not be dialled, and was not."""
    OVERTAKEN = "overtaken"
    """Not a try: a job's progress that is no news any more is not sent again."""
    BUSY = "busy"
    """Not a try: as many deliveries or lookups as allowed were under way, and the receiver was not asked."""


class Sent(Struct, frozen=True, kw_only=True):
    """What came of one try."""

    outcome: Outcome
    status: int | None
    """None: no answer came."""
    retry_after: str | None
    """The Retry-After field as it came."""
    detail: str
    """At most 1 KiB of UTF-8 without NUL: the beginning of the answer, redacted, or what went wrong."""
    duration_s: float
    """From the look-up of the name to the end of reading; without waiting for a free lane."""


def judge_status(status: int) -> Outcome:
    """What a status means (Standard Webhooks 1.0.0: 2xx alone is success)."""
    if 200 <= status <= 299:
        return Outcome.DELIVERED
    if 300 <= status <= 399:
        return Outcome.REDIRECTED
    if status == 410:
        return Outcome.GONE
    return Outcome.THROTTLED if status in _THROTTLED else Outcome.HTTP_ERROR


def judge_error(error: Exception) -> Outcome:
    """What the lack of a status means.

    Args:
        error: as `gateway.net` raises it, or what httpx says of a URL it cannot read.
    """
    if isinstance(error, DialRefused | httpx.UnsupportedProtocol | httpx.InvalidURL | UnicodeError):
        return Outcome.BLOCKED
    if isinstance(error, LookupsBusy):
        return Outcome.BUSY
    if isinstance(error, httpx.TimeoutException):
        return Outcome.TIMEOUT
    return Outcome.TLS if _caused_by_tls(error) else Outcome.CONNECTION


def _caused_by_tls(error: BaseException) -> bool:
    """Whether OpenSSL's word stands behind `error`: `gateway.net` has one type for all failed connections."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:  # an error raised from itself is its own cause
        if isinstance(link, ssl.SSLError):
            return True
        seen.append(link)
        link = link.__cause__ or link.__context__
    return False
