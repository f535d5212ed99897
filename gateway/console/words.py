"""How times, money and documents are shown to people. Pure, but for the mark-up that templates trust."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from markupsafe import Markup, escape

from gateway.api.paging import parse_instant
from gateway.jobs.view import instant

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")
NOTHING: Final = "\u2013"
_SHOWN_DOCUMENT: Final = 65_536
"""Most characters of a document that are shown; all of it is in the API."""


def span(seconds: float) -> str:
    """Say how long, in the largest unit that fits: `3 min`."""
    whole = int(abs(seconds))
    for size, unit in _UNITS:
        if whole >= size:
            return f"{whole // size} {unit}"
    return "0 s"


def since(at: str | None, now_ms: int) -> Markup:
    """Say when something was or will be, with the exact instant in the title.

    Args:
        at: as views have it; None for nothing.
        now_ms: what it is relative to, milliseconds since 1970.
    """
    if at is None:
        return Markup('<span class="none">{}</span>').format(NOTHING)
    seconds = (now_ms - parse_instant(at)) / 1000
    words = f"in {span(seconds)}" if seconds <= -1 else "now" if seconds < 1 else f"{span(seconds)} ago"
    return Markup('<time datetime="{at}" title="{at}">{words}</time>').format(at=at, words=words)


def took(begun: str | None, ended: str | None, now_ms: int) -> str:
    """Say how long something took, or has taken until now."""
    if begun is None:
        return NOTHING
    until_ms = now_ms if ended is None else parse_instant(ended)
    return span(max(0, until_ms - parse_instant(begun)) / 1000)


def usd(amount: float | None) -> str:
    """Write an amount of USD."""
    return (
        NOTHING
        if amount is None
        else f"${amount:,.2f}"
        if amount >= 0.01 or amount == 0
        else f"${amount:.4f}"
    )


def percent(part: float | None) -> str:
    """Write a part of 1 in percent."""
    return NOTHING if part is None else f"{part * 100:.0f} %"


def document(raw: msgspec.Raw | bytes | str) -> str:
    """Lay a JSON document out for reading; what is none is shown as it is."""
    text = raw if isinstance(raw, str) else bytes(raw).decode("utf-8", "replace")
    with suppress(msgspec.DecodeError):  # a provider's answer need not be JSON, nor whole
        text = msgspec.json.format(text, indent=2)
    return text if len(text) <= _SHOWN_DOCUMENT else text[:_SHOWN_DOCUMENT] + "\n[...]"


def short(text: str) -> Markup:
    """Show an id with its middle left out; it stands whole in the title."""
    head, _, rest = text.partition("_")
    if len(rest) < 16:
        return escape(text)
    return Markup('<code class="id" title="{text}">{head}_…{tail}</code>').format(
        text=text, head=head, tail=rest[-8:]
    )


def is_web(url: str) -> bool:
    """Whether an address may be linked to and played: a provider may call anything an address."""
    return origin_of(url) is not None and url.isprintable()


def origin_of(url: str) -> str | None:
    """Return an address's origin as a Content-Security-Policy names it; None where there is none to name."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    host = parts.netloc.rpartition("@")[2]
    named = parts.scheme in {"http", "https"} and _HOST.fullmatch(host) is not None
    return f"{parts.scheme}://{host}" if named else None


def as_instant(at_ms: int) -> str:
    """Write milliseconds since 1970 as views do."""
    return instant(at_ms)


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "usd": usd,
    "percent": percent,
    "document": document,
    "short": short,
    "span": span,
    "instant": as_instant,
}
TESTS: Final[Mapping[str, Callable[..., bool]]] = {"web": is_web}
