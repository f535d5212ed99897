"""Statements on the ledger: what owners' jobs cost, by day and provider, in micro-USD."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from sqlalchemy import Connection, Insert, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.jobs.spend import Money, month_of
from gateway.storage.tables import owners, spend
from gateway.storage.upserts import on_conflict

Change = tuple[str, str, str]
"""Owner, day, provider."""


class SpendRow(Struct, frozen=True, kw_only=True):
    """What is booked for an owner on a day at a provider."""

    owner: str
    day: str
    provider: str
    """Empty for jobs that wait for one."""
    jobs: int
    reserved_micro_usd: int
    charged_micro_usd: int


def _added(statement: postgresql.Insert | sqlite.Insert) -> Insert:
    """Add to the row that is there."""
    added = {
        name: spend.c[name] + statement.excluded[name]
        for name in ("jobs", "reserved_micro_usd", "charged_micro_usd")
    }
    return statement.on_conflict_do_update(index_elements=["owner", "day", "provider"], set_=added)


_ADD = on_conflict(spend, _added)
_SPENT = select(func.sum(spend.c.reserved_micro_usd + spend.c.charged_micro_usd)).where(
    spend.c.owner == bindparam("of_owner"), spend.c.day.between(bindparam("first"), bindparam("last"))
)
_BETWEEN = (
    select(spend)
    .where(spend.c.day.between(bindparam("first"), bindparam("last")))
    .order_by(spend.c.owner, spend.c.day, spend.c.provider)
)
_OF_OWNER = _BETWEEN.where(spend.c.owner == bindparam("of_owner"))

_used = (
    select(func.coalesce(func.sum(spend.c.reserved_micro_usd + spend.c.charged_micro_usd), 0))
    .where(spend.c.owner == owners.c.name, spend.c.day.between(bindparam("first"), bindparam("last")))
    .scalar_subquery()
)
_budgets = (
    select(owners.c.budget_micro_usd.label("budget"), _used.label("used"))
    .where(owners.c.budget_micro_usd > 0)
    .subquery("bounded")
)
_AT_BUDGET = select(
    *(
        func.count().filter(_budgets.c.used * 100 >= _budgets.c.budget * percent).label(f"at_{percent}")
        for percent in (80, 100)
    )
).select_from(_budgets)


def add(connection: Connection, changes: Mapping[Change, Money]) -> None:
    """Add to the ledger; the last thing a transaction does, since it locks rows that many want.

    Args:
        connection: in the transaction that makes the changes true.
        changes: what to add, by owner, day and provider; locked in their order, so that none deadlock.
    """
    rows = [
        {
            "owner": owner,
            "day": day,
            "provider": provider,
            "jobs": money.jobs,
            "reserved_micro_usd": money.reserved,
            "charged_micro_usd": money.charged,
        }
        for (owner, day, provider), money in sorted(changes.items())
    ]
    if rows:
        connection.execute(_ADD[connection.dialect.name], rows)


def spent_in_month(connection: Connection, owner: str, day: str) -> int:
    """Sum up what an owner was charged, and may yet be, for the jobs of the month that a day is in."""
    first, last = month_of(day)
    values = {"of_owner": owner, "first": first, "last": last}
    return int(connection.execute(_SPENT, values).scalar_one() or 0)


def load_between(connection: Connection, *, owner: str | None, first: str, last: str) -> list[SpendRow]:
    """Read the ledger from the first day to the last; of all owners where none is named."""
    values = {"first": first, "last": last} | ({} if owner is None else {"of_owner": owner})
    found = connection.execute(_BETWEEN if owner is None else _OF_OWNER, values)
    return [SpendRow(**row) for row in found.mappings()]


def count_at_budget(connection: Connection, day: str) -> dict[str, int]:
    """Count the owners that have used so many percent of their budget for the month that a day is in.

    Returns:
        The number by percent, 80 and 100; those at 100 are in both.
    """
    first, last = month_of(day)
    found = connection.execute(_AT_BUDGET, {"first": first, "last": last}).one()
    return {"80": found.at_80, "100": found.at_100}
