"""What no provider brings about: cancels, deadlines, holds that expire; one rule a test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from job_examples import DEADLINE_S, a_job, an_attempt
from transition_examples import CANCELLING, ENDED, ERROR, HELD, LATER_MS, OVERDUE_MS, WRITTEN_OFF, told

from gateway.jobs import transitions
from gateway.jobs.job import Attempt, AttemptState, Job
from gateway.jobs.transitions import FollowUp, Step, TaskKind
from providers.contract.errors import ErrorCode
from providers.contract.status import JobStatus


@pytest.mark.parametrize(
    ("attempts", "status", "events", "follow_ups", "may_bill"),
    [
        ((), JobStatus.CANCELLED, ["cancel.requested", "job.cancelled"], (), False),
        (
            (an_attempt(AttemptState.REFUSED),),
            JobStatus.CANCELLED,
            ["cancel.requested", "job.cancelled"],
            (),
            False,
        ),
        ((an_attempt(),), JobStatus.QUEUED, ["cancel.requested"], (), False),
        (
            (an_attempt(AttemptState.ACCEPTED),),
            JobStatus.QUEUED,
            ["cancel.requested"],
            (FollowUp(TaskKind.CANCEL, LATER_MS),),
            False,
        ),
        (
            (an_attempt(AttemptState.UNKNOWN),),
            JobStatus.CANCELLED,
            ["cancel.requested", "job.cancelled"],
            (),
            True,
        ),
        (
            (an_attempt(AttemptState.ACCEPTED, 2), an_attempt(AttemptState.REFUSED)),
            JobStatus.QUEUED,
            ["cancel.requested"],
            (FollowUp(TaskKind.CANCEL, LATER_MS),),
            False,
        ),
    ],
    ids=["never submitted", "refused", "submitting", "accepted", "in doubt", "the latest attempt counts"],
)
def test_a_cancel_goes_as_far_as_the_latest_attempt_has_come(
    attempts: tuple[Attempt, ...],
    status: JobStatus,
    events: list[str],
    follow_ups: tuple[FollowUp, ...],
    may_bill: bool,  # noqa: FBT001 - a column
) -> None:
    step = transitions.cancel_requested(a_job(), attempts, now_ms=LATER_MS)
    state = step.job.state
    assert (state.status, told(step), step.follow_ups) == (status, events, follow_ups)
    assert (state.provider_may_bill, state.cancel_requested_at_ms) == (may_bill, LATER_MS)


@pytest.mark.parametrize(
    ("attempts", "follow_ups"),
    [
        ((), ()),
        ((an_attempt(AttemptState.REFUSED),), ()),
        ((an_attempt(AttemptState.ACCEPTED),), (FollowUp(TaskKind.CANCEL, OVERDUE_MS),)),
    ],
)
def test_the_deadline_fails_the_job_and_cancels_what_runs(
    attempts: tuple[Attempt, ...], follow_ups: tuple[FollowUp, ...]
) -> None:
    step = transitions.deadline_passed(a_job(), attempts, now_ms=OVERDUE_MS)
    assert (told(step), step.follow_ups) == (["job.failed"], follow_ups)
    assert step.job.state.error is not None
    assert step.job.state.error.code is ErrorCode.DEADLINE_EXCEEDED
    assert f"{DEADLINE_S} s" in step.job.state.error.message


@pytest.mark.parametrize("running", [True, False])
def test_the_deadline_of_a_job_that_was_to_be_cancelled_cancels_it(running: bool) -> None:  # noqa: FBT001
    attempts = (an_attempt(AttemptState.ACCEPTED),) if running else ()
    step = transitions.deadline_passed(CANCELLING, attempts, now_ms=OVERDUE_MS)
    assert told(step) == ["job.cancelled"]
    assert (step.job.state.provider_may_bill, bool(step.follow_ups)) == (running, running)


def nothing(step: Step, job: Job) -> bool:
    return step == Step(job=job)


def test_the_deadline_spares_what_it_must() -> None:
    early = transitions.deadline_passed(a_job(), (), now_ms=OVERDUE_MS - 1)
    held = transitions.deadline_passed(a_job(held=HELD), (), now_ms=OVERDUE_MS)
    in_flight = transitions.deadline_passed(a_job(), (an_attempt(),), now_ms=OVERDUE_MS)
    assert nothing(early, a_job())
    assert nothing(held, a_job(held=HELD))
    assert nothing(in_flight, a_job())


def test_a_hold_that_ends_fails_the_job_and_may_bill() -> None:
    step = transitions.hold_expired(a_job(held=HELD), now_ms=HELD.until_ms)
    state = step.job.state
    assert told(step) == ["job.failed"]
    assert (state.held, state.provider_may_bill, step.follow_ups) == (None, True, ())
    assert state.error is not None
    assert state.error.code is ErrorCode.SUBMISSION_UNKNOWN


def test_a_hold_goes_on_until_its_end() -> None:
    job = a_job(held=HELD)
    assert nothing(transitions.hold_expired(job, now_ms=HELD.until_ms - 1), job)
    assert nothing(transitions.hold_expired(a_job(), now_ms=HELD.until_ms), a_job())


def test_a_job_that_nobody_takes_is_given_up() -> None:
    step = transitions.given_up(a_job(), error=ERROR, now_ms=LATER_MS)
    assert (told(step), step.job.state.error) == (["job.failed"], ERROR)


@pytest.mark.parametrize("job", ENDED)
@pytest.mark.parametrize(
    "change",
    [
        lambda job: transitions.cancel_requested(job, (), now_ms=LATER_MS),
        lambda job: transitions.deadline_passed(job, (), now_ms=OVERDUE_MS),
        lambda job: transitions.hold_expired(job, now_ms=OVERDUE_MS),
        lambda job: transitions.given_up(job, error=ERROR, now_ms=LATER_MS),
    ],
    ids=["cancel", "deadline", "hold", "given up"],
)
def test_nothing_at_all_happens_to_an_ended_job(job: Job, change: Callable[[Job], Step]) -> None:
    assert nothing(change(job), job)


def test_a_second_cancel_changes_nothing() -> None:
    assert nothing(transitions.cancel_requested(CANCELLING, (), now_ms=LATER_MS), CANCELLING)


@pytest.mark.parametrize("end", ["deadline", "cancel"])
def test_a_job_between_two_submissions_can_end(end: str) -> None:
    job = a_job(provider_may_bill=True)
    if end == "cancel":
        step = transitions.cancel_requested(job, (WRITTEN_OFF,), now_ms=LATER_MS)
    else:
        step = transitions.deadline_passed(job, (WRITTEN_OFF,), now_ms=OVERDUE_MS)
    assert step.job.state.status.terminal
    assert step.job.state.provider_may_bill
