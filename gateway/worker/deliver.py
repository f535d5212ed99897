"""Telling a receiver: the frozen bytes, signed anew with what is valid now, sent once.

Death between the send and its record sends again, with the same `webhook-id` and a new timestamp; receivers
deduplicate by the id, as Standard Webhooks has it.
"""

from __future__ import annotations

from msgspec.structs import replace

from gateway.crash_points import Point, reach
from gateway.errors import SettingsError
from gateway.service.endpoint_keys import endpoint_keys
from gateway.service.outbox import DeliveryTask
from gateway.settings.model import Webhooks
from gateway.storage.deliveries import OVERTAKEN, DeliveryAttempt
from gateway.storage.endpoints import Endpoint
from gateway.storage.sealing import Sealer
from gateway.storage.tasks import Due
from gateway.telemetry import get_logger
from gateway.telemetry.tracing import HEADER
from gateway.webhooks.events import EventType
from gateway.webhooks.lanes import lane_of
from gateway.webhooks.outcome import Outcome, Sent
from gateway.webhooks.retry import BUSY_S, next_try
from gateway.webhooks.sending import Letter, Sender
from gateway.webhooks.shares import Shares, pace_of
from gateway.webhooks.signing import Key, decode_secret, sign
from gateway.worker.tools import Tools, persist

_log = get_logger("gateway.webhooks")

WAITING_ROOM = 4
"""How many deliveries are in hand for each that may be under way: the next is here when one is through."""
MOST_ASKED = 100
"""Lanes that are asked whether there is room for them now; with more it is taken for granted."""


_OVERTAKEN = Sent(
    outcome=Outcome.OVERTAKEN,
    status=None,
    retry_after=None,
    detail="not sent again: more has happened to the job since",
    duration_s=0.0,
)


