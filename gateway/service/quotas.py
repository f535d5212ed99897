"""Which new jobs an owner may still have: so many at once, so much money in a month; and so many in all.

Decided in the transaction that stores them, with the owner's row locked: of any number of requests, over any
number of processes, exactly as many are taken as fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection

from gateway.errors import BudgetSpent, Refusal
from gateway.jobs.job import Job
from gateway.jobs.spend import booked, day_of, total
from gateway.storage import limits as limit_rows
from gateway.storage import spend as spend_rows
from gateway.storage.limits import OwnerLimits

IN_FLIGHT: Final = "jobs-in-flight"
BUDGET: Final = "budget"
QUEUE: Final = "queue"
"""Names of policies, as problem documents and metrics have them."""

LOOK_AGAIN_S: Final = 5
"""What is told to those who wait for a job to end: nobody knows when one will."""


class Quotas(Struct, frozen=True, kw_only=True):
    """What the settings say; None is without limit."""

    max_in_flight: int | None = None
    """Of owners that have no limit of their own."""
    max_queued: int | None = None
    """Unfinished jobs of all owners. Two processes that store at the same moment may each take the last
    places: what it guards against is a flood, not the one job more."""


class Denied(Struct, frozen=True):
    """A job that is not taken."""

    policy: str
    detail: str
    quota: int
    """Jobs, or micro-USD."""


class Room:
    """What there is room for, in one transaction that locks owners first and no job.

    Args:
        connection: the transaction's.
        owners: whose jobs are to be stored.
        quotas: from the settings.
    """

    def __init__(self, connection: Connection, owners: Iterable[str], quotas: Quotas) -> None:
        self._connection = connection
        self._quotas = quotas
        self._limits = limit_rows.lock_owners(connection, owners, every=quotas.max_in_flight is not None)
        self._in_flight: dict[str, int] = {}
        self._spent: dict[tuple[str, str], int] = {}
        self._unfinished: int | None = None

    def take(self, job: Job) -> Denied | None:
        """Take a new job in, or say why not; those taken before count."""
        limits = self._limits.get(job.owner) or OwnerLimits(owner=job.owner)
        denied = self._queue() or self._flight(limits) or self._budget(limits, job)
        if denied is None:
            self._count(job)
        return denied

    def _queue(self) -> Denied | None:
        most = self._quotas.max_queued
        if most is None:
            return None
        if self._unfinished is None:
            self._unfinished = limit_rows.count_unfinished(self._connection, most=most)
        if self._unfinished < most:
            return None
        return Denied(QUEUE, f"The gateway has {most} unfinished jobs, its limit. Nothing was stored.", most)

    def _flight(self, limits: OwnerLimits) -> Denied | None:
        most = self._quotas.max_in_flight if limits.max_in_flight is None else limits.max_in_flight
        if most is None:
            return None
        owner = limits.owner
        if owner not in self._in_flight:
            self._in_flight[owner] = limit_rows.count_in_flight(self._connection, owner, most=most)
        if self._in_flight[owner] < most:
            return None
        detail = f"{owner} has {most} unfinished jobs, its limit. Nothing was stored."
        return Denied(IN_FLIGHT, detail, most)

    def _budget(self, limits: OwnerLimits, job: Job) -> Denied | None:
        budget, cost = limits.budget_micro_usd, total(booked(job, ()))
        if budget is None or not cost:
            return None
        day = day_of(job.created_at_ms)
        month = day[:7]
        if (job.owner, month) not in self._spent:
            self._spent[job.owner, month] = spend_rows.spent_in_month(self._connection, job.owner, day)
        left = budget - self._spent[job.owner, month]
        if cost <= left:
            return None
        detail = (
            f"{job.owner} may spend {usd(budget)} in {month}, of which {usd(max(0, left))} is left; this job"
            f" is estimated at {usd(cost)}. Nothing was stored."
        )
        return Denied(BUDGET, detail, budget)

    def _count(self, job: Job) -> None:
        if self._unfinished is not None:
            self._unfinished += 1
        if job.owner in self._in_flight:
            self._in_flight[job.owner] += 1
        key = job.owner, day_of(job.created_at_ms)[:7]
        if key in self._spent:
            self._spent[key] += total(booked(job, ()))


def check_budget(connection: Connection, job: Job, *, more: int) -> None:
    """See to it that a job which comes to more than its estimate still fits its owner's budget.

    Args:
        connection: in a transaction that has not written to the ledger yet: owners are locked before it.
        job: as it stands.
        more: what is about to be booked besides, micro-USD.

    Raises:
        BudgetSpent: it does not.
    """
    limits = limit_rows.lock_owners(connection, [job.owner], every=False).get(job.owner)
    if limits is None or limits.budget_micro_usd is None or job.simulated:
        return
    day = day_of(job.created_at_ms)
    if spend_rows.spent_in_month(connection, job.owner, day) + more > limits.budget_micro_usd:
        budget = usd(limits.budget_micro_usd)
        raise BudgetSpent(
            f"{job.owner}'s budget of {budget} for {day[:7]} has no room for another submission"
        )


def refusal(denied: Denied, *, spread: float) -> Refusal:
    """Say it to the caller.

    Args:
        denied: what, and why.
        spread: from 0 to 1, so that those who were refused together do not come back together.
    """
    again = {"Retry-After": str(LOOK_AGAIN_S + round(spread * LOOK_AGAIN_S))}
    policies = (denied.policy,)
    match denied.policy:
        case "jobs-in-flight":
            fields = {
                "RateLimit-Policy": f'"{IN_FLIGHT}";q={denied.quota};qu="concurrent-requests"',
                "RateLimit": f'"{IN_FLIGHT}";r=0',
            }
            return Refusal("quota-exceeded", denied.detail, headers=again | fields, policies=policies)
        case "budget":
            return Refusal("spend-limit-reached", denied.detail, policies=policies)
        case _:
            return Refusal("temporary-reduced-capacity", denied.detail, headers=again, policies=policies)


def usd(micro_usd: int) -> str:
    """Write an amount for people: to the cent, or as exactly as it has to be."""
    whole, rest = divmod(micro_usd, 1_000_000)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"${whole}.{digits}"
