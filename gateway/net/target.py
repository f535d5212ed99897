"""Where a URL leads, judged by its form alone when it is about to be dialled: no DNS yet."""

from __future__ import annotations

import re

import httpx
from msgspec import Struct

from gateway.net.addresses import DialPolicy
from gateway.net.failures import DialRefused
from gateway.net.hosts import Address, parse_host
from gateway.net.urls import DEFAULT_PORTS

_UNSENDABLE = re.compile(rb"[^\x21-\x7e]")


class Target(Struct, frozen=True):
    """One URL's other side."""

    host: str
    """For TLS and the name server; an address without brackets."""
    address: Address | None
    """What stands in the URL instead of a name."""
    port: int
    tls: bool
    authority: str
    """For the Host field."""
    path: str
    """With the query; as it goes over the wire."""


def judge(url: str, policy: DialPolicy) -> Target:
    """Read a URL, and refuse what must not be dialled whatever a name resolves to.

    Args:
        url: the receiver's. A user name and a fragment are dropped.
        policy: what may be dialled.

    Raises:
        DialRefused: plain http, or an address, that the policy does not let through.
        httpx.UnsupportedProtocol: neither http nor https.
        httpx.LocalProtocolError: it cannot be written into a request, or has no such port.
        httpx.InvalidURL: it cannot be read.
        UnicodeError: its name cannot be.
    """
    read = httpx.URL(url)
    if read.scheme not in DEFAULT_PORTS:
        raise httpx.UnsupportedProtocol(f"{read.scheme or 'no scheme'} is not supported")
    if read.scheme == "http" and not policy.allow_http:
        raise DialRefused("plain http is not allowed")
    host = read.raw_host.decode("ascii")
    address = _address(host, policy)
    port = DEFAULT_PORTS[read.scheme] if read.port is None else read.port
    if not 0 < port < 65_536:
        raise httpx.LocalProtocolError(f"there is no port {port}")
    if _UNSENDABLE.search(read.netloc + read.raw_path):
        raise httpx.LocalProtocolError("the URL has characters outside visible ASCII")
    return Target(
        host=host if address is None else str(address),
        address=address,
        port=port,
        tls=read.scheme == "https",
        authority=read.netloc.decode("ascii"),
        path=read.raw_path.decode("ascii"),
    )


def _address(host: str, policy: DialPolicy) -> Address | None:
    try:
        parsed = parse_host(host)
    except ValueError as error:
        raise DialRefused(str(error)) from None
    if isinstance(parsed, str):
        return None
    if reason := policy.refusal(parsed):
        raise DialRefused(f"{host} must not be dialled: {reason}")
    if parsed.version == 4 and str(parsed) != host:
        raise DialRefused(f"{host} is an unusual spelling of {parsed}")
    return parsed
