"""The customer's side: a small HTTP server that has the input files, and receives and verifies webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.cli.demo.inputs import content_type
from gateway.clock import Clock
from gateway.webhooks.verifying import decode_key, flaw_of

WEBHOOKS = "/webhooks"
BODY_MAX_BYTES = 1_048_576

_Message = MutableMapping[str, Any]


class Webhook(Struct, frozen=True, kw_only=True):
    """The first webhook about a job that proved genuine, and how often it was sent until then."""

    type: str
    attempts: int


class _Event(Struct, frozen=True):
    type: str
    data: _Job


class _Job(Struct, frozen=True):
    id: str


class Receiver:
    """Serves files by name and takes webhooks at /webhooks.

    Args:
        files: by name.
        clock: tells how old a webhook is.

    Attributes:
        secret: the owner's webhook secret (`whsec_...`), once it is known.
    """

    def __init__(self, files: Mapping[str, Path], clock: Clock) -> None:
        self._files = {f"/{name}": path for name, path in files.items()}
        self._clock = clock
        self.secret = ""
        self._tries: dict[str, int] = {}
        self._verified: dict[str, asyncio.Future[Webhook]] = {}

    async def webhook_of(self, job_id: str) -> Webhook:
        """Wait for a genuine webhook about a job."""
        return await self._expected(job_id)

    def tries_of(self, job_id: str) -> int:
        """How many webhooks that name a job arrived, genuine or not."""
        return self._tries.get(job_id, 0)

    async def asgi(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        path, status, kind, body = scope["path"], 404, "text/plain", b""
        if path == WEBHOOKS and scope["method"] == "POST":
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
            status = self._take(headers, await _read(receive))
        elif path in self._files and scope["method"] in {"GET", "HEAD"}:
            file = self._files[path]
            status, kind, body = 200, content_type(file), await asyncio.to_thread(file.read_bytes)
        fields = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    def _take(self, headers: Sequence[tuple[str, str]], body: bytes) -> int:
        """Return the status to answer a webhook with; one that is not genuine is refused, and sent again."""
        try:
            event = msgspec.json.decode(body, type=_Event)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return 400
        job_id = event.data.id
        self._tries[job_id] = self._tries.get(job_id, 0) + 1
        now_s = self._clock.now_ms() // 1000
        if flaw_of([decode_key(self.secret)], headers, body, now_s=now_s) is not None:
            return 401
        expected = self._expected(job_id)
        if not expected.done():
            expected.set_result(Webhook(type=event.type, attempts=self._tries[job_id]))
        return 204

    def _expected(self, job_id: str) -> asyncio.Future[Webhook]:
        if job_id not in self._verified:
            self._verified[job_id] = asyncio.get_running_loop().create_future()
        return self._verified[job_id]


async def _read(receive: Callable[[], Awaitable[_Message]]) -> bytes:
    body = bytearray()
    while len(body) <= BODY_MAX_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(body)
