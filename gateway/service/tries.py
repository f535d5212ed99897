"""How attempts fared lately, by the store: the same whoever carried them out, and after any restart."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from gateway.clock import Clock
from gateway.jobs.job import AttemptState
from gateway.routing.account import Account
from gateway.storage import attempts as attempt_rows
from gateway.storage.engine import Database

WITHIN_S: Final = 3600
MOST: Final = 5000
"""Attempts looked at, the latest; a page is no reason to read more."""
_UNDER_WAY: Final = frozenset({AttemptState.SUBMITTING, AttemptState.ACCEPTED})


class Tally(Struct, frozen=True, kw_only=True):
    """An account's attempts that were begun lately."""

    under_way: int = 0
    succeeded: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0
    unknown: int = 0
    """Of these nobody knows whether they were made."""

    @property
    def error_rate(self) -> float | None:
        """The part of those that ended which went wrong; None where none ended."""
        wrong = self.failed + self.refused + self.unknown
        ended = wrong + self.succeeded + self.cancelled
        return wrong / ended if ended else None


class Tries:
    """Counts attempts.

    Args:
        database: where.
        clock: says what is lately.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def lately(self) -> dict[Account, Tally]:
        """Count what was begun within the last hour, by account."""
        since_ms = self._clock.now_ms() - WITHIN_S * 1000
        found = await self._database.read(
            lambda connection: attempt_rows.tally(connection, since_ms=since_ms, limit=MOST)
        )
        counted: dict[Account, dict[str, int]] = {}
        for (provider, account, state), count in found.items():
            word = "under_way" if state in _UNDER_WAY else state
            of_account = counted.setdefault((provider, account), {})
            of_account[word] = of_account.get(word, 0) + count
        return {account: Tally(**counts) for account, counts in counted.items()}
