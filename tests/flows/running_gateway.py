"""A whole gateway on loopback in the test's own loop, simulated providers behind it, a client with a key."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.api.server import bind, build_server, url_of
from gateway.app.gateway import Gateway
from gateway.clock import SystemClock
from gateway.registry import Registry, load_adapters, load_emulations
from gateway.service.keys import CreatedKey, Scope
from gateway.settings import load
from gateway.simulator import FaultRule, FaultScript, SimulatorServer
from gateway.simulator.samples import SAMPLE_HOST
from gateway.telemetry.tracing import Tracing
from providers.contract.adapter import Adapter

Document = dict[str, Any]
StartSimulator = Callable[..., Awaitable[SimulatorServer]]
StartGateway = Callable[..., Awaitable["RunningGateway"]]

REGISTRY = load_adapters()
ADAPTERS: Mapping[str, Adapter] = REGISTRY.adapters
EMULATIONS = load_emulations()
PROVIDERS = tuple(ADAPTERS)

CHARACTER = f"https://{SAMPLE_HOST}/character.png"
REFERENCE = f"https://{SAMPLE_HOST}/performance.mp4"
PROVIDER_KEY = "not-a-real-provider-key"

PATIENCE_S = 20.0
"""How long a test waits for what must happen; never reached when it does."""
BOTH_ENGINES = pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)
"""For tests, or whole modules (`pytestmark`), that use `start_gateway` or `database_url`."""
ENDED = frozenset({"succeeded", "failed", "cancelled"})


class JumpClock:
    """The machine's clocks, moved at will: both, as time passes, or the wall clock alone, as hands set it."""

    def __init__(self) -> None:
        self._real = SystemClock()
        self._ahead_s = 0.0
        self._set_by_s = 0.0

    def now_ms(self) -> int:
        return self._real.now_ms() + round((self._ahead_s + self._set_by_s) * 1000)

    def monotonic_s(self) -> float:
        return self._real.monotonic_s() + self._ahead_s

    def jump(self, seconds: float) -> None:
        self._ahead_s += seconds

    def set_wall(self, seconds: float) -> None:
        """Move the wall clock alone; negative is backward."""
        self._set_by_s += seconds


def asked(provider: str | None = None, *, character: str = CHARACTER, **changes: Any) -> Document:
    """A job's body, for one provider or for any."""
    body: Document = {
        "character": {"type": "image", "url": character},
        "reference": {"type": "video", "url": REFERENCE, "duration_s": 4},
    }
    if provider is not None:
        body["routing"] = {"providers": [provider]}
    return body | changes


def environment(folder: Path, base_urls: Mapping[str, str], **settings: str) -> dict[str, str]:
    """The environment of a gateway with an account at each of these providers, quick enough for tests.

    Args:
        folder: where its database is.
        base_urls: by provider.
        settings: further ones, `WEBHOOKS__ALLOW_HTTP="true"`.
    """
    chosen = {
        "DATABASE": f"sqlite:///{folder}/gateway.db",
        "SECRET_KEY": "a key for tests",  # the same for every process that shares a database
        "WORKER__IDLE_S": "0.02",
        "WORKER__STOP_S": "5",
        **{f"PROVIDERS__{name.upper()}__POLL_SCALE": "0.01" for name in base_urls},
        **settings,
    }
    environ = {f"MOTION_GATEWAY_{name}": value for name, value in chosen.items()}
    for name, url in base_urls.items():
        spec = ADAPTERS[name].spec
        environ |= {spec.key_env: PROVIDER_KEY, spec.base_url_env: url}
    return environ


