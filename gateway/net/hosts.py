"""What the host part of a URL names: an address in any notation a resolver would accept, or a name.

Resolvers still read `127.1`, `2130706433`, `0x7f.1` and `0177.0.0.1` as 127.0.0.1 (inet_aton(3)). Whoever
compares the text alone lets them through, so they are turned into addresses here and judged as such.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

import httpx

Address = IPv4Address | IPv6Address

LONGEST_HOST = 253
LONGEST_LABEL = 63

_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")


def parse_host(text: str) -> Address | str:
    """The address that `text` denotes, or the name in lower case.

    Args:
        text: a host as it stands in a URL, IPv6 with or without its brackets. A zone (`%eth0` or `%25eth0`)
            is kept in the address's `scope_id`, so that the caller can refuse it.

    Returns:
        An address for every IPv6 literal and for IPv4 in any inet_aton notation; otherwise a host name.

    Raises:
        ValueError: neither an address nor a well-formed ASCII name; the message says what is wrong with it.
    """
    if not text:
        raise ValueError("the host is missing")
    if not text.isascii():
        raise ValueError("the host has characters outside ASCII; write an international name as xn--")
    if ":" in text or text.startswith("["):
        return _parse_ipv6(text.removeprefix("[").removesuffix("]"))
    if len(text) > LONGEST_HOST:
        raise ValueError(f"the host is longer than {LONGEST_HOST} characters")
    labels = text.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _parse_ipv4(labels)
    return _parse_name(text.lower())


def _parse_ipv6(text: str) -> IPv6Address:
    try:
        return IPv6Address(text.replace("%25", "%", 1))
    except ValueError:
        raise ValueError("the host is not a well-formed IPv6 address") from None


def _parse_ipv4(labels: list[str]) -> IPv4Address:
    """One to four numbers, the last filling all remaining bytes (inet_aton(3), WHATWG URL's IPv4 parser)."""
    malformed = ValueError("the host ends in a number but is not a well-formed IPv4 address")
    if len(labels) > 4 or not all(_NUMBER.fullmatch(label) for label in labels):
        raise malformed
    try:
        *leading, last = (_parse_number(label) for label in labels)
    except ValueError:
        raise malformed from None
    room = 256 ** (4 - len(leading))
    if last >= room or any(number > 255 for number in leading):
        raise malformed
    for position, number in enumerate(leading):
        last += number << (8 * (3 - position))
    return IPv4Address(last)


def _parse_number(text: str) -> int:
    if text[:2] in {"0x", "0X"}:
        return int(text[2:] or "0", 16)
    if text.startswith("0"):
        return int(text, 8)
    return int(text)


def _parse_name(text: str) -> str:
    if text.endswith("."):
        raise ValueError("the host ends in a dot")
    for label in text.split("."):
        if len(label) > LONGEST_LABEL:
            raise ValueError(f"a part of the host is longer than {LONGEST_LABEL} characters")
        if not _LABEL.fullmatch(label):
            raise ValueError("the host is not a well-formed name")
    if "xn--" in text:
        try:
            _ = httpx.URL(scheme="https", host=text).host  # decodes by IDNA 2008, and later callers do too
        except UnicodeError:
            raise ValueError("the host has a malformed xn-- part") from None
    return text
