"""Noticing that the wall clock jumped: somebody set it, or the machine slept."""

from __future__ import annotations

from msgspec import Struct

from gateway.clock import Clock

LEAST_MS = 30_000
"""What moves the clock by less is left alone: a poll comes that much early or late."""
READ_WITHIN_S = 1.0


class Jump(Struct, frozen=True):
    """The wall clock moved, and the time that passed does not account for it."""

    delta_ms: int
    """Negative is backward."""
    at_ms: int
    """What it said right after that, at the earliest."""


class ClockWatch:
    """Compares the wall clock with the monotonic one.

    Args:
        clock: both.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall_ms, self._monotonic_s = self._read()

    def look(self) -> Jump | None:
        """Return the jump since the last look, or None."""
        wall_ms, monotonic_s = self._read()
        passed_ms = round((monotonic_s - self._monotonic_s) * 1000)
        delta_ms = wall_ms - self._wall_ms - passed_ms
        at_ms = self._wall_ms + delta_ms
        self._wall_ms, self._monotonic_s = wall_ms, monotonic_s
        return Jump(delta_ms, at_ms) if abs(delta_ms) >= LEAST_MS else None

    def _read(self) -> tuple[int, float]:
        """Read both at the same moment: a process that is stopped between would see a jump."""
        while True:
            before_s, wall_ms = self._clock.monotonic_s(), self._clock.now_ms()
            if self._clock.monotonic_s() - before_s < READ_WITHIN_S:
                return wall_ms, before_s
