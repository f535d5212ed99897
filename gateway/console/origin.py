"""Whether a request was made by one of our own pages. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from gateway.settings.hosts import is_loopback

_HOST: Final = re.compile(r"(?:\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::[0-9]{1,5})?")


def is_ours(*, origin: str | None, site: str | None, host: str | None, public_url: str | None) -> bool:
    """Whether what changes something was sent by a page of this gateway.

    Sec-Fetch-Site is the browser's own judgement, made of the address that it sees: a proxy in front of us
    may well have put another Host in the place of that. Over plain http browsers send none but to loopback,
    and old ones never do; then Origin must name us.

    Args:
        origin: the header Origin; `null` is what another site's page can make of it.
        site: the header Sec-Fetch-Site.
        host: the header Host.
        public_url: where the settings say that this gateway is reached.
    """
    if site is not None or origin is None:
        return site == "same-origin" and origin != "null"
    scheme, _, asked = origin.lower().partition("://")
    # By host and port alone: whether TLS ends in front of us is not told.
    ours = {(host or "").lower(), urlsplit((public_url or "").lower()).netloc} - {""}
    return scheme in {"http", "https"} and asked in ours


def is_safely_named(host: str | None, *, listens: str, public_url: str | None) -> bool:
    """Whether a gateway that asks for no key is spoken to by a name of its own.

    Any site may give its own name this machine's address, and read our pages as its own; then this is the
    only header that gives it away.
    """
    if host is None or _HOST.fullmatch(host.lower()) is None:
        return False
    name = urlsplit(f"//{host.lower()}").hostname or ""
    return is_loopback(name) or name in {listens.lower(), urlsplit((public_url or "").lower()).hostname}
