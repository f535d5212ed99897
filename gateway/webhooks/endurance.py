"""When an endpoint is sent to no more. Pure."""

from __future__ import annotations

from typing import Literal

from gateway.webhooks.outcome import Outcome

ENDURED_MS = 120 * 3_600_000
"""How long an endpoint may fail without any success (as Svix: five days)."""
FEWEST_FAILURES = 3
"""Failures in a row that disable it after that time: two with idle days between say little."""


def disabled_for(
    outcome: str, *, failing_since_ms: int | None, failures: int, at_ms: int
) -> Literal["gone", "failing"] | None:
    """Say why an endpoint is to be disabled after a try that failed; None when it is not.

    Args:
        outcome: of the try.
        failing_since_ms: the first failure since the last success, if this is not it.
        failures: since the last success, this one included.
        at_ms: when it was tried.
    """
    if outcome == Outcome.GONE:
        return "gone"
    if failing_since_ms is None or failures < FEWEST_FAILURES:
        return None
    return "failing" if at_ms - failing_since_ms >= ENDURED_MS else None
