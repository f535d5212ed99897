"""aiohttp sessions that do nothing on their own: no proxies, cookies, redirects, decoding or second tries."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
from msgspec import Struct

from gateway.net.connector import LimitedConnector, PoolResolver
from gateway.net.dial import BeforeSend, Dial
from gateway.net.failures import RequestWithheld
from gateway.net.resolver import Resolver

SocketFactory = Callable[[tuple[int, int, int, str, tuple[Any, ...]]], socket.socket]
"""(family, type, protocol, canonical name, address with port) -> a socket not yet connected."""


class Outgoing(Struct, frozen=True):
    """One request on its way: what is noted about it, and who has the last word on it."""

    dial: Dial
    before_send: BeforeSend | None


class SeveredError(Exception):
    """Carries a broken connection's error past aiohttp, which would send a GET, PUT or DELETE once more."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


def open_session(
    *,
    fresh: bool,
    resolver: Resolver,
    ssl_context: ssl.SSLContext,
    socket_factory: SocketFactory | None,
    limit: int,
    keepalive_s: float,
    connect_s: float,
) -> aiohttp.ClientSession:
    """A session whose every request records itself in the `Outgoing` given as `trace_request_ctx`.

    Args:
        fresh: every request gets a new connection, which is closed after it.
        resolver: looks names up.
        ssl_context: for https.
        socket_factory: makes the sockets that are dialled; None for ordinary ones.
        limit: connections at once; 0 for no limit.
        keepalive_s: seconds an idle connection is kept.
        connect_s: seconds for TCP and TLS with one address.
    """
    connector = LimitedConnector(
        resolver=PoolResolver(resolver),
        use_dns_cache=False,
        ssl=ssl_context,
        socket_factory=socket_factory,
        limit=limit,
        force_close=fresh,
        keepalive_timeout=None if fresh else keepalive_s,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
        auto_decompress=False,
        trust_env=False,
        trace_configs=[_recording()],
        middlewares=(_send_once,),
    )


def _recording() -> aiohttp.TraceConfig:
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_start.append(_record_start)
    tracing.on_connection_create_end.append(_record_new)
    tracing.on_connection_reuseconn.append(_record_reused)
    # Its name notwithstanding: aiohttp awaits it, with the connection in hand, before the head is written. It
    # closes the connection when this raises. Tests hold both.
    tracing.on_request_headers_sent.append(_ask_before_send)
    return tracing


def _outgoing(context: SimpleNamespace) -> Outgoing:
    outgoing = context.trace_request_ctx
    if not isinstance(outgoing, Outgoing):
        raise TypeError("requests of this session carry an Outgoing as trace_request_ctx")
    return outgoing


async def _record_start(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionCreateStartParams,
) -> None:
    _outgoing(context).dial.started = True


async def _record_new(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionCreateEndParams
) -> None:
    _outgoing(context).dial.connected = True


async def _record_reused(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionReuseconnParams
) -> None:
    dial = _outgoing(context).dial
    dial.connected = True
    dial.reused = True


async def _ask_before_send(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    outgoing = _outgoing(context)
    if outgoing.before_send is None:
        return
    try:
        await outgoing.before_send()
    except Exception as error:
        raise RequestWithheld(str(error) or type(error).__name__) from error
    outgoing.dial.withheld = False


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise SeveredError(error) from error
