"""Servers on loopback that speak raw bytes, so that they can misbehave."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class RawServer:
    """A listening port and what reached it."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.requests: list[bytes] = []
        self._news = asyncio.Event()

    async def received(self, count: int) -> None:
        """Wait until `count` requests have been read."""
        while len(self.requests) < count:
            self._news.clear()
            await self._news.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        """Head and body of one request; empty when the client has gone."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        length = re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1])) if length else b""
        self.requests.append(head + body)
        self._news.set()
        return head + body


@asynccontextmanager
async def raw_server(
    handle: Callable[[RawServer], Handler], *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serve every connection with what `handle` makes; at the end none is left open."""
    server = RawServer()
    serve = handle(server)
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            return  # the client hung up, or the test is over
        finally:
            tasks.discard(task)
            writer.transport.abort()

    listener = await asyncio.start_server(run, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(response: bytes, *, then_close: bool = False) -> Callable[[RawServer], Handler]:
    """Every request gets `response`."""

    def make(server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await server.read_request(reader):
                writer.write(response)
                await writer.drain()
                if then_close:
                    return

        return serve

    return make


def silent(server: RawServer) -> Handler:
    """Reads a request and never answers."""

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        await reader.read()

    return serve


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def unused_port() -> int:
    """A port on loopback where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
