"""Posts to those whom strangers name: only addresses that were checked are dialled, one after the other.

Every request has a connection of its own. A kept one would cost less, but a receiver that serves one
connection at a time waits on the idle one, and leaves the others to their time-outs.

Written for this one purpose, on httptools: a client for general use, as `transport` has it, takes three to
four times the processor for an exchange, and needs as much care to be kept from what it does beyond it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

import httpx
from msgspec import Struct

from gateway.net.addresses import DialPolicy
from gateway.net.exchange import Exchange
from gateway.net.failures import DialRefused, in_words
from gateway.net.fields import check_sendable
from gateway.net.hosts import Address
from gateway.net.lookups import LOOKUPS, Lookup, SystemLookup
from gateway.net.resolver import Resolver, first_few
from gateway.net.target import Target, judge
from gateway.net.tls import verified_ssl_context

URLS_KEPT = 1024  # of those that were judged

BeforeDial = Callable[[str, int], None]
"""Told of an address, as text, and a port right before they are dialled; an OSError keeps from it."""


class Answer(Struct, frozen=True):
    """What came back."""

    status: int
    retry_after: str | None
    """The Retry-After field as it came."""
    body: bytes
    """Its beginning, as it was sent."""
    trouble: str | None
    """Why the body ends before all that was wanted; None when it does not."""


class GuardedClient:
    """POSTs, each over a connection of its own; no redirects, second tries, cookies or proxies."""

    def __init__(
        self,
        policy: DialPolicy,
        *,
        deadline_s: float,
        body_s: float,
        connect_s: float = 10.0,
        lookup_s: float = 5.0,
        lookups: int = LOOKUPS,
        lookup: Lookup | None = None,
        ssl_context: ssl.SSLContext | None = None,
        before_dial: BeforeDial | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            policy: what may be dialled.
            deadline_s: seconds for a whole call.
            body_s: seconds of them for the answer's body.
            connect_s: seconds for TCP and TLS with one address; a host's next address gets as many.
            lookup_s: seconds for one DNS lookup.
            lookups: most DNS lookups at once, those included that hang though nobody waits for them any more.
            lookup: DNS, for tests; None for the operating system's.
            ssl_context: None for certifi's authorities, or those that SSL_CERT_FILE or SSL_CERT_DIR name.
            before_dial: for tests.
        """
        self._policy = policy
        self._deadline_s = deadline_s
        self._body_s = body_s
        self._connect_s = connect_s
        self._system_lookup = SystemLookup(threads=lookups)
        self._resolver = Resolver(lookup or self._system_lookup, lookup_s=lookup_s)
        self._ssl_context = ssl_context or verified_ssl_context()
        self._before_dial = before_dial
        # The policy never changes; what it refuses is not kept.
        self._judge = lru_cache(maxsize=URLS_KEPT)(partial(judge, policy=policy))
        self._open: set[Exchange] = set()
        self._closed = False

    async def post(
        self, url: str, *, headers: Mapping[str, str], body: bytes, wanted: int, owner: str = ""
    ) -> Answer:
        """Send once.

        Args:
            url: where to.
            headers: beside those that HTTP itself asks for.
            body: as it goes over the wire; of some kilobytes.
            wanted: bytes of the answer's body; nothing beyond them is read.
            owner: on whose behalf; an owner has its share of the lookups.

        Raises:
            DialRefused: the guard said no; nothing was dialled.
            httpx.HTTPError: no answer came (`failures` lists which); or as `target.judge` has it.
            httpx.InvalidURL: the URL cannot be read.
            UnicodeError: its name cannot be.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._deadline_s
        target = self._judge(url)
        request = _request(target, headers, body)
        exchange = await self._connected(target, wanted, owner, ends_at)
        try:
            exchange.send(request)
            status = await _answered(exchange, ends_at)
            trouble = await self._read(exchange, min(ends_at, loop.time() + self._body_s))
            return Answer(status, exchange.retry_after, exchange.body, trouble)
        finally:
            self._leave(exchange)

    async def aclose(self) -> None:
        """Close every connection; requests still under way fail, and so do later ones."""
        self._closed = True
        for exchange in list(self._open):
            self._leave(exchange)
        self._system_lookup.close()

    def _leave(self, exchange: Exchange) -> None:
        exchange.leave()
        self._open.discard(exchange)

    def _check_open(self) -> None:
        if self._closed:
            raise httpx.ConnectError("the gateway stops")

    async def _connected(self, target: Target, wanted: int, owner: str, ends_at: float) -> Exchange:
        """Connect to the first of the target's addresses that takes it."""
        self._check_open()
        try:
            async with asyncio.timeout_at(ends_at):
                return await self._connect(target, wanted, await self._addresses(target, owner))
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection in time") from None

    async def _read(self, exchange: Exchange, until: float) -> str | None:
        if not exchange.ended:  # seldom: head and body come together
            try:
                async with asyncio.timeout_at(until):
                    await exchange.read()
            except TimeoutError:
                return f"it took more than {self._body_s:g} s"
        return None if exchange.trouble is None else str(exchange.trouble)

    async def _addresses(self, target: Target, owner: str) -> list[Address]:
        """Look the name up, once, and check every address it has. One that is refused refuses all."""
        if target.address is not None:
            return [target.address]
        found = await self._resolver.addresses(target.host, target.port, owner)
        name = target.host.lower().removesuffix(".")
        for address in found:
            reason = self._policy.refusal(address, name)
            if reason is not None:
                raise DialRefused(f"{target.host} must not be dialled: {reason}")
        return first_few(found)

    async def _connect(self, target: Target, wanted: int, addresses: list[Address]) -> Exchange:
        """Dial one after the other, each in its own time, until one takes the connection."""
        failure: Exception | None = None
        for address in addresses:
            self._check_open()
            try:
                async with asyncio.timeout(self._connect_s):
                    return await self._dial(str(address), target, wanted)
            except TimeoutError:
                failure = httpx.ConnectTimeout("no connection in time")
            except OSError as error:  # OpenSSL's are, too
                failure = httpx.ConnectError(in_words(error))
                failure.__cause__ = error
        raise failure or httpx.ConnectError(f"{target.host} has no address")

    async def _dial(self, address: str, target: Target, wanted: int) -> Exchange:
        """Connect to one address, with an exchange of its own: one that comes about too late is left."""
        if self._before_dial is not None:
            self._before_dial(address, target.port)
        exchange = Exchange(wanted=wanted)
        self._open.add(exchange)
        tls = target.tls
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: exchange,
                address,
                target.port,
                ssl=self._ssl_context if tls else None,
                server_hostname=target.host if tls else None,
                # uvloop may go on with a handshake that nobody waits for any more.
                ssl_handshake_timeout=self._connect_s if tls else None,
            )
        except BaseException:
            self._leave(exchange)
            raise
        return exchange


async def _answered(exchange: Exchange, ends_at: float) -> int:
    try:
        async with asyncio.timeout_at(ends_at):
            return await exchange.answered()
    except TimeoutError:
        raise httpx.ReadTimeout("no complete answer in time") from None


def _request(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    """Head and body, as they go over the wire."""
    fields = {
        "Host": target.authority,
        "Accept-Encoding": "identity",
        "Connection": "close",
        **headers,
        "Content-Length": str(len(body)),
    }
    for name, value in fields.items():
        check_sendable(name, value)
    lines = [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"POST {target.path} HTTP/1.1", *lines, "", ""]).encode("ascii") + body
