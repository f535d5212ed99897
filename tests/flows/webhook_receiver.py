"""A receiver of webhooks on loopback: keeps what reached it, answers by a script."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

PATIENCE_S = 20.0


class Message(NamedTuple):
    """One request, as it came."""

    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read


class Receiver:
    """A listening port. `answers` are used up one by one, each after `pause_s`; the last one stays."""

    def __init__(self, answers: tuple[bytes, ...], pause_s: float) -> None:
        self.answers = list(answers)
        self.pause_s = pause_s
        self.port = 0
        self.connections = 0
        self.messages: list[Message] = []
        self._news = asyncio.Event()

    def url(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/hook"

    async def received(self, wanted: int | Callable[[list[Message]], object]) -> list[Message]:
        """Wait for that many messages, or until they are as wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while not (len(self.messages) >= wanted if isinstance(wanted, int) else wanted(self.messages)):
                self._news.clear()
                await self._news.wait()
        return self.messages

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
            headers = {
                name.lower(): value for name, value in re.findall(r"^([\w-]+): (.*)\r$", head, re.MULTILINE)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            self.messages.append(Message(headers, body))
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
            writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
            await writer.drain()
            self._news.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the sender hung up, or was killed
        finally:
            writer.close()


def answer(status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("ascii")


@asynccontextmanager
async def open_receiver(*answers: bytes, pause_s: float = 0.0) -> AsyncIterator[Receiver]:
    """Receive until the end; answers 200 when no script is given."""
    here = Receiver(answers or (answer(),), pause_s)
    listener = await asyncio.start_server(here.serve, "127.0.0.1", 0)
    here.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield here
