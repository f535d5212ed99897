"""Bytes to the few fields an adapter declares; every failure is `UnexpectedPayload`.

A provider's reply is hostile input: it is capped in size and depth before it is decoded (msgspec raises
RecursionError on depth, and can crash a thread with a small stack), and read tolerantly afterwards:
an absent or odd optional field is None, only a required one that is missing is an error.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TypeGuard
from urllib.parse import urlsplit

import msgspec

from providers.contract.errors import UnexpectedPayload
from providers.contract.exchange import HttpResponse

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_REF = 512
MAX_MESSAGE = 500
MAX_URL = 4096
MAX_NUMBER = 2**53  # above it a float no longer tells neighbouring integers apart

#: A whole JSON string, or what is left of one that never ends: the second half keeps the scan linear.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_REF = re.compile(r"[!-~]+")
_decode = msgspec.json.Decoder(dict[str, object]).decode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def too_deep(body: bytes, limit: int = MAX_DEPTH) -> bool:
    """Whether JSON text nests deeper than `limit`, by a scan that decodes nothing."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    depth = 0
    for bracket in _STRING.sub(b"", body).translate(None, _NOT_BRACKET):
        depth += 1 if bracket in b"[{" else -1
        if depth > limit:
            return True
    return False


def is_object(value: object) -> TypeGuard[dict[str, object]]:
    """Whether a decoded JSON value is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Whether a decoded JSON value is a list."""
    return isinstance(value, list)


def read_object(response: HttpResponse) -> dict[str, object]:
    """Decode a response's body; raises like `decode_object`."""
    return decode_object(response.body)


def decode_object(body: bytes) -> dict[str, object]:
    """Decode a body that must be one JSON object.

    Raises:
        UnexpectedPayload: it is too large, too deep, not JSON, or not an object.
    """
    if len(body) > MAX_BYTES:
        raise UnexpectedPayload(f"the body has {len(body)} bytes, more than {MAX_BYTES}")
    if too_deep(body):
        raise UnexpectedPayload(f"the body nests deeper than {MAX_DEPTH}")
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnexpectedPayload(f"the body is not a JSON object: {error}") from error


def read_object_if_any(response: HttpResponse) -> dict[str, object]:
    """Decode like `read_object`, but an unreadable body is an empty object: for failures."""
    try:
        return read_object(response)
    except UnexpectedPayload:
        return {}


def value_at(document: object, *path: str | int) -> object:
    """Follow object keys and list indexes; None as soon as something on the way is missing."""
    for step in path:
        if isinstance(step, str) and is_object(document):
            document = document.get(step)
        elif isinstance(step, int) and is_list(document):
            document = document[step] if step < len(document) else None
        else:
            return None
    return document


def text_at(document: object, *path: str | int) -> str | None:
    """Return a non-empty string, or None."""
    value = value_at(document, *path)
    return value if isinstance(value, str) and value else None


def list_at(document: object, *path: str | int) -> list[object]:
    """Return a list, empty where there is none."""
    value = value_at(document, *path)
    return value if is_list(value) else []


def number_at(document: object, *path: str | int) -> float | None:
    """Return a number that is not a boolean, or None."""
    value = value_at(document, *path)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < MAX_NUMBER:
        return None
    return float(value)


def count_at(document: object, *path: str | int) -> int | None:
    """Return a whole number of 0 or more, or None."""
    number = number_at(document, *path)
    return int(number) if number is not None and number >= 0 and number.is_integer() else None


def instant_at(document: object, *path: str | int) -> int | None:
    """Return an RFC 3339 instant as milliseconds since 1970 (UTC), or None; without an offset it is UTC."""
    text = text_at(document, *path)
    if text is None:
        return None
    try:
        at = msgspec.convert(text, datetime)
    except (msgspec.ValidationError, OverflowError):
        return None
    return ((at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)


def status_at(document: object, *path: str | int) -> str:
    """Return the status word.

    Raises:
        UnexpectedPayload: there is none; a reply without one says nothing about the job.
    """
    word = text_at(document, *path)
    if word is None or len(word) > MAX_REF:
        raise UnexpectedPayload(f"no status word at {_name(path)}")
    return word


def ref_at(document: object, *names: str) -> str:
    """Return the first of these fields that holds a ref.

    A ref is opaque but not anything: 1 to 512 visible ASCII characters, and no `.` or `..` segment,
    since it becomes part of a URL's path.

    Raises:
        UnexpectedPayload: none holds one.
    """
    for name in names:
        ref = text_at(document, name)
        if ref is None:
            continue
        if not is_ref(ref):
            raise UnexpectedPayload(f"{name} cannot be a ref: {ref[:40]!r}")
        return ref
    raise UnexpectedPayload(f"no ref at {' or '.join(names)}")


def is_ref(text: str) -> bool:
    """Whether a text can be a ref: see `ref_at`."""
    return (
        len(text) <= MAX_REF and _REF.fullmatch(text) is not None and not {".", ".."} & set(text.split("/"))
    )


def urls_in(value: object, *names: str) -> tuple[str, ...]:
    """Return the URLs in a value that may be a string, an object holding one, or a list of either.

    Args:
        value: what the provider gave as output.
        names: the fields of an object in which a URL may stand, tried in order.
    """
    if isinstance(value, str):
        return (value,) if value else ()
    if is_object(value):
        found = (urls_in(value.get(name), *names) for name in names)
        return next((urls for urls in found if urls), ())
    if is_list(value):
        return tuple(url for item in value if not is_list(item) for url in urls_in(item, *names))
    return ()


def is_http_url(url: str, *, allow_http: bool = False) -> bool:
    """Whether this can be handed to a caller as a result: https (or http where allowed) with a host."""
    if len(url) > MAX_URL or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (reading it is what raises for a port that is none)
    except ValueError:
        return False
    allowed = {"https", "http"} if allow_http else {"https"}
    return parts.scheme.lower() in allowed and bool(parts.hostname)


def message_of(value: object) -> str:
    """Turn whatever a provider put in place of a message into one line of at most 500 characters.

    Control characters become spaces: PostgreSQL text cannot hold a NUL, and a log line should hold none.
    """
    if value is None:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    cut = text[: 8 * MAX_MESSAGE]
    if not cut.isprintable():
        cut = "".join(char if char.isprintable() else " " for char in cut)
    return " ".join(cut.split())[:MAX_MESSAGE].rstrip()


def _name(path: tuple[str | int, ...]) -> str:
    return ".".join(str(step) for step in path)
