"""Tells those who sleep that something may be due."""

from __future__ import annotations

import asyncio


class Wakeup:
    """Many sleepers, one call to wake them all; a wake-up while nobody sleeps is kept."""

    def __init__(self) -> None:
        self._events: list[asyncio.Event] = []

    def subscribe(self) -> asyncio.Event:
        """Return an event that every `wake` sets; its sleeper clears it."""
        event = asyncio.Event()
        self._events.append(event)
        return event

    def wake(self) -> None:
        """Wake everybody."""
        for event in self._events:
            event.set()
