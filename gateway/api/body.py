"""Request bodies: received within limits, read strictly, and recognised when they come again.

`check_content_type` and `check_content_encoding` judge what a body claims to be, `read_body` takes its bytes
off the connection, `decode_body` makes them the route's Struct, `fingerprint` tells one body from another for
idempotency. Anything that a JSON reader elsewhere might take differently (a repeated key, a lone surrogate, a
second document) is refused: the gateway spends money on what it reads.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from gateway.errors import FieldProblem, GatewayError, Refusal
from providers.contract.reading import MAX_DEPTH, is_list, is_object, too_deep

T = TypeVar("T")
Receive = Callable[[], Awaitable[Mapping[str, Any]]]

_MAX_SHOWN = 300  # characters of a client's own text in an error
_CLOSE = {"Connection": "close"}  # the rest of the body is not read, so the connection cannot go on


class ClientGone(GatewayError):
    """The client disconnected before its body was complete: nothing may be stored, nobody hears an answer."""


# --- what the headers claim ---

_JSON_TYPES = {"application/json", b"application/json"}
_PARAMETER = re.compile(r"""([!#$%&'*+.^_`|~0-9a-z-]+)=("?)([!#$%&'*+.^_`|~0-9a-z-]+)\2""")


def check_content_type(values: Sequence[str | bytes]) -> None:
    """Accept `application/json`, alone or with `charset=utf-8`; other well-formed parameters mean nothing.

    Args:
        values: every Content-Type header of the request.

    Raises:
        Refusal: `unsupported-media-type`, it is missing, repeated, malformed or another type or charset.
    """
    if len(values) == 1 and (values[0] in _JSON_TYPES or _is_utf8_json(_text(values[0]))):
        return
    given = ", ".join(_text(value) for value in values)[:_MAX_SHOWN]
    detail = f"The Content-Type must be application/json in UTF-8, not {given!r}."
    raise Refusal("unsupported-media-type", detail, headers={"Accept": "application/json"})


def check_content_encoding(values: Sequence[str | bytes]) -> None:
    """Accept no Content-Encoding, or `identity`.

    Args:
        values: every Content-Encoding header of the request.

    Raises:
        Refusal: `unsupported-content-encoding`, it names any other.
    """
    for value in values:
        if _text(value).strip().lower() not in {"", "identity"}:
            detail = f"The Content-Encoding must be identity, not {_text(value)[:_MAX_SHOWN]!r}."
            raise Refusal("unsupported-content-encoding", detail, headers={"Accept-Encoding": "identity"})


def _is_utf8_json(value: str) -> bool:
    # A semicolon inside a quoted parameter is cut here too and then refused: no parameter of JSON has one.
    media_type, *parameters = (part.strip(" \t") for part in value.lower().split(";"))
    if media_type != "application/json":
        return False
    for parameter in filter(None, parameters):
        match = _PARAMETER.fullmatch(parameter)
        if match is None or (match[1] == "charset" and match[3] != "utf-8"):
            return False
    return True


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


# --- bytes off the connection ---


async def read_body(receive: Receive, *, limit: int, timeout_s: float, content_length: str | None) -> bytes:
    """Take a whole request body off an ASGI connection.

    Args:
        receive: the ASGI callable.
        limit: most bytes; one more is refused.
        timeout_s: for the whole body, in seconds, however many pieces it comes in.
        content_length: the header, None for a chunked body.

    Raises:
        Refusal: `body-too-large` (before reading when the length says so), `request-timeout`, `bad-request`.
        ClientGone: the client disconnected first.
    """
    if content_length is not None:
        _check_length(content_length, limit)
    arrival = receive().__await__()
    message: Mapping[str, Any] = {}
    begun: _Begun | None = None
    try:
        begun = _Begun(arrival, arrival.send(None))
    except StopIteration as done:
        # The usual small body is here already: asyncio.timeout would cost more than all of its reading.
        message = done.value
        if not message.get("more_body", False):
            return _joined([_piece(message)], limit)
    try:
        async with asyncio.timeout(timeout_s):
            return await _collect(message if begun is None else await begun, receive, limit)
    except TimeoutError:
        detail = f"The body was not complete within {timeout_s:g} seconds."
        raise Refusal("request-timeout", detail, headers=_CLOSE) from None


async def _collect(message: Mapping[str, Any], receive: Receive, limit: int) -> bytes:
    pieces = [_piece(message)]
    size = len(pieces[0])
    while message.get("more_body", False) and size <= limit:
        message = await receive()
        pieces.append(_piece(message))
        size += len(pieces[-1])
    return _joined(pieces, limit)


def _piece(message: Mapping[str, Any]) -> bytes:
    if message["type"] != "http.request":
        raise ClientGone("the client disconnected before its body was complete")
    piece: bytes = message.get("body", b"")
    return piece


def _joined(pieces: list[bytes], limit: int) -> bytes:
    body = b"".join(pieces)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _check_length(content_length: str, limit: int) -> None:
    if not (content_length.isascii() and content_length.isdigit()):
        raise Refusal("bad-request", "The Content-Length is not a number.", headers=_CLOSE)
    if len(content_length) > 18 or int(content_length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> Refusal:
    return Refusal("body-too-large", f"The body has more than {limit} bytes.", headers=_CLOSE)


class _Begun:
    """The rest of an awaitable that was started by hand and found waiting for something."""

    def __init__(self, rest: Generator[Any, Any, Mapping[str, Any]], waits_for: object) -> None:
        self._rest = rest
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Mapping[str, Any]]:
        # What `yield from` does, entered after its first step (PEP 380).
        try:
            while True:
                try:
                    sent = yield self._waits_for
                except BaseException as error:  # noqa: BLE001  (passed on to who waits: a cancellation, say)
                    self._waits_for = self._rest.throw(error)
                else:
                    self._waits_for = self._rest.send(sent)
        except StopIteration as done:
            message: Mapping[str, Any] = done.value
            return message


# --- bytes to the route's Struct ---

_decode_any = msgspec.json.Decoder(object).decode
_encode_any = msgspec.json.Encoder().encode
#: msgspec's messages end in the place, except at the top: "Expected `int` - at `$.a.b[0]`".
_PLACE = re.compile(r"(.*) - at (?:`key` in )?`\$([^`]*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_NAMED_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`", re.DOTALL)


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode one JSON document strictly.

    Args:
        decoder: of the route's Struct, which should forbid unknown fields; made once, at import.
        body: the whole body, already within the route's size limit.

    Raises:
        Refusal: `malformed-body`, `body-too-deep`, `duplicate-key` or `validation-failed`; the last two with
            a JSON Pointer to the place.
    """
    if not body or body.isspace():
        raise Refusal("malformed-body", "The body is empty.")
    if too_deep(body):
        raise Refusal("body-too-deep", f"The body nests deeper than {MAX_DEPTH}.")
    document = _decode(_decode_any, body)
    # A repeated key loses its strings in the document. Every string has two quotes, in and out alike, so
    # counting them finds any repetition, however its key is spelled, without looking at a single key.
    if _quotes(body) != _quotes(_encode_any(document)):
        raise _repeated(body)
    if b"\\u0000" in body:
        _check_nul(document)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error


def json_pointer(*steps: str | int) -> str:
    """Return the JSON Pointer (RFC 6901) of a place: field names and list indexes from the top."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def _decode(decode: Callable[[bytes], object], body: bytes) -> object:
    try:
        return decode(body)
    except msgspec.DecodeError as error:
        raise Refusal("malformed-body", f"The body cannot be read as JSON: {error}.") from error
    except UnicodeDecodeError as error:
        raise Refusal("malformed-body", "The body is not UTF-8.") from error


def _quotes(text: bytes) -> int:
    """Count the quotes that begin or end a string: all but the escaped ones."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return text.count(b'"')


class _Pairs(list[tuple[str, object]]):
    """An object as it stands in the text, repeated keys included."""


def _repeated(body: bytes) -> Refusal:
    document = json.loads(body.decode(), object_pairs_hook=_Pairs)
    pointer = next(_repetitions(document, ""), "")
    problem = FieldProblem(pointer[:_MAX_SHOWN], "this key stands more than once in its object")
    return Refusal("duplicate-key", f"A key is repeated at {problem.pointer}.", errors=(problem,))


def _repetitions(value: object, at: str) -> Iterator[str]:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, child in value:
            here = at + json_pointer(key)
            if key in seen:
                yield here
            seen.add(key)
            yield from _repetitions(child, here)
    elif is_list(value):
        for index, child in enumerate(value):
            yield from _repetitions(child, f"{at}/{index}")


def _check_nul(document: object) -> None:
    for pointer, text in _texts(document, ""):
        if "\x00" in text:
            problem = FieldProblem(pointer[:_MAX_SHOWN], "holds a NUL character, which cannot be stored")
            raise Refusal("validation-failed", f"{problem.pointer} {problem.message}.", errors=(problem,))


def _texts(value: object, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield at, value
    elif is_object(value):
        for key, child in value.items():
            here = at + json_pointer(key)
            yield here, key
            yield from _texts(child, here)
    elif is_list(value):
        for index, child in enumerate(value):
            yield from _texts(child, f"{at}/{index}")


def _invalid(message: str) -> Refusal:
    place = _PLACE.fullmatch(message)
    what, path = (place[1], place[2]) if place else (message, "")
    # The path names no key inside a mapping ("$.metadata[...]"), so the pointer ends at the mapping.
    pointer = json_pointer(*(name or int(index) for name, index in _STEP.findall(path.partition("[...]")[0])))
    field = _NAMED_FIELD.fullmatch(what)
    if field:
        pointer += json_pointer(field[1][:_MAX_SHOWN])
        what = "unknown field" if what.startswith("Object contains") else "this field is required"
    if "`key` in" in message[len(what) :]:
        what = f"a key: {what}"
    problem = FieldProblem(pointer, what[:_MAX_SHOWN])
    return Refusal("validation-failed", f"{pointer or 'The body'}: {problem.message}.", errors=(problem,))


# --- the same body again ---


def _plain_number(text: str) -> float | int:
    number = float(text)
    if math.isinf(number):
        raise msgspec.DecodeError("Number out of range")  # as without this hook
    return int(number) if number.is_integer() else number


_decode_plain = msgspec.json.Decoder(object, float_hook=_plain_number).decode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


def canonical(document: object) -> bytes:
    """Return the one JSON text of a decoded document: sorted keys, no spaces, `1` for 1.0 and `0` for -0.0.

    JSON has a single type of numbers (RFC 8259, section 6), so equal ones are spelled alike.
    """
    return _encode_sorted(_plain(document))


def fingerprint(body: bytes) -> str:
    """Return the SHA-256, in hex, of a body's canonical JSON as the client sent it, no defaults filled in.

    Field order, spacing, escapes and the spelling of numbers make no difference; everything else does.

    Args:
        body: one that `decode_body` accepted.

    Raises:
        Refusal: `malformed-body`, it was not.
    """
    # The same text as `canonical`, with the numbers made plain while they are decoded.
    return hashlib.sha256(_encode_sorted(_decode(_decode_plain, body))).hexdigest()


def _plain(value: object) -> object:
    if is_object(value):
        return {key: _plain(child) for key, child in value.items()}
    if is_list(value):
        return [_plain(child) for child in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
