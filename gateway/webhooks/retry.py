"""When a delivery is tried again. Pure: the clock and the chance are handed in."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.jobs.schedule import retry_after_s
from gateway.webhooks.outcome import Outcome

CAREFUL_S = 60.0
"""The shortest wait after a sign of overload, seconds (as Svix)."""

BUSY_S = 10.0
"""The wait when the receiver was not even asked, seconds."""

_OVERLOADED = frozenset({Outcome.TIMEOUT, Outcome.THROTTLED})
_SETTLED = frozenset({Outcome.DELIVERED, Outcome.GONE, Outcome.OVERTAKEN})


def next_try(
    *,
    tries: int,
    outcome: Outcome,
    retry_after: str | None,
    schedule_s: Sequence[float],
    jitter: float,
    spread: float,
    now_ms: int,
) -> float | None:
    """Seconds until the next try; None when there is none: it is settled, or the schedule is at its end.

    Args:
        tries: how often the receiver was tried; an outcome of `busy` is no try.
        outcome: of the last one.
        retry_after: the answer's Retry-After. It lengthens the wait to at most twice itself and never
            shortens it, so that a receiver can neither postpone for ever nor hurry us.
        schedule_s: seconds before each try, the first one included.
        jitter: the part of a wait by which it varies either way, 0 to 1.
        spread: a random number from 0 to 1: where between shortest and longest.
        now_ms: to read a Retry-After that is a date.
    """
    if outcome is Outcome.BUSY:
        return _varied(BUSY_S, jitter, spread, at_least_s=0.0)
    if outcome in _SETTLED or tries >= len(schedule_s):
        return None
    at_least_s = CAREFUL_S if outcome in _OVERLOADED else 0.0
    wait_s = _varied(max(schedule_s[tries], at_least_s), jitter, spread, at_least_s=at_least_s)
    asked_s = retry_after_s(retry_after, now_ms=now_ms)
    return wait_s if asked_s is None else min(max(asked_s, wait_s), 2 * wait_s)


def _varied(seconds: float, jitter: float, spread: float, *, at_least_s: float) -> float:
    """Evenly between `seconds` less and plus their jitter; cut off at the floor, half would meet there."""
    shortest = max(seconds * (1 - jitter), at_least_s)
    return shortest + spread * (seconds * (1 + jitter) - shortest)
