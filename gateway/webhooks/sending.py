"""One try to deliver: sent once to an address that was checked, and judged by its status alone."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Protocol, TypeVar

import httpx
from msgspec import Struct

from gateway.net import Answer, BeforeDial, DialRefused, GuardedClient, parse_policy
from gateway.net.lookups import Lookup
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
QUEUE_S = 5.0  # no more of a lane is claimed than a good receiver takes in that time

T = TypeVar("T")

_FIXED_HEADERS = {
    "content-type": "application/json",
    "user-agent": f"motion-gateway/{version('motion-gateway')}",
}


class Letter(Struct, frozen=True, kw_only=True):
    """What is sent, and where to."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Client(Protocol):
    """What goes out goes through it: a `net.GuardedClient`."""

    async def post(
        self, url: str, *, headers: Mapping[str, str], body: bytes, wanted: int, owner: str
    ) -> Answer:
        """Send once; raises as `net.GuardedClient.post` does."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


class Sender:
    """Sends to receivers, several at once."""

    def __init__(
        self,
        client: Client,
        turns: Turns,
        *,
        queue_s: float = QUEUE_S,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take the means.

        Args:
            client: closed by `aclose`. Its deadline is a try's.
            turns: how many tries run at once.
            queue_s: seconds to wait for a place.
            timer: a monotonic clock, seconds.
        """
        self._client = client
        self._turns = turns
        self._queue_s = queue_s
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
        await self._client.aclose()

    async def _in_turn(self, lane: str, owner: str, deed: Callable[[], Awaitable[T]]) -> T | Sent:
        try:
            async with self._turns.place(lane, owner=owner, within_s=self._queue_s):
                return await deed()
        except NoPlaceError:
            detail = "not sent: as many deliveries as allowed are under way"
            return Sent(outcome=Outcome.BUSY, status=None, retry_after=None, detail=detail, duration_s=0.0)

    async def _post(self, letter: Letter, lane: str, owner: str) -> Sent:
        sent = await self._exchange(letter, owner)
        self._turns.learn(lane, pace_of(sent.outcome, sent.duration_s))
        return sent

    async def _exchange(self, letter: Letter, owner: str) -> Sent:
        started = self._timer()
        headers = {**letter.headers, **_FIXED_HEADERS}
        try:
            answer = await self._client.post(
                letter.url, headers=headers, body=letter.body, wanted=READ_BYTES, owner=owner
            )
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            return _failed(error, self._timer() - started)
        text = answer.body.decode("utf-8", "replace")
        if answer.trouble is not None:  # the status has already decided
            text = f"the answer's body was not read: {answer.trouble}"
        return Sent(
            outcome=judge_status(answer.status),
            status=answer.status,
            retry_after=answer.retry_after,
            detail=_kept(text),
            duration_s=self._timer() - started,
        )


def open_sender(
    settings: Webhooks,
    *,
    lookup: Lookup | None = None,
    before_dial: BeforeDial | None = None,
    queue_s: float = QUEUE_S,
    body_s: float = BODY_S,
) -> Sender:
    """A sender that dials what the settings allow; to be closed with `aclose`.

    Args:
        settings: policy, deadlines and how many at once.
        lookup: DNS, for tests; None for the operating system's.
        before_dial: told of each address before it is dialled, for tests.
        queue_s: seconds to wait for a place.
        body_s: seconds for an answer's body.

    Raises:
        ValueError: an allowed network or host is none; the message names it.
    """
    policy = parse_policy(
        allowed_networks=settings.allowed_networks,
        allowed_hosts=settings.allowed_hosts,
        allow_http=settings.allow_http,
    )
    client = GuardedClient(
        policy,
        deadline_s=settings.timeout_s,
        body_s=body_s,
        connect_s=settings.connect_timeout_s,
        lookup_s=settings.connect_timeout_s,
        lookups=LOOKUPS_EACH * settings.concurrency,
        lookup=lookup,
        before_dial=before_dial,
    )
    turns = Turns(total=settings.concurrency, per_host=settings.per_host_concurrency)
    return Sender(client, turns, queue_s=queue_s)


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
