"""From the intent to the answer, and out of every doubt; one rule a test."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from job_examples import a_job, a_request, an_attempt
from msgspec.structs import replace
from transition_examples import (
    CANCELLING,
    ENDED,
    ERROR,
    HELD,
    LATER_MS,
    OVERDUE_MS,
    RUNNING,
    WRITTEN_OFF,
    accepted,
    attempt_of,
    refused,
    told,
    unknown,
)

from gateway.jobs import transitions
from gateway.jobs.job import Attempt, AttemptState, Held, Job, UnknownPolicy
from gateway.jobs.transitions import FollowUp, Step, TaskKind
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.status import JobStatus


def test_begin_notes_the_intent_and_the_provider() -> None:
    attempt = an_attempt()
    step = transitions.begin(a_job(), attempt)
    assert (told(step), step.attempt, step.follow_ups) == (["attempt.submitting"], attempt, ())
    assert step.job == a_job(provider="acme")
    assert step.events[0].note == {"provider": "acme", "account": "default"}


def test_accepted_keeps_the_ref_and_polls() -> None:
    step = accepted(a_job(), an_attempt())
    assert told(step) == ["attempt.accepted"]
    attempt = attempt_of(step)
    assert (attempt.state, attempt.ref, attempt.accepted_at_ms) == (AttemptState.ACCEPTED, "r-9", LATER_MS)
    assert step.job == a_job()
    assert step.follow_ups == (FollowUp(TaskKind.POLL, LATER_MS + 5),)


@pytest.mark.parametrize("job", [CANCELLING, *ENDED])
def test_what_is_accepted_too_late_is_cancelled_not_polled(job: Job) -> None:
    step = accepted(job, an_attempt())
    assert step.follow_ups == (FollowUp(TaskKind.CANCEL, LATER_MS),)
    assert step.job == job


def test_a_late_acceptance_releases_the_job_and_moves_its_deadline_by_the_time_held() -> None:
    doubt = UpstreamError(code=ErrorCode.SUBMISSION_UNKNOWN, message="silence")
    step = accepted(a_job(held=HELD), an_attempt(AttemptState.UNKNOWN, error=doubt))
    assert step.job.state.held is None
    assert step.job.state.deadline_at_ms == OVERDUE_MS + (LATER_MS - HELD.since_ms)
    assert attempt_of(step).error is None
    assert step.follow_ups == (FollowUp(TaskKind.POLL, LATER_MS + 5),)


def test_refused_for_now_submits_again_later() -> None:
    step = refused(a_job(), an_attempt(), again_at_ms=LATER_MS + 7)
    assert told(step) == ["attempt.refused"]
    assert step.follow_ups == (FollowUp(TaskKind.SUBMIT, LATER_MS + 7),)
    assert (attempt_of(step).state, attempt_of(step).error) == (AttemptState.REFUSED, ERROR)
    assert step.job == a_job()


def test_refused_for_good_fails_the_job() -> None:
    step = refused(a_job(), an_attempt())
    assert told(step) == ["attempt.refused", "job.failed"]
    assert (step.job.state.status, step.job.state.error) == (JobStatus.FAILED, ERROR)
    assert step.job.state.finished_at_ms == attempt_of(step).finished_at_ms == LATER_MS
    assert not step.job.state.provider_may_bill


@pytest.mark.parametrize("again_at_ms", [None, LATER_MS])
def test_refused_while_a_cancel_waits_cancels(again_at_ms: int | None) -> None:
    step = refused(CANCELLING, an_attempt(), again_at_ms=again_at_ms)
    assert told(step) == ["attempt.refused", "job.cancelled"]
    assert (step.follow_ups, step.job.state.provider_may_bill) == ((), False)


def test_unknown_holds_and_nothing_follows() -> None:
    step = unknown(a_job(), an_attempt())
    assert told(step) == ["attempt.unknown", "job.held"]
    assert step.follow_ups == ()
    held = step.job.state.held
    assert held == Held(reason="submission_unknown", since_ms=LATER_MS, until_ms=LATER_MS + 1000)
    assert step.job.state.status is JobStatus.QUEUED
    error = attempt_of(step).error
    assert error is not None
    assert (error.code, error.message) == (ErrorCode.SUBMISSION_UNKNOWN, "silence")
    assert attempt_of(step).finished_at_ms is None


def test_unknown_while_a_cancel_waits_cancels_and_may_bill() -> None:
    """Otherwise it would be held for a day, deaf to the cancel that was already answered."""
    step = unknown(CANCELLING, an_attempt())
    assert told(step) == ["attempt.unknown", "job.cancelled"]
    assert (step.job.state.held, step.job.state.provider_may_bill) == (None, True)


def doubt(policy: UnknownPolicy, *, look_at_ms: int | None = None, resubmitted: bool = False) -> Step:
    return transitions.unknown(
        a_job(request=a_request(on_unknown_submission=policy)),
        an_attempt(),
        reason="silence",
        now_ms=LATER_MS,
        hold_until_ms=LATER_MS + 1000,
        look_at_ms=look_at_ms,
        resubmitted=resubmitted,
    )


def test_a_job_in_doubt_is_looked_for_where_that_is_possible() -> None:
    step = doubt("hold", look_at_ms=LATER_MS + 5)
    assert told(step) == ["attempt.unknown", "job.held"]
    assert step.follow_ups == (FollowUp(TaskKind.RECONCILE, LATER_MS + 5),)
    assert attempt_of(step).doubted_at_ms == LATER_MS


@pytest.mark.parametrize("look_at_ms", [None, LATER_MS])
def test_a_job_that_asked_to_fail_in_doubt_fails_at_once(look_at_ms: int | None) -> None:
    step = doubt("fail", look_at_ms=look_at_ms)
    assert told(step) == ["attempt.unknown", "job.failed"]
    assert (step.job.state.status, step.job.state.held) == (JobStatus.FAILED, None)
    assert step.job.state.error == attempt_of(step).error
    assert step.job.state.provider_may_bill
    assert (attempt_of(step).state, attempt_of(step).written_off) == (AttemptState.UNKNOWN, False)
    assert step.follow_ups == ()


def test_a_job_that_accepted_the_risk_is_submitted_again_at_once_where_nobody_can_look() -> None:
    step = doubt("resubmit")
    assert told(step) == ["attempt.unknown", "attempt.written_off"]
    assert (attempt_of(step).state, attempt_of(step).written_off) == (AttemptState.UNKNOWN, True)
    assert step.follow_ups == (FollowUp(TaskKind.SUBMIT, LATER_MS),)
    assert (step.job.state.held, step.job.state.provider_may_bill) == (None, True)


@pytest.mark.parametrize(("look_at_ms", "resubmitted"), [(LATER_MS, False), (None, True), (LATER_MS, True)])
def test_it_is_held_for_a_look_first_and_in_doubt_again_for_good(
    look_at_ms: int | None, *, resubmitted: bool
) -> None:
    step = doubt("resubmit", look_at_ms=look_at_ms, resubmitted=resubmitted)
    assert told(step) == ["attempt.unknown", "job.held"]
    assert not attempt_of(step).written_off
    assert {task.kind for task in step.follow_ups} == ({TaskKind.RECONCILE} if look_at_ms else set())


def test_a_job_is_submitted_again_by_itself_once() -> None:
    job = a_job(request=a_request(on_unknown_submission="resubmit"))
    first = an_attempt(AttemptState.UNKNOWN)
    assert transitions.resubmits(job, (first,))
    second = an_attempt(AttemptState.UNKNOWN, number=2)
    assert not transitions.resubmits(job, (replace(first, written_off=True), second))
    assert not transitions.resubmits(a_job(), (first,))


def test_a_run_that_is_found_goes_on_from_there() -> None:
    error = UpstreamError(code=ErrorCode.SUBMISSION_UNKNOWN, message="silence")
    step = transitions.adopted(
        a_job(held=HELD),
        an_attempt(AttemptState.UNKNOWN, error=error),
        ref="r-9",
        by="inputs",
        now_ms=LATER_MS,
    )
    assert told(step) == ["attempt.adopted"]
    assert step.events[0].note == {"provider_ref": "r-9", "by": "inputs"}
    attempt = attempt_of(step)
    assert (attempt.state, attempt.ref, attempt.error) == (AttemptState.ACCEPTED, "r-9", None)
    assert step.follow_ups == (FollowUp(TaskKind.POLL, LATER_MS),)
    assert step.job.state.held is None
    assert step.job.state.deadline_at_ms == OVERDUE_MS + (LATER_MS - HELD.since_ms)


def test_an_operators_word_stands_before_what_follows() -> None:
    step = transitions.written_off(
        a_job(held=HELD), an_attempt(AttemptState.UNKNOWN), by="operator", now_ms=LATER_MS
    )
    said = transitions.resolved(step, action="resubmit", by="key_1")
    assert told(said) == ["hold.resolved", "attempt.written_off"]
    assert said.events[0].note == {"action": "resubmit", "by": "key_1"}
    assert (said.job, said.attempt, said.follow_ups) == (step.job, step.attempt, step.follow_ups)
    assert said.job.state.deadline_at_ms == OVERDUE_MS + (LATER_MS - HELD.since_ms)


@pytest.mark.parametrize("job", [a_job(), RUNNING, CANCELLING, *ENDED])
def test_a_late_answer_to_what_was_written_off_touches_nothing_else(job: Job) -> None:
    step = accepted(job, WRITTEN_OFF)
    assert (told(step), step.follow_ups) == (["attempt.late"], ())
    assert step.job == replace(job, state=replace(job.state, provider_may_bill=True))
    assert attempt_of(step) == replace(WRITTEN_OFF, ref="r-9")
    assert accepted(job, attempt_of(step)).events == ()
    refusal = refused(job, WRITTEN_OFF, again_at_ms=LATER_MS)
    assert (told(refusal), refusal.follow_ups, refusal.job) == (["attempt.late"], (), job)
    assert attempt_of(refusal).state is AttemptState.REFUSED


SECOND = partial(an_attempt, number=2)


@pytest.mark.parametrize(
    ("job", "others", "may_bill"),
    [
        (a_job(), (), False),
        (a_job(), (SECOND(AttemptState.SUBMITTING),), False),
        (a_job(), (SECOND(AttemptState.REFUSED),), False),
        (a_job(), (SECOND(AttemptState.UNKNOWN),), True),
        (a_job(), (SECOND(AttemptState.UNKNOWN, written_off=True),), True),
        (RUNNING, (SECOND(AttemptState.ACCEPTED),), False),
        (a_job(status=JobStatus.SUCCEEDED), (SECOND(AttemptState.SUCCEEDED),), False),
        (a_job(status=JobStatus.CANCELLED), (SECOND(AttemptState.REFUSED),), False),
        (a_job(status=JobStatus.CANCELLED), (SECOND(AttemptState.ACCEPTED),), True),
        (a_job(status=JobStatus.CANCELLED), (SECOND(AttemptState.CANCELLED),), True),
        (a_job(status=JobStatus.FAILED), (SECOND(AttemptState.UNKNOWN),), True),
    ],
)
@pytest.mark.parametrize("late", ["refused", "withheld"])
def test_proof_that_what_was_written_off_was_never_made_takes_the_bill_back(
    job: Job,
    others: tuple[Attempt, ...],
    may_bill: bool,  # noqa: FBT001 - a column
    late: str,
) -> None:
    billed = replace(job, state=replace(job.state, provider_may_bill=True))
    now: Any = {"now_ms": LATER_MS, "again_at_ms": LATER_MS, "others": (WRITTEN_OFF, *others)}
    if late == "refused":
        step = transitions.refused(billed, WRITTEN_OFF, error=ERROR, **now)
    else:
        step = transitions.withheld(billed, WRITTEN_OFF, reason="the lease was lost", **now)
    assert step.job == replace(job, state=replace(job.state, provider_may_bill=may_bill))
    assert (attempt_of(step).state, step.follow_ups) == (AttemptState.REFUSED, ())
