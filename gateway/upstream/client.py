"""Sends one request value to one account, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import httpx
import msgspec
from msgspec import Struct

from gateway.net import BEFORE_SEND, DEADLINE_S, DIAL, FRESH, BeforeSend, Dial, PooledTransport, read_whole
from gateway.upstream.accounts import UpstreamAccount
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.reading import MAX_BYTES

MASK = b"********"
SHORTEST_MASKED = 8  # a shorter text may stand in an answer for other reasons
CONNECTIONS = 256
LONGEST_CALL_S = 60.0


def open_upstream() -> PooledTransport:
    """Return what providers are dialled with; base URLs are the operator's own, so nothing is refused."""
    return PooledTransport(deadline_s=LONGEST_CALL_S, limit=CONNECTIONS)


class Reply(Struct, frozen=True, kw_only=True):
    """What came of a call: an answer, or the reason there is none."""

    response: HttpResponse | None
    failure: str = ""
    connected: bool
    """Whether a connection ever stood, and so whether the request may have been read, unless withheld."""
    withheld: bool = False
    """The last check before sending did not say yes: nothing was written, for certain."""
    duration_s: float


class Client:
    """Sends with the account's credentials.

    It speaks to the transport itself: an httpx.AsyncClient reads the Location of a redirect even when it does
    not follow it, and a malformed one raises what is no `httpx.HTTPError`, after a paid request went out.

    Args:
        transport: a `net.PooledTransport`; base URLs are the operator's own, so it needs no guard.
        timer: a monotonic clock, seconds.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, *, timer: Callable[[], float] = time.perf_counter
    ) -> None:
        self._transport = transport
        self._timer = timer

    async def send(
        self,
        account: UpstreamAccount,
        request: HttpRequest,
        *,
        timeout_s: float,
        options: Mapping[str, str],
        before_send: BeforeSend | None = None,
    ) -> Reply:
        """Send, and read the whole answer within `timeout_s`. Never raises for what the other side does.

        Args:
            account: whose credentials are sent.
            request: what is sent.
            timeout_s: for the whole call, `before_send` included.
            options: the adapter's, as frozen on the attempt.
            before_send: asked once the connection stands; when it raises, not a byte is written.
        """
        dial = Dial()
        started = self._timer()
        response, failure = None, ""
        try:
            response = await self._exchange(
                account, request, options, {DIAL: dial, DEADLINE_S: timeout_s, BEFORE_SEND: before_send}
            )
        except httpx.HTTPError as error:
            failure = str(error) or type(error).__name__
        except (httpx.InvalidURL, UnicodeError) as error:  # it could not even be written down
            failure = type(error).__name__  # a UnicodeError holds the header, and so the key
        return Reply(
            response=response,
            failure=failure,
            connected=dial.connected,
            withheld=dial.withheld,
            duration_s=self._timer() - started,
        )

    async def _exchange(
        self,
        account: UpstreamAccount,
        request: HttpRequest,
        options: Mapping[str, str],
        extensions: Mapping[str, object],
    ) -> HttpResponse:
        spec = account.adapter.spec
        auth = spec.auth_for(options)
        headers = [
            *spec.fixed_headers,
            *request.headers,
            (auth.header, auth.prefix + account.api_key.reveal()),
        ]
        content = None
        if request.json is not None:
            content = msgspec.json.encode(request.json)
            headers.append(("Content-Type", "application/json"))
        wire = httpx.Request(
            request.method,
            account.base_url + request.target,
            headers=headers,
            content=content,
            # A stale keep-alive connection would put a paid request in doubt for nothing.
            extensions={**extensions, FRESH: request.paid},
        )
        reply = await self._transport.handle_async_request(wire)
        body = _without(account.api_key.reveal(), await read_whole(reply, MAX_BYTES))
        fields = {name.lower(): value for name, value in reply.headers.items()}
        return HttpResponse(status=reply.status_code, headers=fields, body=body)


def _without(key: str, body: bytes) -> bytes:
    """Take our key out of an answer that repeats it: errors are shown to callers, and it is not theirs."""
    return body.replace(key.encode(), MASK) if len(key) >= SHORTEST_MASKED else body
