"""What is learnt of a run that was accepted, also after its job's end; one rule a test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from job_examples import OUTPUT_URL, a_job, a_request, a_webhook, an_attempt
from msgspec.structs import replace
from transition_examples import (
    CANCELLING,
    ENDED,
    ERROR,
    LATER_MS,
    RUNNING,
    attempt_of,
    observed,
    refused,
    told,
    unknown,
)

from gateway.jobs import transitions
from gateway.jobs.job import Attempt, AttemptState, Job
from gateway.jobs.transitions import FollowUp, Step, TaskKind
from providers.contract.errors import ErrorCode
from providers.contract.report import Cost
from providers.contract.status import TERMINAL, JobStatus


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


def test_a_job_whose_written_off_run_may_be_billed_says_so_at_every_end() -> None:
    job = replace(RUNNING, state=replace(RUNNING.state, provider_may_bill=True))
    second = an_attempt(AttemptState.ACCEPTED, number=2)
    for status in sorted(TERMINAL):
        assert observed(job, second, status).job.state.provider_may_bill


def test_a_run_that_failed_moves_its_job_on_without_an_end() -> None:
    over = an_attempt(AttemptState.FAILED, error=ERROR, finished_at_ms=LATER_MS)
    half_way = replace(RUNNING, progress=0.5)
    step = transitions.moved_on(half_way, over, error=ERROR, again_at_ms=LATER_MS, then="next")
    assert step.job == replace(half_way, progress=None), "its rank stays, its progress was the run's"
    assert (told(step), step.attempt) == (["attempt.failed"], over)
    assert step.events[0].note["then"] == "next"
    assert step.follow_ups == (FollowUp(TaskKind.SUBMIT, LATER_MS),)