class RunningGateway:
    """A gateway that serves and works.

    Attributes:
        gateway: the process's own view.
        url: where it is reached.
        client: sends `key`.
        key: with the scopes jobs and metrics, of the owner `tester`.
        simulator: the providers.
    """

    def __init__(
        self,
        gateway: Gateway,
        url: str,
        client: httpx.AsyncClient,
        key: CreatedKey,
        simulator: SimulatorServer,
    ) -> None:
        self.gateway, self.url, self.client, self.key, self.simulator = gateway, url, client, key, simulator
        self._news = gateway.parts.wakeup.subscribe()

    async def accept(self, provider: str | None = None, *, key: str | None = None, **changes: Any) -> str:
        """Post a job that must be accepted; its id."""
        headers = {} if key is None else {"Idempotency-Key": key}
        reply = await self.client.post("/v1/jobs", json=asked(provider, **changes), headers=headers)
        assert reply.status_code == 202, reply.text
        accepted: str = reply.json()["id"]
        return accepted

    async def job(self, job_id: str) -> Document:
        reply = await self.client.get(f"/v1/jobs/{job_id}")
        assert reply.status_code == 200, reply.text
        shown: Document = reply.json()
        return shown

    async def until(self, job_id: str, wanted: Callable[[Document], object]) -> Document:
        """Wait for a job to be as wanted: each committed change is a reason to look again."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                self._news.clear()
                shown = await self.job(job_id)
                if wanted(shown):
                    return shown
                assert shown["status"] not in ENDED, shown
                await self._news.wait()

    async def ended(self, job_id: str) -> Document:
        return await self.until(job_id, lambda job: job["status"] in ENDED)

    async def held(self, job_id: str) -> Document:
        return await self.until(job_id, lambda job: job["held"] is not None)

    async def when(self, wanted: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something that no committed change tells of, such as a poll that found nothing new."""
        async with asyncio.timeout(PATIENCE_S):
            while not await wanted():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.01)

    async def timeline(self, job_id: str, kind: str | None = None) -> list[Document]:
        """What happened to a job, or the entries of one kind: event, exchange or delivery."""
        reply = await self.client.get(f"/v1/jobs/{job_id}/timeline")
        assert reply.status_code == 200, reply.text
        entries: list[Document] = reply.json()["entries"]
        return [entry for entry in entries if kind in {None, entry["kind"]}]

    async def events(self, job_id: str) -> list[str]:
        return [entry["type"] for entry in await self.timeline(job_id, "event")]

    async def stats(self) -> Document:
        """What the providers saw."""
        return await stats_of(self.simulator)

    async def accepted(self, provider: str) -> int:
        """How many submissions a provider has accepted, and would bill."""
        counted: int = (await self.stats())["accepted"][provider]
        return counted

    def break_(self, *rules: FaultRule) -> None:
        """Let these things go wrong from now on; without any, nothing."""
        self.simulator.simulator._faults.replace(FaultScript(rules=rules))

    async def metric(self, name: str, **labels: str) -> float:
        """A sample of /metrics; 0 where there is none."""
        text = (await self.client.get("/metrics")).text
        for found, given, value in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
            if found == f"motion_gateway_{name}" and dict(re.findall(r'(\w+)="([^"]*)"', given)) == labels:
                return float(value)
        return 0.0

    async def sleep(self, clock: JumpClock, seconds: float) -> None:
        """Let time pass with nothing under way: a jump beyond a lease would take work from its worker."""
        await self.gateway.stop_worker()
        clock.jump(seconds)
        await self.gateway.start_worker()

    async def idle(self) -> None:
        """Wait until the worker is at nothing; so it is when this returns."""
        worker = self.gateway._worker
        assert worker is not None
        async with asyncio.timeout(PATIENCE_S):
            while worker.busy:  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.001)

    async def sweep(self, times: int = 3) -> None:
        """Wait until the worker has looked for overdue jobs that often, beginning now."""
        census = self.gateway.parts.census
        for _ in range(times):
            seen = asyncio.Event()
            original = census.waiting

            async def waiting(done: asyncio.Event = seen, look: Any = original, **asked: int) -> Any:
                found = await look(**asked)
                done.set()
                return found

            with replaced(census, "waiting", waiting):
                await asyncio.wait_for(seen.wait(), PATIENCE_S)

    @asynccontextmanager
    async def another_client(self, owner: str, *scopes: Scope) -> AsyncIterator[httpx.AsyncClient]:
        """A client with a key of somebody else."""
        key = await self.gateway.parts.keys.create(
            name=f"key of {owner}", owner=owner, scopes=scopes or [Scope.JOBS]
        )
        async with client_of(self.url, key.key) as client:
            yield client


@contextlib.contextmanager
def replaced(owner: object, name: str, value: object) -> Any:
    """Put something in an attribute's place for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


async def stats_of(simulator: SimulatorServer) -> Document:
    """What simulated providers were asked."""
    async with httpx.AsyncClient(trust_env=False) as http:
        counted: Document = (await http.get(f"{simulator.url}/_stats")).json()
    return counted


def client_of(url: str, key: str | None) -> httpx.AsyncClient:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=PATIENCE_S)


@asynccontextmanager
async def open_gateway(
    folder: Path,
    simulator: SimulatorServer,
    *,
    database: str | None = None,
    settings: Mapping[str, str] | None = None,
    base_urls: Mapping[str, str] | None = None,
    registry: Registry = REGISTRY,
    clock: JumpClock | None = None,
    scopes: Sequence[Scope] = (Scope.JOBS, Scope.METRICS),
    public: bool = False,
    works: bool = True,
    tracing: Tracing | None = None,
) -> AsyncIterator[RunningGateway]:
    """Run a gateway on a free port with every simulated provider.

    Args:
        folder: for its database.
        simulator: the providers.
        database: its URL; None makes a SQLite file in the folder.
        settings: further settings, as `environment` takes them.
        base_urls: where providers are, other than at the simulator; a provider not in it has no account.
        registry: other adapters than the installed ones.
        clock: one that can jump.
        scopes: of the client's key.
        public: whether providers are told where to call it back.
        works: whether it carries out jobs.
        tracing: makes spans.
    """
    urls = base_urls or {name: f"{simulator.url}/{name}" for name in PROVIDERS}
    chosen = {} if database is None else {"DATABASE": database}
    known = bind("127.0.0.1", 0) if public else None
    if known is not None:
        chosen["SERVER__PUBLIC_URL"] = url_of(known)
    environ = environment(folder, urls, **(chosen | dict(settings or {})))
    loaded = load(registry.specs, environ=environ, cwd=folder).settings
    # The shortest waits of every spread: what is random in life is never needed here.
    gateway = Gateway(loaded, registry, clock=clock, spread=lambda: 0.0, works=works, tracing=tracing)
    try:
        if works:
            await gateway.start_worker()
        key = await gateway.parts.keys.create(name="the tests", owner="tester", scopes=scopes)
        listener = known or bind("127.0.0.1", 0)
        server = build_server(gateway.asgi, loaded.server)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # pytest's own
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with client_of(url_of(listener), key.key) as client:
                yield RunningGateway(gateway, url_of(listener), client, key, simulator)
        finally:
            gateway.hang_up()
            server.should_exit = True
            await serving
    finally:
        await gateway.close()


def fault(name: str, operation: Any = "create", **limits: Any) -> FaultRule:
    return FaultRule(operation=operation, fault=name, **limits)
