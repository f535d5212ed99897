"""Asking a provider to stop, as far as its cancel goes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from job_examples import DEADLINE_S, NOW_MS, SOURCE, a_spec
from store_stage import Stage
from worker_bench import RUNNING, SUCCEEDED, Answer, Bench, NobodyThere, Reply

from gateway.jobs.job import AttemptState
from gateway.jobs.transitions import TaskKind
from gateway.storage import tables
from gateway.worker.cancel import MOST_TRIES
from providers.contract.spec import CancelSpec
from providers.contract.status import JobStatus

POST, GET, DELETE = "POST /jobs", "GET /jobs/r-1", "DELETE /jobs/r-1"


def cancel(*, stops: bool = True, destroys: bool = False, gone: bool = False) -> CancelSpec:
    return CancelSpec(stops=stops, destroys_output=destroys, ref_gone=gone, source=SOURCE)


async def asked(stage: Stage, spec: CancelSpec | None) -> tuple[Bench, str]:
    """A job that runs and is to be cancelled."""
    bench = Bench(stage, spec=a_spec(cancel=spec))
    job_id = await bench.accepted()
    await stage.jobs.cancel(job_id, owner="alice")
    return bench, job_id


@pytest.mark.parametrize(
    ("spec", "answers", "calls", "ends"),
    [
        (None, [RUNNING], [GET], (JobStatus.CANCELLED, True)),
        (None, [SUCCEEDED], [GET], (JobStatus.SUCCEEDED, False)),
        (cancel(), [RUNNING, Reply(204)], [GET, DELETE], (JobStatus.CANCELLED, False)),
        (cancel(), [SUCCEEDED], [GET], (JobStatus.SUCCEEDED, False)),
        (cancel(stops=False), [RUNNING, Reply(200)], [GET, DELETE], (JobStatus.CANCELLED, True)),
        (cancel(stops=False), [SUCCEEDED], [GET], (JobStatus.SUCCEEDED, False)),
        (cancel(destroys=True), [RUNNING, Reply(204)], [GET, DELETE], (JobStatus.CANCELLED, False)),
        (cancel(destroys=True), [SUCCEEDED], [GET], (JobStatus.SUCCEEDED, False)),
        (cancel(destroys=True), [Reply(200, {"status": "FAILED"})], [GET], (JobStatus.FAILED, False)),
        (cancel(destroys=True), [Reply(200, {"status": "CANCELLED"})], [GET], (JobStatus.CANCELLED, False)),
        (
            cancel(destroys=True),
            [Reply(200, {"status": "WEIRD"}), Reply(204)],
            [GET, DELETE],
            (JobStatus.CANCELLED, False),
        ),
        (
            cancel(destroys=True),
            [Reply(200, {"status": "SUCCEEDED"}), Reply(204)],
            [GET, DELETE],
            (JobStatus.CANCELLED, False),
        ),
        (
            cancel(destroys=True, gone=True),
            [Reply(404), Reply(404)],
            [GET, DELETE],
            (JobStatus.CANCELLED, False),
        ),
        (cancel(gone=True), [RUNNING, Reply(404)], [GET, DELETE], (JobStatus.CANCELLED, False)),
        (cancel(gone=False), [RUNNING, Reply(404)], [GET, DELETE], (JobStatus.CANCELLED, True)),
    ],
    ids=[
        "no cancel, runs",
        "no cancel, has succeeded",
        "stops, runs",
        "stops, has succeeded",
        "only detaches, runs",
        "only detaches, has succeeded",
        "destroys, runs",
        "destroys, has succeeded",
        "destroys, has failed",
        "destroys, was cancelled",
        "destroys, says what nobody knows",
        "destroys, has succeeded without output",
        "destroys, gone already",
        "gone, where it goes with the cancel",
        "gone, where it should not",
    ],
)
async def test_a_cancel_ends_the_job_as_its_provider_allows(
    stage: Stage,
    spec: CancelSpec | None,
    answers: list[Answer],
    calls: list[str],
    ends: tuple[JobStatus, bool],
) -> None:
    bench, job_id = await asked(stage, spec)
    await bench.work(*answers)
    job = await stage.job(job_id)
    assert bench.provider.calls == [POST, *calls]
    assert (job.state.status, job.state.provider_may_bill) == ends
    # What could not be stopped is followed for what it costs.
    runs_on = job.state.provider_may_bill
    assert [kind for kind, _ in await stage.tasks()] == (["poll"] if runs_on else [])
    assert ((await stage.attempts(job_id))[0].finished_at_ms is None) is runs_on


async def tried(bench: Bench, job_id: str, tries: Sequence[tuple[Answer, ...]]) -> list[int]:
    """Carry the cancel out so often, each time to these answers; return the seconds it waited between."""
    stage = bench.stage
    waits: list[int] = []
    for number, answers in enumerate(tries, 1):
        bench.provider.says(*answers)
        for task in await stage.dispatch.claim_jobs(10):
            if task.claim.kind is TaskKind.CANCEL:
                await bench.cancel(task)
        assert not bench.provider.answers
        if number == len(tries):
            break
        assert not (await stage.job(job_id)).state.status.terminal
        ((_, due_ms),) = [one for one in await stage.tasks() if one[0] == "cancel"]
        wait_ms = due_ms - (stage.clock.now_ms() - NOW_MS)
        waits.append(wait_ms // 1000)
        stage.clock.advance(wait_ms / 1000)
    return waits


@pytest.mark.parametrize("answer", [NobodyThere(), Reply(500), Reply(429)], ids=repr)
async def test_a_look_that_fails_counts_as_a_try(stage: Stage, answer: Answer) -> None:
    bench, job_id = await asked(stage, cancel())
    tries: list[tuple[Answer, ...]] = [(answer,), (RUNNING, Reply(500))] * (MOST_TRIES // 2)
    assert await tried(bench, job_id, tries) == [1, 2, 4, 8, 16, 32, 60]
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, True)
    assert bench.provider.calls.count(DELETE) == MOST_TRIES // 2


@pytest.mark.parametrize("answer", [NobodyThere(), Reply(500), Reply(429), Reply(409)], ids=repr)
async def test_a_cancel_that_fails_is_tried_again_and_given_up_in_the_end(
    stage: Stage, answer: Answer
) -> None:
    bench, job_id = await asked(stage, cancel())
    assert await tried(bench, job_id, [(RUNNING, answer)] * MOST_TRIES) == [1, 2, 4, 8, 16, 32, 60]
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, True)
    assert bench.provider.calls.count(DELETE) == MOST_TRIES
    assert len([one for one in await stage.rows(tables.exchanges) if one["operation"] == "cancel"]) == 8


async def test_a_cancel_that_fails_once_then_works(stage: Stage) -> None:
    bench, job_id = await asked(stage, cancel())
    await bench.work(RUNNING, Reply(503, retry_after="3"))
    assert ("cancel", 3000) in await stage.tasks()
    await bench.after(3, RUNNING, Reply(204))
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, False)


@pytest.mark.parametrize(
    "spec",
    [None, cancel(), cancel(stops=False), cancel(destroys=True), cancel(gone=True)],
    ids=["no cancel", "stops", "only detaches", "destroys", "goes"],
)
async def test_nothing_is_cancelled_before_it_was_looked_at(stage: Stage, spec: CancelSpec | None) -> None:
    bench, job_id = await asked(stage, spec)
    await bench.work(Reply(500))
    assert bench.provider.calls == [POST, GET]
    assert not (await stage.job(job_id)).state.status.terminal
    await bench.after(1, SUCCEEDED)
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED
    assert DELETE not in bench.provider.calls


@pytest.mark.parametrize(("stops", "may_bill"), [(True, False), (False, True)])
async def test_a_run_past_its_deadline_is_cancelled_and_the_job_keeps_its_end(
    stage: Stage,
    stops: bool,  # noqa: FBT001 - a column
    may_bill: bool,  # noqa: FBT001 - a column
) -> None:
    bench = Bench(stage, spec=a_spec(cancel=cancel(stops=stops)))
    job_id = await bench.accepted()
    await bench.after(DEADLINE_S, RUNNING)
    ended = await stage.job(job_id)
    await bench.work(RUNNING, Reply(204))
    job = await stage.job(job_id)
    assert (job.state.status, job.state.error) == (JobStatus.FAILED, ended.state.error)
    assert (job.state.provider_may_bill, job.state.finished_at_ms) == (may_bill, ended.state.finished_at_ms)
    assert await stage.states(job_id) == [AttemptState.CANCELLED if stops else AttemptState.ACCEPTED]
    assert [kind for kind, _ in await stage.tasks()] == ([] if stops else ["poll"])


async def test_a_success_found_after_the_deadline_is_recorded_with_its_attempt_alone(stage: Stage) -> None:
    bench = Bench(stage, spec=a_spec(cancel=cancel(destroys=True)))
    job_id = await bench.accepted()
    await bench.after(DEADLINE_S, RUNNING)
    await bench.work(SUCCEEDED)
    job = await stage.job(job_id)
    assert (job.state.status, await stage.states(job_id)) == (JobStatus.FAILED, [AttemptState.SUCCEEDED])
    assert (await stage.events(job_id))[-1] == "attempt.late"
    assert DELETE not in bench.provider.calls


async def test_without_an_account_the_job_ends_and_may_bill(stage: Stage) -> None:
    bench, job_id = await asked(stage, cancel())
    bench.with_accounts()
    await bench.work()
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, True)


async def test_a_poll_that_wins_leaves_the_cancel_nothing_to_do(stage: Stage) -> None:
    bench, job_id = await asked(stage, cancel(destroys=True))
    stage.clock.advance(5)
    tasks = {task.claim.kind: task for task in await stage.dispatch.claim_jobs(10)}
    bench.provider.says(SUCCEEDED)
    await bench.poll(tasks[TaskKind.POLL])
    assert await stage.tasks() == []
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED
