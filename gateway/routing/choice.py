"""Which candidate of a plan comes next, after the attempts that a job has had.

Every candidate has its turn before any has a second. One is out of it where its provider took the job and
failed, or refused it in a way that no second try mends, and where what may have been spent leaves too little.
"""

from __future__ import annotations

from msgspec import Struct

from gateway.jobs.job import Attempt, AttemptState, RoutingWish, latest
from gateway.routing.failover import Rules, allows_again
from gateway.routing.plan import Candidate, Plan


class Wait(Struct, frozen=True, kw_only=True):
    """Some can have it, none of them just now."""

    reason: str
    until_ms: int | None
    """When the first of them may; None when nobody knows of one of them."""


class Nobody(Struct, frozen=True):
    """Nobody can have it any more."""

    reason: str


def choose(
    plan: Plan,
    attempts: tuple[Attempt, ...],
    wish: RoutingWish,
    *,
    rules: Rules,
    spent_micro_usd: int = 0,
    below_micro_usd: int | None = None,
) -> Candidate | Wait | Nobody:
    """Say who is to have the job now.

    Args:
        plan: as it stands now, made anew with the same seed.
        attempts: those the job has had, all of them over or written off.
        wish: the job's.
        rules: what settings put in the place of the table.
        spent_micro_usd: what they cost, or may cost.
        below_micro_usd: only who is estimated to cost less than that; None is no bound.
    """
    left = standing(plan, attempts, wish, rules=rules, spent_micro_usd=spent_micro_usd)
    if below_micro_usd is not None:
        left = [candidate for candidate in left if candidate.estimated_micro_usd < below_micro_usd]
    ready = [candidate for candidate in left if candidate.unavailable is None]
    if ready:
        return min(ready, key=lambda candidate: turns(candidate, attempts))  # the first of those alike
    if not left:
        return Nobody("every candidate has had its turn, or is ruled out")
    reason = "; ".join(f"{one.provider}/{one.account}: {one.reason or one.unavailable}" for one in left)
    instants = [one.until_ms for one in left if one.until_ms is not None]
    # One that may open at any moment is not to be slept through until another's hour-long pause is over.
    return Wait(reason=reason, until_ms=min(instants) if len(instants) == len(left) else None)


class Others(Struct, frozen=True):
    """Who else may have the job, besides the account of its latest attempt."""

    ready: bool
    """Whether one stands ready that has had fewer turns."""
    left: bool
    """Whether there is one at all, now or later."""


def others(
    plan: Plan, attempts: tuple[Attempt, ...], wish: RoutingWish, *, rules: Rules, spent_micro_usd: int = 0
) -> Others:
    """Say who else may have the job; arguments as for `choose`, the latest attempt is over."""
    current = latest(attempts)
    if current is None:
        return Others(ready=False, left=False)
    place = current.provider, current.account
    had = _turns(*place, attempts)
    left = [
        candidate
        for candidate in standing(plan, attempts, wish, rules=rules, spent_micro_usd=spent_micro_usd)
        if candidate.place != place
    ]
    ready = any(one.unavailable is None and turns(one, attempts) < had for one in left)
    return Others(ready=ready, left=bool(left))


def standing(
    plan: Plan, attempts: tuple[Attempt, ...], wish: RoutingWish, *, rules: Rules, spent_micro_usd: int
) -> list[Candidate]:
    """Return the candidates that may have the job now or later, in the plan's order."""
    out = {(one.provider, one.account) for one in attempts if not allows_again(one, rules)}
    limit = wish.max_cost_micro_usd
    # Where the first attempt goes is a choice; where a later one goes would be failover.
    current = None if wish.failover else latest(tuple(one for one in attempts if not _withheld(one)))
    return [
        candidate
        for candidate in plan.candidates
        if candidate.place not in out
        and (limit is None or spent_micro_usd + candidate.estimated_micro_usd <= limit)
        and (current is None or candidate.place == (current.provider, current.account))
    ]


def turns(candidate: Candidate, attempts: tuple[Attempt, ...]) -> int:
    """Count the attempts that a candidate has had; one that we withheld ourselves is none."""
    return _turns(candidate.provider, candidate.account, attempts)


def _turns(provider: str, account: str, attempts: tuple[Attempt, ...]) -> int:
    return sum((one.provider, one.account) == (provider, account) and not _withheld(one) for one in attempts)


def _withheld(attempt: Attempt) -> bool:
    """Whether we did not send it after all."""
    return attempt.state is AttemptState.REFUSED and attempt.error is None
