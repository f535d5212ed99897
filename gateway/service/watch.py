"""Those who watch jobs: one look at the database each half second tells all of them whose jobs moved.

Whoever polls a job may be another process, and processes tell each other nothing, so that the database is
asked: for all watched jobs in one statement, however many watch. What this process commits itself is looked
at soon after. A look wakes those concerned; nothing is queued for them, so that one who is slow holds no
memory, and finds what happened meanwhile when it asks. Heartbeats and the ends of waits go by one timer.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from msgspec import Struct

from gateway.clock import Clock
from gateway.errors import Refusal, StorageUnavailable
from gateway.storage.engine import Database
from gateway.storage.watched import Stamp, look
from gateway.telemetry import get_logger

_log = get_logger("gateway.watch")

TICK_S: Final = 0.5
"""Between two looks at everything that is watched."""
GATHER_S: Final = 0.02
"""How long a commit of this process waits for others, to be looked at together."""
AGAIN_S: Final = 5
"""What those are told to wait for whom there is no place, seconds; and as much again, at random."""
WATCHERS: Final = "watchers"
"""The name of the policy, as problem documents and metrics have it."""
GONE: Final = Stamp(sequence=0, progress=None, ended=True)
"""How a job stands that is not there any more."""


class Kind(StrEnum):
    """How somebody watches."""

    STREAM = "stream"
    WAIT = "wait"


class Places(Struct, frozen=True, kw_only=True):
    """How many may watch."""

    all: int
    per_owner: int


class Watcher:
    """Somebody who watches a job.

    Attributes:
        gone: nobody listens any more.
        news: the job moved since this was last set to False.
    """

    def __init__(self, kind: Kind, owner: str) -> None:
        self.kind, self.owner = kind, owner
        self.job_id = ""
        self.gone = False
        self.news = False
        self.due_s = math.inf
        self.topic: _Topic | None = None
        self._woken = asyncio.Event()

    @property
    def stamp(self) -> Stamp | None:
        """How the job stood when it was last looked at; None before the first look."""
        return None if self.topic is None else self.topic.stamp

    def wake(self, *, news: bool = False) -> None:
        """Let it look around."""
        self.news = self.news or news
        self._woken.set()

    def leave(self) -> None:
        """Note that nobody listens any more."""
        self.gone = True
        self.wake()

    async def woken(self, *, by_s: float) -> None:
        """Sleep until there is something to look at, or until that time of the monotonic clock."""
        self.due_s = by_s
        await self._woken.wait()
        self._woken.clear()


class _Topic:
    """A job that is watched."""

    def __init__(self) -> None:
        self.stamp: Stamp | None = None
        self.watchers: set[Watcher] = set()


class Watch:
    """All who watch, in this process.

    Args:
        database: where the jobs are.
        clock: says when heartbeats are due and waits are over.
        places: how many may watch.
        on_count: told how many of a kind watch, whenever that changes.
        on_denied: told of each one for whom there was no place, by policy.
        spread: random numbers from 0 to 1, for what those are told to wait.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        places: Places,
        *,
        on_count: Callable[[str, int], None],
        on_denied: Callable[[str], None],
        spread: Callable[[], float],
    ) -> None:
        self._database = database
        self._clock = clock
        self._places = places
        self._on_count = on_count
        self._on_denied = on_denied
        self._spread = spread
        self._watchers: set[Watcher] = set()
        self._topics: dict[str, _Topic] = {}
        self._by_owner: Counter[str] = Counter()
        self._by_kind: Counter[Kind] = Counter()
        self._moved: set[str] = set()
        self._something_moved = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._blind = False
        self.stopping = False
        """Whether nobody is to watch any longer."""

    @contextmanager
    def place(self, kind: Kind, owner: str) -> Generator[Watcher]:
        """Give somebody a place, for as long as the block lasts.

        Raises:
            Refusal: `temporary-reduced-capacity`, there is none.
        """
        self._check_room(kind, owner)
        watcher = Watcher(kind, owner)
        self._watchers.add(watcher)
        self._count(watcher, 1)
        self._start()
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            self._count(watcher, -1)
            self._forget(watcher)

    def follow(self, watcher: Watcher, job_id: str, *, look: bool) -> None:
        """Let a watcher know when the job moves.

        Args:
            watcher: who.
            job_id: the job.
            look: whether it needs to be told at once how the job stands.
        """
        watcher.job_id = job_id
        watcher.topic = self._topics.setdefault(job_id, _Topic())
        watcher.topic.watchers.add(watcher)
        if look:
            self.moved(job_id)

    def moved(self, job_id: str) -> None:
        """Hear that this process changed a job, or that somebody must know how it stands."""
        if job_id in self._topics:
            self._moved.add(job_id)
            self._something_moved.set()

    def seen(self, watcher: Watcher, stamp: Stamp | None) -> None:
        """Hear how a watcher found its job by itself, before any look; None: it could not read it.

        After that the next look that succeeds is news to it, and what anybody finds is news to the others.
        """
        topic = watcher.topic
        if topic is None or (stamp is not None and topic.stamp is not None):
            return
        topic.stamp = stamp
        if stamp is not None:
            for other in topic.watchers - {watcher}:  # one of them may be why there was none
                other.wake(news=True)

    async def ended(self, watcher: Watcher, *, within_s: float) -> bool:
        """Wait for a job to end; False when it did not in that time, or when waiting makes no sense."""
        until_s = self._clock.monotonic_s() + within_s
        while True:
            if watcher.stamp is not None and watcher.stamp.ended:
                return True
            if watcher.gone or self.stopping or self._clock.monotonic_s() >= until_s:
                return False
            await watcher.woken(by_s=until_s)

    def stop(self) -> None:
        """Send everybody away, and let nobody in any more."""
        self.stopping = True
        for watcher in self._watchers:
            watcher.wake()

    async def close(self) -> None:
        """Stop, and look no more."""
        self.stop()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _check_room(self, kind: Kind, owner: str) -> None:
        again_s = AGAIN_S + round(AGAIN_S * self._spread())
        headers = {"Retry-After": str(again_s)}
        if self.stopping and kind is Kind.STREAM:
            raise Refusal("temporary-reduced-capacity", "The gateway is stopping.", headers=headers)
        if len(self._watchers) >= self._places.all:
            detail = f"{self._places.all} requests wait for jobs or watch them here, as many as may."
        elif self._by_owner[owner] >= self._places.per_owner:
            detail = f"{self._places.per_owner} of your requests wait for jobs or watch them, as many as may."
        else:
            return
        self._on_denied(WATCHERS)
        raise Refusal("temporary-reduced-capacity", detail, headers=headers, policies=(WATCHERS,))

    def _count(self, watcher: Watcher, change: int) -> None:
        self._by_kind[watcher.kind] += change
        self._by_owner[watcher.owner] += change
        if not self._by_owner[watcher.owner]:
            del self._by_owner[watcher.owner]
        self._on_count(watcher.kind, self._by_kind[watcher.kind])

    def _forget(self, watcher: Watcher) -> None:
        topic = watcher.topic
        if topic is None:
            return
        topic.watchers.discard(watcher)
        if not topic.watchers:
            del self._topics[watcher.job_id]

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._for_ever(each)) for each in (self._keep_looking, self._keep_time)
            ]

    async def _for_ever(self, turn: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await turn()
            except Exception as error:  # noqa: BLE001  (were it to end, everybody would wait for ever)
                _log.exception("watch.failed", error=repr(error))
                await asyncio.sleep(TICK_S)

    async def _keep_looking(self) -> None:
        """Look at everything, then for the rest of the tick at what moves here."""
        loop = asyncio.get_running_loop()
        tick_s = loop.time() + TICK_S
        await self._look(list(self._topics))
        while loop.time() < tick_s:
            try:
                async with asyncio.timeout_at(tick_s):
                    await self._something_moved.wait()
            except TimeoutError:
                return
            await asyncio.sleep(GATHER_S)
            moved, self._moved = self._moved, set()
            self._something_moved.clear()
            await self._look([job_id for job_id in moved if job_id in self._topics])

    async def _look(self, job_ids: list[str]) -> None:
        if not job_ids:
            return
        try:
            found = await self._database.read(lambda connection: look(connection, job_ids))
        except StorageUnavailable as error:
            if not self._blind:
                _log.warning("watch.blind", error=str(error), watched=len(self._topics))
            self._blind = True
            return
        self._blind = False
        for job_id in job_ids:
            topic, stamp = self._topics.get(job_id), found.get(job_id, GONE)
            if topic is not None and topic.stamp != stamp:
                topic.stamp = stamp
                for watcher in topic.watchers:
                    watcher.wake(news=True)

    async def _keep_time(self) -> None:
        """Wake those whose time has come, then sleep for a tick, or until the next wait is over."""
        now_s = self._clock.monotonic_s()
        next_s = now_s + TICK_S
        for watcher in self._watchers:
            if watcher.due_s <= now_s:
                watcher.due_s = math.inf
                watcher.wake()
            elif watcher.kind is Kind.WAIT:  # a heartbeat may be late; an answer should not be
                next_s = min(next_s, watcher.due_s)
        await asyncio.sleep(max(next_s - now_s, GATHER_S))
