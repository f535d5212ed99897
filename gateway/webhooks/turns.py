"""Waits for one's turn to send, so that the queue of one lane takes nothing from the others.

The transport could count connections itself, but there waiting for one is part of the call's deadline: a
receiver that is merely slow would be cut short for the queue before it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import AbstractAsyncContextManager

from gateway.webhooks.lanes import target_of
from gateway.webhooks.shares import Pace, Shares


class NoPlaceError(TimeoutError):
    """No place became free in time."""


class Turns:
    """Counts deliveries under way: in all and in each lane as `Shares` has it, and to each host and port.

    Args:
        total: most deliveries at once.
        per_host: most to one endpoint, or to one host and port of jobs' own receivers, whosever they are.
    """

    def __init__(self, *, total: int, per_host: int) -> None:
        self._per_host = per_host
        self._shares = Shares(total=total, per_lane=per_host)
        self._targets: Counter[str] = Counter()
        # Who waits, by lane and owner; the one whose turn was longest ago is first.
        self._queues: dict[tuple[str, str], deque[asyncio.Future[None]]] = {}

    def place(self, lane: str, *, owner: str = "", within_s: float) -> AbstractAsyncContextManager[None]:
        """Hold a place in a lane.

        Raises:
            NoPlaceError: on entering: none became free within `within_s` seconds.
        """
        return _Place(self, lane, owner, within_s)

    def learn(self, lane: str, pace: Pace | None) -> None:
        """Heed how quick a try in a lane was."""
        if self._shares.learn(lane, pace):
            self._call()

    async def enter(self, lane: str, owner: str, *, within_s: float) -> None:
        """Take a place; see `place`."""
        if (lane, owner) not in self._queues and self._may_take(lane, owner):
            self._take(lane, owner)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault((lane, owner), deque()).append(turn)
        try:
            async with asyncio.timeout(within_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # called just as it left
                self.leave(lane, owner)
            else:
                self._drop(lane, owner, turn)
            if isinstance(error, TimeoutError):
                raise NoPlaceError from None
            raise

    def leave(self, lane: str, owner: str) -> None:
        """Give it back."""
        self._shares.put_down(lane, owner)
        target = target_of(lane)
        self._targets[target] -= 1
        if not self._targets[target]:
            del self._targets[target]
        if self._queues:
            self._call_some()  # once: one place is free, and nobody may have more than before

    def _may_take(self, lane: str, owner: str) -> bool:
        return self._targets[target_of(lane)] < self._per_host and self._shares.may_take(lane, owner)

    def _take(self, lane: str, owner: str) -> None:
        self._shares.take(lane, owner)
        self._targets[target_of(lane)] += 1

    def _drop(self, lane: str, owner: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues[lane, owner]
        queue.remove(turn)
        if not queue:
            del self._queues[lane, owner]
        self._call()  # whoever came meanwhile stood behind it

    def _call(self) -> None:
        """Call one of each lane that may have a place, again and again while there are such."""
        while self._queues and not self._shares.full and self._call_some():
            pass

    def _call_some(self) -> bool:
        """Call one of each lane that may have a place, the one called longest ago first; say whether any.

        It is done after each try, and hundreds may wait: what is refused one lane for want of room is not
        asked about for the next of the same owner and pace.
        """
        called, refused = False, set[tuple[str, Pace]]()
        for (lane, owner), queue in list(self._queues.items()):
            if self._targets.get(target_of(lane), 0) >= self._per_host or self._shares.has_its_fill(lane):
                continue
            kind = owner, self._shares.pace(lane)
            if kind in refused:
                continue
            if not self._shares.has_room(*kind):
                refused.add(kind)
                continue
            # Those that are done were cancelled, and drop out when they run.
            turn = next((one for one in queue if not one.done()), None)
            if turn is None:
                continue
            self._take(lane, owner)
            turn.set_result(None)
            called = True
            queue.remove(turn)
            del self._queues[lane, owner]
            if queue:
                self._queues[lane, owner] = queue
        return called


class _Place(AbstractAsyncContextManager[None]):
    """Of a class, not of a generator: every delivery has one, and this costs a quarter."""

    __slots__ = ("_lane", "_owner", "_turns", "_within_s")

    def __init__(self, turns: Turns, lane: str, owner: str, within_s: float) -> None:
        self._turns = turns
        self._lane = lane
        self._owner = owner
        self._within_s = within_s

    async def __aenter__(self) -> None:
        await self._turns.enter(self._lane, self._owner, within_s=self._within_s)

    async def __aexit__(self, *_failed: object) -> None:
        self._turns.leave(self._lane, self._owner)
