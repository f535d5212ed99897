"""A job that a backup brought back: nothing is submitted for it that may have been submitted since."""

from __future__ import annotations

import pytest
from job_examples import a_job, a_request, an_attempt
from msgspec.structs import replace
from transition_examples import CANCELLING, ENDED, LATER_MS, WRITTEN_OFF, told

from gateway.jobs import transitions
from gateway.jobs.job import Attempt, AttemptState, Job
from providers.contract.errors import ErrorCode
from providers.contract.status import JobStatus

BACK = a_job(restored_at_ms=LATER_MS - 1)


@pytest.mark.parametrize(
    "attempts",
    [
        (),
        (an_attempt(AttemptState.REFUSED),),
        (an_attempt(AttemptState.FAILED),),
        (WRITTEN_OFF,),
        (an_attempt(AttemptState.ACCEPTED), an_attempt(AttemptState.FAILED, 2)),
    ],
    ids=["never submitted", "refused", "failed", "to be submitted again", "the latest attempt counts"],
)
@pytest.mark.parametrize("job", [a_job(), BACK, CANCELLING], ids=["anew", "marked before", "to be cancelled"])
def test_what_has_no_run_may_have_been_submitted_since_and_ends(
    job: Job, attempts: tuple[Attempt, ...]
) -> None:
    step = transitions.restored(job, attempts, now_ms=LATER_MS)
    assert told(step) == ["backup.restored", "job.failed"]
    state = step.job.state
    assert (state.status, state.provider_may_bill) == (JobStatus.FAILED, True)
    assert state.error is not None
    assert (state.error.code, state.error.decision.retryable) == (ErrorCode.SUBMISSION_UNKNOWN, False)
    assert not step.follow_ups


@pytest.mark.parametrize("state", [AttemptState.SUBMITTING, AttemptState.ACCEPTED, AttemptState.UNKNOWN])
def test_what_has_a_run_or_may_have_one_goes_on_and_is_marked_once(state: AttemptState) -> None:
    attempt = an_attempt(state)
    step = transitions.restored(a_job(), (attempt,), now_ms=LATER_MS)
    assert (told(step), step.job) == (["backup.restored"], a_job(restored_at_ms=LATER_MS))
    again = transitions.restored(step.job, (attempt,), now_ms=LATER_MS + 1)
    assert (told(again), again.job) == ([], step.job)


@pytest.mark.parametrize("job", [*ENDED, replace(a_job(), simulated=True)])
def test_what_has_ended_or_costs_nothing_is_left_as_it_was(job: Job) -> None:
    assert transitions.restored(job, (), now_ms=LATER_MS) == transitions.Step(job=job)


def test_what_came_back_is_never_submitted_again_by_the_jobs_own_wish() -> None:
    job = replace(BACK, request=a_request(on_unknown_submission="resubmit"))
    assert not transitions.resubmits(job, (an_attempt(AttemptState.UNKNOWN),))
    step = transitions.unknown(
        job, an_attempt(), reason="silence", now_ms=LATER_MS, hold_until_ms=LATER_MS + 1000
    )
    assert told(step) == ["attempt.unknown", "job.held"]


def test_an_operators_word_holds_for_what_came_back() -> None:
    step = transitions.written_off(BACK, an_attempt(AttemptState.UNKNOWN), by="operator", now_ms=LATER_MS)
    assert step.job.state.restored_at_ms is None
    assert [task.kind for task in step.follow_ups] == [transitions.TaskKind.SUBMIT]
