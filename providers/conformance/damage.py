"""Response bodies broken in every way a network, a proxy or a provider has been seen to break them.

Deterministic: the same body always gives the same damages in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import cast

from msgspec import Struct

from providers.contract.exchange import HttpResponse
from providers.contract.reading import MAX_BYTES, MAX_DEPTH

_HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
_MOST_PLACES = 100

Path = tuple[str | int, ...]

#: What may stand in place of any value. The numbers are past a double, past 64 bits and past a cost.
WRONG_VALUES: tuple[tuple[str, object], ...] = (
    ("null", None),
    ("true", True),
    ("false", False),
    ("0", 0),
    ("-1", -1),
    ("0.5", 0.5),
    ("1e308", 1e308),
    ("a huge integer", 2**70),
    ("an integer of 1,000 digits", 10**999),
    ("an empty text", ""),
    ("a blank", " "),
    ("a text with a NUL", "a\x00b"),
    ("a text with line breaks", "a\r\nb: c"),
    ("a text outside ASCII", "\u202e\U0001f3ac\u00e9"),
    ("a lone surrogate", "\ud800"),
    ("a long text", "x" * 10_000),
    ("dots", ".."),
    ("a URL that is not https", "ftp://media.example/out.mp4"),
    ("a URL without a host", "https:///out.mp4"),
    ("a URL that cannot be split", "https://[media.example/out.mp4"),
    ("an empty list", []),
    ("a list of null", [None]),
    ("a list of lists", [[["x"]]]),
    ("an empty object", {}),
    ("an object of the wrong fields", {"unexpected": {"fields": [1, None, {"a": "b"}]}}),
)


class Damage(Struct, frozen=True):
    """A broken body."""

    what: str
    body: bytes
    unreadable: bool = False
    """Whether nothing may be read from it, not even by chance."""


def damages(body: bytes) -> Iterator[Damage]:
    """Yield the body broken in every way there is."""
    yield from _broken_bytes(body)
    try:
        document = cast("object", json.loads(body))
    except ValueError:
        return
    yield from _broken_document(document)


def with_word_replaced(body: bytes, word: str, other: str) -> bytes:
    """Return the JSON body with every text that equals a word replaced by another."""

    def replaced(value: object) -> object:
        if isinstance(value, dict):
            return {key: replaced(inner) for key, inner in cast("dict[str, object]", value).items()}
        if isinstance(value, list):
            return [replaced(inner) for inner in cast("list[object]", value)]
        return other if value == word else value

    return _encode(replaced(json.loads(body)))


def stated(reply: HttpResponse) -> frozenset[str]:
    """Return every text and integer that a reply's JSON body holds, and its headers' values."""
    texts = set(reply.headers.values())
    try:
        document = cast("object", json.loads(reply.body))
    except (ValueError, RecursionError):
        return frozenset(texts)
    for place in _places(document, ()):
        value = _value_at(document, place)
        if isinstance(value, str | int) and not isinstance(value, bool):
            texts.add(str(value))
    return frozenset(texts)


def _broken_bytes(body: bytes) -> Iterator[Damage]:
    whole = body.rstrip()
    for part in (1, 2, 3, 5, 7):
        yield Damage(f"cut after {part}/8", whole[: len(whole) * part // 8], unreadable=True)
    yield Damage("cut before the last byte", whole[:-1], unreadable=True)
    yield Damage("an empty body", b"", unreadable=True)
    yield Damage("blanks", b" \r\n", unreadable=True)
    yield Damage("an HTML page", _HTML, unreadable=True)
    yield Damage("an HTML page before it", _HTML + whole, unreadable=True)
    yield Damage("two documents", whole + whole, unreadable=True)
    yield Damage("bytes that are no UTF-8", whole.replace(b'"', b'"\xff\xfe', 3))
    yield Damage("UTF-16", whole.decode(errors="replace").encode("utf-16"))
    yield Damage("gzip's first bytes", b"\x1f\x8b\x08\x00" + whole, unreadable=True)
    yield Damage("2 MiB of blanks before it", b" " * (2 * MAX_BYTES) + whole, unreadable=True)
    for depth in (MAX_DEPTH + 1, 20_000):
        deep = b'{"deep":' * depth + b"1" + b"}" * depth
        yield Damage(f"nothing but {depth} objects in each other", deep, unreadable=True)
        if whole.startswith(b"{") and whole != b"{}":
            lists = b'{"deep":' + b"[" * depth + b"]" * depth + b"," + whole[1:]
            yield Damage(f"with {depth} lists in each other", lists, unreadable=True)
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000):
        yield Damage(f"with {number[:9].decode()}", _with_member(whole, b'"unexpected":' + number))


def _broken_document(document: object) -> Iterator[Damage]:
    for what, value in WRONG_VALUES:
        if not isinstance(value, dict):
            yield Damage(f"{what} instead of the whole", _encode(value), unreadable=True)
    yield Damage("a list around the whole", _encode([document]), unreadable=True)
    yield Damage("an empty object instead of the whole", b"{}")
    for place in islice(_places(document, ()), _MOST_PLACES):
        where = ".".join(str(step) for step in place)
        yield Damage(f"without {where}", _encode(_changed(document, place, remove=True)))
        for what, value in WRONG_VALUES:
            yield Damage(f"{what} at {where}", _encode(_changed(document, place, value)))
        inner = _value_at(document, place)
        yield Damage(f"a list around {where}", _encode(_changed(document, place, [inner])))
        yield Damage(f"an object around {where}", _encode(_changed(document, place, {"value": inner})))
        if len(place) == 1:
            key = _encode(place[0])
            yield Damage(f"{where} once more, null", _with_member(_encode(document), key + b":null"))


def _places(document: object, at: Path) -> Iterator[Path]:
    members: list[tuple[str | int, object]] = []
    if isinstance(document, dict):
        members = list(cast("dict[str | int, object]", document).items())
    elif isinstance(document, list):
        members = list(enumerate(cast("list[object]", document)))
    for step, value in members:
        yield (*at, step)
        yield from _places(value, (*at, step))


def _value_at(document: object, place: Path) -> object:
    for step in place:
        document = cast("dict[str | int, object]", document)[step]
    return document


def _changed(document: object, place: Path, value: object = None, *, remove: bool = False) -> object:
    step, *rest = place
    copy = cast("dict[str | int, object]", document).copy()
    if rest:
        copy[step] = _changed(copy[step], tuple(rest), value, remove=remove)
    elif remove:
        del copy[step]
    else:
        copy[step] = value
    return copy


def _with_member(body: bytes, member: bytes) -> bytes:
    return body[:-1] + (b"," if len(body) > 2 else b"") + member + b"}"


def _encode(document: object) -> bytes:
    # The standard library writes what must be tried here: lone surrogates and integers of any length.
    return json.dumps(document).encode()
