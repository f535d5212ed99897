"""What is known of each account just now, as far as it bears on the choice. It is handed to `plan`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Condition(Struct, frozen=True, kw_only=True):
    """One account's."""

    weight: float = 1.0
    """For the policy `weighted`."""
    run_s: float | None = None
    """Measured median run time, seconds; None: not enough is learned."""
    unavailable: str | None = None
    """A code (breaker_open, paused, unauthorized, no_slot), None when it can take a job now."""
    reason: str = ""
    """The same in words."""
    until_ms: int | None = None
    """When to look again, where that is known."""


Conditions = Mapping[tuple[str, str], Condition]
"""By (provider, account); one that is missing is `Condition()`."""
