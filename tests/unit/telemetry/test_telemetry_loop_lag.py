"""How late an event loop wakes, measured in that loop."""

from __future__ import annotations

import asyncio

import pytest

from gateway.telemetry import Metrics, loop_lag
from gateway.telemetry.loop_lag import LoopLag


class Scripted:
    """A clock that says what it is told, and then the same for ever."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)
        self.asked_for_all = asyncio.Event()

    def now_ms(self) -> int:
        raise AssertionError("the wall clock jumps")

    def monotonic_s(self) -> float:
        if len(self._seconds) == 1:
            self.asked_for_all.set()
            return self._seconds[0]
        return self._seconds.pop(0)


async def test_what_a_sleep_took_beyond_its_length_is_observed_until_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop_lag, "PROBE_S", 0.0)
    metrics = Metrics(version="0", providers=[], models=[], routes=[])
    clock = Scripted(0.0, 3.0, 3.0, 3.0)
    lag = LoopLag(clock, metrics)
    await lag.stop()
    lag.start()
    lag.start()
    async with asyncio.timeout(20):
        await clock.asked_for_all.wait()
    await lag.stop()
    page = metrics.render()[0].decode()
    assert "motion_gateway_event_loop_lag_seconds_sum 3.0" in page
    for _ in range(5):
        await asyncio.sleep(0)
    assert metrics.render()[0].decode() == page
