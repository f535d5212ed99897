"""Everything the demo needs, in this process and on loopback: receiver, simulator, gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from gateway.api.server import build_server
from gateway.app.gateway import Gateway
from gateway.cli.built_in import simulated
from gateway.cli.client import GatewayClient, open_http
from gateway.cli.demo.inputs import DemoInputs
from gateway.cli.demo.receiver import WEBHOOKS, Receiver
from gateway.cli.running import claim_port, plain_config, start
from gateway.clock import SystemClock
from gateway.errors import SettingsError
from gateway.registry import Registry, load_adapters, load_emulations
from gateway.service.keys import Scope
from gateway.settings import Settings, load
from gateway.simulator import Simulator, serve_simulator
from providers.contract.emulation import Rules

HOST = "127.0.0.1"
RUN_S = 4.0
POLL_SCALE = 0.04
OWNER = "demo"
OPENED: Final[Mapping[str, bool | tuple[str, ...]]] = {
    "media.allow_http": True,
    "media.allowed_networks": ("127.0.0.0/8",),
    "webhooks.allow_http": True,
    "webhooks.allowed_networks": ("127.0.0.0/8",),
}
"""What is turned on so that plain http on loopback is let through; closed by default."""


class Stage(Struct, frozen=True, kw_only=True):
    """It stands."""

    url: str
    """Of the gateway."""
    client: GatewayClient
    """With a key."""
    receiver: Receiver
    receiver_url: str
    simulator_url: str
    providers: tuple[str, ...]


@asynccontextmanager
async def open_stage(folder: Path, inputs: DemoInputs) -> AsyncGenerator[Stage]:
    """Start it all, with a new database in `folder`; stop it all in the end."""
    registry, emulations, clock = load_adapters(), load_emulations(), SystemClock()
    files = {file.name: file for file in (inputs.character, inputs.reference)}
    async with AsyncExitStack() as stack:
        receiver = Receiver(files, clock)
        receiving = await start(plain_config(receiver.asgi), claim_port(HOST, 0))
        stack.push_async_callback(receiving.stop)
        rules = Rules(allow_loopback_media=True)
        simulator = Simulator(emulations, clock=clock, run_s=RUN_S, rules=rules)
        simulating = await stack.enter_async_context(await serve_simulator(simulator, HOST))
        settings = simulated(
            _settings(registry, folder), emulations, url=simulating.url, poll_scale=POLL_SCALE
        )
        if not settings.enabled_providers:
            raise SettingsError("no adapter with an emulation is installed, so there is nothing to show")
        gateway = Gateway(settings, registry)
        stack.push_async_callback(gateway.close)
        made = await gateway.parts.keys.create(name=OWNER, owner=OWNER, scopes=[Scope.JOBS])
        receiver.secret = made.webhook_secret or ""
        await gateway.start_worker()
        serving = await start(build_server(gateway.asgi, settings.server).config, claim_port(HOST, 0))
        stack.push_async_callback(serving.stop)
        stack.callback(gateway.hang_up)
        headers = {"Authorization": f"Bearer {made.key}"}
        http = await stack.enter_async_context(open_http(serving.url, headers=headers))
        yield Stage(
            url=serving.url,
            client=GatewayClient(http),
            receiver=receiver,
            receiver_url=receiving.url,
            simulator_url=simulating.url,
            providers=settings.enabled_providers,
        )


def _settings(registry: Registry, folder: Path) -> Settings:
    """Return settings that nobody's environment or file has a part in."""
    overrides = {"database": f"sqlite:///{folder}/demo.db", **OPENED}
    return load(registry.specs, environ={}, cwd=folder, overrides=overrides).settings


def webhook_url(stage: Stage) -> str:
    """Return where webhooks are received."""
    return stage.receiver_url + WEBHOOKS
