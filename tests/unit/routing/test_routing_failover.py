"""What a refusal, or a failed run, leads to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_examples import SOURCE, a_spec, an_attempt

from gateway.jobs.job import Attempt, AttemptState
from gateway.routing.failover import Choice, Outcome, Rule, allows_again, billed_micro_usd, decide
from providers.contract.errors import DECISIONS, FINAL, ErrorCode, UpstreamError
from providers.contract.spec import BillingSpec, Spec

STEADY = settings(derandomize=True, database=None, deadline=None)
RETRIED = {
    ErrorCode.RATE_LIMITED,
    ErrorCode.PROVIDER_UNAVAILABLE,
    ErrorCode.UNAUTHORIZED,
    ErrorCode.INSUFFICIENT_FUNDS,
}
RULES: list[Rule | None] = [None, "retry", "next", "give_up"]
FREE = BillingSpec(failures_free=True, source=SOURCE)
LIMITED, BROKEN, SLOW = ErrorCode.RATE_LIMITED, ErrorCode.PROVIDER_ERROR, ErrorCode.TIMEOUT
KEY = ErrorCode.UNAUTHORIZED
REFUSED, NOT_MADE, FAILED = Outcome.REFUSED, Outcome.NOT_MADE, Outcome.FAILED
RETRY, NEXT, GIVE_UP = Choice.RETRY, Choice.NEXT, Choice.GIVE_UP


def error(code: ErrorCode) -> UpstreamError:
    return UpstreamError(code=code, message="")


@pytest.mark.parametrize("code", list(ErrorCode))
def test_where_there_is_nobody_else_only_what_passes_by_itself_is_submitted_again(code: ErrorCode) -> None:
    expected = RETRY if code in RETRIED else GIVE_UP
    assert decide(error(code), REFUSED, failover=True, next_candidate=False) is expected


@pytest.mark.parametrize(
    ("code", "outcome", "rule", "ready", "left", "choice"),
    [
        (LIMITED, REFUSED, None, True, True, NEXT),
        (LIMITED, REFUSED, None, False, True, RETRY),
        (LIMITED, REFUSED, None, False, False, RETRY),
        (LIMITED, REFUSED, "retry", True, True, RETRY),
        (LIMITED, REFUSED, "next", True, True, NEXT),
        (LIMITED, REFUSED, "next", False, True, RETRY),
        (LIMITED, REFUSED, "next", False, False, GIVE_UP),
        (LIMITED, REFUSED, "give_up", True, True, GIVE_UP),
        (ErrorCode.PROVIDER_UNAVAILABLE, NOT_MADE, None, True, True, NEXT),
        (ErrorCode.PROVIDER_UNAVAILABLE, NOT_MADE, None, False, False, RETRY),
        (SLOW, REFUSED, None, True, True, NEXT),
        (SLOW, REFUSED, None, False, True, RETRY),
        (SLOW, REFUSED, None, False, False, GIVE_UP),
        (SLOW, REFUSED, "retry", False, False, RETRY),
        (KEY, REFUSED, None, True, True, NEXT),
        (KEY, REFUSED, None, False, False, RETRY),
        (BROKEN, FAILED, None, True, True, NEXT),
        (BROKEN, FAILED, None, False, True, RETRY),
        (BROKEN, FAILED, None, False, False, GIVE_UP),
        (BROKEN, FAILED, "retry", True, True, GIVE_UP),
        (BROKEN, FAILED, "give_up", True, True, GIVE_UP),
        (LIMITED, FAILED, None, False, False, GIVE_UP),
        (LIMITED, FAILED, None, True, True, NEXT),
        (ErrorCode.PROVIDER_CONTRACT, FAILED, None, True, True, GIVE_UP),
        (ErrorCode.PROVIDER_CONTRACT, FAILED, "next", True, True, NEXT),
        (ErrorCode.INVALID_MEDIA, REFUSED, None, True, True, GIVE_UP),
        (ErrorCode.CONTENT_REJECTED, FAILED, "next", True, True, GIVE_UP),
    ],
)
def test_choices(
    *, code: ErrorCode, outcome: Outcome, rule: Rule | None, ready: bool, left: bool, choice: Choice
) -> None:
    decided = decide(error(code), outcome, failover=True, next_candidate=ready, others_left=left, rule=rule)
    assert decided is choice


@pytest.mark.parametrize(
    ("billed", "limit", "choice"),
    [(0, None, NEXT), (1, None, GIVE_UP), (1, 10, NEXT), (0, 10, NEXT)],
)
def test_a_second_run_is_paid_for_only_where_the_job_said_how_much_it_may_cost(
    billed: int, limit: int | None, choice: Choice
) -> None:
    decided = decide(
        error(BROKEN),
        FAILED,
        failover=True,
        next_candidate=True,
        billed_micro_usd=billed,
        max_cost_micro_usd=limit,
    )
    assert decided is choice


@STEADY
@given(
    st.sampled_from(ErrorCode),
    st.sampled_from(Outcome),
    st.sampled_from(RULES),
    st.fixed_dictionaries(
        {
            "failover": st.booleans(),
            "next_candidate": st.booleans(),
            "others_left": st.booleans(),
            "billed_micro_usd": st.integers(0, 9),
            "max_cost_micro_usd": st.none() | st.integers(1, 9),
        }
    ),
)
def test_whatever_is_set_money_is_safe(
    code: ErrorCode, outcome: Outcome, rule: Rule | None, facts: dict[str, Any]
) -> None:
    choice = decide(error(code), outcome, **facts, rule=rule)
    if code in FINAL:
        assert choice is GIVE_UP
    if outcome is FAILED and not facts["failover"]:
        assert choice is GIVE_UP
    if choice is NEXT:
        assert facts["failover"]
        assert facts["next_candidate"]
        assert outcome is not FAILED or not facts["billed_micro_usd"] or facts["max_cost_micro_usd"]


def test_what_is_final_allows_nothing_in_the_table_either() -> None:
    for code in FINAL:
        assert not DECISIONS[code].retry
        assert not DECISIONS[code].failover
        assert FINAL[code]


def failed(**changes: Any) -> Attempt:
    return an_attempt(AttemptState.FAILED, **{"estimated_micro_usd": 70, **changes})


def doubted() -> Attempt:
    return an_attempt(AttemptState.UNKNOWN, written_off=True, estimated_micro_usd=70)


@pytest.mark.parametrize(
    ("attempt", "spec", "billed"),
    [
        (an_attempt(AttemptState.REFUSED, estimated_micro_usd=70), a_spec(), 0),
        (failed(), a_spec(), 70),
        (failed(), a_spec(billing=FREE), 0),
        (failed(error=error(BROKEN)), a_spec(billing=FREE), 0),
        (failed(error=error(ErrorCode.PROVIDER_CONTRACT)), a_spec(billing=FREE), 70),
        (failed(error=error(ErrorCode.PROVIDER_LOST)), a_spec(billing=FREE), 70),
        (failed(error=error(ErrorCode.PROVIDER_CONTRACT), micro_usd=0), a_spec(billing=FREE), 0),
        (failed(), None, 70),
        (failed(micro_usd=0), a_spec(), 0),
        (failed(micro_usd=50), a_spec(billing=FREE), 50),
        (failed(credits=0.0), a_spec(), 0),
        (failed(estimated_micro_usd=None), a_spec(), 99),
        (
            an_attempt(AttemptState.UNKNOWN, written_off=True, estimated_micro_usd=70),
            a_spec(billing=FREE),
            70,
        ),
    ],
)
def test_what_may_be_billed_is_counted(attempt: Attempt, spec: Spec | None, billed: int) -> None:
    assert billed_micro_usd(attempt, spec, otherwise=99) == billed


@pytest.mark.parametrize(
    ("attempt", "again"),
    [
        (an_attempt(AttemptState.REFUSED, error=error(LIMITED)), True),
        (an_attempt(AttemptState.REFUSED, error=error(SLOW)), False),
        (an_attempt(AttemptState.REFUSED), True),
        (an_attempt(AttemptState.FAILED, error=error(LIMITED)), False),
        (an_attempt(AttemptState.UNKNOWN, written_off=True), True),
        (an_attempt(AttemptState.UNKNOWN), False),
    ],
)
def test_who_may_have_a_job_once_more(attempt: Attempt, *, again: bool) -> None:
    assert allows_again(attempt, {}) is again


def test_settings_say_who_may_have_a_job_once_more() -> None:
    locked, limited = (an_attempt(AttemptState.REFUSED, error=error(code)) for code in (SLOW, LIMITED))
    assert allows_again(locked, {("acme", SLOW): "retry"})
    assert not allows_again(limited, {("acme", LIMITED): "next"})
