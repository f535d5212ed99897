"""Hears a client go away while it is not being sent anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from gateway.service.watch import Watcher

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


@asynccontextmanager
async def heard(receive: Receive, watcher: Watcher) -> AsyncGenerator[asyncio.Task[None]]:
    """Let a watcher leave when its client does, within the block.

    Args:
        receive: the ASGI callable; the request's body was read, or there is none.
        watcher: who is served.

    Yields:
        What ends when the client has gone.
    """
    task = asyncio.create_task(_until_gone(receive, watcher))
    try:
        yield task
    finally:
        task.cancel()


async def _until_gone(receive: Receive, watcher: Watcher) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    watcher.leave()
