"""Statements on deliveries: webhook bodies frozen with the change they tell of, and each try to send them.

One that is given up has no try left, or was never tried since its endpoint was disabled or deleted when it
came: its bytes are kept, and it can be queued anew. So is progress that more has overtaken, which `recover`
passes over.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Connection, bindparam, func, insert, literal_column, select, update

from gateway.storage.tables import MISSED, deliveries, delivery_attempts, owners
from gateway.storage.upserts import if_absent


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
    """The job's own secret; None means its owner's at the time of sending. `OF_ENDPOINT`: the endpoint's."""
    body: bytes
    created_at_ms: int
    state: str = "pending"
    """pending, delivered or given_up."""
    finished_at_ms: int | None = None
    endpoint_id: str | None = None
    """None: to the job's own receiver."""
    traceparent: str | None = None
    """The job's trace, which receivers are told."""
    overtaken: int = 0
    """1: it was given up since it told of progress, and more has happened to the job."""


OF_ENDPOINT = ""
"""Stands in the place of a sealed secret where the endpoint's own signs. A version before endpoints fails to
open it; without it that version would sign with the owner's."""
OVERTAKEN = "overtaken"
"""A state as it is told; stored, it is `given_up` with a mark, which versions before it understand."""


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


PAST_EVERY_ID = "dlv_g"

_INSERT = insert(deliveries)
_CLAIMED = (
    select(deliveries, owners.c.sealed_webhook_secret.label("owner_secret"))
    .outerjoin(owners, owners.c.name == deliveries.c.owner)
    .where(deliveries.c.id.in_(bindparam("ids", expanding=True)))
)
_OF = select(deliveries).where(deliveries.c.job_id == bindparam("job_id")).order_by(deliveries.c.sequence)
_TRIES = (
    select(delivery_attempts)
    .where(delivery_attempts.c.delivery_id.in_(bindparam("ids", expanding=True)))
    .order_by(delivery_attempts.c.delivery_id, delivery_attempts.c.number)
)
_TRY = if_absent(delivery_attempts)
_SETTLE = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery_id"))
    .values(
        state=bindparam("new_state"), finished_at_ms=bindparam("at_ms"), overtaken=bindparam("is_overtaken")
    )
)
_BY_ID = select(deliveries).where(deliveries.c.id == bindparam("of_id"))
_LOCK = _BY_ID.with_for_update()
_PAGE = (
    select(deliveries)
    .where(deliveries.c.id < bindparam("before"))
    .order_by(deliveries.c.id.desc())
    .limit(bindparam("limit"))
)
_PAGE_OF_JOB = _PAGE.where(deliveries.c.job_id == bindparam("job_id"))
_PAGE_OF_ENDPOINT = _PAGE.where(deliveries.c.endpoint_id == bindparam("endpoint_id"))
_NEWEST_OF = select(func.max(deliveries.c.id)).where(deliveries.c.endpoint_id == bindparam("of_endpoint"))
_TRIED = (
    select(delivery_attempts.c.delivery_id, func.max(delivery_attempts.c.number).label("number"))
    .where(delivery_attempts.c.delivery_id.in_(bindparam("ids", expanding=True)))
    .group_by(delivery_attempts.c.delivery_id)
)
# The very text of the partial index, without which SQLite would not use it.
_MISSED = (
    select(deliveries.c.id)
    .where(
        literal_column(MISSED),
        deliveries.c.endpoint_id == bindparam("of_endpoint"),
        deliveries.c.id >= bindparam("first"),
        deliveries.c.id > bindparam("after"),
        deliveries.c.id <= bindparam("last"),
    )
    .order_by(deliveries.c.id)
    .limit(bindparam("limit"))
    .with_for_update()
)
_REVIVE = (
    update(deliveries)
    .where(deliveries.c.id.in_(bindparam("ids", expanding=True)))
    .values(state="pending", finished_at_ms=None, overtaken=0)
)
_BACKLOG = select(func.count(), func.min(deliveries.c.created_at_ms)).where(deliveries.c.state == "pending")


def insert_many(connection: Connection, rows: Sequence[Delivery]) -> None:
    """Store deliveries."""
    connection.execute(
        _INSERT, [{name: getattr(row, name) for name in Delivery.__struct_fields__} for row in rows]
    )


