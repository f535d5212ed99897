"""Statements on exchanges: what was said to providers and what they answered, redacted, for the timeline."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct
from sqlalchemy import Connection, bindparam, insert, select

from gateway.storage.tables import exchanges


class Spoken(Protocol):
    """A call to a provider, as whoever made it tells of it."""

    @property
    def operation(self) -> str: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def duration_ms(self) -> int: ...
    @property
    def outcome(self) -> str: ...
    @property
    def request(self) -> str: ...
    @property
    def status(self) -> int | None: ...
    @property
    def response(self) -> str: ...


class Exchange(Struct, frozen=True, kw_only=True):
    """One call to a provider."""

    job_id: str
    attempt_id: str
    operation: str
    """submit, poll or cancel."""
    at_ms: int
    duration_ms: int
    outcome: str
    request: str
    """Method, target and body."""
    status: int | None
    """None when there was no answer."""
    response: str
    """The body's beginning, or what went wrong."""


def exchange_of(job_id: str, attempt_id: str, spoken: Spoken) -> Exchange:
    """Write down what was said."""
    return Exchange(
        job_id=job_id,
        attempt_id=attempt_id,
        operation=spoken.operation,
        at_ms=spoken.at_ms,
        duration_ms=spoken.duration_ms,
        outcome=spoken.outcome,
        request=spoken.request,
        status=spoken.status,
        response=spoken.response,
    )


_INSERT = insert(exchanges)
_OF = select(exchanges).where(exchanges.c.job_id == bindparam("job_id")).order_by(exchanges.c.id)


def insert_one(connection: Connection, exchange: Exchange) -> None:
    """Store an exchange."""
    connection.execute(_INSERT, {name: getattr(exchange, name) for name in Exchange.__struct_fields__})


def load_of(connection: Connection, job_id: str) -> list[Exchange]:
    """Read a job's exchanges, oldest first."""
    rows = connection.execute(_OF, {"job_id": job_id}).mappings()
    return [Exchange(**{name: row[name] for name in Exchange.__struct_fields__}) for row in rows]
