"""Which addresses may be dialled: the table of refused networks, and an operator's exceptions to it.

The table is our own because `ipaddress.is_global` is no guard: it passes NAT64 to loopback, `::127.0.0.1`,
multicast and Azure's wireserver, and its answer changes with Python's patch level.

Sources: IANA's IPv4 and IPv6 special-purpose address registries, Microsoft AntiSSRF 1.0.0 `recommended_v1`.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import msgspec

from gateway.net.hosts import Address, parse_host

Network = IPv4Network | IPv6Network

_DENIED_IPV4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared address space",
    "127.0.0.0/8": "loopback",
    "168.63.129.16/32": "cloud metadata",
    "169.254.0.0/16": "link-local and cloud metadata",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "protocol assignments",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "multicast tunnelling",
    "192.88.99.0/24": "6to4 relays",
    "192.168.0.0/16": "private",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
_DENIED_IPV6 = {  # inside 2000::/3; everything outside it is refused as a whole
    "2001::/23": "protocol assignments",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4",
    "2620:4f:8000::/48": "AS112",
    "3fff::/20": "documentation",
}
_METADATA = (
    "100.100.100.200/32",  # Alibaba Cloud; inside 100.64.0.0/10, which operators like to allow
    "168.63.129.16/32",  # Azure
    "169.254.0.0/16",  # AWS, Google, Azure, Oracle and others
    "192.0.0.192/32",  # Oracle Cloud Classic
    "fd00:42::42/128",  # Scaleway
    "fd00:ec2::/32",  # AWS
    "fd20:ce::254/128",  # Google
)

DENIED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), reason) for network, reason in (_DENIED_IPV4 | _DENIED_IPV6).items()
)
METADATA: tuple[Network, ...] = tuple(ip_network(network) for network in _METADATA)
GLOBAL_IPV6 = IPv6Network("2000::/3")
_BEFORE_IPV4 = (  # whose last 32 bits are an IPv4 address
    IPv6Network("64:ff9b::/96"),  # NAT64, RFC 6052
    IPv6Network("64:ff9b:1::/48"),  # NAT64 of one's own, RFC 8215; its usual prefixes are of 96 bits
    IPv6Network("::ffff:0:0:0/96"),  # SIIT, RFC 2765
    IPv6Network("::/96"),  # RFC 4291 2.5.5.1, deprecated
)
_NAT64_OF_48 = IPv6Network("64:ff9b:1::/48")


def unmap(address: Address) -> Address:
    """The IPv4 address inside `::ffff:0:0/96`, any other address as it is."""
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or address


def denied_because(address: Address) -> str | None:
    """Why the table refuses `address`, in words; None when it is an ordinary public address."""
    if not isinstance(address, IPv4Address) and address.scope_id is not None:
        return f"{address} names a network interface"
    address = unmap(address)
    for network, reason in DENIED:
        if address in network:
            return f"{address} is {reason} ({network})"
    if not isinstance(address, IPv4Address) and address not in GLOBAL_IPV6:
        return f"{address} is outside the public part of IPv6 ({GLOBAL_IPV6})"
    return None


def is_metadata(address: Address) -> bool:
    """Whether a cloud's metadata service answers there, also when reached through a translator or tunnel."""
    address = unmap(address)
    candidates = [address, *([] if isinstance(address, IPv4Address) else _inside(address))]
    return any(candidate in network for candidate in candidates for network in METADATA)


def _inside(address: IPv6Address) -> list[IPv4Address]:
    """Every IPv4 address that a translator or tunnel may take this one for."""
    found = [one for one in (address.sixtofour, *(address.teredo or ())) if one is not None]
    bits = int(address)
    if any(address in network for network in _BEFORE_IPV4):
        found.append(IPv4Address(bits & 0xFFFF_FFFF))
    if address in _NAT64_OF_48:  # RFC 6052 2.2: bits 48 to 63, then 72 to 87, around an octet of zeros
        found.append(IPv4Address((bits >> 64 & 0xFFFF) << 16 | bits >> 40 & 0xFFFF))
    return found


class DialPolicy(msgspec.Struct, frozen=True):
    """What may be dialled besides public addresses. Closed by default; `parse_policy` reads settings.

    Attributes:
        allowed_networks: dialled although the table refuses them. A metadata address needs an entry of its
            own (one address); a network around it does not let it through.
        allowed_hosts: exact names in lower case whose addresses are dialled even when the table refuses
            them, metadata addresses excepted.
        allow_http: plain http is accepted too.
    """

    allowed_networks: tuple[Network, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    allow_http: bool = False

    def refusal(self, address: Address, host: str | None = None) -> str | None:
        """Why `address` must not be dialled for `host`, in words; None when it may be.

        Args:
            address: what would be dialled.
            host: the name it was resolved from, in lower case; None when the URL held the address itself.
        """
        reason = denied_because(address)
        if reason is None or (not isinstance(address, IPv4Address) and address.scope_id is not None):
            return reason
        address = unmap(address)
        listed = [network for network in self.allowed_networks if address in network]
        if is_metadata(address):
            return None if any(network.num_addresses == 1 for network in listed) else reason
        return None if listed or host in self.allowed_hosts else reason

    def describe(self) -> str:
        """The effective policy in one line, for start-up output."""
        parts = ["public addresses"]
        if self.allowed_networks:
            parts.append("networks " + ", ".join(str(network) for network in self.allowed_networks))
        if self.allowed_hosts:
            parts.append("hosts " + ", ".join(self.allowed_hosts))
        schemes = "https and http" if self.allow_http else "https only"
        return f"{schemes}; {'; '.join(parts)}; cloud metadata only where listed address by address"


def parse_policy(
    *, allowed_networks: Iterable[str] = (), allowed_hosts: Iterable[str] = (), allow_http: bool = False
) -> DialPolicy:
    """A policy from the words of a settings file.

    Args:
        allowed_networks: addresses or CIDR networks, such as `10.0.0.0/8` or `::1`.
        allowed_hosts: host names, compared without regard to case; no wildcards, no addresses.
        allow_http: whether plain http is accepted.

    Raises:
        ValueError: an entry is not what it should be; the message names the entry.
    """
    return DialPolicy(
        allowed_networks=tuple(_parse_network(entry) for entry in allowed_networks),
        allowed_hosts=tuple(_parse_allowed_host(entry) for entry in allowed_hosts),
        allow_http=allow_http,
    )


def _parse_network(entry: str) -> Network:
    try:
        network = ip_network(entry)
    except ValueError as error:
        raise ValueError(f"allowed_networks: {entry!r} is not a network: {error}") from None
    if isinstance(network, IPv6Network):
        if "%" in entry:
            raise ValueError(f"allowed_networks: {entry!r} names a network interface")
        if network.network_address.ipv4_mapped is not None:
            raise ValueError(f"allowed_networks: write {entry!r} as IPv4, which is how it is judged")
    return network


def _parse_allowed_host(entry: str) -> str:
    try:
        host = parse_host(entry)
    except ValueError as error:
        raise ValueError(f"allowed_hosts: {entry!r}: {error}") from None
    if not isinstance(host, str):
        raise ValueError(f"allowed_hosts: {entry!r} is an address; list it under allowed_networks")  # noqa: TRY004 - settings are read as ValueError
    return host
