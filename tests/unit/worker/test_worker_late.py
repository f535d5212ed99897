"""A run that no cancel could stop outlives its job, and is followed until it is known what it cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from invariants import check_invariants
from job_examples import DEADLINE_S, NOW_MS, SOURCE, a_spec
from store_stage import Stage
from worker_bench import RUNNING, Answer, Bench, NobodyThere, Reply

from gateway.jobs.job import AttemptState
from gateway.jobs.view import view
from providers.contract.spec import CancelSpec
from providers.contract.status import JobStatus

LONGEST_RUN_S = 3600
COST = 1_250_000
LATE_SUCCESS = Reply(200, {"status": "SUCCEEDED", "url": "https://cdn.example/film.mp4", "micro_usd": COST})
DETACHES = CancelSpec(stops=False, destroys_output=False, ref_gone=False, source=SOURCE)
CANCELLED = Reply(200, {"status": "CANCELLED"})


async def left(stage: Stage, spec: CancelSpec | None = None) -> tuple[Bench, str]:
    """A cancelled job whose run goes on; its first late poll is 30 s away."""
    bench = Bench(stage, spec=a_spec(cancel=spec))
    job_id = await bench.accepted()
    await stage.jobs.cancel(job_id, owner="alice")
    await bench.work(RUNNING, *(() if spec is None else (Reply(200),)))
    return bench, job_id


async def charged_usd(stage: Stage, job_id: str) -> float | None:
    return view(await stage.job(job_id), await stage.attempts(job_id)).cost.charged_usd


@pytest.mark.parametrize("spec", [None, DETACHES], ids=["no cancel", "only detaches"])
async def test_what_a_cancelled_jobs_run_cost_is_recorded(stage: Stage, spec: CancelSpec | None) -> None:
    bench, job_id = await left(stage, spec)
    ended = await stage.job(job_id)
    assert (ended.state.status, ended.state.provider_may_bill) == (JobStatus.CANCELLED, True)
    assert (await stage.events(job_id))[-2:] == ["attempt.runs_on", "job.cancelled"]
    assert await stage.tasks() == [("poll", 30_000)]
    await bench.after(30, RUNNING)
    await bench.after(30, LATE_SUCCESS)
    job = await stage.job(job_id)
    assert job.state == ended.state
    assert await stage.states(job_id) == [AttemptState.SUCCEEDED]
    assert (await stage.events(job_id))[-1] == "attempt.late"
    assert await charged_usd(stage, job_id) == COST / 1_000_000
    assert await stage.tasks() == []


async def test_what_a_run_cost_beyond_the_deadline_is_recorded(stage: Stage) -> None:
    bench = Bench(stage, spec=a_spec(cancel=None))
    job_id = await bench.accepted()
    await bench.after(DEADLINE_S, RUNNING)
    await bench.work(RUNNING)
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.FAILED, True)
    assert job.state.error is not None
    assert job.state.error.code == "deadline_exceeded"
    await bench.after(DEADLINE_S / 10, LATE_SUCCESS)
    assert (await stage.job(job_id)).state == job.state
    assert await charged_usd(stage, job_id) == COST / 1_000_000


async def test_the_older_the_run_the_more_seldom_it_is_asked_about(stage: Stage) -> None:
    bench, _ = await left(stage)
    waits: list[float] = []
    for _ in range(24):
        ((_, due_ms),) = await stage.tasks()
        waits.append((due_ms - (stage.clock.now_ms() - NOW_MS)) / 1000)
        await bench.after(waits[-1], RUNNING)
    assert waits[:2] == [30, 30]
    assert waits == sorted(waits)
    assert waits[-1] >= 50


async def test_the_word_of_a_cancel_that_only_detaches_is_not_the_end(stage: Stage) -> None:
    bench, job_id = await left(stage, DETACHES)
    await bench.after(30, CANCELLED)
    await bench.after(30, CANCELLED)
    assert await stage.states(job_id) == [AttemptState.ACCEPTED]
    await bench.after(30, LATE_SUCCESS)
    assert await stage.states(job_id) == [AttemptState.SUCCEEDED]


async def test_somebody_elses_cancel_that_only_detaches_ends_the_job_and_not_its_run(stage: Stage) -> None:
    bench = Bench(stage, spec=a_spec(cancel=DETACHES))
    job_id = await bench.accepted()
    await bench.after(5, CANCELLED)
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, True)
    assert await stage.tasks() == [("poll", 35_000)]
    await bench.after(30, LATE_SUCCESS)
    assert await charged_usd(stage, job_id) == COST / 1_000_000


@pytest.mark.parametrize(
    "answer",
    [RUNNING, CANCELLED, Reply(200, {"status": "WEIRD"}), NobodyThere(), Reply(500), Reply(200, b"<html>")],
    ids=repr,
)
async def test_a_run_that_nobody_tells_of_is_given_up_once_none_lasts_longer(
    stage: Stage, answer: Answer
) -> None:
    bench, job_id = await left(stage, DETACHES)
    ended = await stage.job(job_id)
    polls = 0
    while tasks := await stage.tasks():
        ((_, due_ms),) = tasks
        assert due_ms <= (LONGEST_RUN_S + 60) * 1000
        await bench.after((due_ms - (stage.clock.now_ms() - NOW_MS)) / 1000, answer)
        polls += 1
    assert polls <= 100
    assert stage.clock.now_ms() - NOW_MS >= LONGEST_RUN_S * 1000
    assert (await stage.job(job_id)).state == ended.state
    assert await stage.states(job_id) == [AttemptState.CANCELLED]
    assert (await stage.events(job_id))[-1] == "attempt.unheard"


async def test_a_run_that_is_gone_is_given_up(stage: Stage) -> None:
    bench, job_id = await left(stage)
    for _ in range(3):
        await bench.after(30, Reply(404))
    assert await stage.states(job_id) == [AttemptState.FAILED]
    assert await stage.tasks() == []


async def test_without_its_account_a_run_is_given_up(stage: Stage) -> None:
    bench, job_id = await left(stage)
    bench.with_accounts()
    await bench.after(30)
    assert await stage.states(job_id) == [AttemptState.CANCELLED]
    assert await stage.tasks() == []


async def test_a_deadline_means_nothing_to_a_job_that_has_ended(stage: Stage) -> None:
    bench, job_id = await left(stage)
    while stage.clock.now_ms() < NOW_MS + (DEADLINE_S + 120) * 1000:
        ((_, due_ms),) = await stage.tasks()
        await bench.after((due_ms - (stage.clock.now_ms() - NOW_MS)) / 1000, RUNNING)
        await bench.sweep()
    assert await stage.states(job_id) == [AttemptState.ACCEPTED]
    assert (await stage.job(job_id)).state.status is JobStatus.CANCELLED


async def test_the_invariants_know_of_runs_that_outlive_their_jobs(stage: Stage, database_path: Path) -> None:
    await left(stage)
    check_invariants(database_path)
