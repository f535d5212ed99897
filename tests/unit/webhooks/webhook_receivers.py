"""Receivers on loopback that speak raw bytes, so that they can misbehave, and a sender that reaches them."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from gateway.settings.model import Webhooks
from gateway.webhooks.sending import Sender, open_sender

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Serve = Callable[["Receiver", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Receiver:
    """A listening port and what reached it."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.requests: list[bytes] = []
        self._news = asyncio.Event()

    def url(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/hook"

    async def received(self, count: int) -> None:
        """Wait until `count` requests have been read."""
        while len(self.requests) < count:
            self._news.clear()
            await self._news.wait()

    async def read_request(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)
        self.requests.append(head + (await reader.readexactly(int(length[1])) if length else b""))
        self._news.set()

    def last(self) -> tuple[dict[str, str], bytes]:
        """Headers (names in lower case) and body of the latest request."""
        head, _, body = self.requests[-1].partition(b"\r\n\r\n")
        lines = (line.partition(": ") for line in head.decode("ascii").split("\r\n")[1:])
        return {name.lower(): value for name, _, value in lines}, body


@asynccontextmanager
async def receiver(serve: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Receiver]:
    """Serve every connection with `serve`; at the end none is left open."""
    here = Receiver()
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(here, reader, writer)
        except (ConnectionError, EOFError, asyncio.CancelledError):
            return  # the sender hung up, or the test is over
        finally:
            tasks.discard(task)
            writer.transport.abort()

    listener = await asyncio.start_server(run, "127.0.0.1", 0, ssl=tls)
    here.port = listener.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(*parts: bytes, for_ever: bool = False, pause_s: float = 0.0) -> Serve:
    """Reads a request and writes the parts; `for_ever` repeats the last one, otherwise it hangs up.

    Args:
        parts: written one by one.
        for_ever: whether the last one is repeated until the sender hangs up.
        pause_s: seconds between two parts.
    """

    async def serve(here: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await here.read_request(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
        while for_ever:
            await asyncio.sleep(pause_s)
            writer.write(parts[-1])
            await writer.drain()
        writer.write_eof()
        await reader.read()

    return serve


async def tar_pit(here: Receiver, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Reads a request and never answers."""
    await here.read_request(reader)
    await reader.read()


def status(line: str, *headers: str) -> bytes:
    """An answer without a body."""
    return "\r\n".join([f"HTTP/1.1 {line}", *headers, "Content-Length: 0", "", ""]).encode("latin-1")


class Network:
    """DNS that answers by a script, the last answer for ever, and what was dialled."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers) or ["127.0.0.1"]
        self.dialled: list[str] = []

    async def lookup(self, _host: str, _port: int, _owner: str) -> list[str]:
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]

    def before_dial(self, address: str, _port: int) -> None:
        """Only loopback is really dialled; anything else ends here."""
        self.dialled.append(address)
        if not address.startswith("127."):
            raise OSError(101, "no test dials a real address")


@asynccontextmanager
async def sender(
    network: Network | None = None, *, queue_s: float = 10.0, body_s: float = 1.0, **settings: Any
) -> AsyncGenerator[Sender]:
    """A sender that may dial 127.0.0.1 over plain http, unless `settings` say otherwise."""
    network = network or Network()
    chosen = Webhooks(**{"allowed_networks": ("127.0.0.1/32",), "allow_http": True, **settings})
    opened = open_sender(
        chosen, lookup=network.lookup, before_dial=network.before_dial, queue_s=queue_s, body_s=body_s
    )
    try:
        yield opened
    finally:
        await opened.aclose()
