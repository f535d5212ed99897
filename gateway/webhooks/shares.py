"""Who may have the next place: how a sender's places are shared among owners, and lanes slow and quick.

A lane is slow when its last try took long, whatever came of it: what it costs others is the time for which
it holds a place. One that was not tried yet, or whose last try was slow, has one place at a time.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from copy import copy
from enum import IntEnum

from gateway.webhooks.lanes import WaitingLane
from gateway.webhooks.outcome import Outcome

SLOW_S = 3.0
"""From here on a try is slow, seconds; good receivers take what they are told and work on it later."""
GREED = 3
"""An owner may have that many times what is left free: three quarters of all when alone, and the next owner
three quarters of the rest, so that whoever comes finds a place, and nobody is kept waiting by one owner."""
MOST_REMEMBERED = 10_000
"""Lanes whose pace is known; the one that was tried longest ago is forgotten, and new again."""


class Pace(IntEnum):
    """How quick a lane's last try was, the slowest first."""

    SLOW = 0
    NEW = 1
    QUICK = 2


_FROM = {pace: tuple(kind for kind in Pace if kind >= pace) for pace in Pace}
"""A pace, and those that are quicker: a place of one is counted for each of these."""
_NONE: Mapping[Pace, int] = dict.fromkeys(Pace, 0)


def pace_of(outcome: Outcome, took_s: float) -> Pace | None:
    """What a try says of its lane; None when nothing: it was not asked."""
    if outcome is Outcome.BUSY:
        return None
    return Pace.SLOW if outcome is Outcome.TIMEOUT or took_s >= SLOW_S else Pace.QUICK


