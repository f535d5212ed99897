"""A test of an endpoint: a `ping` of our own, sent at once as any delivery is, and its outcome."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct

from gateway.clock import Clock
from gateway.ids import MESSAGE, Ids
from gateway.jobs.view import instant
from gateway.service.endpoint_keys import endpoint_keys
from gateway.storage.endpoints import Endpoint
from gateway.storage.sealing import Sealer
from gateway.webhooks.events import PING
from gateway.webhooks.sending import Sender
from gateway.webhooks.signing import sign


class PingView(Struct, frozen=True, kw_only=True):
    """What came of a test."""

    webhook_id: str
    delivered: bool
    outcome: str
    """`delivered`, or what went wrong, as in a delivery's tries; `busy`: nothing was sent, since as many
    deliveries as allowed are under way to it."""
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
        sender: dials the receiver, through the guard.
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

    async def send(self, endpoint: Endpoint) -> PingView:
        """Test an endpoint, a disabled one too: so one sees whether to enable it."""
        now_ms, message_id = self._clock.now_ms(), self._ids.new(MESSAGE)
        about = _About(endpoint_id=endpoint.id)
        body = msgspec.json.encode(_Ping(type=PING, timestamp=instant(now_ms), data=about))
        headers = sign(
            endpoint_keys(endpoint, self._sealer, at_ms=now_ms),
            message_id=message_id,
            timestamp_s=now_ms // 1000,
            body=body,
        )
        sent = await self._sender.send(url=endpoint.url, headers=headers, body=body, lane=endpoint.id)
        self._count(sent.outcome)
        return PingView(
            webhook_id=message_id,
            delivered=sent.outcome == "delivered",
            outcome=sent.outcome,
            status=sent.status,
            duration_ms=round(sent.duration_s * 1000),
            detail=sent.detail,
        )
