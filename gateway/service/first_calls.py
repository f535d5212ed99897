"""One call first, where nothing was heard of an account for a while.

Sixty jobs may be due at the same moment. If the account's key was refused since it was last used, sixty calls
would say so; one is enough, and what it says is known to the others before they begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from gateway.clock import Clock
from gateway.routing.account import Account

SILENCE_S = 10.0
"""After that long without an answer, the next call goes alone."""
PATIENCE_S = 5.0
"""How long the others wait for it: a provider that hangs must not hold up every poll."""


class FirstCalls:
    """Which accounts were heard of lately, by this process.

    Args:
        clock: measures the silence.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard_s: dict[Account, float] = {}
        self._ended: dict[Account, asyncio.Event] = {}

    def heard(self, account: Account) -> None:
        """Note an answer that proves the account's key."""
        self._heard_s[account] = self._clock.monotonic_s()

    @asynccontextmanager
    async def turn(self, account: Account) -> AsyncGenerator[None]:
        """Wait for the first call, unless this is it, or there is none; then make a call inside.

        What it says of the account must be noted before this ends.
        """
        heard_s = self._heard_s.get(account)
        if heard_s is not None and self._clock.monotonic_s() - heard_s < SILENCE_S:
            yield
            return
        under_way = self._ended.get(account)
        if under_way is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(under_way.wait(), PATIENCE_S)
            yield
            return
        ended = self._ended[account] = asyncio.Event()
        try:
            yield
        finally:
            del self._ended[account]
            ended.set()
