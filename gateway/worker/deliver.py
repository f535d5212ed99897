"""Telling a receiver: the frozen bytes, signed anew with what is valid now, sent once.

Death between the send and its record sends again, with the same `webhook-id` and a new timestamp; receivers
deduplicate by the id, as Standard Webhooks has it.
"""

from __future__ import annotations

from gateway.crash_points import Point, reach
from gateway.errors import SettingsError
from gateway.service.endpoint_keys import endpoint_keys
from gateway.service.outbox import DeliveryTask
from gateway.settings.model import Webhooks
from gateway.storage.deliveries import DeliveryAttempt
from gateway.storage.sealing import Sealer
from gateway.storage.tasks import Due
from gateway.telemetry import get_logger
from gateway.telemetry.tracing import HEADER
from gateway.webhooks.lanes import lane_of
from gateway.webhooks.outcome import Outcome, Sent
from gateway.webhooks.retry import next_try
from gateway.webhooks.sending import Sender
from gateway.webhooks.signing import Key, decode_secret, sign
from gateway.worker.in_hand import InHand
from gateway.worker.tools import Tools, persist

_log = get_logger("gateway.webhooks")

WAITING_ROOM = 4
"""How many deliveries are in hand for each that may be under way: the next is here when one is through."""


class Deliver:
    """Carries out deliver tasks.

    Args:
        tools: shared by all steps.
        sender: dials receivers.
        sealer: opens their secrets.
        settings: the schedule.
        in_hand: counts what was claimed of each lane.
    """

    def __init__(
        self,
        tools: Tools,
        sender: Sender,
        sealer: Sealer,
        settings: Webhooks,
        in_hand: InHand | None = None,
    ) -> None:
        self._in_hand = in_hand or InHand(most=WAITING_ROOM * settings.per_host_concurrency)
        self._tools = tools
        self._sender = sender
        self._sealer = sealer
        self._settings = settings

    async def claim(self, limit: int) -> list[DeliveryTask]:
        """Lease what is due, of each lane as much as there is room for."""
        tasks = await self._tools.outbox.claim(limit, self._in_hand.room)
        for task in tasks:
            self._in_hand.take(task.lane)
        return tasks

    async def next_due_ms(self) -> int | None:
        """When the next one is due for which there is room."""
        return await self._tools.outbox.next_due_ms(self._in_hand.room)

    async def carry_out(self, task: DeliveryTask) -> None:
        """Try once what `claim` gave."""
        try:
            await self(task)
        finally:
            self._in_hand.put_down(task.lane)

    async def __call__(self, task: DeliveryTask) -> None:
        """Try once."""
        delivery, clock = task.delivery, self._tools.clock
        at_ms = clock.now_ms()
        headers = sign(
            self._keys(task, at_ms),
            message_id=delivery.message_id,
            timestamp_s=at_ms // 1000,
            body=delivery.body,
        )
        # An endpoint's URL as it is now: whoever moves mends what was frozen before, too.
        url = delivery.url if task.endpoint is None else task.endpoint.url
        about = {"motion_gateway.job_id": delivery.job_id, "motion_gateway.webhook_id": delivery.message_id}
        with self._tools.tracing.span("webhook", "client", about, parent=delivery.traceparent) as span:
            traced = {} if span.context is None else {HEADER: span.context}
            sent = await self._sender.send(
                url=url, headers=headers | traced, body=delivery.body, lane=task.lane or lane_of(url)
            )
            span.note({"motion_gateway.outcome": sent.outcome.value})
        self._in_hand.learn(task.lane, sent.outcome)
        if sent.outcome is not Outcome.BUSY:
            reach(Point.WEBHOOK_AFTER_SEND)
            await self._log_try(task, sent, at_ms)
            return
        due = self._due(task, sent, tries=task.claim.tries)
        if due is not None:
            await self._tools.leases.unchanged(due, progress=None)

    async def _log_try(self, task: DeliveryTask, sent: Sent, at_ms: int) -> None:
        delivery, tools = task.delivery, self._tools
        tries = task.claim.tries + 1
        due = self._due(task, sent, tries=tries)
        state = "delivered" if sent.outcome is Outcome.DELIVERED else "given_up" if due is None else None
        tried = DeliveryAttempt(
            delivery_id=delivery.id,
            number=task.claim.memo.before + tries,
            at_ms=at_ms,
            duration_ms=round(sent.duration_s * 1000),
            outcome=sent.outcome,
            status=sent.status,
            detail=sent.detail,
        )
        kept = await persist(
            lambda: tools.outbox.delivered(
                task.claim, tried, state=state, due=due, endpoint_id=delivery.endpoint_id
            )
        )
        reach(Point.WEBHOOK_AFTER_COMMIT)
        tools.metrics.webhook_attempt(sent.outcome)
        if state == "delivered":
            tools.metrics.webhook_lag_seconds.observe((tools.clock.now_ms() - delivery.created_at_ms) / 1000)
        (_log.info if state == "delivered" else _log.warning)(
            "webhook.tried",
            job_id=delivery.job_id,
            webhook_id=delivery.message_id,
            outcome=sent.outcome,
            http_status=sent.status,
            number=tried.number,
            state=state or "pending",
            kept=kept.held,
        )
        if kept.disabled is not None:
            tools.metrics.endpoint_disabled(kept.disabled)
            _log.error(
                "endpoint.disabled",
                endpoint_id=delivery.endpoint_id,
                owner=delivery.owner,
                reason=kept.disabled,
            )

    def _due(self, task: DeliveryTask, sent: Sent, *, tries: int) -> Due | None:
        now_ms = self._tools.clock.now_ms()
        delay_s = next_try(
            tries=tries,
            outcome=sent.outcome,
            retry_after=sent.retry_after,
            schedule_s=self._settings.schedule_s,
            jitter=self._settings.jitter,
            spread=self._tools.spread(),
            now_ms=now_ms,
        )
        if delay_s is None:
            return None
        due_at_ms = now_ms + round(delay_s * 1000)
        return Due(claim=task.claim, due_at_ms=due_at_ms, tries=tries, memo=task.claim.memo)

    def _keys(self, task: DeliveryTask, at_ms: int) -> list[Key]:
        """Return what is valid now, whenever the delivery was frozen."""
        endpoint = task.endpoint
        if endpoint is None:
            return [decode_secret(self._secret(task))]
        return endpoint_keys(endpoint, self._sealer, at_ms=at_ms)

    def _secret(self, task: DeliveryTask) -> str:
        delivery = task.delivery
        if delivery.sealed_secret is not None:
            return self._sealer.open(delivery.sealed_secret, bound_to=delivery.job_id)
        if task.owner_sealed_secret is None:
            raise SettingsError(f"the owner {delivery.owner!r} has no webhook secret; create a key for it")
        return self._sealer.open(task.owner_sealed_secret, bound_to=delivery.owner)