def load_claimed(
    connection: Connection, delivery_ids: Sequence[str]
) -> dict[str, tuple[Delivery, str | None]]:
    """Read these deliveries, each with its owner's sealed secret, by id; unknown ids are left out."""
    if not delivery_ids:
        return {}
    rows = [dict(row) for row in connection.execute(_CLAIMED, {"ids": list(delivery_ids)}).mappings()]
    secrets = [row.pop("owner_secret") for row in rows]
    return {row["id"]: (Delivery(**row), secret) for row, secret in zip(rows, secrets, strict=True)}


def load(connection: Connection, delivery_id: str, *, lock: bool = False) -> Delivery | None:
    """Read a delivery; locked, it stays as it is until the transaction ends."""
    row = connection.execute(_LOCK if lock else _BY_ID, {"of_id": delivery_id}).mappings().one_or_none()
    return None if row is None else Delivery(**row)


def page_of_job(connection: Connection, job_id: str, *, before: str | None, limit: int) -> list[Delivery]:
    """Read a job's deliveries, newest first, after the one of this id."""
    asked = {"job_id": job_id, "before": before or PAST_EVERY_ID, "limit": limit}
    return [Delivery(**row) for row in connection.execute(_PAGE_OF_JOB, asked).mappings()]


def page_of_endpoint(
    connection: Connection, endpoint_id: str, *, before: str | None, limit: int
) -> list[Delivery]:
    """Read an endpoint's deliveries, newest first, after the one of this id."""
    asked = {"endpoint_id": endpoint_id, "before": before or PAST_EVERY_ID, "limit": limit}
    return [Delivery(**row) for row in connection.execute(_PAGE_OF_ENDPOINT, asked).mappings()]


def newest_of(connection: Connection, endpoint_id: str) -> str:
    """Return the id of the latest delivery to an endpoint; what sorts before all when there is none."""
    newest: str | None = connection.execute(_NEWEST_OF, {"of_endpoint": endpoint_id}).scalar()
    return newest or ""


def find_missed(
    connection: Connection, endpoint_id: str, *, first: str, after: str, last: str, limit: int
) -> list[str]:
    """Lock what an endpoint did not get, but for what was overtaken.

    Args:
        connection: for writing.
        endpoint_id: whose.
        first: of this id and later ones.
        after: later than this one.
        last: not later than this one.
        limit: most of them.

    Returns:
        Their ids, oldest first.
    """
    asked = {"of_endpoint": endpoint_id, "first": first, "after": after, "last": last, "limit": limit}
    return list(connection.execute(_MISSED, asked).scalars())


def revive(connection: Connection, delivery_ids: Sequence[str]) -> dict[str, int]:
    """Make settled deliveries pending again; returns how often each was tried."""
    connection.execute(_REVIVE, {"ids": list(delivery_ids)})
    tried = {
        row.delivery_id: int(row.number) for row in connection.execute(_TRIED, {"ids": list(delivery_ids)})
    }
    return {delivery_id: tried.get(delivery_id, 0) for delivery_id in delivery_ids}


def load_of(connection: Connection, job_id: str) -> list[Delivery]:
    """Read a job's deliveries in the order of their events."""
    return [Delivery(**row) for row in connection.execute(_OF, {"job_id": job_id}).mappings()]


def load_tries(connection: Connection, delivery_ids: Sequence[str]) -> list[DeliveryAttempt]:
    """Read every try of these deliveries."""
    if not delivery_ids:
        return []
    rows = connection.execute(_TRIES, {"ids": list(delivery_ids)}).mappings()
    return [DeliveryAttempt(**row) for row in rows]


def add_tries(connection: Connection, tries: Sequence[DeliveryAttempt]) -> None:
    """Store tries but those that are there: written again after a commit whose answer was lost."""
    if tries:
        connection.execute(_TRY[connection.dialect.name], [asdict(one) for one in tries])


def settle(connection: Connection, settled: Sequence[tuple[str, str, int]]) -> None:
    """Mark deliveries `delivered`, `given_up` or `OVERTAKEN`: (id, state, at_ms) each."""
    if settled:
        connection.execute(
            _SETTLE,
            [
                {
                    "delivery_id": delivery_id,
                    "new_state": "given_up" if state == OVERTAKEN else state,
                    "is_overtaken": int(state == OVERTAKEN),
                    "at_ms": at_ms,
                }
                for delivery_id, state, at_ms in settled
            ],
        )


def backlog(connection: Connection) -> Backlog:
    """Count what is pending."""
    count, oldest_ms = connection.execute(_BACKLOG).one()
    return Backlog(count, oldest_ms)
