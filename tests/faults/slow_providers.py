"""Simulated providers that make a crash cost most: they take a job at once, and say so late."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from running_gateway import EMULATIONS, replaced

from gateway.clock import SystemClock
from gateway.simulator import Simulator, SimulatorServer, media, serve_simulator, studio
from gateway.simulator.jobs import Job, Jobs
from providers.contract.emulation import Create

ENDLESS = "endless"
"""In a character's URL: the job runs until it is cancelled."""
HOUR_S = 3600.0

# Decoding the same stand-ins anew for every job would take most of a storm's time.
_measured = functools.cache(media.measure)


class SlowSimulator(Simulator):
    """Takes a job at once and says so `answer_s` later; see `Simulator` for the rest.

    Attributes:
        most_in_flight: runs that were on their course at once at one provider, at most.
    """

    def __init__(self, *, answer_s: float = 0.15, **options: Any) -> None:
        super().__init__(EMULATIONS, clock=SystemClock(), render=False, **options)
        self._answer_s = answer_s
        self.most_in_flight = 0
        for mount in self._mounts.values():
            mount.jobs.accept = functools.partial(self._accept, mount.jobs)  # type: ignore[method-assign]  # a fault

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        async def late(message: Any) -> None:
            if scope["method"] == "POST" and message["type"] == "http.response.start":
                await asyncio.sleep(self._answer_s)
            await send(message)

        await super().asgi(scope, receive, late)

    def _accept(self, jobs: Jobs, create: Create) -> Job:
        job = Jobs.accept(jobs, create)
        if ENDLESS in create.request.character.url:
            job.began_s += HOUR_S
        in_flight = sum(not jobs.finished(one) for one in jobs._jobs.values())
        self.most_in_flight = max(self.most_in_flight, in_flight)
        return job


@asynccontextmanager
async def open_providers(**options: Any) -> AsyncIterator[SimulatorServer]:
    """Serve slow providers until the end; takes `SlowSimulator`'s options."""
    with replaced(studio, "measure", _measured):
        async with await serve_simulator(SlowSimulator(**options)) as served:
            yield served


def most_in_flight(served: SimulatorServer) -> int:
    """How many runs were on their course at once at one provider, at most."""
    simulator = served.simulator
    assert isinstance(simulator, SlowSimulator)
    return simulator.most_in_flight
