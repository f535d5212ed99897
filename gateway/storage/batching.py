"""Concurrent calls become one operation.

One statement for fifty callers costs little more than for one. A call that finds nothing under way starts
at once, so a lone caller waits for nobody; the calls that come while it runs form the next batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batched(Generic[Item, Result]):
    """An async function of one item, carried out by a function of many.

    Args:
        run: gets the items in the order they came, and returns as many results.
        limit: the largest batch.
    """

    def __init__(self, run: Callable[[list[Item]], Awaitable[list[Result]]], *, limit: int = 64) -> None:
        self._run = run
        self._limit = limit
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Return this item's result, or raise what its batch raised."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        return await future

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
