"""What a job has cost, or may yet: a pure function of the job and its attempts.

The ledger (`gateway/storage/spend.py`) is the sum of this function over all jobs, kept by adding the
difference that each transition makes. So there is no list of cases in which to reserve, settle or release:
whoever changes an attempt has changed the ledger.

Money is micro-USD. All of a job's is booked on the day (UTC) on which it was accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from msgspec import Struct

from gateway.jobs.job import LIVE, Attempt, AttemptState, Job
from providers.contract.errors import ErrorCode

UNCHOSEN = ""
"""Stands for the provider while a job waits for one."""
_DAY_MS = 86_400_000

MAYBE_BILLED = frozenset({ErrorCode.PROVIDER_LOST, ErrorCode.PROVIDER_CONTRACT})
"""Failures of an accepted run that do not tell that it was not billed: the provider no longer knows it, or
reported a success with nothing to show for it."""


class Money(Struct, frozen=True):
    """What is booked at one provider."""

    jobs: int = 0
    """Jobs with a submission there that was or may have been made; or that wait, where none is chosen yet."""
    reserved: int = 0
    """May yet be charged: runs under way at their estimates, and those of which nobody knows."""
    charged: int = 0
    """By the provider's own word, or by the estimate where a success came without a price."""


Booking = Mapping[str, Money]
"""By provider."""


def booked(job: Job, attempts: Iterable[Attempt]) -> Booking:
    """Return what a job comes to."""
    return book(
        job.estimated_micro_usd,
        attempts,
        ended=job.state.status.terminal,
        simulated=job.simulated,
    )


def book(estimate: int | None, attempts: Iterable[Attempt], *, ended: bool, simulated: bool) -> Booking:
    """Return what a job comes to, from the parts that matter.

    Args:
        estimate: of the job, at acceptance.
        attempts: all of them.
        ended: whether it has ended.
        simulated: a simulated job costs nothing, and is in no budget.
    """
    if simulated:
        return {}
    found: dict[str, Money] = {}
    waits = not ended
    for attempt in attempts:
        if attempt.state is AttemptState.REFUSED:
            continue  # nothing was made
        waits = waits and (attempt.state not in LIVE or attempt.written_off)
        one = _money(attempt, estimate or 0)
        before = found.get(attempt.provider, Money())
        found[attempt.provider] = Money(1, before.reserved + one.reserved, before.charged + one.charged)
    if waits:  # for its first submission, or for the next
        found[UNCHOSEN] = Money(1, estimate or 0, 0)
    return found


def difference(before: Booking, after: Booking) -> dict[str, Money]:
    """Return what has to be added to the ledger when a job goes from one booking to another."""
    changes: dict[str, Money] = {}
    for provider in sorted({*before, *after}):
        old, new = before.get(provider, Money()), after.get(provider, Money())
        if old != new:
            changes[provider] = Money(
                new.jobs - old.jobs, new.reserved - old.reserved, new.charged - old.charged
            )
    return changes


def total(booking: Booking) -> int:
    """Sum up what is charged and what may yet be, micro-USD."""
    return sum(money.reserved + money.charged for money in booking.values())


def day_of(ms: int) -> str:
    """Name the day (UTC) of an instant: 2026-11-21."""
    return _day(ms // _DAY_MS)


def month_of(day: str) -> tuple[str, str]:
    """Return the first and the last day that the month of a day could have."""
    return f"{day[:7]}-01", f"{day[:7]}-31"


def _money(attempt: Attempt, estimate: int) -> Money:
    expected = estimate if attempt.estimated_micro_usd is None else attempt.estimated_micro_usd
    told = attempt.micro_usd
    if attempt.state in LIVE:
        return Money(reserved=max(expected, told or 0))
    if told is not None:
        return Money(charged=told)
    if attempt.state is AttemptState.SUCCEEDED:
        return Money(charged=expected)
    lost = attempt.error is not None and attempt.error.code in MAYBE_BILLED
    return Money(reserved=expected) if attempt.may_bill or lost else Money()


@lru_cache(maxsize=64)
def _day(days: int) -> str:
    return datetime.fromtimestamp(days * 86_400, UTC).strftime("%Y-%m-%d")
