"""httpx over aiohttp's pool, for hosts that the operator configured: a thin layer that says what it dialled.

httpx's own pool slows down about fivefold under contention and loses a slot for ever when a waiting request
is cancelled (httpcore issue 1093). aiohttp's does neither, and its connection traces tell exactly when a
connection stood. Use it as `httpx.AsyncClient(transport=..., trust_env=False, follow_redirects=False)`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial

import aiohttp
import httpx
import yarl

from gateway.net.body import Body
from gateway.net.dial import BEFORE_SEND, DEADLINE_S, DIAL, FRESH, BeforeSend, Dial
from gateway.net.failures import translate
from gateway.net.fields import check_sendable
from gateway.net.lookups import Lookup, SystemLookup
from gateway.net.pool import Outgoing, SeveredError, SocketFactory, open_session
from gateway.net.resolver import Resolver
from gateway.net.tls import verified_ssl_context

BODY_LIMIT = 1_048_576  # bytes

# Headers that aiohttp writes by itself, and cookies, which are neither kept nor sent.
_NOT_FORWARDED = frozenset(
    {"accept-encoding", "connection", "content-length", "cookie", "keep-alive", "transfer-encoding"}
)


class PooledTransport(httpx.AsyncBaseTransport):
    """Sends each request once: no redirects, no second tries, no cookies, no proxies from the environment.

    httpx's own time-outs are not looked at: one deadline covers the whole call, waiting for a connection and
    reading the body included. Request bodies are held in memory.
    """

    def __init__(
        self,
        *,
        deadline_s: float,
        limit: int = 100,
        keepalive_s: float = 15.0,
        connect_s: float = 10.0,
        lookup_s: float = 5.0,
        body_limit: int = BODY_LIMIT,
        lookup: Lookup | None = None,
        ssl_context: ssl.SSLContext | None = None,
        socket_factory: SocketFactory | None = None,
    ) -> None:
        """Open nothing yet; the first request does.

        Args:
            deadline_s: seconds for a whole call; the extension `DEADLINE_S` overrides it for one request.
            limit: connections at once, counted separately for kept and for fresh ones; 0 for no limit.
            keepalive_s: seconds an idle connection is kept.
            connect_s: seconds for TCP and TLS with one address; a host's next address gets as many.
            lookup_s: seconds for one DNS lookup.
            body_limit: bytes of response body, whoever reads it.
            lookup: DNS, for tests; None for the operating system's.
            ssl_context: None for certifi's authorities, or those that SSL_CERT_FILE or SSL_CERT_DIR name.
            socket_factory: makes the sockets that are dialled, for tests.
        """
        self._deadline_s = deadline_s
        self._body_limit = body_limit
        self._system_lookup = SystemLookup()
        self._open_session: Callable[..., aiohttp.ClientSession] = partial(
            open_session,
            resolver=Resolver(lookup or self._system_lookup, lookup_s=lookup_s),
            ssl_context=ssl_context or verified_ssl_context(),
            socket_factory=socket_factory,
            limit=limit,
            keepalive_s=keepalive_s,
            connect_s=connect_s,
        )
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; the response's body is still to be read, and the response to be closed.

        Raises:
            RequestWithheld: the extension `BEFORE_SEND` raised; nothing was written.
            httpx.RequestError: anything else (`failures` lists which).
        """
        dial: Dial = request.extensions.get(DIAL) or Dial()
        seconds: float = request.extensions.get(DEADLINE_S, self._deadline_s)
        ends_at = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(ends_at):
                reply = await self._send(request, dial)
        except httpx.RequestError:
            raise
        except SeveredError as error:
            raise translate(error.cause, dial) from None
        except aiohttp.ClientError as error:
            raise translate(error, dial) from None  # aiohttp's own text may hold the URL
        except Exception as error:
            raise translate(error, dial) from error
        return httpx.Response(
            status_code=reply.status,
            headers=[pair for pair in reply.raw_headers if pair[0].lower() != b"set-cookie"],
            stream=Body(reply, dial, ends_at=ends_at, limit=self._body_limit),
            extensions={"reason_phrase": (reply.reason or "").encode("ascii", "ignore")},
        )

    async def aclose(self) -> None:
        """Close every connection; requests still under way fail."""
        for session in self._sessions.values():
            await session.close()
        self._system_lookup.close()

    async def _send(self, request: httpx.Request, dial: Dial) -> aiohttp.ClientResponse:
        before_send: BeforeSend | None = request.extensions.get(BEFORE_SEND)
        dial.withheld = before_send is not None  # until it has said yes
        url = _wire_url(request.url)
        headers = _wire_headers(request)
        body = await request.aread()
        return await self._session(fresh=bool(request.extensions.get(FRESH))).request(
            request.method,
            url,
            headers=headers,
            data=body or None,
            allow_redirects=False,
            trace_request_ctx=Outgoing(dial, before_send),
        )

    def _session(self, *, fresh: bool) -> aiohttp.ClientSession:
        if fresh not in self._sessions:  # opened late: aiohttp wants a running event loop
            self._sessions[fresh] = self._open_session(fresh=fresh)
        return self._sessions[fresh]


def _wire_url(url: httpx.URL) -> yarl.URL:
    """The same URL for aiohttp, byte for byte."""
    if url.scheme not in {"http", "https"}:
        raise httpx.UnsupportedProtocol(f"{url.scheme or 'no scheme'} is not supported")
    if url.userinfo or "#" in str(url):
        url = url.copy_with(userinfo=b"", fragment=None)
    return yarl.URL(str(url), encoded=True)


def _wire_headers(request: httpx.Request) -> list[tuple[str, str]]:
    """The request's headers without those that are not forwarded, asking for an unencoded answer."""
    headers = [("Accept-Encoding", "identity")]
    for raw_name, raw_value in request.headers.raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        check_sendable(name, value)
        if name.lower() not in _NOT_FORWARDED:
            headers.append((name, value))
    return headers
