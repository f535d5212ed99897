"""Careful clients that post all the time, while something is done to what they post to."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from careful_client import CarefulClient

POSTERS = 6
PAUSE_S = 0.15
"""Between two posts of one of them."""


class Load:
    """What was posted.

    Attributes:
        ids: of the jobs that were answered 202.
        answers: to the posts, by status and problem type; None for a job.
        longest_s: seconds the slowest answer took, whatever it was.
    """

    def __init__(self, http: httpx.AsyncClient, client: CarefulClient) -> None:
        self.ids: list[str] = []
        self.answers: Counter[tuple[int, str | None]] = Counter()
        self.longest_s = 0.0
        self._client = client
        self._numbers = itertools.count()
        self._over = asyncio.Event()
        http.event_hooks = {"response": [self._note]}

    async def more(self, count: int) -> None:
        """Wait until so many more jobs were answered."""
        wanted = len(self.ids) + count
        while len(self.ids) < wanted:  # noqa: ASYNC110 - many tasks' doing
            await asyncio.sleep(0.02)

    async def _post(self) -> None:
        while not self._over.is_set():
            self.ids.append(await self._client.post(next(self._numbers)))
            await asyncio.sleep(PAUSE_S)

    async def _note(self, reply: httpx.Response) -> None:
        if reply.request.method != "POST":
            return
        await reply.aread()
        self.longest_s = max(self.longest_s, reply.elapsed.total_seconds())
        problem = None if reply.status_code == 202 else reply.json()["type"]
        self.answers[reply.status_code, problem] += 1


@asynccontextmanager
async def open_load(http: httpx.AsyncClient, receiver: str | None = None) -> AsyncIterator[Load]:
    """Post until the end; then what was begun is posted until it is accepted.

    Args:
        http: sends; its hooks are taken.
        receiver: where webhooks go; None asks for none.
    """
    load = Load(http, CarefulClient(http, receiver=receiver))
    async with asyncio.TaskGroup() as posters:
        for _ in range(POSTERS):
            posters.create_task(load._post())
        try:
            yield load
        finally:
            load._over.set()
