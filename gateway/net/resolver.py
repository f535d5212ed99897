"""Names to addresses, once for every connection.

Nothing is cached: what was checked is what is dialled, and a name that answers differently the next time is
checked again (DNS rebinding).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import zip_longest

import httpx

from gateway.net.failures import DialRefused
from gateway.net.hosts import Address
from gateway.net.lookups import Lookup

PER_FAMILY = 2
"""Addresses of a checked name that are dialled, of IPv4 and of IPv6."""


class Resolver:
    """Looks names up.

    Args:
        lookup: asks DNS.
        lookup_s: seconds that one lookup may take.
    """

    def __init__(self, lookup: Lookup, *, lookup_s: float) -> None:
        self._lookup = lookup
        self._lookup_s = lookup_s

    async def addresses(self, host: str, port: int, owner: str) -> list[Address]:
        """All addresses of `host`, in the lookup's order; at least one.

        Args:
            host: its name.
            port: what will be dialled there.
            owner: on whose behalf; an owner has its share of the lookups. Empty for the operator.

        Raises:
            DialRefused: an answer is no address.
            LookupsBusy: the name was not asked for.
            httpx.ConnectError: there is no answer.
            httpx.ConnectTimeout: the lookup took too long.
        """
        found = [_read(host, text) for text in await self._ask(host, port, owner)]
        if not found:
            raise httpx.ConnectError(f"{host} has no address")
        return found

    async def _ask(self, host: str, port: int, owner: str) -> list[str]:
        try:
            async with asyncio.timeout(self._lookup_s):
                return await self._lookup(host, port, owner)
        except TimeoutError:
            raise httpx.ConnectTimeout(f"looking {host} up took more than {self._lookup_s:g} s") from None
        except OSError as error:
            raise httpx.ConnectError(f"{host} cannot be looked up: {error.strerror or error}") from error


def first_few(addresses: Sequence[Address]) -> list[Address]:
    """The first `PER_FAMILY` of either family, by turns, so that a dead family costs one address's time.

    What a stranger's name has more of them would only hold up a try.
    """
    preferred = [one for one in addresses if one.version == addresses[0].version][:PER_FAMILY]
    others = [one for one in addresses if one.version != addresses[0].version][:PER_FAMILY]
    return [one for pair in zip_longest(preferred, others) for one in pair if one is not None]


def _read(host: str, text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise DialRefused(f"{host} resolves to something that is no address") from None
