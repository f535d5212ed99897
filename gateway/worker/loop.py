"""Claims due tasks and carries them out, each under a lease that heartbeats extend.

A lane is one kind of work with its own limit, so that slow receivers never keep paid jobs waiting. A step
that fails in a way nobody foresaw is logged and its task given back, due later: nothing is lost, and a
submit that failed after its intent is found `submitting` and held.

What is due is due by the wall clock, which may jump. Nothing is claimed or swept before a jump was noticed;
the only worker of a database then moves what waits along, so that polls neither stand still nor all come at
once. Deadlines and holds stay where they are: they are instants that were promised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from gateway.clock import Clock
from gateway.errors import LeaseLost, StorageUnavailable
from gateway.jobs.transitions import TaskKind
from gateway.service.leases import Leases
from gateway.storage.tasks import Claim
from gateway.telemetry import bound, get_logger
from gateway.worker.clock_jumps import ClockWatch, Jump

_log = get_logger("gateway.worker")

PAUSE_AFTER_FAILURE_S = 1.0
GIVE_BACK_S = 30.0
SOON_S = 1.0
"""How long a stopping worker waits for polls: whoever takes over has them within two seconds."""
LAST_CLAIM_S = 1.0
"""How long it waits for a claim that storage is at when its time is over."""
FREE_KINDS = frozenset({TaskKind.POLL, TaskKind.RECONCILE})
GATHER_S = 0.02
"""How long polls gather that come in ones and twos: a transaction for each would cost more than they."""


class Claimed(Protocol):
    """Anything that was claimed."""

    @property
    def claim(self) -> Claim:
        """The lease."""
        ...


T = TypeVar("T", bound=Claimed)
Duty = Callable[[], Awaitable[None]]


class Lane(Generic[T]):
    """One kind of work.

    Args:
        kinds: of its tasks.
        limit: most tasks under way at once.
        claim: leases up to that many.
        step: carries one out.
        next_due: says when the next task may be claimed, as far as time decides that; milliseconds. Asked
            after each claim that found fewer than it could.
        gather_s: how long due tasks may gather that come in ones and twos, seconds.
        looks_after: told what `step` returned, when one has ended: whether that is a reason to look. What
            failed is one; None: nothing is.
    """

    def __init__(
        self,
        kinds: Collection[TaskKind],
        limit: int,
        claim: Callable[[int], Awaitable[list[T]]],
        step: Callable[[T], Awaitable[object]],
        next_due: Callable[[], Awaitable[int | None]],
        *,
        gather_s: float = 0.0,
        looks_after: Callable[[Any], bool] | None = None,
    ) -> None:
        self.kinds = kinds
        self.limit = limit
        self.claim = claim
        self.step = step
        self.next_due = next_due
        self.gather_s = gather_s
        self.looks_after = looks_after


class Worker:
    """Runs lanes, heartbeats and the sweep.

    Args:
        leases: what it holds.
        clock: tells what is due.
        wakeups: makes an event that is set when tasks of some kinds may be due.
        heartbeat_s: between two extensions of the leases, seconds.
        idle_s: longest sleep between two looks, seconds.
        stop_s: how long `stop` waits for what is under way, seconds.
        sole_worker: whether no other process can work on this database; another's clock did not jump.
        on_jump: told that the wall clock jumped.
    """

    def __init__(
        self,
        leases: Leases,
        clock: Clock,
        wakeups: Callable[[Collection[TaskKind]], asyncio.Event],
        *,
        heartbeat_s: float,
        idle_s: float,
        stop_s: float,
        sole_worker: bool = False,
        on_jump: Callable[[], None] = lambda: None,
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._wakeups = wakeups
        self._heartbeat_s = heartbeat_s
        self._idle_s = idle_s
        self._stop_s = stop_s
        self._sole_worker = sole_worker
        self._on_jump = on_jump
        self._watch = ClockWatch(clock)
        self._jumps: list[Jump] = []
        self._heeding = asyncio.Lock()
        self._under_way: dict[asyncio.Task[bool], Claim] = {}
        self._lanes: list[asyncio.Task[None]] = []
        self._duties: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._events: list[asyncio.Event] = []
        self._cut_off: list[asyncio.Future[list[Any]]] = []

    def start(self, lanes: Sequence[Lane[Any]], duties: Sequence[tuple[float, Duty]]) -> None:
        """Begin to work.

        Args:
            lanes: kinds of work.
            duties: what is done again and again, with the seconds between.
        """
        self._lanes = [asyncio.create_task(self._run_lane(lane)) for lane in lanes]
        self._duties = [
            *(asyncio.create_task(self._repeat(interval_s, duty)) for interval_s, duty in duties),
            asyncio.create_task(self._repeat(self._heartbeat_s, self._heartbeat)),
        ]

    async def stop(self) -> None:
        """Claim no more, let what is under way finish for `stop_s`, give the rest back."""
        self._stopping.set()
        for event in self._events:
            event.set()
        # The lanes too: one may be claiming just now, and gives back what it gets.
        if self._lanes:
            await asyncio.wait({*self._under_way, *self._lanes}, timeout=min(SOON_S, self._stop_s))
            await self._drop_free()
            left_s = max(0.0, self._stop_s - SOON_S)
            await asyncio.wait({*self._under_way, *self._lanes}, timeout=left_s)
        left = dict(self._under_way)
        ending: tuple[asyncio.Task[Any], ...] = (*left, *self._lanes, *self._duties)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._release([*left.values(), *await self._claimed_late()])

    async def _claimed_late(self) -> list[Claim]:
        """Return what claims brought that were under way to the end: what storage has begun it finishes."""
        if not self._cut_off:
            return []
        done, _ = await asyncio.wait(self._cut_off, timeout=LAST_CLAIM_S)  # then the leases lapse
        return [claimed.claim for claims in done if claims.exception() is None for claimed in claims.result()]

    async def _drop_free(self) -> None:
        """Give back what another worker can do over at no cost, and need not wait for."""
        free = {task: claim for task, claim in self._under_way.items() if claim.kind in FREE_KINDS}
        for task in free:
            task.cancel()
        await asyncio.gather(*free, return_exceptions=True)
        await self._release(list(free.values()))

    @property
    def busy(self) -> int:
        """Tasks under way."""
        return len(self._under_way)

    async def _run_lane(self, lane: Lane[T]) -> None:
        wake = self._wakeups(lane.kinds)
        self._events.append(wake)
        active: set[asyncio.Task[bool]] = set()
        while not self._stopping.is_set():
            wake.clear()
            room = lane.limit - len(active)
            tasks: list[T] = []
            try:
                await self._heed_clock()
                tasks = await self._claim(lane, room) if room else []
                if self._stopping.is_set():  # nothing is begun any more: a paid call would be cut off
                    await self._release([claimed.claim for claimed in tasks])
                    return
                for claimed in tasks:
                    self._begin(lane, claimed, active, wake)
                # Fewer than there was room for are all that are due.
                pause_s = await self._until_due(lane) if len(tasks) < room else 0.0
            except StorageUnavailable as error:
                _log.error("worker.storage", error=str(error))
                pause_s = PAUSE_AFTER_FAILURE_S
            except Exception as error:  # noqa: BLE001  (a lane that ended would leave its jobs lying)
                _log.exception("worker.claim_failed", error=str(error))
                pause_s = PAUSE_AFTER_FAILURE_S
            if len(active) >= lane.limit:
                await asyncio.wait(active, return_when=asyncio.FIRST_COMPLETED)
                continue
            if tasks and lane.gather_s:
                await asyncio.sleep(lane.gather_s)
                pause_s -= lane.gather_s
            if pause_s > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), max(pause_s, lane.gather_s))

    def _begin(self, lane: Lane[T], claimed: T, active: set[asyncio.Task[bool]], wake: asyncio.Event) -> None:
        running = asyncio.create_task(self._carry_out(lane, claimed))
        self._under_way[running] = claimed.claim
        active.add(running)
        running.add_done_callback(active.discard)
        running.add_done_callback(lambda done: self._under_way.pop(done, None))
        running.add_done_callback(lambda done: _wake_after(done, wake))

    async def _claim(self, lane: Lane[T], room: int) -> list[T]:
        claiming = asyncio.ensure_future(lane.claim(room))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            self._cut_off.append(claiming)
            raise

    async def _until_due(self, lane: Lane[T]) -> float:
        """Return seconds to sleep: until the next task is due, `idle_s` at most, never nothing."""
        due_at_ms = await lane.next_due()
        if due_at_ms is None:
            return self._idle_s
        return min(self._idle_s, max(0.001, (due_at_ms - self._clock.now_ms()) / 1000))

    async def _carry_out(self, lane: Lane[T], claimed: T) -> bool:
        """Carry a task out; whether that is a reason to look."""
        claim = claimed.claim
        with bound(task=claim.kind, subject=claim.subject):
            try:
                came_of_it = await lane.step(claimed)
                return lane.looks_after is not None and lane.looks_after(came_of_it)
            except LeaseLost as error:
                _log.warning("worker.lease_lost", error=str(error))
            except StorageUnavailable as error:
                # No fault of the task's: a server that was away for a moment must not cost it half a minute.
                _log.warning("worker.step_not_stored", error=str(error))
                await self._give_back(claim, PAUSE_AFTER_FAILURE_S)
            except Exception as error:  # noqa: BLE001  (one task's bug must not end the others' loop)
                _log.exception("worker.step_failed", error=str(error))
                await self._give_back(claim, GIVE_BACK_S)
        return lane.looks_after is not None

    async def _give_back(self, claim: Claim, pause_s: float) -> None:
        # Not counted as a try: what the task is for was perhaps not even begun. Nor is a count taken back:
        # the step may have stored its result, and failed because it never heard so.
        due_at_ms = self._clock.now_ms() + round(pause_s * 1000)
        with suppress(StorageUnavailable):  # then the lease lapses by itself
            await self._leases.put_off(claim, due_at_ms=due_at_ms)

    async def _release(self, claims: Sequence[Claim]) -> None:
        if not claims:
            return
        with suppress(StorageUnavailable):  # then the leases lapse by themselves
            await self._leases.release(claims)
        _log.warning("worker.given_back", tasks=len(claims))

    async def _heartbeat(self) -> None:
        for lost in await self._leases.heartbeat(list(self._under_way.values())):
            if not any(claim is lost for claim in self._under_way.values()):
                continue  # done meanwhile
            # Its result will be refused; a paid call under way cannot be recalled, and is left to end.
            _log.warning("worker.lease_gone", task=lost.kind, subject=lost.subject)

    async def _repeat(self, interval_s: float, work: Duty) -> None:
        while True:
            try:
                await self._heed_clock()
                await work()
            except StorageUnavailable as error:
                _log.error("worker.storage", error=str(error))
            except Exception as error:  # noqa: BLE001  (a duty that failed once is tried again)
                _log.exception("worker.duty_failed", error=str(error))
            await asyncio.sleep(interval_s)

    async def _heed_clock(self) -> None:
        """Notice a jump of the wall clock before anything is done by it."""
        async with self._heeding:
            jump = self._watch.look()
            if jump is not None:
                _log.warning("clock.jumped", seconds=jump.delta_ms / 1000)
                self._on_jump()
                if self._sole_worker:
                    self._jumps.append(jump)
            while self._jumps:
                first = self._jumps[0]
                moved = await self._leases.shift_due(first.delta_ms, at_ms=first.at_ms)
                _log.warning("clock.heeded", seconds=first.delta_ms / 1000, tasks=moved)
                self._jumps.pop(0)


def _wake_after(done: asyncio.Task[bool], wake: asyncio.Event) -> None:
    if not done.cancelled() and done.result():
        wake.set()
