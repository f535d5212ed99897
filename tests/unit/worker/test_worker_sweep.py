"""What nobody asks for and must happen all the same."""

from __future__ import annotations

from typing import Any

import pytest
from job_examples import DEADLINE_S, a_request
from store_stage import Stage
from worker_bench import HOLD_S, RUNNING, SUCCEEDED, Bench, NobodyThere, Reply

from gateway.errors import StorageUnavailable
from gateway.jobs.job import AttemptState
from gateway.routing.breaker import IN_A_ROW, OPEN_MS
from gateway.routing.health import Limits, Operation, Outcome
from gateway.service.record import Decide, Recorded
from gateway.worker.sweep import GRACE_MS, STOCK_KEPT_S
from providers.contract.status import JobStatus

ACME = ("acme", "default")


def pausing(stage: Stage) -> Bench:
    """A bench whose account's pauses last as long as they do in production."""
    bench = Bench(stage)
    bench.limits = Limits()
    bench.with_accounts(bench.account)
    return bench


async def ended(stage: Stage, *job_ids: str) -> list[bool]:
    """Tell which of these jobs were failed for their deadline; the others go on."""
    codes: list[str | None] = []
    for job_id in job_ids:
        state = (await stage.job(job_id)).state
        assert state.status.terminal == (state.error is not None)
        codes.append(None if state.error is None else state.error.code)
    assert set(codes) <= {None, "deadline_exceeded"}
    return [code is not None for code in codes]


async def test_every_deadline_that_is_over_ends_its_job(stage: Stage) -> None:
    bench = Bench(stage)
    waiting, tried_again = await stage.accept(), await stage.accept()
    later = await stage.accept(a_request(deadline_s=DEADLINE_S + 60))
    await bench.work(NobodyThere(), NobodyThere(), NobodyThere())
    stage.clock.advance(DEADLINE_S - 0.001)
    await bench.sweep()
    assert await ended(stage, waiting, tried_again, later) == [False, False, False]
    stage.clock.advance(0.001)
    await bench.sweep()
    assert await ended(stage, waiting, tried_again, later) == [True, True, False]
    before = await stage.everything()
    await bench.sweep()
    assert await stage.everything() == before


async def test_a_run_is_left_to_its_poll_for_a_while_past_its_deadline(stage: Stage) -> None:
    bench = Bench(stage)
    running = await bench.accepted()
    waiting = await stage.accept()
    stage.clock.advance(DEADLINE_S)
    await bench.sweep()
    assert await ended(stage, running, waiting) == [False, True]
    stage.clock.advance((GRACE_MS - 1) / 1000)
    await bench.sweep()
    assert await ended(stage, running) == [False]
    stage.clock.advance(0.001)
    await bench.sweep()
    assert await ended(stage, running) == [True]
    assert [kind for kind, _ in await stage.tasks()] == ["cancel"]


async def test_a_run_whose_deadline_passed_while_we_were_away_is_left_to_its_poll(stage: Stage) -> None:
    running = await Bench(stage).accepted()
    waiting = await stage.accept()
    stage.clock.advance(100 * DEADLINE_S)
    started_again = Bench(stage)
    await started_again.sweep()
    assert await ended(stage, running, waiting) == [False, True]
    stage.clock.advance((GRACE_MS - 1) / 1000)
    await started_again.sweep()
    assert await ended(stage, running) == [False]
    stage.clock.advance(0.001)
    await started_again.sweep()
    assert await ended(stage, running) == [True]


async def test_one_broken_job_keeps_no_other_from_its_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    held = await stage.accept()
    await bench.work(Reply(500))
    stage.clock.advance(HOLD_S)
    jobs = [await stage.accept() for _ in range(3)]
    stage.clock.advance(DEADLINE_S)
    broken, *others = (await stage.census.waiting(last_word_ms=0)).overdue
    assert sorted([broken, *others]) == sorted(jobs)
    transition = stage.record.transition

    async def breaks(job_id: str, decide: Decide) -> Recorded:
        if job_id == broken:
            raise ZeroDivisionError
        return await transition(job_id, decide)

    monkeypatch.setattr(stage.record, "transition", breaks)
    await bench.sweep()
    assert await ended(stage, broken, *others) == [False, True, True]
    assert (await stage.job(held)).state.status is JobStatus.FAILED


