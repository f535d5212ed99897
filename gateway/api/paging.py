"""Query strings read strictly, cursors that cannot be made up, and pages of lists.

A parameter that is unknown, repeated or malformed is refused, never ignored: a filter that silently does
nothing shows its caller other jobs than it asked for. A cursor carries where the last page ended and an HMAC
over that place and its scope (the owner and the filters), so that it is worth nothing anywhere else.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from gateway.errors import FieldProblem, Refusal

MAX_LIMIT = 100
DEFAULT_LIMIT = 20
MAX_CURSOR = 256
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
_TAG_BYTES = 16
_MAX_PROBLEMS = 16

#: Turns a parameter's text into its value; ValueError's text is shown to the caller.
Parser = Callable[[str], Any]

_ESCAPES_WELL = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*")
_LIMIT = re.compile(r"[1-9][0-9]?|100")
_CURSOR = re.compile(r"[A-Za-z0-9_-]+")
_INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


def parse_query(raw_query: bytes, allowed: Mapping[str, Parser]) -> dict[str, Any]:
    """Read a query string; only the parameters that were given are in the result.

    Args:
        raw_query: what stands behind the question mark, still percent-encoded. A plus sign is a plus sign,
            so that `+02:00` in a date works unescaped.
        allowed: parameter name to the parser of its value.

    Raises:
        Refusal: `validation-failed`, with one entry for each wrong parameter, at `/query/<name>`.
    """
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    seen: set[str] = set()
    for part in raw_query.split(b"&") if raw_query else ():
        raw_name, _, raw_value = part.partition(b"=")
        try:
            name = _unescape(raw_name)
            if name not in allowed:
                problems[name] = "unknown parameter; known are: " + (", ".join(allowed) or "none")
            elif name in seen:
                problems[name] = "given more than once"
            else:
                seen.add(name)
                values[name] = allowed[name](_unescape(raw_value))
        except ValueError as error:
            problems[raw_name.decode("latin-1")] = str(error)
        if len(problems) == _MAX_PROBLEMS:
            break
    if problems:
        raise _refuse(problems)
    return values


def parse_limit(text: str) -> int:
    """Read a page size, 1 to 100.

    Raises:
        ValueError: it is anything else.
    """
    if _LIMIT.fullmatch(text) is None:
        raise ValueError(f"expected a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def parse_instant(text: str) -> int:
    """Read an RFC 3339 date and time with a zone as milliseconds since 1970, cut below the millisecond.

    Raises:
        ValueError: it has another form, names no real instant (leap seconds included), or lies outside
            the years 1970 to 2199.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError("expected an RFC 3339 date and time with a zone, such as 2026-01-31T08:00:00Z")
    *fields, fraction, sign, zone_hours, zone_minutes = match.groups()
    zone: timezone = UTC
    if sign:
        if int(zone_hours) > 23 or int(zone_minutes) > 59:
            raise ValueError("there is no such time zone offset")
        offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
        zone = timezone(-offset if sign == "-" else offset)
    if not _FIRST_YEAR <= int(fields[0]) <= _LAST_YEAR:
        raise ValueError(f"expected a year from {_FIRST_YEAR} to {_LAST_YEAR}")
    year, month, day, hour, minute, second = map(int, fields)
    try:
        instant = datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError as error:
        raise ValueError("there is no such date or time") from error
    return int(instant.timestamp()) * 1000 + int((fraction or "0").ljust(3, "0")[:3])


def parse_flag(text: str) -> bool:
    """Read `true` or `false`.

    Raises:
        ValueError: it is anything else.
    """
    if text not in {"true", "false"}:
        raise ValueError("expected true or false")
    return text == "true"


