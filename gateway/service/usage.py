"""What owners' jobs cost: the ledger, and how much of each budget is left."""

from __future__ import annotations

from msgspec import Struct, field
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.jobs.spend import day_of
from gateway.storage import limits as limit_rows
from gateway.storage import spend as spend_rows
from gateway.storage.engine import Database
from gateway.storage.limits import OwnerLimits
from gateway.storage.spend import SpendRow


class UsageRow(Struct, frozen=True, kw_only=True):
    """An owner's jobs that were accepted on a day (UTC), as far as they went to one provider."""

    owner: str
    day: str
    provider: str | None
    """Null for jobs that wait for one."""
    jobs: int
    """Jobs of which a submission was made there, or may have been; simulated ones are not counted."""
    charged_usd: float
    """By the provider's own word, or by the estimate for a success without a price."""
    reserved_usd: float
    """May yet be charged: runs under way, and those of which nobody knows how they ended."""


class BudgetView(Struct, frozen=True, kw_only=True):
    """How much of an owner's budget for the current month (UTC) is left."""

    owner: str
    month: str
    budget_usd: float
    used_usd: float
    """Charged and reserved."""
    left_usd: float


class UsageView(Struct, frozen=True, kw_only=True):
    """Spend by owner, day and provider."""

    first: str = field(name="from")
    last: str = field(name="to")
    """Both days included."""
    rows: list[UsageRow]
    charged_usd: float
    reserved_usd: float
    budgets: list[BudgetView]


class Usage:
    """Reads the ledger.

    Args:
        database: where.
        clock: tells which month is the current one.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def today(self) -> str:
        """Return the current day (UTC), such as 2026-11-21."""
        return day_of(self._clock.now_ms())

    async def show(self, *, owner: str | None, first: str | None, last: str | None) -> UsageView:
        """Return what was spent.

        Args:
            owner: whose jobs; None for everybody's.
            first: the first day, such as 2026-11-01; None for the first of the last day's month.
            last: the last day; None for today.
        """
        until = last or self.today()
        since = first or f"{until[:7]}-01"
        return await self._database.read(lambda connection: self._show(connection, owner, since, until))

    def _show(self, connection: Connection, owner: str | None, first: str, last: str) -> UsageView:
        rows = spend_rows.load_between(connection, owner=owner, first=first, last=last)
        day = self.today()
        budgets = [
            _budget(one, day, one.budget_micro_usd, spend_rows.spent_in_month(connection, one.owner, day))
            for one in limit_rows.load_limited(connection)
            if one.budget_micro_usd is not None and owner in {None, one.owner}
        ]
        return UsageView(
            first=first,
            last=last,
            rows=[_row(row) for row in rows if row.jobs or row.charged_micro_usd or row.reserved_micro_usd],
            charged_usd=sum(row.charged_micro_usd for row in rows) / 1_000_000,
            reserved_usd=sum(row.reserved_micro_usd for row in rows) / 1_000_000,
            budgets=budgets,
        )


def _row(row: SpendRow) -> UsageRow:
    return UsageRow(
        owner=row.owner,
        day=row.day,
        provider=row.provider or None,
        jobs=row.jobs,
        charged_usd=row.charged_micro_usd / 1_000_000,
        reserved_usd=row.reserved_micro_usd / 1_000_000,
    )


def _budget(limits: OwnerLimits, day: str, budget: int, used: int) -> BudgetView:
    return BudgetView(
        owner=limits.owner,
        month=day[:7],
        budget_usd=budget / 1_000_000,
        used_usd=used / 1_000_000,
        left_usd=max(0, budget - used) / 1_000_000,
    )
