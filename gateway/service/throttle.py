"""How often a key may ask: exact over all routes and all processes, since the state is a row of the database.

Requests of one key that come while a transaction is under way share the next one, which lets through as many
as fit. A key that has used all it has is refused from memory until it has something again: the state only
ever rises, so that nobody else can have made room meanwhile.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.routing import gcra
from gateway.routing.gcra import NS_PER_MS, Admitted
from gateway.settings.rates import Rate
from gateway.storage import limits as limit_rows
from gateway.storage.batching import Batched
from gateway.storage.engine import Database

BATCH: Final = 1024
REMEMBERED: Final = 4096
"""Keys that are refused from memory, at most."""


class Taken(Struct, frozen=True, kw_only=True):
    """What became of a request."""

    rate: Rate
    admitted: bool
    remaining: int
    """Requests that the key may send right after it."""
    reset_s: float
    """Seconds until it may send as many as ever; where none remains, until it may send one."""


class _Asked(Struct, frozen=True):
    key_id: str
    rate: Rate


class _Empty(Struct, frozen=True):
    """A key that has nothing left."""

    rate: Rate
    arrival_ns: int
    since_ns: int
    until_ns: int


class Throttle:
    """Counts the requests of keys that have a rate.

    Args:
        database: where.
        clock: the database's.
        default: the rate of keys that have none of their own; None lets them ask as often as they like.
    """

    def __init__(self, database: Database, clock: Clock, *, default: Rate | None = None) -> None:
        self._database = database
        self._clock = clock
        self._default = default
        self._empty: dict[str, _Empty] = {}
        self._counted = Batched(self._count, limit=BATCH)

    async def take(self, key_id: str, rate: Rate | None) -> Taken | None:
        """Count a request; None when the key has no rate.

        Raises:
            StorageUnavailable: it could not be counted.
        """
        rate = rate or self._default
        if rate is None:
            return None
        empty = self._empty.get(key_id)
        if empty is not None:
            now_ns = self._clock.now_ms() * NS_PER_MS
            # A clock that was set back is no reason to refuse: then the row is asked.
            if empty.rate == rate and empty.since_ns <= now_ns < empty.until_ns:
                return _taken(rate, empty.arrival_ns, now_ns, admitted=False)
            del self._empty[key_id]
        return await self._counted(_Asked(key_id, rate))

    async def _count(self, batch: list[_Asked]) -> list[Taken]:
        now_ns = self._clock.now_ms() * NS_PER_MS
        wanted: dict[str, int] = {}
        rates: dict[str, Rate] = {}
        for asked in batch:
            wanted[asked.key_id] = wanted.get(asked.key_id, 0) + 1
            rates[asked.key_id] = asked.rate  # the latest, should it have been changed just now

        def operation(connection: Connection) -> dict[str, Admitted]:
            arrivals = limit_rows.lock_arrivals(connection, wanted)
            admitted = {
                key_id: gcra.admit(rates[key_id], arrivals[key_id], now_ns=now_ns, wanted=count)
                for key_id, count in wanted.items()
            }
            changed = {key: one.after_ns for key, one in admitted.items() if one.after_ns != arrivals[key]}
            limit_rows.save_arrivals(connection, changed)
            return admitted

        # Vital, so that results can still be read on a full disk: it writes one row in place.
        admitted = await self._database.write(operation)
        for key_id, one in admitted.items():
            self._remember(key_id, rates[key_id], one, now_ns)
        seen: dict[str, int] = {}
        results: list[Taken] = []
        for asked in batch:
            number = seen[asked.key_id] = seen.get(asked.key_id, 0) + 1
            results.append(_of(rates[asked.key_id], admitted[asked.key_id], number, now_ns))
        return results

    def _remember(self, key_id: str, rate: Rate, admitted: Admitted, now_ns: int) -> None:
        left = gcra.standing(rate, admitted.after_ns, now_ns=now_ns)
        if left.remaining:
            return
        if len(self._empty) >= REMEMBERED:
            self._empty.clear()
        until_ns = admitted.after_ns - (rate.count - 1) * gcra.step_ns(rate)
        self._empty[key_id] = _Empty(rate, admitted.after_ns, now_ns, until_ns)


def _of(rate: Rate, admitted: Admitted, number: int, now_ns: int) -> Taken:
    """Tell the request that came as this number, from one, how it fared."""
    let_through = number <= admitted.count
    arrival_ns = admitted.before_ns + number * gcra.step_ns(rate) if let_through else admitted.after_ns
    return _taken(rate, arrival_ns, now_ns, admitted=let_through)


def _taken(rate: Rate, arrival_ns: int, now_ns: int, *, admitted: bool) -> Taken:
    left = gcra.standing(rate, arrival_ns, now_ns=now_ns)
    return Taken(rate=rate, admitted=admitted, remaining=left.remaining, reset_s=left.reset_s)