async def test_a_store_that_is_away_ends_the_sweep(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(stage)
    for _ in range(2):
        await stage.accept()
    stage.clock.advance(DEADLINE_S)
    asked: list[str] = []

    async def away(job_id: str, _decide: Decide) -> Recorded:
        asked.append(job_id)
        raise StorageUnavailable("locked")

    monkeypatch.setattr(stage.record, "transition", away)
    with pytest.raises(StorageUnavailable):
        await bench.sweep()
    assert len(asked) == 1


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
    assert await ended(stage, job_id) == [False]
    await bench.after(5, RUNNING)
    assert await ended(stage, job_id) == [True]
    await bench.work(RUNNING, Reply(204))
    assert bench.provider.calls == ["POST /jobs", "GET /jobs/r-1", "GET /jobs/r-1", "DELETE /jobs/r-1"]


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
    assert bench.counted("queue_oldest_seconds") == 0
    await stage.accept()
    stage.clock.advance(7)
    await bench.sweep.measure()
    assert bench.counted("queue_oldest_seconds") == 7


async def test_the_gauges_that_move_slowly_show_the_store(stage: Stage) -> None:
    bench = Bench(stage)
    await bench.sweep.take_stock()
    assert 'owners_at_budget{percent="80"} 0.0' in bench.page()
    assert 'outputs_expiring{told="undelivered"} 0.0' in bench.page()
    await bench.accepted()
    await bench.after(5, SUCCEEDED)
    await bench.sweep.take_stock()
    assert 'outputs_expiring{told="unasked"} 1.0' in bench.page()


async def test_what_the_store_does_not_tell_any_more_is_not_shown_any_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    await bench.accepted()
    await bench.sweep.measure()
    assert "jobs_held 0.0" in bench.page()
    assert "jobs_in_progress{" in bench.page()
    monkeypatch.setattr(stage.census, "count", away)
    with pytest.raises(StorageUnavailable):
        await bench.sweep.measure()
    assert "jobs_held NaN" in bench.page()
    assert "jobs_in_progress{" not in bench.page()


async def away(*_given: object) -> Any:
    raise StorageUnavailable("locked")


async def test_a_look_that_fails_forgets_only_what_it_would_have_set(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    await bench.sweep.measure()
    await bench.sweep.take_stock()
    monkeypatch.setattr(stage.census, "count", away)
    with pytest.raises(StorageUnavailable):
        await bench.sweep.measure()
    assert "jobs_held NaN" in bench.page()
    assert 'owners_at_budget{percent="80"} 0.0' in bench.page()
    assert 'outputs_expiring{told="undelivered"} 0.0' in bench.page()


async def test_what_moves_slowly_is_forgotten_once_nobody_could_look_for_a_minute(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    await bench.sweep.measure()
    await bench.sweep.take_stock()
    monkeypatch.setattr(stage.census, "stock", away)
    stage.clock.advance(STOCK_KEPT_S - 0.001)
    with pytest.raises(StorageUnavailable):
        await bench.sweep.take_stock()
    assert 'owners_at_budget{percent="80"} 0.0' in bench.page()
    stage.clock.advance(0.001)
    with pytest.raises(StorageUnavailable):
        await bench.sweep.take_stock()
    assert "owners_at_budget{" not in bench.page()
    assert "outputs_expiring{" not in bench.page()
    assert "jobs_held 0.0" in bench.page()


async def test_a_breaker_is_shown_open_until_a_call_goes_well_and_by_every_replica(stage: Stage) -> None:
    bench, theirs = pausing(stage), pausing(stage)

    async def shown() -> list[bool]:
        """Whether it is open, as each replica has it."""
        for one in (bench, theirs):
            await one.sweep.measure()
        series = 'breaker_open{account="default",operation="submit",provider="acme"} 1.0'
        return [series in one.page() for one in (bench, theirs)]

    assert await shown() == [False, False]
    for _ in range(IN_A_ROW):
        await bench.healths.note(ACME, Operation.SUBMIT, Outcome.FAILED)
    for openings in (1, 2):
        assert await shown() == [True, True]
        stage.clock.advance(openings * OPEN_MS / 1000)
        assert await shown() == [True, True], "nobody calls"
        await stage.database.write(lambda connection: bench.healths.admit(connection, ACME))
        assert await shown() == [True, True], "it is tried"
        await bench.healths.note(ACME, Operation.SUBMIT, Outcome.FAILED)
    stage.clock.advance(3 * OPEN_MS / 1000)
    await theirs.healths.note(ACME, Operation.SUBMIT, Outcome.FINE)
    assert await shown() == [False, False]


async def test_a_run_in_its_grace_is_not_asked_for_again_and_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.service.census.SWEEP_LIMIT", 2)
    bench = Bench(stage)
    running = [await bench.accepted() for _ in range(3)]
    stage.clock.advance(0.001)
    waiting = await stage.accept()
    stage.clock.advance(DEADLINE_S)
    asked: list[str] = []
    transition = stage.record.transition

    async def counted(job_id: str, decide: Decide) -> Recorded:
        asked.append(job_id)
        return await transition(job_id, decide)

    monkeypatch.setattr(stage.record, "transition", counted)
    await bench.sweep()
    assert asked == [waiting], "and those in their grace take nobody's place"
    await bench.sweep()
    assert asked == [waiting]
    stage.clock.advance(GRACE_MS / 1000)
    for _ in range(2):
        await bench.sweep()
    assert sorted(asked[1:]) == sorted(running)
