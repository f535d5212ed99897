"""What is under way in the whole store: what is to be swept, and what the gauges show."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.jobs.spend import day_of
from gateway.storage import attempts as attempt_rows
from gateway.storage import deliveries as delivery_rows
from gateway.storage import endpoints as endpoint_rows
from gateway.storage import jobs as job_rows
from gateway.storage import queue as queue_rows
from gateway.storage import spend as spend_rows
from gateway.storage.deliveries import Backlog
from gateway.storage.engine import Database

SWEEP_LIMIT = 200
LAPSES_SOON_MS = 6 * 3_600_000
"""An operator's night: within this an output's URL lapses soon."""
EXPIRING_MOST = 2000
"""No more successes are looked at; each costs a look at its deliveries."""


class Waiting(Struct, frozen=True, kw_only=True):
    """What is to be swept now."""

    overdue: tuple[str, ...]
    hold_expired: tuple[str, ...]


class Count(Struct, frozen=True, kw_only=True):
    """What is under way in the whole store."""

    unfinished: dict[tuple[str | None, str], int]
    """Jobs by (provider, status)."""
    held: int
    backlog: Backlog
    endpoints: dict[str, int]
    """Webhook endpoints by state."""
    oldest_waiting_ms: int | None
    """When the oldest job was accepted that waits to be submitted."""


class Stock(Struct, frozen=True, kw_only=True):
    """What moves slowly."""

    at_budget: dict[str, int]
    """Owners by the percentage of their month's budget that they have reached."""
    expiring: dict[str, int]
    """Successes whose outputs lapse soon, by whether whoever asked to be was told."""


class Census:
    """Looks over the store.

    Args:
        database: where.
        clock: says what is past.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def waiting(self, *, last_word_ms: int) -> Waiting:
        """Find what is past its deadline or its hold.

        Args:
            last_word_ms: a job that a provider accepted is left alone when its deadline was later than that.
        """
        now_ms = self._clock.now_ms()

        def operation(connection: Connection) -> Waiting:
            return Waiting(
                overdue=tuple(
                    job_rows.find_overdue(
                        connection, now_ms=now_ms, last_word_ms=last_word_ms, limit=SWEEP_LIMIT
                    )
                ),
                hold_expired=tuple(job_rows.find_hold_expired(connection, now_ms=now_ms, limit=SWEEP_LIMIT)),
            )

        return await self._database.read(operation)

    async def needed_accounts(self) -> dict[tuple[str, str], int]:
        """Count the jobs under way by the (provider, account) that may be working on them."""
        return await self._database.read(attempt_rows.count_needed)

    async def count(self) -> Count:
        """Count what is under way, for the gauges."""

        def operation(connection: Connection) -> Count:
            unfinished, held = job_rows.count_unfinished(connection)
            return Count(
                unfinished=unfinished,
                held=held,
                backlog=delivery_rows.backlog(connection),
                endpoints=endpoint_rows.count_by_state(connection),
                oldest_waiting_ms=queue_rows.oldest_ms(connection),
            )

        return await self._database.read(operation)

    async def stock(self) -> Stock:
        """Count what moves slowly, for the gauges."""
        now_ms = self._clock.now_ms()

        def operation(connection: Connection) -> Stock:
            return Stock(
                at_budget=spend_rows.count_at_budget(connection, day_of(now_ms)),
                expiring=job_rows.count_expiring(
                    connection, now_ms=now_ms, until_ms=now_ms + LAPSES_SOON_MS, most=EXPIRING_MOST
                ),
            )

        return await self._database.read(operation)
