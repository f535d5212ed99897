"""Statements on what keys have used of their rates, and on what owners may have at once and spend."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct
from sqlalchemy import Connection, bindparam, func, or_, select, update

from gateway.storage.tables import jobs, limits, owners
from gateway.storage.upserts import if_absent


class OwnerLimits(Struct, frozen=True, kw_only=True):
    """What an owner may; None is without limit."""

    owner: str
    max_in_flight: int | None = None
    """Most unfinished jobs."""
    budget_micro_usd: int | None = None
    """Most that its jobs of one calendar month (UTC) may come to."""


_MAKE = if_absent(limits)
# In one order, so that two processes that lock several never wait for each other.
_LOCK = (
    select(limits.c.key_id, limits.c.arrival_ns)
    .where(limits.c.key_id.in_(bindparam("keys", expanding=True)))
    .order_by(limits.c.key_id)
    .with_for_update()
)
_SAVE = update(limits).where(limits.c.key_id == bindparam("of_key")).values(arrival_ns=bindparam("new_ns"))
_OWNERS = (
    select(owners.c.name, owners.c.max_in_flight, owners.c.budget_micro_usd)
    .where(owners.c.name.in_(bindparam("names", expanding=True)))
    .order_by(owners.c.name)
)
_LIMITED = or_(owners.c.max_in_flight.is_not(None), owners.c.budget_micro_usd.is_not(None))
_LOCK_LIMITED = _OWNERS.where(_LIMITED).with_for_update()
_LOCK_OWNERS = _OWNERS.with_for_update()
_EVERY_LIMITED = (
    select(owners.c.name, owners.c.max_in_flight, owners.c.budget_micro_usd)
    .where(_LIMITED)
    .order_by(owners.c.name)
)
# Counted no further than anybody asks.
_IN_FLIGHT = select(func.count()).select_from(
    select(jobs.c.id)
    .where(jobs.c.owner == bindparam("of_owner"), jobs.c.finished_at_ms.is_(None))
    .limit(bindparam("most"))
    .subquery("bounded")
)
_UNFINISHED = select(func.count()).select_from(
    select(jobs.c.id).where(jobs.c.finished_at_ms.is_(None)).limit(bindparam("most")).subquery("bounded")
)


def lock_arrivals(connection: Connection, keys: Collection[str]) -> dict[str, int]:
    """Lock what these keys have used, and return it: the theoretical arrival time, nanoseconds since 1970."""
    wanted = {"keys": sorted(keys)}
    found = {row.key_id: int(row.arrival_ns) for row in connection.execute(_LOCK, wanted)}
    missing = sorted(set(keys) - found.keys())
    if not missing:
        return found
    made = [{"key_id": key_id, "arrival_ns": 0} for key_id in missing]
    connection.execute(_MAKE[connection.dialect.name], made)
    return {row.key_id: int(row.arrival_ns) for row in connection.execute(_LOCK, wanted)}


def save_arrivals(connection: Connection, arrivals: Mapping[str, int]) -> None:
    """Write what these keys, locked before, have used now."""
    rows = [{"of_key": key_id, "new_ns": at_ns} for key_id, at_ns in sorted(arrivals.items())]
    if rows:
        connection.execute(_SAVE, rows)


def lock_owners(connection: Connection, names: Iterable[str], *, every: bool) -> dict[str, OwnerLimits]:
    """Lock owners against others who would take what is left of their limits.

    Args:
        connection: in a transaction that locks no job.
        names: whom.
        every: False leaves those without a limit of their own alone, and out of the result.
    """
    statement = _LOCK_OWNERS if every else _LOCK_LIMITED
    rows = connection.execute(statement, {"names": sorted(set(names))})
    return {row.name: _limits(*row) for row in rows}


def load_limited(connection: Connection) -> list[OwnerLimits]:
    """Read the owners that have a limit of their own, by name."""
    return [_limits(*row) for row in connection.execute(_EVERY_LIMITED)]


def set_owner(connection: Connection, owner: str, changes: Mapping[str, int | None]) -> None:
    """Set `max_in_flight` or `budget_micro_usd` of an owner; what is not named stays."""
    if changes:
        connection.execute(update(owners).where(owners.c.name == owner).values(dict(changes)))


def count_in_flight(connection: Connection, owner: str, *, most: int) -> int:
    """Count an owner's unfinished jobs, up to `most`."""
    return connection.execute(_IN_FLIGHT, {"of_owner": owner, "most": most}).scalar_one()


def count_unfinished(connection: Connection, *, most: int) -> int:
    """Count all unfinished jobs, up to `most`."""
    return connection.execute(_UNFINISHED, {"most": most}).scalar_one()


def _limits(name: str, max_in_flight: int | None, budget_micro_usd: int | None) -> OwnerLimits:
    return OwnerLimits(owner=name, max_in_flight=max_in_flight, budget_micro_usd=budget_micro_usd)
