"""The loop: what is due is carried out under leases, and nothing is lost when it stops or stumbles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from job_examples import NOW_MS
from store_stage import LEASE_S, Stage
from worker_bench import Bench

from gateway.errors import LeaseLost, StorageUnavailable
from gateway.jobs.transitions import TaskKind
from gateway.service.dispatch import FOLLOW_KINDS, JOB_KINDS, SUBMIT_KINDS, JobTask
from gateway.service.wakeup import Wakeup
from gateway.storage import tables
from gateway.storage.tasks import Claim, Due
from gateway.worker import loop as loop_module
from gateway.worker.loop import Duty, Lane, Worker
from gateway.worker.tools import nothing

PATIENCE_S = 5.0

Step = Callable[[JobTask], Awaitable[None]]


class Floor:
    """A worker over a store, and its wake-ups."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.wakeup = Wakeup()
        self.done: list[str] = []
        self.news = asyncio.Event()

    async def close(self, task: JobTask) -> None:
        """Carry a task out: there is nothing to it."""
        await self.stage.record.result(task.claim, nothing)
        self.done.append(task.job.id)
        self.news.set()

    async def until(self, count: int) -> None:
        """Wait until so many tasks are done."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.done) < count:
                self.news.clear()
                await self.news.wait()

    def worker(
        self, *, heartbeat_s: float = 60.0, idle_s: float = 60.0, stop_s: float = PATIENCE_S
    ) -> Worker:
        """Make a worker that, left alone, would look but once a minute."""
        return Worker(
            self.stage.leases,
            self.stage.clock,
            self.wakeup.subscribe,
            heartbeat_s=heartbeat_s,
            idle_s=idle_s,
            stop_s=stop_s,
        )

    @asynccontextmanager
    async def running(
        self,
        step: Step | None = None,
        *,
        limit: int = 4,
        duties: tuple[tuple[float, Duty], ...] = (),
        **options: Any,
    ) -> AsyncIterator[Worker]:
        """Run a worker with one lane."""
        worker = self.worker(**options)
        dispatch = self.stage.dispatch
        lane: Lane[JobTask] = Lane(JOB_KINDS, limit, dispatch.claim, step or self.close, dispatch.next_due_ms)
        worker.start([lane], duties)
        yield worker
        await worker.stop()


@pytest.fixture
def floor(stage: Stage) -> Floor:
    return Floor(stage)


class Gate:
    """A step that waits until it may go on, and counts."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.open = asyncio.Event()
        self.begun: list[str] = []
        self.cancelled = 0
        self.most = 0
        self._now = 0
        self._news = asyncio.Event()

    async def __call__(self, task: JobTask) -> None:
        self.begun.append(task.job.id)
        self._now += 1
        self.most = max(self.most, self._now)
        self._news.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._now -= 1
        await self.floor.close(task)

    async def reached(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.begun) < count:
                self._news.clear()
                await self._news.wait()


async def leases(stage: Stage) -> list[object]:
    return [row["leased_until_ms"] for row in await stage.rows(tables.tasks)]


async def test_what_is_due_at_the_start_is_carried_out(floor: Floor) -> None:
    jobs = [await floor.stage.accept() for _ in range(10)]
    async with floor.running():
        await floor.until(10)
    assert sorted(floor.done) == sorted(jobs)
    assert await floor.stage.tasks() == []


async def test_a_wake_up_spares_the_wait(floor: Floor) -> None:
    async with floor.running():
        await asyncio.sleep(0.05)
        job_id = await floor.stage.accept()
        floor.wakeup.wake()
        await floor.until(1)
    assert floor.done == [job_id]


async def test_a_wake_up_for_other_kinds_leaves_it_asleep(floor: Floor) -> None:
    event = floor.wakeup.subscribe(FOLLOW_KINDS)
    floor.wakeup.wake(SUBMIT_KINDS)
    assert not event.is_set()
    floor.wakeup.wake((*SUBMIT_KINDS, FOLLOW_KINDS[0]))
    assert event.is_set()


