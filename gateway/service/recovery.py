"""Sending again what an endpoint did not get."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.ids import DELIVERY, first_id
from gateway.service.endpoints import check_enabled, visible
from gateway.storage import deliveries as delivery_rows
from gateway.storage import delivery_tasks as delivery_task_rows
from gateway.storage import endpoints as endpoint_rows
from gateway.storage.delivery_tasks import PAST_EVERY_PLACE, NewDelivery, Place
from gateway.storage.engine import Database
from gateway.storage.tasks import Memo

T = TypeVar("T")

RECOVERED_AT_ONCE = 200
MOST_RECOVERED = 10_000
"""In one request; the next goes on."""


class Recovered(Struct, frozen=True, kw_only=True):
    """What will be sent again."""

    requeued: int
    complete: bool
    """False: there is more; the same request again goes on with it."""


class Recovery:
    """Makes due again what endpoints missed; every call is bound to an owner, or to None for an operator.

    Args:
        database: where.
        clock: says when now is.
        wake: tells the worker that something is due.
    """

    def __init__(self, database: Database, clock: Clock, wake: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._clock = clock
        self._wake = wake

    async def recover(
        self, endpoint_id: str, *, owner: str | None, since_ms: int, every: bool = False
    ) -> Recovered:
        """Send again all that it did not get since then, and that is not under way still.

        That is what was given up, what happened while it was disabled, and what failed and waits for a later
        try, with the bytes frozen then; not progress that more has overtaken. Nothing is taken twice, however
        soon it fails again, and nothing of what happens after the call: it comes to an end.

        Args:
            endpoint_id: the endpoint.
            owner: whose it must be.
            since_ms: of events at that instant and later.
            every: all of it in this call, whatever its number.

        Raises:
            Refusal: `not-found`, or `endpoint-disabled`.
        """
        first = first_id(DELIVERY, since_ms)
        last = await self._database.read(lambda connection: delivery_rows.newest_of(connection, endpoint_id))
        most = sys.maxsize if every else MOST_RECOVERED
        requeued, after = 0, ""
        while requeued < most:
            found = await self._requeue_missed(endpoint_id, owner, first=first, after=after, last=last)
            requeued += len(found)
            if len(found) < RECOVERED_AT_ONCE:
                break
            after = found[-1]
        before = PAST_EVERY_PLACE
        while requeued < most:
            brought = await self._bring_forward(endpoint_id, owner, first=first, last=last, before=before)
            requeued += len(brought)
            if len(brought) < RECOVERED_AT_ONCE:
                return Recovered(requeued=requeued, complete=True)
            before = brought[-1]
        return Recovered(requeued=requeued, complete=False)

    async def _requeue_missed(
        self, endpoint_id: str, owner: str | None, *, first: str, after: str, last: str
    ) -> list[str]:
        def operation(connection: Connection) -> list[str]:
            check_enabled(visible(endpoint_rows.load(connection, endpoint_id), owner))
            found = delivery_rows.find_missed(
                connection, endpoint_id, first=first, after=after, last=last, limit=RECOVERED_AT_ONCE
            )
            requeue(connection, dict.fromkeys(found, endpoint_id), at_ms=self._clock.now_ms())
            return found

        return await self._woken(operation)

    async def _bring_forward(
        self, endpoint_id: str, owner: str | None, *, first: str, last: str, before: Place
    ) -> list[Place]:
        def operation(connection: Connection) -> list[Place]:
            check_enabled(visible(endpoint_rows.load(connection, endpoint_id), owner))
            return delivery_task_rows.send_late_now(
                connection,
                endpoint_id,
                first=first,
                last=last,
                before=before,
                at_ms=self._clock.now_ms(),
                limit=RECOVERED_AT_ONCE,
            )

        return await self._woken(operation)

    async def _woken(self, operation: Callable[[Connection], list[T]]) -> list[T]:
        """Carry out what makes deliveries due, and have the worker look for them."""
        found = await self._database.write(operation)
        if found:
            self._wake()
        return found


def requeue(
    connection: Connection, lanes: Mapping[str, str], *, at_ms: int, meant_ms: int = 0, delivered_ms: int = 0
) -> None:
    """Make settled deliveries due again.

    Args:
        connection: of the transaction that found them settled.
        lanes: the lane of each, by id.
        at_ms: when they are due.
        meant_ms: now, when that try does not count; 0: it does.
        delivered_ms: when they were delivered; 0: they were not.
    """
    if not lanes:
        return
    tried = delivery_rows.revive(connection, list(lanes))
    memo = Memo(asked=True, meant_ms=meant_ms, delivered_ms=delivered_ms)
    delivery_task_rows.insert_deliveries(
        connection,
        [
            NewDelivery(
                subject=delivery_id,
                lane=lane,
                due_at_ms=at_ms,
                memo=replace(memo, before=tried[delivery_id]),
            )
            for delivery_id, lane in lanes.items()
        ],
    )
