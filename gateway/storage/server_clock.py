"""The database server's time, for a fleet: replicas whose own clocks differ agree on what is due.

Kept from samples and the machine's monotonic clock between them, so that reading it costs nothing and a jump
of the machine's wall clock changes nothing. Safety does not rest on it: a result is fenced by versions,
whatever anybody's clock says.
"""

from __future__ import annotations

from msgspec import Struct

from gateway.clock import Clock


class Sample(Struct, frozen=True, kw_only=True):
    """The server's time at some moment between two of ours."""

    server_ms: float
    asked_s: float
    answered_s: float


class ServerClock:
    """A `gateway.clock.Clock` that tells the server's time.

    Args:
        local: the machine's clocks; its wall clock counts until the first sample.
    """

    def __init__(self, local: Clock) -> None:
        self.local = local
        # One tuple, replaced as a whole: the sampling thread writes, the others read.
        self._anchor = (float(local.now_ms()), local.monotonic_s())

    def anchor(self, sample: Sample) -> None:
        """Take a sample; the server answered half-way between our two moments, give or take."""
        self._anchor = (sample.server_ms, (sample.asked_s + sample.answered_s) / 2)

    def now_ms(self) -> int:
        """Server's wall clock, milliseconds since 1970-01-01 UTC."""
        at_ms, at_s = self._anchor
        return int(at_ms + (self.local.monotonic_s() - at_s) * 1000)

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start, of this machine."""
        return self.local.monotonic_s()