@pytest.mark.parametrize("looks", [True, False])
async def test_what_ends_is_a_reason_to_look_when_the_lane_says_so(floor: Floor, *, looks: bool) -> None:
    dispatch, claims = floor.stage.dispatch, 0
    slept = asyncio.Event()

    async def claim(limit: int) -> list[JobTask]:
        nonlocal claims
        claims += 1
        return await dispatch.claim(limit)

    async def next_due_ms() -> None:
        slept.set()

    async def close(task: JobTask) -> None:
        await slept.wait()  # it has seen that nothing else is due
        await floor.close(task)

    await floor.stage.accept()
    worker = floor.worker()
    worker.start([Lane(JOB_KINDS, 4, claim, close, next_due_ms, looks_after=lambda _: looks)], ())
    await floor.until(1)
    while worker.busy:  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0)
    slept.clear()
    if looks:
        await asyncio.wait_for(slept.wait(), PATIENCE_S)
    else:
        await asyncio.sleep(0.05)
    assert claims == (2 if looks else 1)
    await worker.stop()


async def test_one_that_stumbled_is_looked_for_once_it_was_given_back(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another that ends meanwhile, and is a reason to look, too, must not be the last."""
    given_back, looked_again = asyncio.Event(), asyncio.Event()
    put_off = floor.stage.leases.put_off

    async def slowly(claim: Claim, *, due_at_ms: int) -> None:
        await floor.until(1)
        await put_off(claim, due_at_ms=due_at_ms)
        given_back.set()

    async def next_due_ms() -> int | None:
        if given_back.is_set():
            looked_again.set()
        return None

    async def step(task: JobTask) -> None:
        if task.job.id == first:
            raise ValueError("a bug")
        await floor.close(task)

    monkeypatch.setattr(floor.stage.leases, "put_off", slowly)
    first = await floor.stage.accept()
    await floor.stage.accept()
    worker, dispatch = floor.worker(), floor.stage.dispatch
    worker.start([Lane(JOB_KINDS, 4, dispatch.claim, step, next_due_ms, looks_after=lambda _: True)], ())
    await asyncio.wait_for(looked_again.wait(), PATIENCE_S)
    await worker.stop()


async def test_without_a_wake_up_it_looks_when_the_next_is_due(floor: Floor) -> None:
    await floor.stage.accept()
    task = await floor.stage.claim()
    soon = Due(claim=task.claim, due_at_ms=NOW_MS + 50)
    await floor.stage.leases.unchanged(soon, progress=None)
    async with floor.running():
        await asyncio.sleep(0.02)
        floor.stage.clock.advance(0.05)
        await floor.until(1)


async def test_without_anything_due_it_looks_now_and_then(floor: Floor) -> None:
    async with floor.running(idle_s=0.02):
        await asyncio.sleep(0.03)
        await floor.stage.accept()
        await floor.until(1)


async def test_a_full_lane_takes_no_more_than_its_limit(floor: Floor) -> None:
    gate = Gate(floor)
    for _ in range(7):
        await floor.stage.accept()
    async with floor.running(gate, limit=3) as worker:
        await gate.reached(3)
        await asyncio.sleep(0.03)
        assert (gate.most, worker.busy) == (3, 3)
        assert (await leases(floor.stage)).count(None) == 4
        gate.open.set()
        await floor.until(7)
    assert gate.most == 3


@pytest.mark.parametrize(
    ("error", "pause_ms"),
    [(ZeroDivisionError(), 30_000), (StorageUnavailable("away for a moment"), 1000)],
    ids=repr,
)
async def test_a_step_that_stumbles_is_given_back_and_the_others_go_on(
    floor: Floor, error: Exception, pause_ms: int
) -> None:
    bad = await floor.stage.accept()
    good = [await floor.stage.accept() for _ in range(3)]

    async def step(task: JobTask) -> None:
        if task.job.id == bad:
            raise error
        await floor.close(task)

    async with floor.running(step, limit=1):
        await floor.until(3)
    assert sorted(floor.done) == sorted(good)
    (row,) = await floor.stage.rows(tables.tasks)
    assert (row["subject"], row["tries"], row["due_at_ms"]) == (bad, 0, NOW_MS + pause_ms)
    assert row["leased_until_ms"] is None


async def test_a_lost_lease_is_nobodys_fault(floor: Floor) -> None:
    await floor.stage.accept()

    async def step(task: JobTask) -> None:
        floor.done.append(task.job.id)
        floor.news.set()
        raise LeaseLost("gone")

    async with floor.running(step):
        await floor.until(1)
    (row,) = await floor.stage.rows(tables.tasks)
    assert row["tries"] == 0


@pytest.mark.parametrize("error", [StorageUnavailable("locked"), ZeroDivisionError()], ids=repr)
async def test_a_claim_that_fails_is_tried_again(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(loop_module, "PAUSE_AFTER_FAILURE_S", 0.01)
    failures: list[int] = []
    claim = floor.stage.dispatch.claim

    async def flaky(limit: int) -> list[JobTask]:
        if len(failures) < 2:
            failures.append(1)
            raise error
        return await claim(limit)

    monkeypatch.setattr(floor.stage.dispatch, "claim", flaky)
    await floor.stage.accept()
    async with floor.running():
        await floor.until(1)
    assert len(failures) == 2


async def test_heartbeats_carry_a_lease_through_a_long_call(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, beats = Gate(floor), 0
    heartbeat = floor.stage.leases.heartbeat

    async def heard(claims: Sequence[Claim]) -> list[Claim]:
        nonlocal beats
        lost = await heartbeat(claims)
        beats += 1
        return lost

    monkeypatch.setattr(floor.stage.leases, "heartbeat", heard)
    await floor.stage.accept()
    async with floor.running(gate, heartbeat_s=0.01):
        await gate.reached(1)
        for _ in range(3):
            floor.stage.clock.advance(LEASE_S - 1)
            enough = beats + 2  # the first may have begun before
            async with asyncio.timeout(PATIENCE_S):
                while beats < enough:  # noqa: ASYNC110 - a heartbeat sets no event
                    await asyncio.sleep(0.002)
            assert await floor.stage.worker("second").dispatch.claim(10) == []
        gate.open.set()
        await floor.until(1)


async def test_what_is_still_under_way_here_is_not_carried_out_a_second_time(floor: Floor) -> None:
    """Heartbeats that failed let the lease lapse, and the lane looks for what is due."""
    gate = Gate(floor)
    first = await floor.stage.accept()
    async with floor.running(gate):
        await gate.reached(1)
        floor.stage.clock.advance(LEASE_S + 1)
        second = await floor.stage.accept()
        floor.wakeup.wake()
        await gate.reached(2)
        assert gate.begun == [first, second]
        gate.open.set()


async def test_only_the_kinds_asked_for_are_claimed(floor: Floor) -> None:
    stage = floor.stage
    bench = Bench(stage)
    await bench.accepted()
    stage.clock.advance(5)
    await stage.accept()
    first, second = stage.worker("first").dispatch, stage.worker("second").dispatch
    assert [task.claim.kind for task in await first.claim(10, kinds=FOLLOW_KINDS)] == [TaskKind.POLL]
    assert [task.claim.kind for task in await first.claim(10, kinds=SUBMIT_KINDS)] == [TaskKind.SUBMIT]
    stage.clock.advance(LEASE_S + 1)
    assert {task.claim.kind for task in await second.claim(10)} == {TaskKind.POLL, TaskKind.SUBMIT}


async def test_stopping_lets_what_is_under_way_finish(floor: Floor) -> None:
    gate = Gate(floor)
    await floor.stage.accept()
    async with floor.running(gate) as worker:
        await gate.reached(1)
        stopping = asyncio.ensure_future(worker.stop())
        await asyncio.sleep(0.02)
        assert not stopping.done()
        gate.open.set()
        await stopping
    assert (len(floor.done), gate.cancelled) == (1, 0)
    assert await floor.stage.tasks() == []


async def test_what_does_not_finish_in_time_is_given_back_at_once(floor: Floor) -> None:
    gate = Gate(floor)
    for _ in range(3):
        await floor.stage.accept()
    async with floor.running(gate, stop_s=0.02):
        await gate.reached(3)
    assert gate.cancelled == 3
    assert len(await floor.stage.worker("second").dispatch.claim(10)) == 3


async def test_nothing_is_begun_once_it_stops(floor: Floor) -> None:
    """A paid call begun now would be cut off in the middle, and its job held."""
    gate = Gate(floor)
    for _ in range(5):
        await floor.stage.accept()
    async with floor.running(gate, limit=2) as worker:
        await gate.reached(2)
        stopping = asyncio.ensure_future(worker.stop())
        await asyncio.sleep(0)
        gate.open.set()
        await stopping
    assert (len(gate.begun), gate.cancelled) == (2, 0)
    assert await leases(floor.stage) == [None] * 3


@pytest.mark.parametrize("late", [False, True], ids=["in time", "when its time was over"])
async def test_what_was_being_claimed_when_it_stopped_is_given_back(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    claimed, go_on = asyncio.Event(), asyncio.Event()
    claim = floor.stage.dispatch.claim

    async def slow(limit: int) -> list[JobTask]:
        tasks = await claim(limit)
        claimed.set()
        await go_on.wait()
        return tasks

    monkeypatch.setattr(floor.stage.dispatch, "claim", slow)
    await floor.stage.accept()
    async with floor.running(stop_s=0.0 if late else PATIENCE_S) as worker:
        await asyncio.wait_for(claimed.wait(), PATIENCE_S)
        stopping = asyncio.ensure_future(worker.stop())
        await asyncio.sleep(0)
        while late and not worker._cut_off:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.001)
        go_on.set()
        await stopping
    assert floor.done == []
    assert await leases(floor.stage) == [None]


async def test_an_idle_worker_stops_at_once(floor: Floor) -> None:
    async with floor.running() as worker:
        await asyncio.sleep(0.02)
        async with asyncio.timeout(1):
            await worker.stop()


async def test_a_worker_that_never_started_stops(floor: Floor) -> None:
    await floor.worker().stop()


@pytest.mark.parametrize("error", [StorageUnavailable("locked"), ZeroDivisionError()], ids=repr)
async def test_a_duty_goes_on_whatever_becomes_of_it(floor: Floor, error: Exception) -> None:
    async def duty() -> None:
        floor.done.append("duty")
        floor.news.set()
        if len(floor.done) < 3:
            raise error

    async with floor.running(duties=((0.005, duty),)):
        await floor.until(5)


async def test_a_full_lane_keeps_no_other_waiting(floor: Floor) -> None:
    first = await floor.stage.accept()
    gate = Gate(floor)
    dispatch = floor.stage.dispatch
    full: Lane[JobTask] = Lane(JOB_KINDS, 1, dispatch.claim, gate, dispatch.next_due_ms)
    worker = floor.worker(stop_s=0.0)
    other = Lane(JOB_KINDS, 1, lambda _limit: others.get(), floor.close, dispatch.next_due_ms)
    worker.start([full, other], ())
    others: asyncio.Queue[list[JobTask]] = asyncio.Queue()
    await gate.reached(1)
    second = await floor.stage.accept()
    await others.put(await floor.stage.worker("second").dispatch.claim(1))
    await floor.until(1)
    await worker.stop()
    assert (gate.begun, floor.done) == ([first], [second])
