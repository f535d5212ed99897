"""One try to deliver: sent once to an address that was checked, and judged by its status alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

import httpx

from gateway.net import FRESH, DialRefused, GuardedTransport, parse_policy, read_prefix
from gateway.net.pool import SocketFactory
from gateway.net.resolver import Lookup
from gateway.settings.model import Webhooks
from gateway.telemetry import redact
from gateway.webhooks.lanes import Lanes
from gateway.webhooks.outcome import BLOCKED_PREFIX, Outcome, Sent, judge_error, judge_status

READ_BYTES = 8192  # of an answer, at most; then the connection is closed
KEPT_BYTES = 1024  # of its text
QUEUE_S = 5.0  # no more of a lane is claimed than a good receiver takes in that time

_FIXED_HEADERS = {
    "content-type": "application/json",
    "user-agent": f"motion-gateway/{version('motion-gateway')}",
}


class Sender:
    """Sends to receivers, several at once.

    It speaks to the transport itself: an httpx.AsyncClient reads the Location of a redirect even when it does
    not follow it, and raises over a malformed one (some of that is no `httpx.HTTPError`).
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        lanes: Lanes,
        *,
        queue_s: float = QUEUE_S,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take the means.

        Args:
            transport: a `net.GuardedTransport`; closed by `aclose`. Its deadline is a try's.
            lanes: how many tries run at once.
            queue_s: seconds to wait for a free lane.
            timer: a monotonic clock, seconds.
        """
        self._transport = transport
        self._lanes = lanes
        self._queue_s = queue_s
        self._timer = timer

    async def send(
        self, *, url: str, headers: Mapping[str, str], body: bytes, lane: str | None = None
    ) -> Sent:
        """Try once. Never raises for what the receiver, its name server or its URL does.

        Args:
            url: the receiver's.
            headers: what `signing.sign` made; a connection of its own carries them, so that no connection
                gone stale fails a try, and the name is looked up and checked every time.
            body: the exact bytes that were signed.
            lane: whose queue it stands in; None for that of the host and port.
        """
        try:
            request = httpx.Request(
                "POST", url, headers={**headers, **_FIXED_HEADERS}, content=body, extensions={FRESH: True}
            )
        except (httpx.InvalidURL, UnicodeError) as error:
            return _failed(error, 0.0)
        try:
            async with self._lanes.lane(
                request.url.netloc.decode("ascii") if lane is None else lane, within_s=self._queue_s
            ):
                return await self._exchange(request)
        except TimeoutError:  # of the lane: the transport's are httpx's
            detail = "not sent: as many deliveries as allowed are under way"
            return Sent(outcome=Outcome.BUSY, status=None, retry_after=None, detail=detail, duration_s=0.0)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    async def _exchange(self, request: httpx.Request) -> Sent:
        started = self._timer()
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.HTTPError as error:
            return _failed(error, self._timer() - started)
        try:
            text = (await read_prefix(response, READ_BYTES)).decode("utf-8", "replace")
        except httpx.HTTPError as error:  # endless, compressed or broken off: the status has already decided
            text = f"the answer's body was not read: {error}"
        return Sent(
            outcome=judge_status(response.status_code),
            status=response.status_code,
            retry_after=response.headers.get("retry-after"),
            detail=_kept(text),
            duration_s=self._timer() - started,
        )


def open_sender(
    settings: Webhooks,
    *,
    lookup: Lookup | None = None,
    socket_factory: SocketFactory | None = None,
    queue_s: float = QUEUE_S,
) -> Sender:
    """A sender that dials what the settings allow; to be closed with `aclose`.

    Args:
        settings: policy, deadlines and how many at once.
        lookup: DNS, for tests; None for the operating system's.
        socket_factory: makes the sockets that are dialled, for tests.
        queue_s: seconds to wait for a free lane.

    Raises:
        ValueError: an allowed network or host is none; the message names it.
    """
    policy = parse_policy(
        allowed_networks=settings.allowed_networks,
        allowed_hosts=settings.allowed_hosts,
        allow_http=settings.allow_http,
    )
    transport = GuardedTransport(
        policy,
        deadline_s=settings.timeout_s,
        connect_s=settings.connect_timeout_s,
        lookup_s=settings.connect_timeout_s,
        limit=0,  # the lanes count
        lookup=lookup,
        socket_factory=socket_factory,
    )
    lanes = Lanes(total=settings.concurrency, per_host=settings.per_host_concurrency)
    return Sender(transport, lanes, queue_s=queue_s)


def _failed(error: Exception, duration_s: float) -> Sent:
    text = str(error) or type(error).__name__
    if isinstance(error, DialRefused):
        text = BLOCKED_PREFIX + text
    return Sent(
        outcome=judge_error(error),
        status=None,
        retry_after=None,
        detail=_kept(text),
        duration_s=duration_s,
    )


def _kept(text: str) -> str:
    """The beginning of a foreign text. Redacted before it is cut, or half a secret would pass the cut."""
    clean = redact(text.replace("\0", "\N{REPLACEMENT CHARACTER}"))
    return clean.encode("utf-8", "replace")[:KEPT_BYTES].decode("utf-8", "ignore")
