"""What a gateway's delivery log says, read from outside while it works or after."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from invariants import open_database
from msgspec import Struct
from sqlalchemy import func, select

from gateway.storage.tables import deliveries, delivery_attempts


class Try(Struct, frozen=True):
    """One try, as it was logged, with its delivery."""

    url: str
    owner: str
    created_at_ms: int
    message_id: str
    body: bytes
    at_ms: int
    duration_ms: int
    outcome: str
    detail: str

    @property
    def lag_s(self) -> float:
        """From the event to the receiver's answer."""
        return (self.at_ms + self.duration_ms - self.created_at_ms) / 1000


def read_tries(database_url: str) -> list[Try]:
    """Read every try that is logged, in the order of their events."""
    asked = (
        select(
            *(deliveries.c[name] for name in ("url", "owner", "created_at_ms", "message_id", "body")),
            *(delivery_attempts.c[name] for name in ("at_ms", "duration_ms", "outcome", "detail")),
        )
        .join(delivery_attempts, delivery_attempts.c.delivery_id == deliveries.c.id)
        .order_by(deliveries.c.created_at_ms)
    )
    with closing(open_database(database_url).connect()) as connection, connection.begin():
        return [Try(*row) for row in connection.execute(asked)]


def count_pending(database_url: str) -> int:
    """How many deliveries are not settled."""
    asked = select(func.count()).where(deliveries.c.state == "pending")
    with closing(open_database(database_url).connect()) as connection, connection.begin():
        return connection.execute(asked).scalar_one()


def quantile(seconds: Sequence[float], share: float) -> float:
    """What so large a share keeps within."""
    return sorted(seconds)[int(len(seconds) * share)]
