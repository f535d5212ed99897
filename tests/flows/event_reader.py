"""A client of event streams that keeps everything it is sent, comments too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
from running_gateway import PATIENCE_S, Document


class Sent(NamedTuple):
    """A block of a stream: an event, or a comment, or what sets the time to come back after."""

    id: int | None
    type: str
    data: Document
    comment: str | None = None
    retry_ms: int | None = None


class EventReader:
    """An open stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> Sent | None:
        """The next block; None at the end of the stream."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._lines:
                if not line:
                    return _sent(fields)
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
        assert not fields, "the stream broke off inside an event"
        return None

    async def rest(self) -> list[Sent]:
        """Everything up to the end."""
        found: list[Sent] = []
        while (sent := await self.next()) is not None:
            found.append(sent)
        return found

    async def until(self, kind: str) -> Sent:
        """The next event of a type."""
        while True:
            sent = await self.next()
            assert sent is not None, f"the stream ended without {kind}"
            if sent.type == kind:
                return sent

    async def comment(self) -> str:
        """The text of the next comment."""
        while True:
            sent = await self.next()
            assert sent is not None, "the stream ended without a comment"
            if sent.comment is not None:
                return sent.comment


def _sent(fields: dict[str, str]) -> Sent:
    data: Any = json.loads(fields["data"]) if "data" in fields else {}
    return Sent(
        id=int(fields["id"]) if "id" in fields else None,
        type=fields.get("event", ""),
        data=data,
        comment=fields.get(""),
        retry_ms=int(fields["retry"]) if "retry" in fields else None,
    )


def logged(sent: list[Sent]) -> list[Sent]:
    """The events of the log among what was sent."""
    return [one for one in sent if one.id is not None]


@asynccontextmanager
async def reading(
    client: httpx.AsyncClient, job_id: str, *, after: object = None
) -> AsyncIterator[EventReader]:
    """Open the stream of a job that has one."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    async with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield EventReader(response)
