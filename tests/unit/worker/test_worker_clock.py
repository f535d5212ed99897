"""A wall clock that jumps: noticed before anything is done by it, and healed where no other worker lives."""

from __future__ import annotations

import asyncio

import pytest
from job_examples import NOW_MS, a_spec
from store_stage import LEASE_S, Stage, StoppedClock
from worker_bench import RUNNING, SUCCEEDED, Bench

from gateway.errors import StorageUnavailable
from gateway.service.dispatch import JOB_KINDS, JobTask
from gateway.service.wakeup import Wakeup
from gateway.storage import tables
from gateway.worker.clock_jumps import LEAST_MS, ClockWatch
from gateway.worker.loop import Lane, Worker

HOUR_S = 3600


class SetClock(StoppedClock):
    """Its wall clock can be set, apart from the time that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def monotonic_s(self) -> float:
        return self.passed_s

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.passed_s += seconds

    def set_by(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def test_time_that_passes_is_no_jump(clock: SetClock) -> None:
    watch = ClockWatch(clock)
    for seconds in (0, 0.5, 1, HOUR_S):
        clock.advance(seconds)
        assert watch.look() is None


@pytest.mark.parametrize("seconds", [29, -29, 0.001])
def test_a_small_step_is_let_be(clock: SetClock, seconds: float) -> None:
    watch = ClockWatch(clock)
    clock.set_by(seconds)
    assert watch.look() is None


@pytest.mark.parametrize("seconds", [LEAST_MS / 1000, -LEAST_MS / 1000, HOUR_S, -HOUR_S])
def test_a_jump_is_told_once_with_where_it_led(clock: SetClock, seconds: float) -> None:
    watch = ClockWatch(clock)
    clock.advance(0.5)
    clock.set_by(seconds)
    jump = watch.look()
    assert jump is not None
    assert (jump.delta_ms, jump.at_ms) == (round(seconds * 1000), NOW_MS + round(seconds * 1000))
    assert watch.look() is None


class Floor:
    """A worker that looks whenever it is told to, and what it was told to carry out."""

    def __init__(self, stage: Stage, clock: SetClock) -> None:
        self.stage, self.clock = stage, clock
        self.wakeup = Wakeup()
        self.looked = asyncio.Event()
        self.seen: list[str] = []
        self.jumps = 0

    def heard(self) -> None:
        self.jumps += 1

    async def claim(self, limit: int) -> list[JobTask]:
        tasks = await self.stage.dispatch.claim(limit)
        self.seen += [task.claim.kind for task in tasks]
        self.looked.set()
        return tasks

    async def hold(self, _task: JobTask) -> None:
        await asyncio.Event().wait()

    def worker(self, *, sole: bool) -> Worker:
        worker = Worker(
            self.stage.leases,
            self.clock,
            self.wakeup.subscribe,
            heartbeat_s=60,
            idle_s=0.01,
            stop_s=0,
            sole_worker=sole,
            on_jump=self.heard,
        )
        worker.start([Lane(JOB_KINDS, 4, self.claim, self.hold, self.stage.dispatch.next_due_ms)], ())
        return worker

    async def look(self) -> None:
        """Wait for a look that began after this."""
        for _ in range(2):
            self.looked.clear()
            await asyncio.wait_for(self.looked.wait(), 5)


async def polled_soon(stage: Stage, clock: SetClock) -> Bench:
    """A job whose next poll is 5 s away, by a clock that can be set."""
    stage.clock = clock
    stage.become("first")
    bench = Bench(stage, spec=a_spec())
    stage.dispatch._clock = clock
    await bench.accepted()
    return bench


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
async def test_the_only_worker_moves_what_waits_along(stage: Stage, clock: SetClock, seconds: int) -> None:
    await polled_soon(stage, clock)
    floor = Floor(stage, clock)
    worker = floor.worker(sole=True)
    await floor.look()
    clock.set_by(seconds)
    await floor.look()
    assert (floor.seen, floor.jumps) == ([], 1)
    assert await stage.tasks() == [("poll", (seconds + 5) * 1000)]
    clock.advance(5)
    await floor.look()
    assert floor.seen == ["poll"]
    await worker.stop()


async def test_a_worker_among_others_moves_nothing(stage: Stage, clock: SetClock) -> None:
    await polled_soon(stage, clock)
    floor = Floor(stage, clock)
    worker = floor.worker(sole=False)
    clock.set_by(-HOUR_S)
    await floor.look()
    assert floor.jumps == 1
    assert await stage.tasks() == [("poll", 5000)]
    await worker.stop()


async def test_a_jump_is_not_forgotten_while_storage_is_down(
    stage: Stage, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await polled_soon(stage, clock)
    floor = Floor(stage, clock)
    shift, tries = stage.leases.shift_due, asyncio.Event()

    async def down(_delta_ms: int, *, at_ms: int) -> int:
        tries.set()
        raise StorageUnavailable(f"not at {at_ms}")

    monkeypatch.setattr("gateway.worker.loop.PAUSE_AFTER_FAILURE_S", 0.01)
    worker = floor.worker(sole=True)
    await floor.look()
    with monkeypatch.context() as patched:
        patched.setattr(stage.leases, "shift_due", down)
        clock.set_by(HOUR_S)
        await asyncio.wait_for(tries.wait(), 5)
        assert floor.seen == []
    assert stage.leases.shift_due == shift
    await floor.look()
    assert await stage.tasks() == [("poll", (HOUR_S + 5) * 1000)]
    assert floor.seen == []
    await worker.stop()


async def test_a_clock_set_forward_takes_no_task_from_its_own_process(stage: Stage, clock: SetClock) -> None:
    await polled_soon(stage, clock)
    floor = Floor(stage, clock)
    worker = floor.worker(sole=True)
    clock.advance(5)
    await floor.look()
    assert floor.seen == ["poll"]
    clock.set_by(HOUR_S)
    await floor.look()
    assert (floor.seen, worker.busy) == (["poll"], 1)
    (row,) = await stage.rows(tables.tasks)
    assert row["leased_by"] is not None
    await worker.stop()


async def test_what_nobody_is_at_any_more_is_given_back_by_a_heartbeat(stage: Stage) -> None:
    await stage.accept()
    orphan = await stage.claim()
    stage.clock.advance(LEASE_S + 1)
    assert await stage.dispatch.claim(10) == []
    assert await stage.leases.heartbeat([]) == []
    (again,) = await stage.dispatch.claim(10)
    assert again.claim.version == orphan.claim.version + 1


async def test_a_deadline_that_a_jump_passed_still_leaves_the_poll_its_last_word(
    stage: Stage, clock: SetClock
) -> None:
    bench = await polled_soon(stage, clock)
    clock.set_by(HOUR_S)
    bench.sweep.clock_jumped()
    await bench.sweep()
    await stage.leases.shift_due(HOUR_S * 1000, at_ms=NOW_MS + HOUR_S * 1000)
    await bench.after(5, SUCCEEDED)
    (row,) = await stage.rows(tables.jobs)
    assert row["status"] == "succeeded"


async def test_a_deadline_that_a_jump_passed_is_a_deadline(stage: Stage, clock: SetClock) -> None:
    bench = await polled_soon(stage, clock)
    clock.set_by(HOUR_S)
    bench.sweep.clock_jumped()
    await stage.leases.shift_due(HOUR_S * 1000, at_ms=NOW_MS + HOUR_S * 1000)
    await bench.after(5, RUNNING)
    (row,) = await stage.rows(tables.jobs)
    assert row["status"] == "failed"
