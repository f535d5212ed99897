"""Judging a URL that a client or a provider handed us by its form alone: no DNS, nothing dialled.

A name that resolves to a private address passes here; the dialler refuses it (`resolver`).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Literal
from urllib.parse import quote

from gateway.net.addresses import DialPolicy, unmap
from gateway.net.hosts import Address, parse_host

Slug = Literal["invalid-url", "forbidden-target", "insecure-callback"]

DEFAULT_PORTS = {"http": 80, "https": 443}
LOOPBACK = IPv4Address("127.0.0.1")

# Own patterns instead of urllib.parse.urlsplit, which silently drops tabs and line ends.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)((?:\?[^#]*)?)(?:#.*)?")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_SAFE = "!$%&'()*+,/:;=?@[]~"  # left as they are; the rest is percent-encoded as every client would


class UrlRefused(ValueError):
    """A URL cannot be accepted.

    Attributes:
        slug: the problem type to answer with.
        message: what is wrong, for the person who sent it; never repeats path, query or userinfo.
    """

    def __init__(self, slug: Slug, message: str) -> None:
        super().__init__(message)
        self.slug: Slug = slug
        self.message = message


def check_url(
    url: str,
    policy: DialPolicy,
    *,
    ip_literals: bool,
    max_length: int = 2048,
    http_slug: Slug = "insecure-callback",
) -> str:
    """The URL in normal form (host in lower case, default port and fragment dropped), or a refusal.

    Args:
        url: as it was received.
        policy: which networks and hosts are let through, and whether plain http is.
        ip_literals: whether a public address may stand in place of a host name. A refused address is never
            let through, one in `policy.allowed_networks` always is.
        max_length: of the URL in characters, before and after normalising.
        http_slug: the problem type of plain http that the policy does not allow.

    Raises:
        UrlRefused: `invalid-url` for a malformed one, `forbidden-target` for a host that must not be dialled,
            `http_slug` for plain http. A forbidden host is reported before plain http.
    """
    scheme, authority, path, query = _split(url, max_length)
    host, port = _parse_authority(authority)
    host_text = _check_host(host, policy, ip_literals=ip_literals)
    if scheme == "http" and not policy.allow_http:
        raise UrlRefused(http_slug, "the URL must use https")
    suffix = "" if port in {None, DEFAULT_PORTS[scheme]} else f":{port}"
    checked = f"{scheme}://{host_text}{suffix}{quote(path or '/', safe=_SAFE)}{quote(query, safe=_SAFE)}"
    if len(checked) > max_length:
        raise UrlRefused("invalid-url", f"the URL is longer than {max_length} characters once encoded")
    return checked


def _split(url: str, max_length: int) -> tuple[str, str, str, str]:
    if len(url) > max_length:
        raise UrlRefused("invalid-url", f"the URL is longer than {max_length} characters")
    if any(char <= " " or char == "\\" or not char.isprintable() for char in url):
        raise UrlRefused("invalid-url", "the URL has a space, a backslash or a control character")
    match = _URL.fullmatch(url)
    if match is None:
        raise UrlRefused("invalid-url", "not an absolute URL with a host")
    scheme, authority, path, query = match.groups()
    if scheme.lower() not in DEFAULT_PORTS:
        raise UrlRefused("invalid-url", "the URL must use https")
    return scheme.lower(), authority, path, query


def _parse_authority(authority: str) -> tuple[Address | str, int | None]:
    if "@" in authority:
        raise UrlRefused("invalid-url", "the URL must not hold a user name or password")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise UrlRefused("invalid-url", "the URL's host or port is malformed")
    port = None if match[2] is None else int(match[2])
    if port is not None and not 1 <= port <= 65535:
        raise UrlRefused("invalid-url", "the URL's port must be between 1 and 65535")
    try:
        return parse_host(match[1]), port
    except ValueError as error:
        raise UrlRefused("invalid-url", str(error)) from None


def _check_host(host: Address | str, policy: DialPolicy, *, ip_literals: bool) -> str:
    if isinstance(host, str):
        if host == "localhost" or host.endswith(".localhost"):
            _forbid(policy.refusal(LOOPBACK, host), host)  # RFC 6761 6.3: always loopback
        return host
    _forbid(policy.refusal(host), str(host))
    address = unmap(host)
    if not ip_literals and not any(address in network for network in policy.allowed_networks):
        raise UrlRefused("invalid-url", "the URL must have a host name, not an address")
    return str(address) if isinstance(address, IPv4Address) else f"[{address}]"


def _forbid(reason: str | None, host: str) -> None:
    if reason is not None:
        raise UrlRefused("forbidden-target", f"{host} must not be called: {reason}")
