"""A breaker: whether one kind of call to one account is worth making, by how the last ones went.

It opens after `IN_A_ROW` failures in a row, or when half of at least `FEW` calls within `WINDOW_MS` failed,
and stays open for `OPEN_MS` times the number of times in a row that it opened. Then one call at a time is let
through, the probe; its success closes the breaker.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

IN_A_ROW = 5
FEW = 20
WINDOW_MS = 30_000
OPEN_MS = 30_000
LONGEST_OPEN_MS = 300_000
PROBE_MS = 90_000
"""How long a probe may be under way before another is let through: longer than any call takes."""


class Breaker(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How calls of one kind went. Instants are epoch milliseconds."""

    in_a_row: int = 0
    """Failures since the last success."""
    window_at_ms: int = 0
    calls: int = 0
    """In the window."""
    failures: int = 0
    """In the window."""
    openings: int = 0
    """Times it opened since it last closed; 0: it is closed."""
    open_until_ms: int = 0
    probe_until_ms: int = 0


CLOSED = Breaker()


def shut_until(breaker: Breaker, *, now_ms: int) -> int | None:
    """When a call may be made again; None: now."""
    if not breaker.openings:
        return None
    until_ms = max(breaker.open_until_ms, breaker.probe_until_ms)
    return until_ms if until_ms > now_ms else None


def probing(breaker: Breaker, *, now_ms: int) -> Breaker:
    """Note that a call is about to be made: while the breaker is open, it is the probe."""
    return replace(breaker, probe_until_ms=now_ms + PROBE_MS) if breaker.openings else breaker


def succeeded(breaker: Breaker, *, now_ms: int) -> Breaker:
    """Note a success: an open breaker closes."""
    if breaker.openings:
        return CLOSED
    if not breaker.in_a_row and not breaker.failures:
        return breaker  # nothing to remember, so that nothing is written while all is well
    if now_ms - breaker.window_at_ms > WINDOW_MS:
        return CLOSED
    return replace(breaker, in_a_row=0, calls=breaker.calls + 1)


def failed(breaker: Breaker, *, now_ms: int, scale: float = 1.0) -> Breaker:
    """Note a failure: it may open the breaker, or keep it open for longer.

    Args:
        breaker: as it was.
        now_ms: the instant.
        scale: factor on how long it stays open.
    """
    if breaker.openings:
        # One that was under way when it opened says nothing new.
        return breaker if now_ms < breaker.open_until_ms else _opened(breaker, now_ms, scale)
    fresh = now_ms - breaker.window_at_ms > WINDOW_MS
    counted = replace(
        breaker,
        in_a_row=breaker.in_a_row + 1,
        window_at_ms=now_ms if fresh else breaker.window_at_ms,
        calls=1 if fresh else breaker.calls + 1,
        failures=1 if fresh else breaker.failures + 1,
    )
    broken = counted.in_a_row >= IN_A_ROW or (counted.calls >= FEW and 2 * counted.failures >= counted.calls)
    return _opened(counted, now_ms, scale) if broken else counted


def _opened(breaker: Breaker, now_ms: int, scale: float) -> Breaker:
    openings = breaker.openings + 1
    length_ms = round(min(OPEN_MS * openings, LONGEST_OPEN_MS) * scale)
    return Breaker(openings=openings, open_until_ms=now_ms + length_ms)