class Deliver:
    """Carries out deliver tasks.

    Args:
        tools: shared by all steps.
        sender: dials receivers.
        sealer: opens their secrets.
        settings: the schedule.
        in_hand: counts what was claimed and is not done.
    """

    def __init__(
        self,
        tools: Tools,
        sender: Sender,
        sealer: Sealer,
        settings: Webhooks,
        in_hand: Shares | None = None,
    ) -> None:
        self._in_hand = in_hand or Shares(
            total=WAITING_ROOM * settings.concurrency,
            per_lane=WAITING_ROOM * settings.per_host_concurrency,
            at_once=settings.concurrency,
        )
        self._tools = tools
        self._sender = sender
        self._sealer = sealer
        self._settings = settings
        self._kept_out: list[tuple[str, str]] = []

    async def claim(self, limit: int) -> list[DeliveryTask]:
        """Lease what is due, of each lane its share."""
        # Storage deals in a thread of its own, while tries end here.
        tasks = await self._tools.outbox.claim(limit, self._in_hand.copied().deal)
        for task in tasks:
            self._in_hand.take(task.lane, task.delivery.owner)
        return tasks

    async def next_due_ms(self) -> int | None:
        """When the next one is due for which there is room."""
        kept_out: list[tuple[str, str]] = []

        def may_take(lane: str, owner: str) -> bool:
            may = self._in_hand.may_take(lane, owner)
            if not may:
                kept_out.append((lane, owner))
            return may

        due_at_ms = await self._tools.outbox.next_due_ms(may_take)
        self._kept_out = kept_out
        return due_at_ms

    def looks_after(self, took: bool) -> bool:  # noqa: FBT001 - what `carry_out` returned
        """Whether what has ended comes again, so that one has to see when, or made room for others."""
        if not took or len(self._kept_out) > MOST_ASKED:
            return True
        return any(self._in_hand.may_take(lane, owner) for lane, owner in self._kept_out)

    async def carry_out(self, task: DeliveryTask) -> bool:
        """Try once what `claim` gave; whether it was taken, and so is settled."""
        try:
            return await self(task)
        finally:
            self._in_hand.put_down(task.lane, task.delivery.owner)

    async def __call__(self, task: DeliveryTask) -> bool:
        """Try once; whether it was taken, and so is settled."""
        delivery, tools = task.delivery, self._tools
        lane = task.lane or delivery.endpoint_id or lane_of(delivery.url, delivery.owner)
        at_ms, version, overtaken = tools.clock.now_ms(), 0, False
        about = {"motion_gateway.job_id": delivery.job_id, "motion_gateway.webhook_id": delivery.message_id}
        with tools.tracing.span("webhook", "client", about, parent=delivery.traceparent) as span:
            traced = {} if span.context is None else {HEADER: span.context}

            async def write() -> Letter | None:
                """Sign with what is valid now, and send to where the endpoint is now."""
                nonlocal at_ms, version, overtaken
                endpoint: Endpoint | None = None
                if delivery.endpoint_id is not None:
                    endpoint = await tools.outbox.endpoint(delivery.endpoint_id)
                    if endpoint is None:
                        return None
                    version = endpoint.version
                if _is_repeated_progress(task):
                    overtaken = await tools.outbox.overtaken(delivery)
                    if overtaken:
                        return None
                at_ms = tools.clock.now_ms()
                headers = sign(
                    self._keys(task, endpoint, at_ms),
                    message_id=delivery.message_id,
                    timestamp_s=at_ms // 1000,
                    body=delivery.body,
                )
                url = delivery.url if endpoint is None else endpoint.url
                return Letter(url=url, headers=headers | traced, body=delivery.body)

            sent = await self._sender.send_written(write, lane=lane, owner=delivery.owner)
            span.note({"motion_gateway.outcome": "dropped" if sent is None else sent.outcome.value})
        if overtaken:
            await self._log_try(task, _OVERTAKEN, at_ms, version)
            return False
        if sent is None:
            endpoint_id = delivery.endpoint_id or ""
            await persist(lambda: tools.outbox.drop(task.claim, endpoint_id))
            return False
        self._in_hand.learn(task.lane, pace_of(sent.outcome, sent.duration_s))
        if sent.outcome is not Outcome.BUSY:
            reach(Point.WEBHOOK_AFTER_SEND)
            await self._log_try(task, sent, at_ms, version)
            return sent.outcome is Outcome.DELIVERED
        due = self._due(task, sent)
        if due is not None:
            await tools.leases.unchanged(due, progress=None)
        return False

    async def _log_try(self, task: DeliveryTask, sent: Sent, at_ms: int, version: int) -> None:
        delivery, tools, memo = task.delivery, self._tools, task.claim.memo
        took = sent.outcome is Outcome.DELIVERED
        due: Due | None = None
        elsewhere: Due | None = None
        if not memo.delivered_ms:  # one that was delivered before is sent once
            due = self._due(task, sent)
            if due is None and sent.outcome not in {Outcome.DELIVERED, Outcome.OVERTAKEN}:
                elsewhere = self._due_elsewhere(task, sent)
        state = _settled(sent, due) if not memo.delivered_ms else "delivered"
        tried = DeliveryAttempt(
            delivery_id=delivery.id,
            number=memo.before + task.claim.tries + 1,
            at_ms=at_ms,
            duration_ms=round(sent.duration_s * 1000),
            outcome=sent.outcome,
            status=sent.status,
            detail=sent.detail,
        )
        kept = await persist(
            lambda: tools.outbox.delivered(
                task.claim,
                tried,
                state=state,
                due=due,
                endpoint_id=None if sent is _OVERTAKEN else delivery.endpoint_id,
                version=version,
                elsewhere=elsewhere,
            )
        )
        reach(Point.WEBHOOK_AFTER_COMMIT)
        tools.metrics.webhook_attempt(sent.outcome)
        if took and not memo.asked:
            tools.metrics.webhook_lag_seconds.observe((tools.clock.now_ms() - delivery.created_at_ms) / 1000)
        (_log.info if took else _log.warning)(
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

    def _due(self, task: DeliveryTask, sent: Sent) -> Due | None:
        """When it is tried again; None: not by itself.

        A try that was asked for does not count: the schedule goes on where it was, after a short wait.
        """
        claim, now_ms, schedule_s = task.claim, self._tools.clock.now_ms(), self._settings.schedule_s
        tried = sent.outcome is not Outcome.BUSY
        asked_for = tried and claim.memo.meant_ms > 0
        tries = claim.tries + (tried and not asked_for)
        if asked_for and tries >= len(schedule_s):
            return None
        delay_s = next_try(
            tries=1 if asked_for else tries,
            outcome=sent.outcome,
            retry_after=sent.retry_after,
            schedule_s=schedule_s,
            jitter=self._settings.jitter,
            spread=self._tools.spread(),
            now_ms=now_ms,
        )
        if delay_s is None:
            return None
        due_at_ms, memo = now_ms + round(delay_s * 1000), claim.memo
        if asked_for:
            due_at_ms = max(due_at_ms, memo.meant_ms)
            memo = replace(memo, before=memo.before + 1, meant_ms=0)
        return Due(claim=claim, due_at_ms=due_at_ms, tries=tries, memo=memo)

    def _due_elsewhere(self, task: DeliveryTask, sent: Sent) -> Due:
        """When it is tried where the endpoint is by now, if it has moved since: nobody there said no to it.

        That is by the schedule, and if that is at its end soon, by a try that is counted no more than others.
        """
        by_schedule = self._due(task, replace(sent, outcome=Outcome.HTTP_ERROR))
        if by_schedule is not None:
            return by_schedule
        memo, now_ms = task.claim.memo, self._tools.clock.now_ms()
        return Due(
            claim=task.claim,
            due_at_ms=now_ms + round(BUSY_S * 1000),
            tries=task.claim.tries,
            memo=replace(memo, before=memo.before + 1),
        )

    def _keys(self, task: DeliveryTask, endpoint: Endpoint | None, at_ms: int) -> list[Key]:
        """Return what is valid now, whenever the delivery was frozen."""
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


def _settled(sent: Sent, due: Due | None) -> str | None:
    """Say as what a delivery is settled; None when it is not."""
    if sent.outcome is Outcome.DELIVERED:
        return "delivered"
    if due is not None:
        return None
    return OVERTAKEN if sent.outcome is Outcome.OVERTAKEN else "given_up"


def _is_repeated_progress(task: DeliveryTask) -> bool:
    """Whether it tells of progress, and comes again by itself or by `recover`; a redeliver is sent anyhow."""
    memo = task.claim.memo
    again = task.claim.tries > 0 or memo.asked
    return task.delivery.type == EventType.PROGRESS and again and not (memo.meant_ms or memo.delivered_ms)
