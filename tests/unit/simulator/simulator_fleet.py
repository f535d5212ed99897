"""Every emulation there is, called through its own adapter; time stands still unless a test moves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from random import Random
from typing import Any

import httpx

from gateway.simulator import FaultRule, FaultScript, Simulator
from gateway.simulator.samples import SAMPLE_HOST, sample_character, sample_performance
from providers.contract.adapter import Adapter, CallContext
from providers.contract.emulation import Emulation
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.motion import Character, CharacterType, MotionRequest, Reference
from providers.contract.report import Observation

EMULATIONS: dict[str, Emulation] = {
    point.name: point.load() for point in entry_points(group="motion_gateway.emulations")
}
ADAPTERS: dict[str, Adapter] = {
    point.name: point.load() for point in entry_points(group="motion_gateway.providers")
}
NAMES = sorted(EMULATIONS)
CANCELLABLE = [name for name in NAMES if ADAPTERS[name].build_cancel is not None]

# Drawn before any test counts seconds.
sample_character()
sample_performance()

CHARACTER_URL = f"https://{SAMPLE_HOST}/character.png"
REFERENCE_URL = f"https://{SAMPLE_HOST}/performance.mp4"
PUBLIC_URL = "https://simulator.test"
RUN_S = 10.0


class FakeClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now_ms(self) -> int:
        return 1_790_000_000_000 + round(self.now_s * 1000)

    def monotonic_s(self) -> float:
        return self.now_s


def asking(character: str = CHARACTER_URL, reference: str = REFERENCE_URL, **options: Any) -> MotionRequest:
    return MotionRequest(
        character=Character(type=CharacterType.IMAGE, url=character),
        reference=Reference(url=reference),
        **options,
    )


def script(fault: str, operation: Any = "create", **options: Any) -> FaultScript:
    return FaultScript(rules=(FaultRule(operation=operation, fault=fault, **options),))


async def settled(simulator: Simulator) -> None:
    """Wait until every film under way is made, or will never be."""
    for mount in simulator._mounts.values():
        await asyncio.gather(*mount._making._tasks.values(), return_exceptions=True)


class Caller:
    """Calls one simulated provider the way the gateway will."""

    def __init__(self, name: str, http: httpx.AsyncClient) -> None:
        self.name, self.http, self.adapter = name, http, ADAPTERS[name]

    def context(self, ref: str = "") -> CallContext:
        spec = self.adapter.spec
        return CallContext(
            model=spec.models[0], attempt_id="att_test", options=spec.default_options(), ref=ref
        )

    def prepared(self, request: HttpRequest) -> httpx.Request:
        spec = self.adapter.spec
        auth = spec.auth_for(spec.default_options())
        headers = dict(spec.fixed_headers) | dict(request.headers) | {auth.header: f"{auth.prefix}key_test"}
        url = f"/{self.name}{request.target}"
        return self.http.build_request(request.method, url, headers=headers, json=request.json)

    def submission(self, asked: MotionRequest | None = None) -> httpx.Request:
        return self.prepared(self.adapter.build_submit(asked or asking(), self.context()))

    def question(self, ref: str) -> httpx.Request:
        return self.prepared(self.adapter.build_poll(self.context(ref)))

    async def submit(self, asked: MotionRequest | None = None) -> httpx.Response:
        return await self.http.send(self.submission(asked))

    async def submitted(self, asked: MotionRequest | None = None) -> str:
        """The ref of a job that was taken on."""
        response = await self.submit(asked)
        assert response.status_code < 300, response.text
        return self.adapter.parse_submit(read(response)).ref

    async def poll(self, ref: str) -> httpx.Response:
        return await self.http.send(self.question(ref))

    async def seen(self, ref: str) -> Observation:
        return self.adapter.parse_poll(read(await self.poll(ref)))

    async def cancel(self, ref: str) -> httpx.Response:
        assert self.adapter.build_cancel is not None
        return await self.http.send(self.prepared(self.adapter.build_cancel(self.context(ref))))

    async def download(self, observed: Observation) -> httpx.Response:
        (url,) = observed.outputs
        return await self.http.get(url.removeprefix(PUBLIC_URL))


def read(response: httpx.Response) -> HttpResponse:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return HttpResponse(status=response.status_code, headers=headers, body=response.content)


class Fleet:
    """A simulator in this process, and callers to its providers."""

    def __init__(self, simulator: Simulator, http: httpx.AsyncClient, clock: FakeClock) -> None:
        self.simulator, self.http, self.clock = simulator, http, clock

    def __getitem__(self, name: str) -> Caller:
        return Caller(name, self.http)

    async def finish(self) -> None:
        """Let all jobs come to their end."""
        await settled(self.simulator)
        self.clock.now_s += RUN_S

    async def stats(self) -> dict[str, Any]:
        counted: dict[str, Any] = (await self.http.get("/_stats")).json()
        return counted


def fast_simulator(clock: Any, emulations: Mapping[str, Emulation] = EMULATIONS, **options: Any) -> Simulator:
    bits = Random(7).getrandbits  # noqa: S311 - the same refs in every run
    chosen: dict[str, Any] = {"run_s": RUN_S, "render": False, "random_bits": bits}
    return Simulator(emulations, clock=clock, **(chosen | options))


@asynccontextmanager
async def fleet(emulations: Mapping[str, Emulation] = EMULATIONS, **options: Any) -> AsyncIterator[Fleet]:
    clock = FakeClock()
    simulator = fast_simulator(clock, emulations, public_url=PUBLIC_URL, **options)
    await simulator.start()
    transport = httpx.ASGITransport(app=simulator.asgi)
    try:
        async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
            yield Fleet(simulator, http, clock)
    finally:
        await simulator.stop()
