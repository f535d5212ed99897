"""Hosts and networks by their form. Nothing is looked up, and nothing here decides what may be dialled."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*", re.IGNORECASE)
_NUMERIC: Final = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)")


def is_loopback(host: str) -> bool:
    """Whether a host, as written, is this machine: 127.0.0.0/8, ::1, localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def host(text: str) -> str:
    """Check an address or name to listen on.

    Raises:
        ValueError: it is neither.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if not is_name(text):
            raise ValueError("must be an IP address or a host name, without port") from None
        return text


def networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Check networks in CIDR form; a bare address is a network of one.

    Raises:
        ValueError: one is no network, or has bits set beyond its prefix.
    """
    return tuple(_network(text) for text in texts)


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass  # told below, with the network that was probably meant
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network; write it as 10.0.0.0/8 or fd00::/8") from None
    raise ValueError(f"{text!r} has bits set beyond its prefix; write {meant}")


def host_names(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Check host names, and return them in lower case.

    Raises:
        ValueError: one is no name: has a scheme, a port, a path, a wildcard, or is an address.
    """
    for text in texts:
        if not is_name(text):
            raise ValueError(
                f"{text!r} is no host name; write receiver.example.com, without scheme, port or path"
                " (addresses belong in allowed_networks)"
            )
    return tuple(text.lower() for text in texts)


def is_name(text: str) -> bool:
    """Whether a text is a host name, and not an address in any notation."""
    # A last label that reads as a number makes the whole an IPv4 address for the system's resolver.
    return _HOST.fullmatch(text) is not None and _NUMERIC.fullmatch(text.rpartition(".")[2]) is None


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address in its usual notation."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