def one_of(words: Collection[str]) -> Parser:
    """Return a parser that takes exactly one of these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError("expected one of: " + ", ".join(words))
        return text

    return parse


def parse_cursor_text(text: str) -> str:
    """Pass a cursor on as it came: `decode_cursor` judges it once the filters beside it are known."""
    return text


#: Which page of a list is wanted.
PAGE: Mapping[str, Parser] = {"limit": parse_limit, "cursor": parse_cursor_text}


def check_order(query: Mapping[str, Any], earlier: str, later: str) -> None:
    """Refuse two instants in the wrong order; either may be absent.

    Raises:
        Refusal: `validation-failed`, `earlier` names a later instant than `later`.
    """
    if earlier in query and later in query and query[earlier] > query[later]:
        raise _refuse({earlier: f"lies after {later}"})


def encode_cursor(last_id: str, scope: str, *, key: bytes) -> str:
    """Return an opaque text from which `decode_cursor` gets the place back, given the same scope and key.

    Args:
        last_id: of the last thing on the page, ASCII; ids sort by creation, so it says where the page ended.
        scope: the owner and every filter of the list, in a form in which no two are alike.
        key: secret bytes, the same on all replicas.
    """
    place = last_id.encode("ascii")
    return base64.urlsafe_b64encode(_tag(place, scope, key) + place).rstrip(b"=").decode("ascii")


def decode_cursor(text: str, scope: str, *, key: bytes) -> str:
    """Return the id that `encode_cursor` put into a cursor.

    Raises:
        Refusal: `invalid-cursor`, it is not exactly what was given out under this scope and key.
    """
    if len(text) <= MAX_CURSOR and _CURSOR.fullmatch(text) is not None:
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except binascii.Error:
            raw = b""
        tag, place = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        # Unused bits in the last character would let several texts stand for the same bytes.
        exact = base64.urlsafe_b64encode(raw).rstrip(b"=") == text.encode("ascii")
        if exact and hmac.compare_digest(tag, _tag(place, scope, key)):
            return place.decode("ascii")
    raise Refusal("invalid-cursor", "The cursor was not given out for this list with these filters.")


class Named(Protocol):
    """What pages are made of."""

    @property
    def id(self) -> str:
        """Sorts by creation."""
        ...


T = TypeVar("T", bound=Named)


class Place(Struct, frozen=True):
    """Which page was asked for."""

    scope: str
    before: str | None
    limit: int


def parse_place(raw_query: bytes, scope: str, *, key: bytes) -> Place:
    """Read which page is wanted of a list without filters.

    Args:
        raw_query: has `limit` and `cursor`, and nothing else.
        scope: of the list, and who reads it: a cursor is good for nothing else.
        key: of cursors.

    Raises:
        Refusal: `validation-failed` or `invalid-cursor`.
    """
    return place_of(parse_query(raw_query, PAGE), scope, key=key)


def place_of(query: Mapping[str, Any], scope: str, *, key: bytes) -> Place:
    """Return which page a query that was read asks for, like `parse_place`.

    Raises:
        Refusal: `invalid-cursor`.
    """
    before = decode_cursor(query["cursor"], scope, key=key) if "cursor" in query else None
    return Place(scope, before, query.get("limit", DEFAULT_LIMIT))


def cut_page(found: Sequence[T], asked: Place, *, key: bytes) -> tuple[list[T], str | None]:
    """Return the page, and the cursor of the next one.

    Args:
        found: one more than was asked for, where there are more.
        asked: which page this is.
        key: of cursors.
    """
    shown = list(found[: asked.limit])
    if len(found) <= asked.limit:
        return shown, None
    return shown, encode_cursor(shown[-1].id, asked.scope, key=key)


def _tag(place: bytes, scope: str, key: bytes) -> bytes:
    # The place's length comes first, so that no byte can move between place and scope.
    message = b"cursor/2 %d " % len(place) + place + scope.encode("utf-8", "surrogatepass")
    return hmac.digest(key, message, "sha256")[:_TAG_BYTES]


def _unescape(raw: bytes) -> str:
    if _ESCAPES_WELL.fullmatch(raw) is None:
        raise ValueError("malformed percent-encoding")
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error
    if "\x00" in text:
        raise ValueError("holds a NUL character")
    return text


def _refuse(problems: Mapping[str, str]) -> Refusal:
    errors = tuple(
        FieldProblem("/query/" + name[:100].replace("~", "~0").replace("/", "~1"), message)
        for name, message in problems.items()
    )
    return Refusal("validation-failed", "A query parameter is not valid.", errors=errors)
