"""How many deliveries are under way at once, in all and in one lane.

A lane is an endpoint, or host and port of a job's own receiver.

The transport could count connections itself, but there waiting for one is part of the call's deadline: a
receiver that is merely slow would be cut short for the queue before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


def lane_of(url: str) -> str:
    """Return the lane of a job's own receiver, whose URL is in normal form: its host and port."""
    return url.partition("://")[2].partition("/")[0]


class Lanes:
    """Waits for one's turn, the lane's own first, so that its queue takes nothing from other lanes."""

    def __init__(self, *, total: int, per_host: int) -> None:
        """Begin with all lanes free.

        Args:
            total: most deliveries at once.
            per_host: the same in one lane.
        """
        self._per_host = per_host
        self._total = asyncio.Semaphore(total)
        # They live as long as somebody is in one or waits for one.
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def lane(self, host: str, *, within_s: float) -> AsyncGenerator[None]:
        """Hold a place in the lane of this name.

        Raises:
            TimeoutError: none became free within `within_s` seconds.
        """
        lanes = self._hosts.setdefault(host, asyncio.Semaphore(self._per_host))
        async with asyncio.timeout(within_s) as waiting, lanes, self._total:
            waiting.reschedule(None)
            yield
