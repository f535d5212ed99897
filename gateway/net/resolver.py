"""Names to addresses, each checked before anything is dialled.

A name is resolved once for every connection and nothing is cached: what was checked is what is dialled, and a
name that answers differently the next time is checked again (DNS rebinding). One refused address refuses all.
Of a name that was checked the first few addresses are dialled: what it has more would only hold up a try.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from itertools import zip_longest

import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct

from gateway.net.addresses import DialPolicy
from gateway.net.dial import current_dial
from gateway.net.failures import DialRefused, LookupsBusy
from gateway.net.hosts import Address

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> addresses as text, in the order of preference; raises OSError when there are none."""

LOOKUPS = 32
"""Most lookups at once of one transport, unless it says otherwise."""
GREED = 3
"""An owner may have that many times as many under way as threads are left free."""
PER_FAMILY = 2
"""Addresses of a checked name that are dialled, of IPv4 and of IPv6."""
_PER_NAME = 2
_JOINED_S = 5.0  # a lookup that is older may have met a server that died; one more is then worth a thread


class _Lookup(Struct, frozen=True, eq=False):
    owner: str
    began_s: float
    answer: asyncio.Future[list[str]]


class SystemLookup:
    """The operating system's resolver, on threads of its own.

    getaddrinfo(3) cannot be interrupted: whoever asks may give up, the thread is the C library's until that
    gives up, too. So that names whose servers never answer hold up nobody else's, a name has one thread,
    whoever asks for it meanwhile (two when the first hangs), and an owner no more than its share. What gets
    none is refused at once, and comes again.

    Args:
        threads: most lookups at once.
    """

    def __init__(self, *, threads: int = LOOKUPS) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="dns")
        self._most = threads
        self._names: dict[str, list[_Lookup]] = {}
        self._owners: Counter[str] = Counter()

    async def __call__(self, host: str, port: int) -> list[str]:
        """Addresses of `host`; a link-local one carries its zone.

        Raises:
            LookupsBusy: it was not asked for.
            OSError: as getaddrinfo raises it (socket.gaierror).
        """
        dial = current_dial.get()
        lookup = self._lookup(host.lower(), port, "" if dial is None else dial.owner)
        await asyncio.wait({lookup.answer})  # whoever leaves takes nothing from those who wait for it, too
        if lookup.answer.cancelled():
            raise OSError(errno.ECANCELED, "the gateway stops")
        return lookup.answer.result()

    def close(self) -> None:
        """Let go of the threads; one that is inside getaddrinfo ends by itself."""
        for lookups in self._names.values():
            for lookup in lookups:
                lookup.answer.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _lookup(self, host: str, port: int, owner: str) -> _Lookup:
        """Return the lookup to wait for: one that is under way, or a new one."""
        loop = asyncio.get_running_loop()
        under_way = self._names.get(host, [])
        if under_way:
            latest = under_way[-1]
            if len(under_way) >= _PER_NAME or loop.time() - latest.began_s < _JOINED_S:
                return latest
        free = self._most - self._owners.total()
        if free < 1 or (owner and self._owners[owner] >= GREED * free):
            raise LookupsBusy(f"{host} was not looked up: too many lookups are under way")
        answer = loop.run_in_executor(self._threads, _getaddrinfo, host, port)
        lookup = _Lookup(owner, loop.time(), answer)
        self._names.setdefault(host, []).append(lookup)
        self._owners[owner] += 1
        answer.add_done_callback(lambda _: self._end(host, lookup))
        return lookup

    def _end(self, host: str, lookup: _Lookup) -> None:
        if not lookup.answer.cancelled():
            lookup.answer.exception()  # seen, also when nobody waits for it any more
        self._names[host].remove(lookup)
        if not self._names[host]:
            del self._names[host]
        self._owners[lookup.owner] -= 1
        self._owners += Counter()  # drops those that have none


def _getaddrinfo(host: str, port: int) -> list[str]:
    answers: dict[str, None] = {}
    for _, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        zone = f"%{place[3]}" if len(place) == 4 and place[3] else ""
        answers[f"{place[0]}{zone}"] = None
    return list(answers)


class CheckedResolver(AbstractResolver):
    """aiohttp's resolver seam: looks a name up and lets through only what the policy lets through.

    aiohttp does not ask a resolver about a URL that holds an address; the transport checks those.
    """

    def __init__(self, policy: DialPolicy | None, *, lookup: Lookup, lookup_s: float) -> None:
        """Take the rule and the means.

        Args:
            policy: None checks nothing: the names are ones that the operator configured.
            lookup: asks DNS.
            lookup_s: seconds that one lookup may take.
        """
        self._policy = policy
        self._lookup = lookup
        self._lookup_s = lookup_s

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's signature; it never asks for one
    ) -> list[ResolveResult]:
        """Addresses to dial for `host`: all, in the lookup's order, or `first_few` when they were checked.

        Raises:
            DialRefused: an answer is refused by the policy, or is no address.
            LookupsBusy: the name was not asked for.
            httpx.ConnectError: there is no answer.
            httpx.ConnectTimeout: the lookup took too long.
        """
        addresses = [self._check(host, text) for text in await self._ask(host, port)]
        if not addresses:
            raise httpx.ConnectError(f"{host} has no address")
        if self._policy is not None:
            addresses = first_few(addresses)
        dial = current_dial.get()
        if dial is not None:
            dial.addresses = tuple(str(address) for address in addresses)
        return [_result(host, port, address) for address in addresses]

    async def close(self) -> None:
        """Nothing is held here."""

    async def _ask(self, host: str, port: int) -> list[str]:
        try:
            async with asyncio.timeout(self._lookup_s):
                return await self._lookup(host, port)
        except TimeoutError:
            raise httpx.ConnectTimeout(f"looking {host} up took more than {self._lookup_s:g} s") from None
        except OSError as error:
            raise httpx.ConnectError(f"{host} cannot be looked up: {error.strerror or error}") from error

    def _check(self, host: str, text: str) -> Address:
        try:
            address = ip_address(text)
        except ValueError:
            raise DialRefused(f"{host} resolves to something that is no address") from None
        if self._policy is not None:
            reason = self._policy.refusal(address, host.lower().removesuffix("."))
            if reason is not None:
                raise DialRefused(f"{host} must not be dialled: {reason}")
        return address


def first_few(addresses: Sequence[Address]) -> list[Address]:
    """The first `PER_FAMILY` of either family, by turns, so that a dead family costs one address's time."""
    preferred = [one for one in addresses if one.version == addresses[0].version][:PER_FAMILY]
    others = [one for one in addresses if one.version != addresses[0].version][:PER_FAMILY]
    return [one for pair in zip_longest(preferred, others) for one in pair if one is not None]


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
