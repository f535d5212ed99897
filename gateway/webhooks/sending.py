"""One try to deliver: sent once to an address that was checked, and judged by its status alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from importlib.metadata import version
from typing import TypeVar

import httpx
from msgspec import Struct

from gateway.net import DIAL, FRESH, Dial, DialRefused, GuardedTransport, parse_policy, read_prefix
from gateway.net.pool import SocketFactory
from gateway.net.resolver import Lookup
from gateway.settings.model import Webhooks
from gateway.telemetry import redact
from gateway.webhooks.lanes import lane_of
from gateway.webhooks.outcome import BLOCKED_PREFIX, Outcome, Sent, judge_error, judge_status
from gateway.webhooks.receivers import HTTP_SETTING, NETWORKS_SETTING
from gateway.webhooks.shares import pace_of
from gateway.webhooks.turns import NoPlaceError, Turns

READ_BYTES = 8192  # of an answer, at most; then the connection is closed
KEPT_BYTES = 1024  # of its text
LOOKUPS_EACH = 2  # for each delivery that may be under way: one that was given up may hang on
BODY_S = 1.0  # for reading it, once the status is known: that alone decides
URLS_KEPT = 1024
QUEUE_S = 5.0  # no more of a lane is claimed than a good receiver takes in that time

T = TypeVar("T")

_parsed = lru_cache(maxsize=URLS_KEPT)(httpx.URL)  # parsing costs a twentieth of a delivery

_FIXED_HEADERS = {
    "content-type": "application/json",
    "user-agent": f"motion-gateway/{version('motion-gateway')}",
}


class Letter(Struct, frozen=True, kw_only=True):
    """What is sent, and where to."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Sender:
    """Sends to receivers, several at once.

    Each try has a connection of its own. Kept ones would cost a third less, but a receiver that serves one
    connection at a time waits on the idle one, and leaves the others to their time-outs.

    It speaks to the transport itself: an httpx.AsyncClient reads the Location of a redirect even when it does
    not follow it, and raises over a malformed one (some of that is no `httpx.HTTPError`).
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        turns: Turns,
        *,
        queue_s: float = QUEUE_S,
        body_s: float = BODY_S,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take the means.

        Args:
            transport: a `net.GuardedTransport`; closed by `aclose`. Its deadline is a try's.
            turns: how many tries run at once.
            queue_s: seconds to wait for a place.
            body_s: seconds for an answer's body.
            timer: a monotonic clock, seconds.
        """
        self._transport = transport
        self._turns = turns
        self._queue_s = queue_s
        self._body_s = body_s
        self._timer = timer

    async def send(
        self,
        *,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        lane: str | None = None,
        owner: str = "",
    ) -> Sent:
        """Try once. Never raises for what the receiver, its name server or its URL does.

        Args:
            url: the receiver's.
            headers: what `signing.sign` made; a connection of its own carries them, so that no connection
                gone stale fails a try, and the name is looked up and checked every time.
            body: the exact bytes that were signed.
            lane: which queue it stands in; None for that of the owner at the host and port.
            owner: whose share of the places it has.
        """
        letter = Letter(url=url, headers=headers, body=body)
        try:
            queue = lane_of(url, owner) if lane is None else lane
        except (httpx.InvalidURL, UnicodeError) as error:
            return _failed(error, 0.0)
        return await self._in_turn(queue, owner, lambda: self._post(letter, queue, owner))

    async def send_written(
        self, write: Callable[[], Awaitable[Letter | None]], *, lane: str, owner: str
    ) -> Sent | None:
        """Try once with what is written when the turn has come: whoever rotates, moves or disables is heeded.

        Args:
            write: gives what is to be sent; None when nothing is any more. What it raises is raised here.
            lane: which queue it stands in.
            owner: whose share of the places it has.

        Returns:
            None when nothing was to be sent.
        """

        async def written() -> Sent | None:
            letter = await write()
            return None if letter is None else await self._post(letter, lane, owner)

        return await self._in_turn(lane, owner, written)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    async def _in_turn(self, lane: str, owner: str, deed: Callable[[], Awaitable[T]]) -> T | Sent:
        try:
            async with self._turns.place(lane, owner=owner, within_s=self._queue_s):
                return await deed()
        except NoPlaceError:
            detail = "not sent: as many deliveries as allowed are under way"
            return Sent(outcome=Outcome.BUSY, status=None, retry_after=None, detail=detail, duration_s=0.0)

    async def _post(self, letter: Letter, lane: str, owner: str) -> Sent:
        try:
            request = httpx.Request(
                "POST",
                _parsed(letter.url),
                headers={**letter.headers, **_FIXED_HEADERS},
                stream=httpx.ByteStream(letter.body),  # as it is: headers for it are the transport's
                extensions={FRESH: True, DIAL: Dial(owner=owner)},
            )
        except (httpx.InvalidURL, UnicodeError) as error:
            return _failed(error, 0.0)
        sent = await self._exchange(request)
        self._turns.learn(lane, pace_of(sent.outcome, sent.duration_s))
        return sent

    async def _exchange(self, request: httpx.Request) -> Sent:
        started = self._timer()
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.HTTPError as error:
            return _failed(error, self._timer() - started)
        try:
            async with asyncio.timeout(self._body_s):
                text = (await read_prefix(response, READ_BYTES)).decode("utf-8", "replace")
        except TimeoutError:
            text = f"the answer's body was not read: it took more than {self._body_s:g} s"
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
        queue_s: seconds to wait for a place.

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
        limit=0,  # the turns count
        lookups=LOOKUPS_EACH * settings.concurrency,
        lookup=lookup,
        socket_factory=socket_factory,
    )
    turns = Turns(total=settings.concurrency, per_host=settings.per_host_concurrency)
    return Sender(transport, turns, queue_s=queue_s)


def _failed(error: Exception, duration_s: float) -> Sent:
    text = str(error) or type(error).__name__
    if isinstance(error, DialRefused):
        text = f"{BLOCKED_PREFIX}{text} (settings {NETWORKS_SETTING}, {HTTP_SETTING})"
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
