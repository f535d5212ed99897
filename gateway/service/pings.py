"""A test of an endpoint: a `ping` of our own, sent at once as any delivery is, and its outcome.

Tests have a sender of their own, so that they take no places from deliveries.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.clock import Clock
from gateway.errors import Refusal
from gateway.ids import MESSAGE, Ids
from gateway.jobs.view import instant
from gateway.service.endpoint_keys import endpoint_keys
from gateway.settings.model import Webhooks
from gateway.storage.endpoints import Endpoint
from gateway.storage.sealing import Sealer
from gateway.webhooks.events import PING
from gateway.webhooks.sending import Sender, open_sender
from gateway.webhooks.signing import sign

AT_ONCE = 8
"""Most tests under way at once in a process."""


def open_ping_sender(settings: Webhooks) -> Sender:
    """A sender for tests alone; to be closed with `aclose`."""
    return open_sender(replace(settings, concurrency=AT_ONCE, per_host_concurrency=1))


class PingView(Struct, frozen=True, kw_only=True):
    """What came of a test."""

    webhook_id: str
    delivered: bool
    outcome: str
    """`delivered`, or what went wrong, as in a delivery's tries; `busy`: nothing was sent, since as many
    tests as allowed are under way."""
    status: int | None
    duration_ms: int
    detail: str


class _About(Struct, frozen=True, kw_only=True):
    endpoint_id: str


class _Ping(Struct, frozen=True, kw_only=True):
    type: str
    timestamp: str
    data: _About


class Pings:
    """Tests endpoints. A test is kept nowhere, and neither disables an endpoint nor clears its failures.

    Args:
        clock: dates the message.
        ids: names it.
        sealer: opens the secret.
        sender: dials the receiver, through the guard; of `open_ping_sender`.
        count: told of the outcome.
    """

    def __init__(
        self, clock: Clock, ids: Ids, sealer: Sealer, sender: Sender, count: Callable[[str], None]
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._sender = sender
        self._count = count
        self._under_way: set[str] = set()

    async def send(self, endpoint: Endpoint) -> PingView:
        """Test an endpoint, a disabled one too: so one sees whether to enable it.

        Raises:
            Refusal: `test-under-way`: this process is testing it already.
        """
        if endpoint.id in self._under_way:
            raise Refusal("test-under-way", "a test of this endpoint is under way; wait for its answer")
        self._under_way.add(endpoint.id)
        try:
            return await self._send(endpoint)
        finally:
            self._under_way.discard(endpoint.id)

    async def _send(self, endpoint: Endpoint) -> PingView:
        now_ms, message_id = self._clock.now_ms(), self._ids.new(MESSAGE)
        about = _About(endpoint_id=endpoint.id)
        body = msgspec.json.encode(_Ping(type=PING, timestamp=instant(now_ms), data=about))
        headers = sign(
            endpoint_keys(endpoint, self._sealer, at_ms=now_ms),
            message_id=message_id,
            timestamp_s=now_ms // 1000,
            body=body,
        )
        sent = await self._sender.send(
            url=endpoint.url, headers=headers, body=body, lane=endpoint.id, owner=endpoint.owner
        )
        self._count(sent.outcome)
        return PingView(
            webhook_id=message_id,
            delivered=sent.outcome == "delivered",
            outcome=sent.outcome,
            status=sent.status,
            duration_ms=round(sent.duration_s * 1000),
            detail=sent.detail,
        )
