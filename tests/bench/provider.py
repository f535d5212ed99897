"""The simulated providers as a process of its own: `provider.py PORT CALL_S RUN_S JOBS`.

Each call takes CALL_S seconds; a job runs RUN_S. JOBS of Runway's are there from the beginning, their refs
made of the numbers from 0 on (`ref_of`).
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import sys
from typing import Any

import uvloop

from gateway.clock import SystemClock
from gateway.registry import load_emulations
from gateway.simulator import Simulator, media, serve_simulator, studio
from gateway.simulator.samples import SAMPLE_HOST
from providers.contract.emulation import Create
from providers.contract.motion import Character, CharacterType, MotionRequest, Reference

PROVIDER = "runway"
EMULATIONS = load_emulations()
REQUEST = MotionRequest(
    character=Character(type=CharacterType.IMAGE, url=f"https://{SAMPLE_HOST}/character.png"),
    reference=Reference(url=f"https://{SAMPLE_HOST}/performance.mp4", duration_s=4),
)


def ref_of(number: int) -> str:
    """The ref of a job that is there from the beginning."""
    return EMULATIONS[PROVIDER].ref_of(f"{number:032x}")


class TimedSimulator(Simulator):
    """Answers every call so much later; takes `Simulator`'s options besides."""

    def __init__(self, *, call_s: float, **options: Any) -> None:
        numbers = itertools.count()
        super().__init__(
            EMULATIONS,
            clock=SystemClock(),
            render=False,
            callbacks=False,
            random_bits=lambda _: next(numbers),
            **options,
        )
        self._call_s = call_s

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(self._call_s)
        await super().asgi(scope, receive, send)


async def main() -> None:
    port, call_s, run_s, jobs = sys.argv[1:]
    # Every job has the same media: to read them once is enough, and leaves the cores to what is measured.
    studio.measure = functools.cache(media.measure)  # type: ignore[attr-defined]  # what it imported
    simulator = TimedSimulator(call_s=float(call_s), run_s=float(run_s))
    await simulator._studio.measure(await simulator._media.load(REQUEST))
    for _ in range(int(jobs)):
        job = simulator._mounts[PROVIDER].jobs.accept(Create(request=REQUEST))
        job.began_s -= float(run_s) / 2  # in the middle of its course: nothing changes between two polls
    async with await serve_simulator(simulator, port=int(port)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
