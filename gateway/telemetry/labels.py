"""The closed sets of label values, and the door before them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

OTHER: Final = "other"
NONE: Final = "none"

STATUSES: Final = ("queued", "running", "succeeded", "failed", "cancelled")
CODES: Final = (
    "invalid_request", "invalid_media", "content_rejected", "unauthorized", "insufficient_funds",
    "rate_limited", "provider_unavailable", "provider_error", "provider_contract", "timeout",
    "deadline_exceeded", "submission_unknown", "provider_lost", "no_provider",
)  # fmt: skip
"""The error codes of jobs; a test compares them with the contract's."""
OPERATIONS: Final = ("submit", "poll", "cancel", "probe", "reconcile")
OUTCOMES: Final = ("made", "withheld", "unknown", "seen", "done", "missing", *CODES)
"""What came of a call to a provider: its kind of success, or the error's code."""
SETTLED: Final = ("adopted", "resubmitted", "failed", "expired", "cancelled", "late")
"""What became of a submission whose outcome was unknown."""
DELIVERY_OUTCOMES: Final = (
    "delivered", "gone", "throttled", "redirected", "http_error", "timeout", "tls", "connection", "blocked",
    "overtaken", "busy",
)  # fmt: skip
"""What came of one try to deliver; a test compares them with `gateway.webhooks.outcome`."""
CALLBACK_OUTCOMES: Final = (
    "poll", "reconcile", "coalesced", "stored", "other_ref", "known", "full", "throttled", "unreadable",
    "token", "stranger", "missing", "repeated", "malformed", "stale", "forged",
)  # fmt: skip
"""What came of a provider's call: what it led to, why it was not kept, or why it proved nothing."""
DISABLED: Final = ("gone", "failing", "requested")
"""Why a webhook endpoint was disabled."""
ENDPOINT_STATES: Final = ("enabled", "disabled")
WATCHES: Final = ("stream", "wait")
TOLD: Final = ("delivered", "undelivered", "unasked")
"""Whether a success was told to whoever asked to be."""
PERCENTS: Final = ("80", "100")
"""Of a budget."""
POLICIES: Final = ("requests", "jobs-in-flight", "budget", "queue", "watchers")
"""The limits that a request or a new job can run into."""
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Closed:
    """A closed set of label values."""

    __slots__ = ("_values",)

    def __init__(self, values: Iterable[str]) -> None:
        self._values = frozenset({*values, NONE, OTHER})

    def __call__(self, value: str | None) -> str:
        """Return the value when it is in the set, `none` for None, `other` for the rest."""
        if value is None:
            return NONE
        return value if value in self._values else OTHER
