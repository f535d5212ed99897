"""The body of a request to our own routes: judged by its headers, then taken within the settings' limits."""

from __future__ import annotations

from msgspec import Struct

from gateway.api.body import check_content_encoding, check_content_type, read_body
from gateway.api.headers import header_values
from gateway.api.replies import AnyRequest


class BodyLimits(Struct, frozen=True, kw_only=True):
    """How large a body may be, and how long it may take to come."""

    max_bytes: int
    timeout_s: float


def check_body_headers(request: AnyRequest) -> None:
    """See what the body claims to be.

    Raises:
        Refusal: `unsupported-media-type` or `unsupported-content-encoding`, it is no plain JSON.
    """
    check_content_type(header_values(request, b"content-type"))
    check_content_encoding(header_values(request, b"content-encoding"))


async def take_body(request: AnyRequest, limits: BodyLimits) -> bytes:
    """Return the whole body.

    Raises:
        Refusal: it is no plain JSON, is too large or too slow, or is not as long as it says.
        ClientGone: the client disconnected first.
    """
    check_body_headers(request)
    length = header_values(request, b"content-length")
    return await read_body(
        request.receive,
        limit=limits.max_bytes,
        timeout_s=limits.timeout_s,
        content_length=length[0].decode("latin-1") if length else None,
    )
