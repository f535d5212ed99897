"""One connection, spoken to in bytes: for what no HTTP library would send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

PATIENCE_S = 20.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json", self
        read: dict[str, Any] = json.loads(self.body)
        return read


class Connection:
    """A connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def end(self) -> None:
        """Say that nothing more will be sent."""
        self._writer.write_eof()

    async def answer(self, *, bodiless: bool = False) -> Answer:
        async with asyncio.timeout(PATIENCE_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            headers = {name.lower(): value for name, _, value in (entry.partition(": ") for entry in lines)}
            length = 0 if bodiless else int(headers.get("content-length", "0"))
            return Answer(int(line.split()[1]), headers, await self._reader.readexactly(length))

    async def rest(self) -> bytes:
        """Everything until the server closes the connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


async def exchanged(url: str, request: bytes, *, bodiless: bool = False) -> Answer:
    """Send bytes, and read one answer."""
    async with connected(url) as connection:
        await connection.send(request)
        return await connection.answer(bodiless=bodiless)


def request_bytes(target: str, *headers: str, method: str = "POST", body: bytes = b"") -> bytes:
    """A request with these header lines and nothing else."""
    return (
        "\r\n".join([f"{method} {target} HTTP/1.1", "Host: gateway", *headers, "", ""]).encode("latin-1")
        + body
    )
