"""What is known of each account just now, as far as it bears on the choice; `plan` is handed it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from gateway.routing.account import Account


class Condition(Struct, frozen=True, kw_only=True):
    """One account's."""

    weight: float = 1.0
    """Its share of the jobs under the policy `weighted`, against other accounts' weights."""
    run_s: float | None = None
    """Measured median run time, seconds; None: not enough is learned."""
    unavailable: str | None = None
    """breaker_open, paused, unauthorized, unfunded, no_slot or paced; None when it can take a job now."""
    reason: str = ""
    """The same in words."""
    until_ms: int | None = None
    """When to look again, where that is known; epoch milliseconds."""


Conditions = Mapping[Account, Condition]
"""One that is missing is `Condition()`."""
