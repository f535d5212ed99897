"""What we refuse of header fields, sent or received."""

from __future__ import annotations

import re

import httpx

from gateway.net.failures import EncodingRefused

_UNSENDABLE = re.compile(r"[^\t\x20-\x7e]")


def check_sendable(name: str, value: str) -> None:
    """Check a field that is to be sent.

    Raises:
        httpx.LocalProtocolError: it has characters that could end it, or that servers read differently.
    """
    if _UNSENDABLE.search(name) or _UNSENDABLE.search(value):
        raise httpx.LocalProtocolError("a header has characters outside visible ASCII")


def check_unencoded(codings: str) -> None:
    """Check a Content-Encoding field that was received, empty when there was none.

    Raises:
        EncodingRefused: it names a coding.
    """
    if {coding.strip() for coding in codings.lower().split(",")} - {"", "identity"}:
        raise EncodingRefused("the response is compressed, although we asked for identity")
