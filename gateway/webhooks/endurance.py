"""When an endpoint is sent to no more. Pure.

By the wall clock, which somebody may set: no single jump of it makes five days of a moment, since failures on
several days are asked for, and what lies between two of them counts for one.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gateway.webhooks.outcome import Outcome

DAY_MS = 24 * 3_600_000
ENDURED_MS = 5 * DAY_MS
"""How long an endpoint may fail without any success (as Svix: five days)."""
FEWEST_DAYS = 3
"""On how many days it must have failed then: two failures with idle days between say little."""


class Failing(Struct, frozen=True):
    """How an endpoint has failed since its last success."""

    since_ms: int
    """The first failure."""
    days: int
    """Failures of which each is a day after the one before, at least."""
    counted_ms: int
    """The last of them."""


def failing(before: Failing | None, *, at_ms: int) -> Failing:
    """Count a failure in.

    Args:
        before: how it had failed; None: it had not.
        at_ms: when it was tried.
    """
    if before is None or at_ms < before.since_ms:  # or by a clock that was ahead, and was set back since
        return Failing(since_ms=at_ms, days=1, counted_ms=at_ms)
    if at_ms - before.counted_ms >= DAY_MS:
        return Failing(since_ms=before.since_ms, days=before.days + 1, counted_ms=at_ms)
    return Failing(before.since_ms, before.days, min(before.counted_ms, at_ms))


def disabled_for(outcome: str, now: Failing, *, at_ms: int) -> Literal["gone", "failing"] | None:
    """Say why an endpoint is to be disabled after a try that failed; None when it is not.

    Args:
        outcome: of the try.
        now: how it has failed, this try counted in.
        at_ms: when it was tried.
    """
    if outcome == Outcome.GONE:
        return "gone"
    if now.days < FEWEST_DAYS:
        return None
    return "failing" if at_ms - now.since_ms >= ENDURED_MS else None
