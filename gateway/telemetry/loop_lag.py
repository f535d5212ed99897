"""Measures by how much the event loop wakes late: whatever the process does is late by as much."""

from __future__ import annotations

import asyncio

from gateway.clock import Clock
from gateway.telemetry.metrics import Metrics

PROBE_S = 0.5


class LoopLag:
    """A sleep, again and again.

    Args:
        clock: says how long each took.
        metrics: has the histogram.
    """

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to measure this loop; once is enough."""
        if self._task is None:
            self._task = asyncio.create_task(self._measure())

    async def stop(self) -> None:
        """Measure no more."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.wait([task])

    async def _measure(self) -> None:
        while True:
            before_s = self._clock.monotonic_s()
            await asyncio.sleep(PROBE_S)
            late_s = self._clock.monotonic_s() - before_s - PROBE_S
            self._metrics.event_loop_lag_seconds.observe(max(0.0, late_s))
