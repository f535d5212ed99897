"""What a submission that was certainly not made, or a run that failed for certain, leads to.

The table in `providers/contract/errors.py` says what each code allows; settings may say otherwise for a
provider and a code. A submission in doubt never comes here: nothing follows it until it is settled.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from gateway.jobs.job import Attempt, AttemptState
from gateway.jobs.spend import MAYBE_BILLED
from providers.contract.errors import FINAL, ErrorCode, UpstreamError
from providers.contract.spec import Spec

Rule = Literal["retry", "next", "give_up"]
"""What settings say of a code. `retry`: the same account again, and no other. `next`: another candidate, and
never the same again. `give_up`: neither."""

Rules = Mapping[tuple[str, ErrorCode], Rule]
"""By provider and code; where there is none, the table decides."""


class Outcome(StrEnum):
    """What became of an attempt, for certain."""

    NOT_MADE = "not_made"
    """No connection ever stood."""
    REFUSED = "refused"
    """The provider refused to take it."""
    FAILED = "failed"
    """The provider took it, and says that its run failed."""


class Choice(StrEnum):
    """What to do."""

    RETRY = "retry"
    """Wait, then whoever's turn it is: the same account again where there is no other."""
    NEXT = "next"
    """The next candidate, at once."""
    GIVE_UP = "give_up"


def decide(
    error: UpstreamError,
    outcome: Outcome,
    *,
    failover: bool,
    next_candidate: bool,
    others_left: bool = False,
    rule: Rule | None = None,
    billed_micro_usd: int = 0,
    max_cost_micro_usd: int | None = None,
) -> Choice:
    """Decide by the one table, or the rule that settings put in its place.

    Args:
        error: why it was refused or failed.
        outcome: what became of it.
        failover: whether the job allows another candidate.
        next_candidate: whether one stands ready that has not had its turn, and fits what is left to be spent.
        others_left: whether one may have it later: it is not ready now, or has had its turn.
        rule: what settings say of this provider and code.
        billed_micro_usd: what the attempt costs, or may cost.
        max_cost_micro_usd: what the job may cost in all. Without that a run that failed and may be billed is
            followed by no other: nobody said that two may be paid.
    """
    if error.code in FINAL:
        return Choice.GIVE_UP
    decision = error.decision
    again = decision.retry if rule is None else rule == "retry"
    elsewhere = decision.failover if rule is None else rule == "next"
    may_pay = outcome is not Outcome.FAILED or billed_micro_usd == 0 or max_cost_micro_usd is not None
    if elsewhere and failover and may_pay:
        if next_candidate:
            return Choice.NEXT
        if others_left:
            return Choice.RETRY
    # A run that failed is never repeated where it failed: that is another bill, and the caller's to ask for.
    return Choice.RETRY if again and outcome is not Outcome.FAILED else Choice.GIVE_UP


def allows_again(attempt: Attempt, rules: Rules) -> bool:
    """Whether the account of an attempt may have the job once more."""
    if attempt.state is AttemptState.REFUSED:
        if attempt.error is None:  # withheld by ourselves
            return True
        rule = rules.get((attempt.provider, attempt.error.code))
        return attempt.error.decision.retry if rule is None else rule == "retry"
    return attempt.written_off


def billed_micro_usd(attempt: Attempt, spec: Spec | None, *, otherwise: int) -> int:
    """Return what an attempt costs, or may cost: never too little.

    Args:
        attempt: one that is over, or was written off.
        spec: its provider's tables; None when it is not installed any more.
        otherwise: what to assume where its estimate was not kept, micro-USD.
    """
    if attempt.state is AttemptState.REFUSED:
        return 0
    if attempt.micro_usd is not None:
        return attempt.micro_usd
    if attempt.credits == 0:
        return 0
    billing = None if spec is None else spec.billing
    told = attempt.error is None or attempt.error.code not in MAYBE_BILLED
    if attempt.state is AttemptState.FAILED and told and billing is not None and billing.failures_free:
        return 0
    return otherwise if attempt.estimated_micro_usd is None else attempt.estimated_micro_usd
