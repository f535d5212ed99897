"""What flow tests share: simulated providers on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.metadata import entry_points
from random import Random
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.simulator import Simulator, SimulatorServer, serve_simulator

StartSimulator = Callable[..., Awaitable[SimulatorServer]]


@pytest.fixture
async def simulator_server() -> AsyncIterator[StartSimulator]:
    """Start simulators of every emulation installed; they stop with the test.

    The factory takes `Simulator`'s own options; unless they say otherwise jobs run 0.2 s, without real films.
    """
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> SimulatorServer:
            emulations = {
                point.name: point.load() for point in entry_points(group="motion_gateway.emulations")
            }
            chosen: dict[str, Any] = {
                "clock": SystemClock(),
                "run_s": 0.2,
                "render": False,
                "random_bits": Random(7).getrandbits,  # noqa: S311 - the same refs in every run
            }
            simulator = Simulator(emulations, **(chosen | options))
            return await stack.enter_async_context(await serve_simulator(simulator))

        yield start
