"""Statements on exchanges: what was said to providers and what they answered, redacted, for the timeline."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, bindparam, insert, select

from gateway.storage.tables import exchanges


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


_INSERT = insert(exchanges)
_OF = select(exchanges).where(exchanges.c.job_id == bindparam("job_id")).order_by(exchanges.c.id)


def insert_one(connection: Connection, exchange: Exchange) -> None:
    """Store an exchange."""
    connection.execute(_INSERT, {name: getattr(exchange, name) for name in Exchange.__struct_fields__})


def load_of(connection: Connection, job_id: str) -> list[Exchange]:
    """Read a job's exchanges, oldest first."""
    rows = connection.execute(_OF, {"job_id": job_id}).mappings()
    return [Exchange(**{name: row[name] for name in Exchange.__struct_fields__}) for row in rows]
