"""What browsers send: forms, queries, cookies; read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from gateway.api import paging
from gateway.api.body import read_body
from gateway.api.headers import header_values
from gateway.api.paging import Parser
from gateway.api.replies import AnyRequest
from gateway.errors import Refusal

FORM: Final = b"application/x-www-form-urlencoded"
MOST_BYTES: Final = 8192
MOST_FIELDS: Final = 16


async def take_form(request: AnyRequest, *, timeout_s: float) -> dict[str, str]:
    """Return a form's fields.

    Args:
        request: its body is read.
        timeout_s: for all of it, seconds.

    Raises:
        Refusal: it is none, is too large or too slow, or has a field twice.
        ClientGone: the client disconnected first.
    """
    types = [value.partition(b";")[0].strip().lower() for value in header_values(request, b"content-type")]
    if types != [FORM]:
        raise Refusal("unsupported-media-type", "This takes what the form on the page sends.")
    length = header_values(request, b"content-length")
    body = await read_body(
        request.receive,
        limit=MOST_BYTES,
        timeout_s=timeout_s,
        content_length=length[0].decode("latin-1") if length else None,
    )
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError as error:
        raise Refusal("malformed-body", "The form cannot be read.") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Refusal("malformed-body", "The form has a field twice.")
    return fields


def read_query(request: AnyRequest, allowed: Mapping[str, Parser]) -> dict[str, Any]:
    """Return the parameters of a page's address; those left empty in a form are as good as none.

    Raises:
        Refusal: `validation-failed`.
    """
    raw: bytes = request.scope["query_string"]
    # Forms write a space as a plus sign, and send what was left empty.
    parts = [part for part in raw.replace(b"+", b"%20").split(b"&") if part.partition(b"=")[2]]
    return paging.parse_query(b"&".join(parts), allowed)


def cookie_of(request: AnyRequest, name: str) -> str | None:
    """Return a cookie; None where there is none, or where there are two."""
    found: list[str] = []
    for header in header_values(request, b"cookie"):
        for pair in header.decode("latin-1").split(";"):
            given, _, value = pair.strip().partition("=")
            if given == name:
                found.append(value)
    return found[0] if len(found) == 1 else None


def header_of(request: AnyRequest, name: bytes) -> str | None:
    """Return a header; None where there is none. One that is there twice is as good as a wrong one."""
    values = header_values(request, name)
    return b", ".join(values).decode("latin-1") if values else None
