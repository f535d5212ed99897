"""aiohttp sessions that do nothing on their own: no proxies, cookies, redirects, decoding or second tries."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx

from gateway.net.dial import Dial
from gateway.net.resolver import CheckedResolver

SocketFactory = Callable[[tuple[int, int, int, str, tuple[Any, ...]]], socket.socket]
"""(family, type, protocol, canonical name, address with port) -> a socket not yet connected."""


class SeveredError(Exception):
    """Carries a broken connection's error past aiohttp, which would send a GET, PUT or DELETE once more."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


def open_session(
    *,
    fresh: bool,
    resolver: CheckedResolver,
    ssl_context: ssl.SSLContext,
    socket_factory: SocketFactory | None,
    limit: int,
    limit_per_host: int,
    keepalive_s: float,
    connect_s: float,
) -> aiohttp.ClientSession:
    """A session whose every request records itself in the `Dial` given as `trace_request_ctx`.

    Args:
        fresh: every request gets a new connection, which is closed after it.
        resolver: looks names up and checks them.
        ssl_context: for https.
        socket_factory: makes the sockets that are dialled; None for ordinary ones.
        limit: connections at once; 0 for no limit.
        limit_per_host: the same for one host and port.
        keepalive_s: seconds an idle connection is kept.
        connect_s: seconds for TCP and TLS with one address.
    """
    connector = aiohttp.TCPConnector(
        resolver=resolver,
        use_dns_cache=False,
        ssl=ssl_context,
        socket_factory=socket_factory,
        limit=limit,
        limit_per_host=limit_per_host,
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


def verified_ssl_context() -> ssl.SSLContext:
    """TLS against certifi's authorities, or against those that SSL_CERT_FILE or SSL_CERT_DIR name."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _recording() -> aiohttp.TraceConfig:
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_start.append(_record_start)
    tracing.on_connection_create_end.append(_record_new)
    tracing.on_connection_reuseconn.append(_record_reused)
    return tracing


def _dial_of(context: SimpleNamespace) -> Dial:
    dial = context.trace_request_ctx
    if not isinstance(dial, Dial):
        raise TypeError("requests of this session carry a Dial as trace_request_ctx")
    return dial


async def _record_start(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionCreateStartParams,
) -> None:
    _dial_of(context).started = True


async def _record_new(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionCreateEndParams
) -> None:
    _dial_of(context).connected = True


async def _record_reused(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionReuseconnParams
) -> None:
    dial = _dial_of(context)
    dial.connected = True
    dial.reused = True


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise SeveredError(error) from error
