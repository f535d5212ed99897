"""ASGI in and out: a request becomes a `WireRequest`, an `HttpResponse` an answer, whole or spoilt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from providers.contract.emulation import WireRequest
from providers.contract.exchange import HttpResponse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY_BYTES = 8 * 1024 * 1024
CONNECTION = "motion_gateway.connection"
"""The ASGI extension under which the server hands over the connection below the request."""


class Connection(Protocol):
    """What plain ASGI cannot do to a connection."""

    def hang_up(self) -> None:
        """Send what was written, then close."""
        ...

    def reset(self) -> None:
        """Throw away what was written and close with a TCP RST."""
        ...


class UnreadableRequest(ValueError):
    """A request that cannot be made into a `WireRequest`.

    Attributes:
        status: the HTTP status to answer with.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Exchange:
    """One request and the answer to it.

    Attributes:
        method: upper case.
        path: segments, percent-decoded one by one, so that an encoded slash stays inside its segment.

    Raises:
        UnreadableRequest: the path is not UTF-8.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.method: str = scope["method"]
        raw = cast("bytes", scope.get("raw_path") or quote(scope["path"]).encode())
        try:
            self.path = tuple(unquote_to_bytes(part).decode() for part in raw.removeprefix(b"/").split(b"/"))
        except UnicodeDecodeError as error:
            raise UnreadableRequest(400, "the path is not UTF-8") from error

    async def read(self) -> WireRequest:
        """Read the request as seen from below its mount point, the path's first segment.

        Raises:
            UnreadableRequest: the body is larger than MAX_BODY_BYTES, or the client left before its end.
        """
        headers = cast("list[tuple[bytes, bytes]]", self._scope["headers"])
        query = cast("bytes", self._scope["query_string"]).decode("latin-1")
        return WireRequest(
            method=self.method,
            path=self.path[1:],
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers},
            body=await self.read_body(),
        )

    async def read_body(self) -> bytes:
        """Read the body; raises like `read`."""
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise UnreadableRequest(400, "the client left before its request was complete")
            body += message.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                raise UnreadableRequest(413, f"the body has more than {MAX_BODY_BYTES} bytes")
            if not message.get("more_body", False):
                return bytes(body)

    async def answer(self, response: HttpResponse) -> None:
        """Answer as it should be."""
        await self._start(response)
        body = b"" if self.method == "HEAD" else response.body
        await self._send({"type": "http.response.body", "body": body})

    async def cut(self, response: HttpResponse) -> None:
        """Announce the whole body, send half of it, and close."""
        await self._start(response)
        half = response.body[: len(response.body) // 2]
        await self._send({"type": "http.response.body", "body": half, "more_body": True})
        self._connection().hang_up()
        await self._gone()

    async def reset(self) -> None:
        """Answer with a TCP RST."""
        self._connection().reset()
        await self._gone()

    async def keep_silent(self, stopping: asyncio.Event) -> None:
        """Answer nothing until the client leaves, or the simulator stops and resets the connection."""
        gone, stopped = asyncio.create_task(self._gone()), asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({gone, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            stopped.cancel()
        if not gone.done():
            await self.reset()

    async def _start(self, response: HttpResponse) -> None:
        headers = dict(response.headers)
        if response.status != 204:
            headers["content-length"] = str(len(response.body))
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": response.status, "headers": pairs})

    async def _gone(self) -> None:
        """Wait for the connection's end: uvicorn takes an answer left open before it for our mistake."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _connection(self) -> Connection:
        extensions = cast("dict[str, dict[str, Connection]]", self._scope.get("extensions") or {})
        try:
            return extensions[CONNECTION]["connection"]
        except KeyError as error:
            raise ConnectionResetError("this server does not let an app close its connection") from error
