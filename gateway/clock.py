"""What time it is: the only place that asks. Handed in everywhere, so that tests own time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that says when, one that says how long."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970-01-01 UTC. It may jump."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never jumps."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()
