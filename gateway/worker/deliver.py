"""Telling a receiver: the frozen bytes, signed anew with what is valid now, sent once.

Death between the send and its record sends again, with the same `webhook-id` and a new timestamp; receivers
deduplicate by the id, as Standard Webhooks has it.
"""

from __future__ import annotations

from gateway.crash_points import Point, reach
from gateway.errors import SettingsError
from gateway.service.dispatch import DeliveryTask
from gateway.settings.model import Webhooks
from gateway.storage.deliveries import DeliveryAttempt
from gateway.storage.sealing import Sealer
from gateway.storage.tasks import Due
from gateway.telemetry import get_logger
from gateway.webhooks.outcome import Outcome, Sent
from gateway.webhooks.retry import next_try
from gateway.webhooks.sending import Sender
from gateway.webhooks.signing import decode_secret, sign
from gateway.worker.tools import Tools, persist

_log = get_logger("gateway.webhooks")


class Deliver:
    """Carries out deliver tasks.

    Args:
        tools: shared by all steps.
        sender: dials receivers.
        sealer: opens their secrets.
        settings: the schedule.
    """

    def __init__(self, tools: Tools, sender: Sender, sealer: Sealer, settings: Webhooks) -> None:
        self._tools = tools
        self._sender = sender
        self._sealer = sealer
        self._settings = settings

    async def __call__(self, task: DeliveryTask) -> None:
        """Try once."""
        delivery, clock = task.delivery, self._tools.clock
        at_ms = clock.now_ms()
        headers = sign(
            [decode_secret(self._secret(task))],
            message_id=delivery.message_id,
            timestamp_s=at_ms // 1000,
            body=delivery.body,
        )
        sent = await self._sender.send(url=delivery.url, headers=headers, body=delivery.body)
        if sent.outcome is not Outcome.BUSY:
            reach(Point.WEBHOOK_AFTER_SEND)
            await self._log_try(task, sent, at_ms)
            return
        due = self._due(task, sent, tries=task.claim.tries)
        if due is not None:
            await self._tools.dispatch.unchanged(due, progress=None)

    async def _log_try(self, task: DeliveryTask, sent: Sent, at_ms: int) -> None:
        delivery, tools = task.delivery, self._tools
        tries = task.claim.tries + 1
        due = self._due(task, sent, tries=tries)
        state = "delivered" if sent.outcome is Outcome.DELIVERED else "given_up" if due is None else None
        tried = DeliveryAttempt(
            delivery_id=delivery.id,
            number=tries,
            at_ms=at_ms,
            duration_ms=round(sent.duration_s * 1000),
            outcome=sent.outcome,
            status=sent.status,
            detail=sent.detail,
        )
        held = await persist(lambda: tools.dispatch.delivered(task.claim, tried, state=state, due=due))
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
            number=tries,
            state=state or "pending",
            kept=held,
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
        return Due(claim=task.claim, due_at_ms=now_ms + round(delay_s * 1000), tries=tries)

    def _secret(self, task: DeliveryTask) -> str:
        delivery = task.delivery
        if delivery.sealed_secret is not None:
            return self._sealer.open(delivery.sealed_secret, bound_to=delivery.job_id)
        if task.owner_sealed_secret is None:
            raise SettingsError(f"the owner {delivery.owner!r} has no webhook secret; create a key for it")
        return self._sealer.open(task.owner_sealed_secret, bound_to=delivery.owner)
