"""Responses as bytes: what a handler answers with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.response.base import ASGIResponse

from gateway.api.problems import problem_body, problem_type
from gateway.errors import Refusal

AnyRequest = Request[Any, Any, Any]

JSON = "application/json"
PROBLEM = "application/problem+json"

_encode = msgspec.json.Encoder().encode


class Reply(ASGIResponse):
    """A status, headers and bytes, sent as they are.

    Litestar's own response builds, merges and encodes its headers on every answer, which costs as much as
    reading a job from the database.
    """

    def __init__(self, body: bytes, *, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = status
        self._start = {"type": "http.response.start", "status": status, "headers": headers}
        self._body = {"type": "http.response.body", "body": body}

    async def __call__(self, _scope: object, _receive: object, send: Any) -> None:
        """Send it."""
        await send(self._start)
        await send(self._body)


def json_reply(document: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with a JSON document."""
    return raw_reply(_encode(document), JSON, status=status, headers=headers)


def raw_reply(
    body: bytes, media_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Reply:
    """Answer with bytes."""
    fields = [
        (b"content-type", media_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
    ]
    if headers is not None:
        fields += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return Reply(body, status=status, headers=fields)


def problem_reply(refusal: Refusal, request_id: str) -> Response[bytes]:
    """Answer with a problem document; an exception handler must return Litestar's own kind."""
    return Response(
        content=problem_body(refusal, request_id),
        media_type=PROBLEM,
        status_code=problem_type(refusal.slug).status,
        headers=refusal.headers,
    )
