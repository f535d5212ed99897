"""aiohttp's connector, with our protocol, and our lookups behind its resolver's seam.

Relied on, of aiohttp 3.14: the connector makes protocols with `_factory`. tests/unit/net/test_net_floods.py
fails when it is no longer so.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.net.hosts import Address
from gateway.net.protocol import LimitedAnswers
from gateway.net.resolver import Resolver


class LimitedConnector(aiohttp.TCPConnector):
    """Reads answers within limits."""

    def __init__(self, **options: Any) -> None:
        """Take aiohttp's own options."""
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType] - aiohttp leaves tuples open
        loop = asyncio.get_running_loop()
        self._factory = partial(LimitedAnswers, loop=loop)  # type: ignore[assignment]  # partial is invariant


class PoolResolver(AbstractResolver):
    """Looks names up for aiohttp, which does not ask about a URL that holds an address.

    Args:
        resolver: does it.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's signature; it never asks for one
    ) -> list[ResolveResult]:
        """Addresses to dial for `host`.

        Raises:
            httpx.TransportError: as `Resolver.addresses` raises it.
        """
        return [_result(host, port, one) for one in await self._resolver.addresses(host, port, "")]

    async def close(self) -> None:
        """Nothing is held here."""


def _result(host: str, port: int, address: Address) -> ResolveResult:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return ResolveResult(
        hostname=host,
        host=str(address),
        port=port,
        family=family,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST,
    )
