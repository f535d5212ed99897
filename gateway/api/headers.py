"""A request's headers as they came."""

from __future__ import annotations

from gateway.api.replies import AnyRequest


def header_values(request: AnyRequest, name: bytes) -> list[bytes]:
    """Return every value of a header, in order; its name in lower case, as ASGI has it."""
    return [value for key, value in request.scope["headers"] if key == name]
