"""What receivers are told of a transition: its exact bytes, frozen in the transaction that carries it out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from gateway.ids import DELIVERY, MESSAGE, Ids
from gateway.jobs.job import Attempt, Job
from gateway.jobs.view import JobView, instant, view
from gateway.storage import deliveries as delivery_rows
from gateway.storage import delivery_tasks as delivery_task_rows
from gateway.storage import endpoints as endpoint_rows
from gateway.storage.deliveries import OF_ENDPOINT, Delivery
from gateway.storage.delivery_tasks import NewDelivery
from gateway.storage.endpoints import Endpoint
from gateway.webhooks.events import KNOWN
from gateway.webhooks.lanes import lane_of


class JobEvent(Struct, frozen=True, kw_only=True):
    """The body of a webhook (Standard Webhooks 1.0.0, payload structure)."""

    type: str
    timestamp: str
    sequence: int
    """The event's number within its job: a receiver may see events out of order."""
    data: JobView


def freeze(
    connection: Connection,
    job: Job,
    attempts: tuple[Attempt, ...],
    events: Sequence[tuple[int, str]],
    *,
    ids: Ids,
    now_ms: int,
) -> None:
    """Write what every receiver is to be told, so that every try sends the same, and the tasks that send it.

    Args:
        connection: of the transaction.
        job: as it stands after the events.
        attempts: likewise.
        events: number and type of each; those that no receiver can ask for are passed over.
        ids: names deliveries and messages.
        now_ms: when it happened.
    """
    told = [(sequence, kind) for sequence, kind in events if kind in KNOWN]
    if not told:
        return
    webhook, shown = job.request.webhook, None
    endpoints = endpoint_rows.load_of(connection, job.owner)
    # Only these are read again under a lock: as a rule there are none, and enabled ones are not held up.
    off = [one.id for one in endpoints if not one.enabled and any(one.wants(kind) for _, kind in told)]
    disabled = endpoint_rows.keep_disabled(connection, off)
    frozen: list[Delivery] = []
    for sequence, kind in told:
        own = webhook is not None and kind in webhook.events
        wanting = [endpoint for endpoint in endpoints if endpoint.wants(kind)]
        if not own and not wanting:
            continue
        shown = shown or view(job, attempts)
        event = JobEvent(type=kind, timestamp=instant(now_ms), sequence=sequence, data=shown)
        first = Delivery(
            id=ids.new(DELIVERY),
            job_id=job.id,
            owner=job.owner,
            sequence=sequence,
            # One for all receivers: who hears of an event in two ways can tell that it is the same.
            message_id=ids.new(MESSAGE),
            type=kind,
            url="" if webhook is None else webhook.url,
            sealed_secret=job.sealed_webhook_secret,
            body=msgspec.json.encode(event),
            created_at_ms=now_ms,
            traceparent=job.traceparent,
        )
        frozen += [first] if own else []
        frozen += [_to_endpoint(first, one, ids, given_up=one.id in disabled) for one in wanting]
    if not frozen:
        return
    delivery_rows.insert_many(connection, frozen)
    due = [
        NewDelivery(subject=one.id, lane=one.endpoint_id or lane_of(one.url, one.owner), due_at_ms=now_ms)
        for one in frozen
        if one.state == "pending"
    ]
    if due:
        delivery_task_rows.insert_deliveries(connection, due)


def _to_endpoint(delivery: Delivery, endpoint: Endpoint, ids: Ids, *, given_up: bool) -> Delivery:
    """Tell an endpoint the same; for one that is disabled it is given up, until somebody recovers it."""
    return replace(
        delivery,
        id=ids.new(DELIVERY),
        url=endpoint.url,
        sealed_secret=OF_ENDPOINT,
        endpoint_id=endpoint.id,
        state="given_up" if given_up else "pending",
        finished_at_ms=delivery.created_at_ms if given_up else None,
    )
