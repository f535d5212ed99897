"""Every change a job can undergo, one rule a test."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from job_examples import DEADLINE_S, NOW_MS, OUTPUT_URL, a_job, a_request, a_spec, a_webhook, an_attempt
from msgspec.structs import replace

from gateway.jobs import transitions
from gateway.jobs.job import Attempt, AttemptState, Held, Job, UnknownPolicy
from gateway.jobs.transitions import FollowUp, Step, TaskKind
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.normalize import Update
from providers.contract.report import Cost
from providers.contract.status import TERMINAL, JobStatus

LATER_MS = NOW_MS + 60_000
OVERDUE_MS = NOW_MS + DEADLINE_S * 1000
SPEC = a_spec()
ERROR = UpstreamError(code=ErrorCode.RATE_LIMITED, message="slow down")
HELD = Held(reason="submission_unknown", since_ms=NOW_MS + 1000, until_ms=NOW_MS + 90_000)
ENDED = [a_job(status=status, finished_at_ms=NOW_MS) for status in sorted(TERMINAL)]
RUNNING = a_job(status=JobStatus.RUNNING, started_at_ms=NOW_MS, provider="acme")
CANCELLING = a_job(cancel_requested_at_ms=NOW_MS)


def told(step: Step) -> list[str]:
    return [event.type for event in step.events]


def attempt_of(step: Step) -> Attempt:
    assert step.attempt is not None
    return step.attempt


def accepted(job: Job, attempt: Attempt) -> Step:
    return transitions.accepted(job, attempt, ref="r-9", now_ms=LATER_MS, poll_at_ms=LATER_MS + 5)


def refused(job: Job, attempt: Attempt, again_at_ms: int | None = None) -> Step:
    return transitions.refused(
        job, attempt, error=ERROR, now_ms=LATER_MS, again_at_ms=again_at_ms, others=(attempt,)
    )


def unknown(job: Job, attempt: Attempt) -> Step:
    return transitions.unknown(job, attempt, reason="silence", now_ms=LATER_MS, hold_until_ms=LATER_MS + 1000)


def observed(job: Job, attempt: Attempt, status: JobStatus | None, **changes: object) -> Step:
    word = "WEIRD" if status is None else status.value.upper()
    update = replace(Update(provider_status=word, status=status), **changes)
    return transitions.observed(job, attempt, update=update, spec=SPEC, now_ms=LATER_MS)


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


def test_a_first_running_starts_the_job() -> None:
    step = observed(a_job(), an_attempt(AttemptState.ACCEPTED), JobStatus.RUNNING, progress=0.25)
    assert told(step) == ["job.running"]
    assert (step.job.state.status, step.job.state.started_at_ms) == (JobStatus.RUNNING, LATER_MS)
    assert (step.job.progress, attempt_of(step).provider_status) == (0.25, "RUNNING")


@pytest.mark.parametrize("status", [None, JobStatus.QUEUED])
def test_neither_an_unknown_word_nor_a_step_back_moves_a_running_job(status: JobStatus | None) -> None:
    step = observed(RUNNING, an_attempt(AttemptState.ACCEPTED), status)
    assert step.job == RUNNING
    assert told(step) == ["attempt.observed"]


def test_the_same_word_again_is_no_event() -> None:
    attempt = an_attempt(AttemptState.ACCEPTED, provider_status="RUNNING")
    step = observed(RUNNING, attempt, JobStatus.RUNNING, progress=0.5)
    assert told(step) == []
    assert step.job == replace(RUNNING, progress=0.5)


def test_progress_never_falls_and_is_an_event_only_for_those_who_asked() -> None:
    attempt = an_attempt(AttemptState.ACCEPTED, provider_status="RUNNING")
    asked = replace(RUNNING, request=a_request(webhook=a_webhook("job.progress")), progress=0.5)
    for progress, events in ((0.4, []), (0.5, []), (0.6, ["job.progress"])):
        step = observed(asked, attempt, JobStatus.RUNNING, progress=progress)
        assert told(step) == events
        assert step.job.progress == max(0.5, progress)


def test_success_ends_the_job_with_outputs_that_expire() -> None:
    step = observed(
        RUNNING,
        an_attempt(AttemptState.ACCEPTED),
        JobStatus.SUCCEEDED,
        outputs=(OUTPUT_URL,),
        cost=Cost(credits=5.0, micro_usd=50_000),
    )
    state, attempt = step.job.state, attempt_of(step)
    assert told(step) == ["job.succeeded"]
    assert (state.status, state.finished_at_ms, step.job.progress) == (JobStatus.SUCCEEDED, LATER_MS, 1.0)
    assert [(one.url, one.expires_at_ms) for one in state.outputs] == [(OUTPUT_URL, LATER_MS + 3_600_000)]
    assert (attempt.state, attempt.credits, attempt.micro_usd) == (AttemptState.SUCCEEDED, 5.0, 50_000)


def test_success_wins_over_a_cancel_that_only_was_asked_for() -> None:
    attempt = an_attempt(AttemptState.ACCEPTED)
    assert observed(CANCELLING, attempt, JobStatus.SUCCEEDED).job.state.status is JobStatus.SUCCEEDED


def test_failure_ends_the_job_with_the_providers_reason() -> None:
    step = observed(RUNNING, an_attempt(AttemptState.ACCEPTED), JobStatus.FAILED, error=ERROR)
    assert told(step) == ["job.failed"]
    assert step.job.state.error == attempt_of(step).error == ERROR
    assert attempt_of(step).state is AttemptState.FAILED


def test_a_cancel_by_the_provider_cancels() -> None:
    step = observed(RUNNING, an_attempt(AttemptState.ACCEPTED), JobStatus.CANCELLED)
    assert told(step) == ["job.cancelled"]
    assert attempt_of(step).state is AttemptState.CANCELLED
    assert not step.job.state.provider_may_bill


def test_a_cost_once_told_is_kept_when_a_later_poll_is_silent() -> None:
    attempt = an_attempt(AttemptState.ACCEPTED, credits=5.0, micro_usd=50_000)
    step = observed(RUNNING, attempt, JobStatus.RUNNING)
    assert (attempt_of(step).credits, attempt_of(step).micro_usd) == (5.0, 50_000)


def test_lost_fails_the_job() -> None:
    step = transitions.lost(RUNNING, an_attempt(AttemptState.ACCEPTED), now_ms=LATER_MS)
    assert told(step) == ["job.failed"]
    assert step.job.state.error is not None
    assert step.job.state.error.code is ErrorCode.PROVIDER_LOST


@pytest.mark.parametrize("may_bill", [True, False])
def test_cancelled_upstream_says_whether_it_may_be_billed(may_bill: bool) -> None:  # noqa: FBT001 - a column
    attempt = an_attempt(AttemptState.ACCEPTED)
    step = transitions.cancelled_upstream(RUNNING, attempt, now_ms=LATER_MS, may_bill=may_bill)
    assert told(step) == ["job.cancelled"]
    assert step.job.state.provider_may_bill is may_bill


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


@pytest.mark.parametrize("job", ENDED)
@pytest.mark.parametrize(
    ("change", "state", "event"),
    [
        (refused, AttemptState.REFUSED, "attempt.refused"),
        (unknown, AttemptState.UNKNOWN, "attempt.unknown"),
        (lambda job, one: observed(job, one, JobStatus.SUCCEEDED), AttemptState.SUCCEEDED, "attempt.late"),
        (lambda job, one: observed(job, one, JobStatus.FAILED), AttemptState.FAILED, "attempt.late"),
        (
            lambda job, one: observed(job, one, JobStatus.CANCELLED),
            AttemptState.CANCELLED,
            "attempt.cancelled",
        ),
        (lambda job, one: transitions.lost(job, one, now_ms=LATER_MS), AttemptState.FAILED, "attempt.late"),
        (lambda job, one: observed(job, one, JobStatus.RUNNING), AttemptState.ACCEPTED, "attempt.observed"),
    ],
)
def test_what_is_learnt_after_the_end_changes_the_attempt_alone(
    job: Job, change: Callable[[Job, Attempt], Step], state: AttemptState, event: str
) -> None:
    step = change(job, an_attempt(AttemptState.ACCEPTED))
    assert step.job == job
    assert (attempt_of(step).state, told(step), step.follow_ups) == (state, [event], ())


def test_an_ended_job_still_learns_that_it_may_be_billed() -> None:
    attempt = an_attempt(AttemptState.ACCEPTED)
    step = transitions.cancelled_upstream(ENDED[0], attempt, now_ms=LATER_MS, may_bill=True)
    assert step.job.state == replace(ENDED[0].state, provider_may_bill=True)
    assert told(step) == ["attempt.cancelled"]


def test_a_second_cancel_changes_nothing() -> None:
    assert nothing(transitions.cancel_requested(CANCELLING, (), now_ms=LATER_MS), CANCELLING)


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


WRITTEN_OFF = an_attempt(AttemptState.UNKNOWN, written_off=True)


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


def test_a_job_whose_written_off_run_may_be_billed_says_so_at_every_end() -> None:
    job = replace(RUNNING, state=replace(RUNNING.state, provider_may_bill=True))
    second = an_attempt(AttemptState.ACCEPTED, number=2)
    for status in sorted(TERMINAL):
        assert observed(job, second, status).job.state.provider_may_bill


@pytest.mark.parametrize("end", ["deadline", "cancel"])
def test_a_job_between_two_submissions_can_end(end: str) -> None:
    job = a_job(provider_may_bill=True)
    if end == "cancel":
        step = transitions.cancel_requested(job, (WRITTEN_OFF,), now_ms=LATER_MS)
    else:
        step = transitions.deadline_passed(job, (WRITTEN_OFF,), now_ms=OVERDUE_MS)
    assert step.job.state.status.terminal
    assert step.job.state.provider_may_bill


def test_a_run_that_failed_moves_its_job_on_without_an_end() -> None:
    over = an_attempt(AttemptState.FAILED, error=ERROR, finished_at_ms=LATER_MS)
    half_way = replace(RUNNING, progress=0.5)
    step = transitions.moved_on(half_way, over, error=ERROR, again_at_ms=LATER_MS, then="next")
    assert step.job == replace(half_way, progress=None), "its rank stays, its progress was the run's"
    assert (told(step), step.attempt) == (["attempt.failed"], over)
    assert step.events[0].note["then"] == "next"
    assert step.follow_ups == (FollowUp(TaskKind.SUBMIT, LATER_MS),)
