"""The last look at the lease, with the connection in hand: who lost it sends not a byte, and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from invariants import check_invariants
from job_examples import DEADLINE_S, NOW_MS
from store_stage import LEASE_S, Stage
from worker_bench import MADE, Bench

from gateway.errors import LeaseLost, StorageUnavailable
from gateway.jobs.job import AttemptState
from gateway.jobs.transitions import TaskKind
from gateway.storage import tables
from gateway.storage.tasks import Claim
from providers.contract.status import JobStatus

REFUSED, ACCEPTED = AttemptState.REFUSED, AttemptState.ACCEPTED


async def submitted_later(bench: Bench, job_id: str, seconds: float) -> None:
    """The job was not lost: it is submitted once, later."""
    await bench.after(seconds, MADE)
    assert await bench.stage.states(job_id) == [REFUSED, ACCEPTED]
    assert len(bench.provider.asked) - len(bench.provider.withheld) == 1


@pytest.mark.parametrize("stopped_s", [LEASE_S / 2 + 1, 3600.0])
async def test_a_process_that_was_stopped_before_it_sent_sends_nothing(
    stage: Stage, stopped_s: float, monkeypatch: pytest.MonkeyPatch, database_path: Path
) -> None:
    """Nobody took the task over, so the lease is still ours; but the answer to that may be old."""
    bench = Bench(stage)
    job_id = await stage.accept()
    write = stage.database.write
    asking = False

    async def stopped(*args: Any, **named: Any) -> Any:
        done = await write(*args, **named)
        if asking:
            stage.clock.advance(stopped_s)
        return done

    async def begin() -> None:
        nonlocal asking
        asking = True

    monkeypatch.setattr(stage.database, "write", stopped)
    bench.provider.before_send = begin

    look = stage.leases.confirm

    async def confirm(claim: Claim, **more: Any) -> None:
        nonlocal asking
        try:
            await look(claim, **more)
        finally:
            asking = False

    monkeypatch.setattr(stage.leases, "confirm", confirm)
    await bench.work(MADE)
    assert len(bench.provider.withheld) == 1
    assert await stage.states(job_id) == [REFUSED]
    assert (await stage.events(job_id))[-1] == "attempt.withheld"
    (attempt,) = await stage.attempts(job_id)
    assert attempt.error is None
    check_invariants(database_path)
    bench.provider.before_send = None
    if stopped_s < 600:  # the deadline of the job
        await submitted_later(bench, job_id, 1)


async def test_a_lease_that_was_stolen_between_intent_and_send_sends_nothing(
    stage: Stage, database_path: Path
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()

    async def stolen() -> None:
        bench.provider.before_send = None
        stage.clock.advance(LEASE_S + 1)
        (task,) = await stage.worker("second").dispatch.claim(10)
        await bench.submit(task)
        held = await stage.job(job_id)
        assert held.state.held is not None  # the other one cannot know

    bench.provider.before_send = stolen
    await bench.work(MADE)
    assert len(bench.provider.withheld) == 1
    job = await stage.job(job_id)
    assert (job.state.status, job.state.held) == (JobStatus.QUEUED, None)
    assert (await stage.events(job_id))[-3:] == ["attempt.unknown", "job.held", "attempt.withheld"]
    check_invariants(database_path)
    await submitted_later(bench, job_id, 1)


async def test_whoever_stole_the_lease_and_comes_late_leaves_the_task_to_the_next(
    stage: Stage, database_path: Path
) -> None:
    """It found the attempt submitting; when it says so, the attempt was withheld meanwhile."""
    bench = Bench(stage)
    job_id = await stage.accept()
    late = []

    async def stolen() -> None:
        stage.clock.advance(LEASE_S + 1)
        late.extend(await stage.worker("second").dispatch.claim(10))

    bench.provider.before_send = stolen
    await bench.work(MADE)
    bench.provider.before_send = None
    await bench.submit(late[0])
    assert await stage.states(job_id) == [REFUSED]
    assert [kind for kind, _ in await stage.tasks()] == ["submit"]
    check_invariants(database_path)
    await submitted_later(bench, job_id, 0)


async def test_while_storage_is_down_nothing_is_sent(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()

    async def down(_claim: Claim, **_: Any) -> None:
        raise StorageUnavailable("the database is gone")

    with monkeypatch.context() as patched:
        patched.setattr(stage.leases, "confirm", down)
        await bench.work(MADE)
    assert len(bench.provider.withheld) == 1
    (event,) = [row for row in await stage.rows(tables.events) if row["type"] == "attempt.withheld"]
    assert "the database is gone" in str(event["data"])
    assert await stage.tasks() == [("submit", 1000)]
    await submitted_later(bench, job_id, 1)


async def test_a_job_cancelled_before_the_last_look_is_cancelled_and_not_sent(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()

    async def lost(_claim: Claim, **_: Any) -> None:
        raise LeaseLost("another worker holds it")

    monkeypatch.setattr(stage.leases, "confirm", lost)
    bench.provider.before_send = lambda: stage.jobs.cancel(job_id, owner="alice")
    await bench.work(MADE)
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, False)
    assert await stage.tasks() == []


async def test_a_job_cancelled_while_the_connection_was_made_is_not_bought(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    bench.provider.before_send = lambda: stage.jobs.cancel(job_id, owner="alice")
    await bench.work(MADE)
    assert len(bench.provider.withheld) == 1
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, False)
    assert await stage.states(job_id) == [REFUSED]
    assert await stage.tasks() == []


async def failed_at_its_deadline(stage: Stage, job_id: str) -> None:
    state = (await stage.job(job_id)).state
    assert state.error is not None
    assert (state.status, state.error.code) == (JobStatus.FAILED, "deadline_exceeded")
    assert not state.provider_may_bill
    assert await stage.tasks() == []


async def test_a_process_that_was_stopped_until_after_the_deadline_buys_nothing(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()

    async def stopped() -> None:
        stage.clock.advance(DEADLINE_S)

    bench.provider.before_send = stopped
    await bench.work(MADE)
    assert len(bench.provider.withheld) == 1
    assert await stage.states(job_id) == [REFUSED]
    await bench.after(1)
    await failed_at_its_deadline(stage, job_id)


async def test_a_deadline_that_passes_between_claim_and_intent_leaves_no_attempt(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    intent = stage.record.intent

    async def slow(*args: Any, **named: Any) -> Any:
        stage.clock.advance(DEADLINE_S)
        return await intent(*args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(stage.record, "intent", slow)
        await bench.work()
    assert await stage.attempts(job_id) == ()
    await bench.work()
    await failed_at_its_deadline(stage, job_id)


async def test_the_last_look_lengthens_the_lease(stage: Stage) -> None:
    await stage.accept()
    task = await stage.claim(TaskKind.SUBMIT)
    stage.clock.advance(LEASE_S - 1)
    await stage.leases.confirm(task.claim)
    (row,) = await stage.rows(tables.tasks)
    assert row["leased_until_ms"] == NOW_MS + round((2 * LEASE_S - 1) * 1000)
    assert await stage.worker("second").dispatch.claim(10) == []
