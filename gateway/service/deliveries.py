"""What became of webhooks: the log of each delivery, and sending one again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.errors import Refusal
from gateway.jobs.view import instant
from gateway.service.endpoints import check_enabled, unknown_endpoint
from gateway.service.jobs import not_found
from gateway.service.recovery import requeue
from gateway.storage import deliveries as delivery_rows
from gateway.storage import delivery_tasks as delivery_task_rows
from gateway.storage import endpoints as endpoint_rows
from gateway.storage import jobs as job_rows
from gateway.storage.deliveries import OVERTAKEN, Delivery, DeliveryAttempt
from gateway.storage.delivery_tasks import Waits
from gateway.storage.engine import Database
from gateway.webhooks.lanes import lane_of


class DeliveryAttemptView(Struct, frozen=True, kw_only=True):
    """One try to deliver."""

    number: int
    at: str
    outcome: str
    status: int | None
    """Of the receiver's answer; null when none came."""
    duration_ms: int
    detail: str
    """The beginning of the answer, redacted, or what went wrong."""


class DeliveryView(Struct, frozen=True, kw_only=True):
    """One event on its way to one receiver."""

    id: str
    webhook_id: str
    """The header `webhook-id`: the same for every try, and for every receiver of the event."""
    job_id: str
    endpoint_id: str | None
    """Null: the job's own webhook."""
    type: str
    sequence: int
    url: str
    """Where it was to go when it happened; an endpoint's URL may be another by now."""
    state: str
    """`pending`, `delivered`, `given_up`: no try is left, or its endpoint was disabled; or `overtaken`: it
    told of progress, and was not sent again, nor is it by `recover`, since more has happened to the job."""
    created_at: str
    finished_at: str | None
    next_try_at: str | None
    """Of one that was delivered, too, while it is to be sent again on request."""
    attempts: list[DeliveryAttemptView]


class Deliveries:
    """Reads deliveries and sends them again; every call is bound to an owner, or to None for an operator.

    Args:
        database: where.
        clock: says when now is.
        wake: tells the worker that something is due.
    """

    def __init__(self, database: Database, clock: Clock, wake: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._clock = clock
        self._wake = wake

    async def of_job(
        self, job_id: str, *, owner: str | None, before: str | None, limit: int
    ) -> list[DeliveryView]:
        """Return a page of a job's deliveries, newest first.

        Raises:
            Refusal: `not-found`.
        """

        def operation(connection: Connection) -> list[DeliveryView]:
            found = job_rows.owner_of(connection, job_id)
            if found is None or owner not in {None, found}:
                raise not_found()
            return _shown(
                connection, delivery_rows.page_of_job(connection, job_id, before=before, limit=limit)
            )

        return await self._database.read(operation)

    async def of_endpoint(
        self, endpoint_id: str, *, owner: str | None, before: str | None, limit: int
    ) -> list[DeliveryView]:
        """Return a page of an endpoint's deliveries, newest first.

        Raises:
            Refusal: `not-found`.
        """

        def operation(connection: Connection) -> list[DeliveryView]:
            endpoint = endpoint_rows.load(connection, endpoint_id)
            if endpoint is None or owner not in {None, endpoint.owner}:
                raise unknown_endpoint()
            found = delivery_rows.page_of_endpoint(connection, endpoint_id, before=before, limit=limit)
            return _shown(connection, found)

        return await self._database.read(operation)

    async def redeliver(self, delivery_id: str, *, owner: str | None) -> DeliveryView:
        """Send a delivery again now, whatever became of it: the same bytes, under the same `webhook-id`.

        One that waits for a later try gets one now that does not count; one that is under way is sent once
        more if that fails. One that was delivered is sent once, and stays delivered whatever comes of it.

        Raises:
            Refusal: `not-found`, or `endpoint-disabled`.
        """
        now_ms = self._clock.now_ms()

        def operation(connection: Connection) -> DeliveryView:
            # The task before the delivery, as whoever writes a try has it.
            waits = delivery_task_rows.send_now(connection, delivery_id, at_ms=now_ms)
            delivery = delivery_rows.load(connection, delivery_id, lock=True)
            if delivery is None or owner not in {None, delivery.owner}:
                raise unknown_delivery()
            if delivery.endpoint_id is not None:
                check_enabled(endpoint_rows.load(connection, delivery.endpoint_id))
            if not waits and delivery.state != "pending":
                lane = delivery.endpoint_id or lane_of(delivery.url, delivery.owner)
                had_ms = (delivery.finished_at_ms or now_ms) if delivery.state == "delivered" else 0
                requeue(connection, {delivery_id: lane}, at_ms=now_ms, meant_ms=now_ms, delivered_ms=had_ms)
            found = delivery_rows.load(connection, delivery_id)
            return _shown(connection, [] if found is None else [found])[0]

        shown = await self._database.write(operation)
        self._wake()
        return shown


def unknown_delivery() -> Refusal:
    """Make the one answer for deliveries that do not exist and deliveries that are somebody else's."""
    return Refusal("not-found", "there is no such delivery")


def _shown(connection: Connection, found: Sequence[Delivery]) -> list[DeliveryView]:
    ids = [delivery.id for delivery in found]
    tries: dict[str, list[DeliveryAttemptView]] = {}
    for row in delivery_rows.load_tries(connection, ids):
        tries.setdefault(row.delivery_id, []).append(_try(row))
    due = delivery_task_rows.due_of(connection, ids)
    return [
        DeliveryView(
            id=one.id,
            webhook_id=one.message_id,
            job_id=one.job_id,
            endpoint_id=one.endpoint_id,
            type=one.type,
            sequence=one.sequence,
            url=one.url,
            state=state,
            created_at=instant(one.created_at_ms),
            finished_at=None if finished_ms is None else instant(finished_ms),
            next_try_at=instant(due[one.id].due_at_ms) if one.id in due else None,
            attempts=tries.get(one.id, []),
        )
        for one in found
        for state, finished_ms in [_stands(one, due.get(one.id))]
    ]


def _stands(delivery: Delivery, waits: Waits | None) -> tuple[str, int | None]:
    """Tell its state, and since when: one that is sent again was delivered, whatever comes of that."""
    if waits is not None and waits.delivered_ms:
        return "delivered", waits.delivered_ms
    return OVERTAKEN if delivery.overtaken else delivery.state, delivery.finished_at_ms


def _try(row: DeliveryAttempt) -> DeliveryAttemptView:
    return DeliveryAttemptView(
        number=row.number,
        at=instant(row.at_ms),
        outcome=row.outcome,
        status=row.status,
        duration_ms=row.duration_ms,
        detail=row.detail,
    )
