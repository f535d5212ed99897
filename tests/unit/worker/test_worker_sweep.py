"""What nobody asks for and must happen all the same."""

from __future__ import annotations

from job_examples import DEADLINE_S, a_request
from store_stage import Stage
from worker_bench import HOLD_S, RUNNING, Bench, Reply

from gateway.jobs.job import AttemptState
from providers.contract.status import JobStatus


async def test_every_deadline_that_is_over_ends_its_job(stage: Stage) -> None:
    bench = Bench(stage)
    running = await bench.accepted()
    waiting = await stage.accept()
    later = await stage.accept(a_request(deadline_s=DEADLINE_S + 60))
    stage.clock.advance(DEADLINE_S)
    await bench.sweep()
    ended = [await stage.job(job_id) for job_id in (running, waiting)]
    assert [job.state.error.code for job in ended if job.state.error] == ["deadline_exceeded"] * 2
    assert not (await stage.job(later)).state.status.terminal
    before = await stage.everything()
    await bench.sweep()
    assert await stage.everything() == before


async def test_a_deadline_waits_for_a_call_under_way(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()

    async def sweep_late() -> None:
        stage.clock.advance(DEADLINE_S)
        await bench.sweep()
        assert await stage.states(job_id) == [AttemptState.SUBMITTING]
        assert not (await stage.job(job_id)).state.status.terminal

    bench.provider.meanwhile = sweep_late
    await bench.work(Reply(201, {"id": "r-1"}))
    bench.provider.meanwhile = None
    await bench.sweep()
    assert (await stage.job(job_id)).state.status is JobStatus.FAILED
    await bench.work(Reply(204))
    assert bench.provider.calls == ["POST /jobs", "DELETE /jobs/r-1"]


async def test_a_hold_outlasts_the_deadline_and_ends_by_itself(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    await bench.work(Reply(500))
    stage.clock.advance(HOLD_S - 1)
    await bench.sweep()
    assert not (await stage.job(job_id)).state.status.terminal
    stage.clock.advance(1)
    await bench.sweep()
    job = await stage.job(job_id)
    assert job.state.error is not None
    assert (job.state.error.code, job.state.held) == ("submission_unknown", None)
    assert len(bench.provider.asked) == 1


async def test_the_gauges_show_the_store(stage: Stage) -> None:
    bench = Bench(stage)
    await bench.accepted()
    await bench.after(5, RUNNING)
    await stage.accept()
    await bench.work(Reply(500))
    await bench.sweep.measure()
    assert bench.counted("jobs_held") == 1
    assert bench.counted('jobs_in_progress{provider="acme"') == 2
