"""How many requests a rate lets through: the generic cell rate algorithm (ITU-T I.371), in whole nanoseconds.

The state is one number, the theoretical arrival time: the instant at which the key will have used nothing.
Each request moves it by a step, interval over count, and is admitted while it stays within a burst, that is
`count` steps, of now. So a key that rested may send `count` requests at once, and then one every step.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from gateway.settings.rates import Rate

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
SKEW_NS: Final = 5 * NS_PER_S
"""By how much the clocks of two processes may differ. A state further ahead than a full burst and this was
written under another rate, or before the clock was set back; it counts as a full burst."""


class Admitted(Struct, frozen=True):
    """What became of requests that came together."""

    count: int
    """How many are let through: the first ones."""
    before_ns: int
    """The theoretical arrival time that the first of them met, now at the earliest."""
    after_ns: int
    """What it is from now on."""


class Standing(Struct, frozen=True):
    """How a key stands."""

    remaining: int
    """Requests that would be let through now."""
    reset_s: float
    """Seconds until all of them are there again; until the next one where there is none."""


def step_ns(rate: Rate) -> int:
    """The time that one request uses up, nanoseconds; rounded up, so that no rate is ever exceeded."""
    return -(-rate.interval_s * NS_PER_S // rate.count)


def admit(rate: Rate, arrival_ns: int, *, now_ns: int, wanted: int) -> Admitted:
    """Let through as many of `wanted` requests as fit.

    Args:
        rate: of the key.
        arrival_ns: the theoretical arrival time as stored; 0 for a key that never asked.
        now_ns: the instant, nanoseconds since 1970.
        wanted: how many came, one at least.
    """
    step = step_ns(rate)
    full_ns = now_ns + rate.count * step
    stored_ns = full_ns if arrival_ns > full_ns + SKEW_NS else arrival_ns
    before_ns = max(stored_ns, now_ns)
    count = min(wanted, max(0, (full_ns - before_ns) // step))
    return Admitted(count, before_ns, before_ns + count * step if count else stored_ns)


def standing(rate: Rate, arrival_ns: int, *, now_ns: int) -> Standing:
    """Tell what is left.

    Args:
        rate: of the key.
        arrival_ns: the theoretical arrival time.
        now_ns: the instant.
    """
    step = step_ns(rate)
    used_ns = max(0, arrival_ns - now_ns)
    remaining = max(0, (rate.count * step - used_ns) // step)
    wait_ns = used_ns if remaining else used_ns - (rate.count - 1) * step
    return Standing(remaining, wait_ns / NS_PER_S)
