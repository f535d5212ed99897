"""What a job has cost, or may yet."""

from __future__ import annotations

from typing import Any

import pytest
from job_examples import NOW_MS, a_job, an_attempt
from msgspec.structs import replace

from gateway.jobs.job import Attempt, AttemptState, Job
from gateway.jobs.spend import UNCHOSEN, Money, booked, day_of, difference, month_of, total
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.status import JobStatus

DOLLAR = 1_000_000
S = AttemptState


def job(status: JobStatus = JobStatus.QUEUED, **changes: Any) -> Job:
    finished_at_ms = NOW_MS if status.terminal else None
    state = a_job(status=status, finished_at_ms=finished_at_ms)
    return replace(state, estimated_micro_usd=DOLLAR, **changes)


def failed(code: ErrorCode, **changes: Any) -> Attempt:
    return an_attempt(S.FAILED, error=UpstreamError(code=code, message="m"), **changes)


RESERVED, CHARGED, NOTHING = Money(1, DOLLAR, 0), Money(1, 0, DOLLAR), Money(1, 0, 0)
QUEUED, SUCCEEDED, FAILED, CANCELLED = (
    JobStatus.QUEUED,
    JobStatus.SUCCEEDED,
    JobStatus.FAILED,
    JobStatus.CANCELLED,
)


@pytest.mark.parametrize(
    ("status", "attempts", "wanted"),
    [
        (QUEUED, (), {UNCHOSEN: RESERVED}),
        (QUEUED, (an_attempt(S.SUBMITTING),), {"acme": RESERVED}),
        (QUEUED, (an_attempt(S.REFUSED),), {UNCHOSEN: RESERVED}),
        (QUEUED, (an_attempt(S.ACCEPTED),), {"acme": RESERVED}),
        (QUEUED, (an_attempt(S.UNKNOWN),), {"acme": RESERVED}),
        # Written off: it may be paid, and so may the next.
        (QUEUED, (an_attempt(S.UNKNOWN, written_off=True),), {"acme": RESERVED, UNCHOSEN: RESERVED}),
        (SUCCEEDED, (an_attempt(S.SUCCEEDED),), {"acme": CHARGED}),
        (SUCCEEDED, (an_attempt(S.SUCCEEDED, micro_usd=700_000),), {"acme": Money(1, 0, 700_000)}),
        (FAILED, (), {}),
        (FAILED, (an_attempt(S.REFUSED),), {}),
        (FAILED, (failed(ErrorCode.CONTENT_REJECTED),), {"acme": NOTHING}),
        (FAILED, (failed(ErrorCode.PROVIDER_ERROR, micro_usd=0),), {"acme": NOTHING}),
        (FAILED, (failed(ErrorCode.PROVIDER_ERROR, micro_usd=DOLLAR),), {"acme": CHARGED}),
        (FAILED, (failed(ErrorCode.PROVIDER_LOST),), {"acme": RESERVED}),
        (FAILED, (failed(ErrorCode.PROVIDER_CONTRACT),), {"acme": RESERVED}),
        (FAILED, (an_attempt(S.ACCEPTED),), {"acme": RESERVED}),  # the deadline passed, and it runs on
        (FAILED, (an_attempt(S.UNKNOWN),), {"acme": RESERVED}),  # the hold ended
        (CANCELLED, (an_attempt(S.CANCELLED),), {"acme": NOTHING}),
        (CANCELLED, (an_attempt(S.CANCELLED, may_bill=True),), {"acme": RESERVED}),
        (CANCELLED, (an_attempt(S.CANCELLED, may_bill=True, micro_usd=DOLLAR),), {"acme": CHARGED}),
        # A price that is told while it runs is no less than will be charged.
        (QUEUED, (an_attempt(S.ACCEPTED, micro_usd=2 * DOLLAR),), {"acme": Money(1, 2 * DOLLAR, 0)}),
        # Its own estimate, where it went elsewhere.
        (QUEUED, (an_attempt(S.ACCEPTED, estimated_micro_usd=3),), {"acme": Money(1, 3, 0)}),
        (
            SUCCEEDED,
            (
                failed(ErrorCode.PROVIDER_ERROR, micro_usd=5),
                an_attempt(S.SUCCEEDED, number=2, provider="bravo"),
            ),
            {"acme": Money(1, 0, 5), "bravo": CHARGED},
        ),
    ],
)
def test_each_state_comes_to_what_it_may_cost(
    status: JobStatus, attempts: tuple[Attempt, ...], wanted: dict[str, Money]
) -> None:
    assert booked(job(status), attempts) == wanted


def test_a_simulated_job_comes_to_nothing() -> None:
    assert booked(job(simulated=True), (an_attempt(S.ACCEPTED),)) == {}


def test_two_attempts_at_one_provider_are_one_job_there() -> None:
    attempts = (an_attempt(S.UNKNOWN, written_off=True), an_attempt(S.ACCEPTED, number=2))
    booking = booked(job(), attempts)
    assert booking == {"acme": Money(1, 2 * DOLLAR, 0)}
    assert total(booking) == 2 * DOLLAR


def test_the_difference_leads_from_one_to_the_other() -> None:
    before, after = {UNCHOSEN: RESERVED, "same": NOTHING}, {"acme": CHARGED, "same": NOTHING}
    assert difference(before, after) == {UNCHOSEN: Money(-1, -DOLLAR, 0), "acme": CHARGED}
    assert difference(after, after) == {}


def test_days_are_utc_and_months_are_calendar_months() -> None:
    assert day_of(NOW_MS) == "2027-01-15"
    midnight_ms = 1_800_057_600_000
    assert (day_of(midnight_ms - 1), day_of(midnight_ms)) == ("2027-01-15", "2027-01-16")
    assert month_of("2027-02-03") == ("2027-02-01", "2027-02-31")