def bounds(*, total: int, at_once: int) -> dict[Pace, int]:
    """Most places of lanes of each pace, those slower than it included.

    Slow ones together have half, and a quarter is for none but quick ones.

    Args:
        total: places.
        at_once: how many deliveries can be under way. Lanes with one place at a time need no waiting room.
    """
    return {Pace.SLOW: max(1, at_once // 2), Pace.NEW: max(1, at_once * 3 // 4), Pace.QUICK: total}


def fits(pace: Pace, *, most: Mapping[Pace, int], taken: Mapping[Pace, int], own: Mapping[Pace, int]) -> bool:
    """Whether a lane of this pace may have one place more.

    Args:
        pace: the lane's.
        most: as `bounds` gives it.
        taken: places that are taken, by pace, those of slower lanes included.
        own: those of them that the lane's owner has.
    """
    return all(
        own[kind] < GREED * (most[kind] - taken[kind])  # so there is one left, too
        for kind in _FROM[pace]
    )


class Shares:
    """Counts places, and says who may have the next.

    Args:
        total: places.
        per_lane: most of one quick lane.
        at_once: how many deliveries can be under way; None: `total`.
    """

    def __init__(self, *, total: int, per_lane: int, at_once: int | None = None) -> None:
        self._per_lane = per_lane
        self._most = bounds(total=total, at_once=total if at_once is None else at_once)
        self._taken: Counter[Pace] = Counter()
        self._owners: dict[str, Counter[Pace]] = {}
        self._lanes: dict[str, Counter[str]] = {}  # by owner: a lane that an older version named may have two
        self._paces: dict[str, Pace] = {}

    def copied(self) -> Shares:
        """Return one like it, for another thread to deal from: what it counts on the way is its own.

        Paces are shared, and only looked up there.
        """
        other = copy(self)
        other._taken = Counter(self._taken)  # noqa: SLF001 - it is one of us
        other._owners = {owner: Counter(own) for owner, own in self._owners.items()}  # noqa: SLF001
        other._lanes = {lane: Counter(owners) for lane, owners in self._lanes.items()}  # noqa: SLF001
        return other

    @property
    def full(self) -> bool:
        """Whether nobody may have a place."""
        return self._taken[Pace.QUICK] >= self._most[Pace.QUICK]

    def may_take(self, lane: str, owner: str) -> bool:
        """Whether a lane may have one place more."""
        return not self.has_its_fill(lane) and self.has_room(owner, self.pace(lane))

    def has_its_fill(self, lane: str) -> bool:
        """Whether a lane has as many places as one may have, however many are free."""
        return self._held(lane) >= (self._per_lane if self.pace(lane) is Pace.QUICK else 1)

    def has_room(self, owner: str, pace: Pace) -> bool:
        """Whether there is a place for a lane of this owner and pace."""
        own = self._owners.get(owner)
        return fits(pace, most=self._most, taken=self._taken, own=_NONE if own is None else own)

    def pace(self, lane: str) -> Pace:
        """How quick a lane's last try was, as far as is known."""
        return self._paces.get(lane, Pace.NEW)

    def take(self, lane: str, owner: str) -> None:
        """Count a place as taken."""
        self._lanes.setdefault(lane, Counter())[owner] += 1
        self._count(self.pace(lane), owner, 1)

    def put_down(self, lane: str, owner: str) -> None:
        """Count it as free again."""
        owners = self._lanes[lane]
        owners[owner] -= 1
        if not owners[owner]:
            del owners[owner]
        if not owners:
            del self._lanes[lane]
        self._count(self.pace(lane), owner, -1)

    def learn(self, lane: str, pace: Pace | None) -> bool:
        """Heed how quick a try was; None says nothing. Returns whether that changed anything."""
        if pace is None:
            return False
        if self._paces.get(lane) is pace:
            self._paces[lane] = self._paces.pop(lane)  # last: the first is the one to be forgotten
            return False
        self._repace(lane, pace)
        while len(self._paces) > MOST_REMEMBERED:
            self._repace(next(iter(self._paces)), None)
        return True

    def deal(self, waiting: Sequence[WaitingLane], limit: int) -> dict[str, int]:
        """Hand places out in turns: to the owner with the fewest, and of its lanes to one after the other.

        Nothing is counted as taken.

        Args:
            waiting: lanes that want some.
            limit: most of all.

        Returns:
            How many each may take, of those that may.
        """
        turns: dict[str, deque[str]] = {}
        for one in sorted(waiting, key=lambda one: (self._held(one.lane), one.due_at_ms)):
            turns.setdefault(one.owner, deque()).append(one.lane)
        owners = [(self._held_by(owner), place, owner) for place, owner in enumerate(turns)]
        heapq.heapify(owners)
        dealt: list[tuple[str, str]] = []
        while owners and len(dealt) < limit:
            held, place, owner = owners[0]
            lane = self._next(turns[owner], owner)
            if lane is None:
                heapq.heappop(owners)
                continue
            self.take(lane, owner)
            dealt.append((lane, owner))
            heapq.heapreplace(owners, (held + 1, place, owner))
        for lane, owner in dealt:
            self.put_down(lane, owner)
        return dict(Counter(lane for lane, _ in dealt))

    def _next(self, lanes: deque[str], owner: str) -> str | None:
        """Return the first lane that may have one, and put it last; those that may not drop out."""
        while lanes:
            lane = lanes.popleft()
            if self.may_take(lane, owner):
                lanes.append(lane)
                return lane
        return None

    def _held(self, lane: str) -> int:
        owners = self._lanes.get(lane)
        return 0 if owners is None else owners.total()

    def _held_by(self, owner: str) -> int:
        own = self._owners.get(owner)
        return 0 if own is None else own[Pace.QUICK]

    def _repace(self, lane: str, pace: Pace | None) -> None:
        """Count what a lane holds under its new pace; None: its pace is forgotten."""
        holders = self._lanes.get(lane, Counter[str]())
        for owner, places in holders.items():
            self._count(self.pace(lane), owner, -places)
        self._paces.pop(lane, None)
        if pace is not None:
            self._paces[lane] = pace  # last: the first is the one to be forgotten
        for owner, places in holders.items():
            self._count(self.pace(lane), owner, places)

    def _count(self, pace: Pace, owner: str, places: int) -> None:
        own = self._owners.get(owner)
        if own is None:
            own = self._owners[owner] = Counter()
        for kind in _FROM[pace]:
            self._taken[kind] += places
            own[kind] += places
        if not own[Pace.QUICK]:
            del self._owners[owner]
