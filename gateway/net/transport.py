"""httpx over aiohttp's pool: one thin layer that dials only what it checked and says what it dialled.

httpx's own pool slows down about fivefold under contention and loses a slot for ever when a waiting request
is cancelled (httpcore issue 1093). aiohttp's does neither, and its connection traces tell exactly when a
connection stood. Use it as `httpx.AsyncClient(transport=..., trust_env=False, follow_redirects=False)`.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from functools import lru_cache, partial

import aiohttp
import httpx
import yarl

from gateway.net.addresses import DialPolicy
from gateway.net.body import Body
from gateway.net.dial import BEFORE_SEND, DEADLINE_S, DIAL, FRESH, BeforeSend, Dial, current_dial
from gateway.net.failures import DialRefused, translate
from gateway.net.hosts import parse_host
from gateway.net.pool import Outgoing, SeveredError, SocketFactory, open_session, verified_ssl_context
from gateway.net.resolver import LOOKUPS, CheckedResolver, Lookup, SystemLookup

BODY_LIMIT = 1_048_576  # bytes
URLS_KEPT = 1024  # of those that were judged

# Headers that aiohttp writes by itself, and cookies, which are neither kept nor sent.
_NOT_FORWARDED = frozenset(
    {b"accept-encoding", b"connection", b"content-length", b"cookie", b"keep-alive", b"transfer-encoding"}
)
_UNSENDABLE = re.compile(rb"[^\t\x20-\x7e]")


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends each request once: no redirects, no second tries, no cookies, no proxies from the environment.

    httpx's own time-outs are not looked at: one deadline covers the whole call, waiting for a connection and
    reading the body included. Request bodies are held in memory.
    """

    def __init__(
        self,
        policy: DialPolicy | None,
        *,
        deadline_s: float,
        limit: int = 100,
        limit_per_host: int = 0,
        keepalive_s: float = 15.0,
        connect_s: float = 10.0,
        lookup_s: float = 5.0,
        body_limit: int = BODY_LIMIT,
        lookups: int = LOOKUPS,
        lookup: Lookup | None = None,
        ssl_context: ssl.SSLContext | None = None,
        socket_factory: SocketFactory | None = None,
    ) -> None:
        """Open nothing yet; the first request does.

        Args:
            policy: what may be dialled; None for hosts that the operator configured, which are not judged.
            deadline_s: seconds for a whole call; the extension `DEADLINE_S` overrides it for one request.
            limit: connections at once, counted separately for kept and for fresh ones; 0 for no limit.
            limit_per_host: the same for one host and port.
            keepalive_s: seconds an idle connection is kept.
            connect_s: seconds for TCP and TLS with one address; a host's next address gets as many.
            lookup_s: seconds for one DNS lookup.
            body_limit: bytes of response body, whoever reads it.
            lookups: most DNS lookups at once, those included that hang though nobody waits for them any more.
            lookup: DNS, for tests; None for the operating system's.
            ssl_context: None for certifi's authorities, or those that SSL_CERT_FILE or SSL_CERT_DIR name.
            socket_factory: makes the sockets that are dialled, for tests.
        """
        self._policy = policy
        self._deadline_s = deadline_s
        self._body_limit = body_limit
        self._system_lookup = SystemLookup(threads=lookups)
        self._open_session: Callable[..., aiohttp.ClientSession] = partial(
            open_session,
            one_by_one=policy is not None,  # who answers for a strange name could have many sockets otherwise
            resolver=CheckedResolver(policy, lookup=lookup or self._system_lookup, lookup_s=lookup_s),
            ssl_context=ssl_context or verified_ssl_context(),
            socket_factory=socket_factory,
            limit=limit,
            limit_per_host=limit_per_host,
            keepalive_s=keepalive_s,
            connect_s=connect_s,
        )
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        # The policy never changes; what it refuses is not kept.
        self._checked_url = lru_cache(maxsize=URLS_KEPT)(self._check_url)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; the response's body is still to be read, and the response to be closed.

        Raises:
            DialRefused: the guard said no; nothing was dialled.
            RequestWithheld: the extension `BEFORE_SEND` raised; nothing was written.
            httpx.RequestError: anything else (`failures` lists which).
        """
        dial: Dial = request.extensions.get(DIAL) or Dial()
        seconds: float = request.extensions.get(DEADLINE_S, self._deadline_s)
        ends_at = asyncio.get_running_loop().time() + seconds
        token = current_dial.set(dial)
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
        finally:
            current_dial.reset(token)
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
        url = self._checked_url(str(request.url))
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

    def _check_url(self, text: str) -> yarl.URL:
        """The same URL for aiohttp, byte for byte, once scheme and literal address have been judged."""
        url = httpx.URL(text)
        if url.scheme not in {"http", "https"}:
            raise httpx.UnsupportedProtocol(f"{url.scheme or 'no scheme'} is not supported")
        host = url.raw_host.decode("ascii")
        if self._policy is not None:
            if url.scheme == "http" and not self._policy.allow_http:
                raise DialRefused("plain http is not allowed")
            _check_host(host, self._policy)
        if url.userinfo or "#" in str(url):
            url = url.copy_with(userinfo=b"", fragment=None)
        return yarl.URL(str(url), encoded=True)


def _check_host(host: str, policy: DialPolicy) -> None:
    """Refuse a literal address that must not be dialled: aiohttp asks the resolver about names only."""
    try:
        parsed = parse_host(host)
    except ValueError as error:
        raise DialRefused(str(error)) from None
    if isinstance(parsed, str):
        return
    if reason := policy.refusal(parsed):
        raise DialRefused(f"{host} must not be dialled: {reason}")
    if parsed.version == 4 and str(parsed) != host:
        raise DialRefused(f"{host} is an unusual spelling of {parsed}")


def _wire_headers(request: httpx.Request) -> list[tuple[str, str]]:
    """The request's headers without those that are not forwarded, asking for an unencoded answer."""
    headers = [("Accept-Encoding", "identity")]
    for name, value in request.headers.raw:
        if _UNSENDABLE.search(name + value):
            raise httpx.LocalProtocolError("a header has characters outside visible ASCII")
        if name.lower() not in _NOT_FORWARDED:
            headers.append((name.decode("ascii"), value.decode("ascii")))
    return headers
