"""A load generator that costs little: raw HTTP/1.1 over kept connections, answers counted, not parsed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

END = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """Sends the next request as soon as the last was answered."""

    def __init__(self, next_request: Callable[[], bytes | None], done: Callable[[int], None]) -> None:
        self._next = next_request
        self._done = done
        self._buffer = b""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not derived from it
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(END)
        if not found:
            return
        at = head.lower().index(b"content-length: ") + 16
        length = int(head[at : head.find(b"\r", at)] if head.find(b"\r", at) > 0 else head[at:])
        if len(rest) < length:
            return
        self._buffer = b""
        self._done(int(head[9:12]))
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        if not self.closed.done():
            self.closed.set_result(None)

    def _send(self) -> None:
        request = self._next()
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)


async def drive(port: int, connections: int, seconds: float, make: Callable[[], bytes]) -> dict[int, int]:
    """Send for that long; return answers by status."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    answers: dict[int, int] = {}

    def next_request() -> bytes | None:
        return make() if loop.time() < ends_at else None

    def done(status: int) -> None:
        answers[status] = answers.get(status, 0) + 1

    made = [
        await loop.create_connection(lambda: Connection(next_request, done), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.closed for _, protocol in made))
    return answers
