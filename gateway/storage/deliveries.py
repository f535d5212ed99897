"""Statements on deliveries: webhook bodies frozen with the change they tell of, and each try to send them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import Connection, bindparam, func, insert, select, update

from gateway.storage.tables import deliveries, delivery_attempts


class Delivery(Struct, frozen=True, kw_only=True):
    """One event on its way to one receiver."""

    id: str
    job_id: str
    owner: str
    sequence: int
    message_id: str
    """The `webhook-id`: the same for every try."""
    type: str
    url: str
    sealed_secret: str | None
    """The job's own secret; None means its owner's at the time of sending."""
    body: bytes
    created_at_ms: int
    state: str = "pending"
    """pending, delivered or given_up."""
    finished_at_ms: int | None = None


class DeliveryAttempt(Struct, frozen=True, kw_only=True):
    """One try."""

    delivery_id: str
    number: int
    at_ms: int
    duration_ms: int
    outcome: str
    status: int | None
    detail: str
    """The beginning of the receiver's answer, or what went wrong."""


class Backlog(Struct, frozen=True):
    """What is still to be delivered."""

    count: int
    oldest_ms: int | None


_INSERT = insert(deliveries)
_BY_IDS = select(deliveries).where(deliveries.c.id.in_(bindparam("ids", expanding=True)))
_OF = select(deliveries).where(deliveries.c.job_id == bindparam("job_id")).order_by(deliveries.c.sequence)
_TRIES = (
    select(delivery_attempts)
    .where(delivery_attempts.c.delivery_id.in_(bindparam("ids", expanding=True)))
    .order_by(delivery_attempts.c.delivery_id, delivery_attempts.c.number)
)
_TRY = insert(delivery_attempts)
_SETTLE = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery_id"))
    .values(state=bindparam("new_state"), finished_at_ms=bindparam("at_ms"))
)
_BACKLOG = select(func.count(), func.min(deliveries.c.created_at_ms)).where(deliveries.c.state == "pending")


def insert_many(connection: Connection, rows: Sequence[Delivery]) -> None:
    """Store deliveries."""
    connection.execute(
        _INSERT, [{name: getattr(row, name) for name in Delivery.__struct_fields__} for row in rows]
    )


def load_many(connection: Connection, delivery_ids: Sequence[str]) -> dict[str, Delivery]:
    """Read these deliveries, by id; unknown ids are left out."""
    if not delivery_ids:
        return {}
    rows = connection.execute(_BY_IDS, {"ids": list(delivery_ids)}).mappings()
    return {row["id"]: Delivery(**row) for row in rows}


def load_of(connection: Connection, job_id: str) -> list[Delivery]:
    """Read a job's deliveries in the order of their events."""
    return [Delivery(**row) for row in connection.execute(_OF, {"job_id": job_id}).mappings()]


def load_tries(connection: Connection, delivery_ids: Sequence[str]) -> list[DeliveryAttempt]:
    """Read every try of these deliveries."""
    if not delivery_ids:
        return []
    rows = connection.execute(_TRIES, {"ids": list(delivery_ids)}).mappings()
    return [DeliveryAttempt(**row) for row in rows]


def add_try(connection: Connection, attempt: DeliveryAttempt) -> None:
    """Store a try, unless it is there: written again after a commit whose answer was lost."""
    tried = load_tries(connection, [attempt.delivery_id])
    if all(one.number != attempt.number for one in tried):
        connection.execute(_TRY, {name: getattr(attempt, name) for name in DeliveryAttempt.__struct_fields__})


def has_try(connection: Connection, attempt: DeliveryAttempt) -> bool:
    """Whether this very try is stored."""
    return attempt in load_tries(connection, [attempt.delivery_id])


def settle(connection: Connection, delivery_id: str, *, state: str, at_ms: int) -> None:
    """Mark it delivered or given up."""
    connection.execute(_SETTLE, {"delivery_id": delivery_id, "new_state": state, "at_ms": at_ms})


def backlog(connection: Connection) -> Backlog:
    """Count what is pending."""
    count, oldest_ms = connection.execute(_BACKLOG).one()
    return Backlog(count, oldest_ms)
