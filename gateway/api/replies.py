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


def json_reply(
    document: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> ASGIResponse:
    """Answer with a JSON document."""
    return raw_reply(_encode(document), JSON, status=status, headers=headers)


def problem_reply(refusal: Refusal, request_id: str) -> Response[bytes]:
    """Answer with a problem document."""
    return Response(
        content=problem_body(refusal, request_id),
        media_type=PROBLEM,
        status_code=problem_type(refusal.slug).status,
        headers=refusal.headers,
    )


def raw_reply(
    body: bytes, media_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> ASGIResponse:
    """Answer with bytes."""
    return ASGIResponse(
        body=body,
        media_type=media_type,
        status_code=status,
        headers={**(headers or {}), "x-content-type-options": "nosniff"},
    )
