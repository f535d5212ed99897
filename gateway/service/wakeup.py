"""Tells those who sleep that something may be due."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from gateway.jobs.transitions import TaskKind

EVERY_KIND = frozenset(TaskKind)


class Wakeup:
    """Many sleepers, one call to wake them; a wake-up while nobody sleeps is kept."""

    def __init__(self) -> None:
        self._sleepers: list[tuple[frozenset[TaskKind], asyncio.Event]] = []

    def subscribe(self, kinds: Collection[TaskKind] = EVERY_KIND) -> asyncio.Event:
        """Return an event that `wake` sets when tasks of these kinds may be due; its sleeper clears it."""
        event = asyncio.Event()
        self._sleepers.append((frozenset(kinds), event))
        return event

    def wake(self, kinds: Collection[TaskKind] = EVERY_KIND) -> None:
        """Wake those who sleep until tasks of these kinds are due."""
        for slept_for, event in self._sleepers:
            if not slept_for.isdisjoint(kinds):
                event.set()
