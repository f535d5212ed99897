"""Simulated providers that note which process asked about which run, and when, and can keep it waiting.

Processes are told apart by their credential: give each another one (`known_as`).
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from running_gateway import ADAPTERS, CHARACTER, EMULATIONS, REFERENCE, replaced

from gateway.clock import SystemClock
from gateway.simulator import Simulator, SimulatorServer, media, serve_simulator, studio
from providers.contract.motion import Character, CharacterType, MotionRequest, Reference

PROVIDER = "runway"
_POLL = f"/{PROVIDER}/v1/tasks/"

_SAMPLES = MotionRequest(
    character=Character(type=CharacterType.IMAGE, url=CHARACTER), reference=Reference(url=REFERENCE)
)
_measured = functools.cache(media.measure)


class Asked(NamedTuple):
    """A poll."""

    by: str
    """The process's credential."""
    ref: str
    at_s: float
    """By `time.monotonic`."""


class WatchedSimulator(Simulator):
    """See above.

    Attributes:
        polls: all of Runway's, in the order they came.
        waiting: by credential, the polls that are kept waiting now.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(EMULATIONS, clock=SystemClock(), render=False, **options)
        self.polls: list[Asked] = []
        self.waiting: dict[str, int] = {}
        self._gates: dict[str, asyncio.Event] = {}

    def park(self, credential: str) -> None:
        """Answer no poll of that process until `release`."""
        self._gates[credential] = asyncio.Event()

    def release(self, credential: str) -> None:
        """Answer them, and those to come."""
        self._gates.pop(credential, asyncio.Event()).set()

    def refs_polled(self, by: str, since_s: float) -> dict[str, float]:
        """When each run was first asked about by that process, since then."""
        first: dict[str, float] = {}
        for asked in self.polls:
            if asked.by == by and asked.at_s >= since_s:
                first.setdefault(asked.ref, asked.at_s)
        return first

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "GET" and scope["path"].startswith(_POLL):
            by = _credential(scope)
            self.polls.append(Asked(by, scope["path"].removeprefix(_POLL), time.monotonic()))
            if (gate := self._gates.get(by)) is not None:
                self.waiting[by] = self.waiting.get(by, 0) + 1
                await gate.wait()
                self.waiting[by] -= 1
        await super().asgi(scope, receive, send)


def known_as(environ: Mapping[str, str], credential: str) -> dict[str, str]:
    """The same environment, with another credential."""
    return {**environ, ADAPTERS[PROVIDER].spec.key_env: credential}


def _credential(scope: Any) -> str:
    header: bytes = dict(scope["headers"])[b"authorization"]
    return header.decode("ascii").partition(" ")[2]


@asynccontextmanager
async def open_watched(**options: Any) -> AsyncIterator[tuple[SimulatorServer, WatchedSimulator]]:
    """Serve watched providers until the end; takes `Simulator`'s options."""
    simulator = WatchedSimulator(**options)
    # Decoding the same stand-ins anew for every job would take most of the time.
    with replaced(studio, "measure", _measured):
        await simulator._studio.measure(await simulator._media.load(_SAMPLES))  # once, before a hundred ask
        async with await serve_simulator(simulator) as served:
            try:
                yield served, simulator
            finally:
                for credential in tuple(simulator._gates):
                    simulator.release(credential)
