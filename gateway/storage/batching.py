"""Concurrent calls become one operation.

One statement for fifty callers costs little more than for one. A call that finds nothing under way starts
at once, so a lone caller waits for nobody; the calls that come while it runs form the next batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gateway.errors import StorageUnavailable

PATIENCE_S = 10.0
"""How long an item waits for its batch to begin."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batched(Generic[Item, Result]):
    """An async function of one item, carried out by a function of many.

    Args:
        run: gets the items in the order they came, and returns as many results.
        limit: the largest batch.
        patience_s: how long an item waits for its batch to begin, seconds.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[list[Result]]],
        *,
        limit: int = 64,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._run = run
        self._limit = limit
        self._patience_s = patience_s
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Return this item's result, or raise what its batch raised.

        Raises:
            StorageUnavailable: the batch before takes too long, as one whose outcome is in doubt does.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        entry = (item, future)
        self._waiting.append(entry)
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        late = loop.call_later(self._patience_s, self._turn_away, entry)
        try:
            return await future
        finally:
            late.cancel()

    def _turn_away(self, entry: tuple[Item, asyncio.Future[Result]]) -> None:
        _, future = entry
        left = [one for one in self._waiting if one[1] is not future]
        if len(left) < len(self._waiting) and not future.done():  # not begun, and still waited for
            self._waiting = left
            future.set_exception(StorageUnavailable("the database is too busy; nothing was stored"))

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                await self._carry_out(batch)
        finally:
            self._task = None

    async def _gather(self) -> None:
        """Give the loop turns as long as each brings more: what has arrived by now gets into this batch."""
        seen = 0
        while seen < len(self._waiting) < self._limit:
            seen = len(self._waiting)
            await asyncio.sleep(0)

    async def _carry_out(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            pairs = list(zip(batch, await self._run([item for item, _ in batch]), strict=True))
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for (_, future), result in pairs:
                if not future.done():
                    future.set_result(result)
