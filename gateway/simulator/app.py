"""The simulator: its parts put together, and its routes.

* `/<provider>/...`: that provider's own wire, below its mount point.
* `GET /media/<provider>/<ref>.mp4`: a finished job's output; HEAD too.
* `GET /_stats`: what was asked, counted.
* `GET /_faults`, `POST /_faults`, `DELETE /_faults`: show, replace, clear the fault script.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping

from gateway.clock import Clock
from gateway.simulator.callbacks import Callbacks
from gateway.simulator.faults import Faults, FaultScript, FaultScriptRefused, read_script
from gateway.simulator.fetch import Fetcher
from gateway.simulator.jobs import Jobs
from gateway.simulator.making import Making
from gateway.simulator.media import Media
from gateway.simulator.mount import Mount
from gateway.simulator.stats import Stats
from gateway.simulator.studio import Studio
from gateway.simulator.wire import Exchange, Receive, Scope, Send, UnreadableRequest
from providers.contract.emulation import Emulation, Rules, json_response
from providers.contract.exchange import HttpResponse

RESERVED = frozenset({"_stats", "_faults", "media"})
_NOT_FOUND = json_response(404, {"error": "Not found"})
_STOPPING = json_response(503, {"error": "The simulator is stopping"})


class Simulator:
    """Simulated providers on one ASGI app.

    A job of a URL outside this machine is rendered from stand-in media, and its film says so: nothing but
    loopback is dialled, and that only when the rules let loopback media pass, unless `allow_outside_media`.

    Args:
        emulations: by name, which is where each is mounted.
        clock: drives the jobs.
        run_s: how long a job takes, seconds; longer when its film is not ready by then.
        rules: how strict the providers are.
        public_url: where clients reach the app, without a slash at the end; output URLs begin with it.
            `serve_simulator` sets it where it is empty.
        faults: what goes wrong from the beginning.
        modes: ways of showing jobs, by provider, other than the first of each that its emulation names.
        render: whether films are rendered; else every output is one tiny blank MP4. Inputs are read anyway.
        allow_outside_media: whether media are fetched from any https host.
        random_bits: gives that many random bits, for refs and signatures; tests pass a seeded generator's.
        callbacks: whether jobs' ends are reported to the callback URLs they were submitted with, where the
            provider does so; to loopback only.
        callback_pause_s: between two of the three tries of a callback that is not acknowledged, seconds.
        rows_late_s: how much later than it could a job appears in a provider's list of jobs, seconds.

    Attributes:
        public_url: as above.

    Raises:
        ValueError: a mode that an emulation does not name, or a provider named like a route above.
        FaultScriptRefused: the script names what there is not.
    """

    def __init__(
        self,
        emulations: Mapping[str, Emulation],
        *,
        clock: Clock,
        run_s: float = 45.0,
        rules: Rules | None = None,
        public_url: str = "",
        faults: FaultScript | None = None,
        modes: Mapping[str, Mapping[str, str]] | None = None,
        render: bool = True,
        allow_outside_media: bool = False,
        random_bits: Callable[[int], int] = secrets.randbits,
        callbacks: bool = True,
        callback_pause_s: float = 10.0,
        rows_late_s: float = 0.0,
    ) -> None:
        rules, modes = rules or Rules(), modes or {}
        _check(emulations, modes)
        self.public_url = public_url
        self._faults = Faults(emulations, faults or FaultScript())
        self._stats = Stats(emulations)
        self._media = Media(Fetcher(loopback=rules.allow_loopback_media, outside=allow_outside_media))
        self._studio = Studio(rendering=render)
        self._stopping = asyncio.Event()
        self._mounts: dict[str, Mount] = {}
        for name, emulation in emulations.items():
            jobs = Jobs(
                emulation,
                clock=clock,
                run_s=run_s,
                modes=modes.get(name, {}),
                random_bits=random_bits,
                rows_late_s=rows_late_s,
            )
            reporting = Callbacks(
                emulation, jobs=jobs, faults=self._faults, stats=self._stats, pause_s=callback_pause_s
            )
            self._mounts[name] = Mount(
                emulation,
                rules=rules,
                jobs=jobs,
                making=Making(emulation, media=self._media, studio=self._studio, settled=jobs.settle),
                callbacks=reporting if callbacks else None,
                faults=self._faults,
                stats=self._stats,
                stopping=self._stopping,
            )

    async def start(self) -> None:
        """Begin. Nothing needs opening yet; whoever serves `asgi` pairs this with `stop`."""

    def refuse_more(self) -> None:
        """End every silence and answer 503 from now on; comes before `stop` where requests are under way."""
        self._stopping.set()

    async def stop(self) -> None:
        """Give up jobs under way and wait for threads, `refuse_more` included. It cannot be started again."""
        self.refuse_more()
        for mount in self._mounts.values():
            await mount.stop()
        await self._studio.close()
        await self._media.close()

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; an ASGI server must be told that there is no lifespan and no websocket."""
        if scope["type"] != "http":
            raise NotImplementedError(f"the simulator speaks http, not {scope['type']}")
        try:
            exchange = Exchange(scope, receive, send)
        except UnreadableRequest as problem:
            await Exchange({**scope, "raw_path": b"/"}, receive, send).answer(_refusal(problem))
            return
        if self._stopping.is_set():
            await exchange.answer(_STOPPING)
            return
        try:
            await self._route(exchange)
        except UnreadableRequest as problem:
            await exchange.answer(_refusal(problem))

    async def _route(self, exchange: Exchange) -> None:
        match exchange.path:
            case ("_stats",):
                await exchange.answer(self._show_stats(exchange.method))
            case ("_faults",):
                await exchange.answer(await self._steer(exchange))
            case ("media", provider, name) if provider in self._mounts:
                await exchange.answer(self._show_film(exchange.method, self._mounts[provider], name))
            case (provider, *_) if provider in self._mounts:
                await self._mounts[provider].handle(exchange, self.public_url)
            case _:
                await exchange.answer(_NOT_FOUND)

    def _show_stats(self, method: str) -> HttpResponse:
        return json_response(200, self._stats.shown()) if method == "GET" else _not_allowed("GET")

    def _show_film(self, method: str, mount: Mount, name: str) -> HttpResponse:
        if method not in {"GET", "HEAD"}:
            return _not_allowed("GET, HEAD")
        film = mount.film(name.removesuffix(".mp4")) if name.endswith(".mp4") else None
        if film is None:
            return _NOT_FOUND
        return HttpResponse(status=200, headers={"content-type": "video/mp4"}, body=film)

    async def _steer(self, exchange: Exchange) -> HttpResponse:
        match exchange.method:
            case "GET":
                return json_response(200, self._faults.shown())
            case "POST":
                try:
                    self._faults.replace(read_script(await exchange.read_body()))
                except FaultScriptRefused as problem:
                    return json_response(400, {"error": str(problem), "reasons": problem.reasons})
                return json_response(202, self._faults.shown())
            case "DELETE":
                self._faults.replace(FaultScript())
                return HttpResponse(status=204)
            case _:
                return _not_allowed("GET, POST, DELETE")


def _check(emulations: Mapping[str, Emulation], modes: Mapping[str, Mapping[str, str]]) -> None:
    for name in emulations:
        if name in RESERVED:
            raise ValueError(f"a provider cannot be mounted at /{name}")
    for name, chosen in modes.items():
        known: Mapping[str, tuple[str, ...]] = emulations[name].modes if name in emulations else {}
        for mode, value in chosen.items():
            if value not in known.get(mode, ()):
                raise ValueError(f"{name} has no mode {mode}={value}; it has {dict(known)}")


def _refusal(problem: UnreadableRequest) -> HttpResponse:
    return json_response(problem.status, {"error": str(problem)})


def _not_allowed(allowed: str) -> HttpResponse:
    return json_response(405, {"error": "Method not allowed"}, {"allow": allowed})
