"""`motion-gateway serve`: the API and the worker in one process, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import click
import uvloop

from gateway.api.auth import ANYBODY
from gateway.api.server import build_server, url_of
from gateway.app.gateway import Gateway
from gateway.app.heap import keep_what_is_loaded
from gateway.cli.banner import announce
from gateway.cli.built_in import simulated, why_no_simulator
from gateway.cli.configured import load_settings, settings_options
from gateway.cli.open_files import fit, raise_limit
from gateway.cli.running import Running, claim_port, start, stop_signal
from gateway.clock import SystemClock
from gateway.errors import SettingsError
from gateway.registry import Registry, load_adapters, load_emulations
from gateway.service.keys import Scope
from gateway.settings import Settings
from gateway.settings.hosts import is_loopback
from gateway.simulator import Simulator, serve_simulator
from gateway.storage.store import database_path, migrate_store
from gateway.telemetry import Redactor, configure, get_logger
from providers.contract.emulation import Rules

_log = get_logger("gateway.serve")

RUN_S = 8.0
POLL_SCALE = 0.1
FIRST_KEY = "default"


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="TCP port; 0 takes a free one.  [default: 8080]")
@click.option("--no-worker", is_flag=True, help="Serve the API alone; `work` elsewhere carries out the jobs.")
@click.option("--migrate", is_flag=True, help="Apply pending migrations first. On SQLite it always does.")
@settings_options
def command(
    *,
    host: str | None,
    port: int | None,
    no_worker: bool,
    migrate: bool,
    database: str | None,
    config: Path | None,
) -> None:
    """Serve the API and carry out jobs, until SIGTERM or Ctrl-C; a second one does not wait.

    On loopback it starts with nothing configured at all: it then makes a key, and the built-in simulator
    answers instead of a provider.
    """
    registry = load_adapters()
    more = {"server.host": host, "server.port": port}
    settings = load_settings(registry, config=config, database=database, more=more).settings
    if no_worker and database_path(settings) is not None:
        raise SettingsError(
            "--no-worker needs a PostgreSQL database: nobody else can carry out the jobs of a SQLite file"
            " while it is served"
        )
    if migrate:
        migrate_store(settings)
    uvloop.run(_serve(settings, registry, works=not no_worker))


async def _serve(settings: Settings, registry: Registry, *, works: bool) -> None:
    async with AsyncExitStack() as stack:
        settings = await _with_provider(settings, registry, stack, works=works)
        # After the simulator's keys were made, so that they are taken out of the logs as well.
        configure(settings.logs.format, settings.logs.level, Redactor(settings.secrets()), sys.stderr)
        settings = fit(settings, raise_limit())
        # The port first: a start that is refused for it leaves no database behind.
        listener = claim_port(settings.server.host, settings.server.port)
        stack.callback(listener.close)
        gateway = Gateway(settings, registry, works=works)
        stack.push_async_callback(gateway.close)
        gateway.start_measuring()
        await gateway.check_accounts()
        stopped = stop_signal()
        await announce(gateway, url_of(listener), await _admit(gateway))
        config = build_server(gateway.asgi, settings.server).config
        keep_what_is_loaded()
        if works:
            await gateway.start_worker()
        server = await start(config, listener)
        await server.until(stopped)
        _log.info("serve.stopping")
        await _stop(gateway, server)
        _log.info("serve.stopped")


async def _with_provider(
    settings: Settings, registry: Registry, stack: AsyncExitStack, *, works: bool
) -> Settings:
    """Return settings that have a provider: as loaded, or with the built-in simulator in its place.

    Raises:
        SettingsError: there is none, and the simulator cannot stand in.
    """
    if settings.enabled_providers:
        return settings
    if any(provider.accounts for provider in settings.providers.values()):
        raise SettingsError(
            "every provider that has an account is switched off; set providers.<name>.enabled to true for one"
        )
    alone = why_no_simulator(settings, works=works)
    if alone is not None:
        variables = ", ".join(spec.key_env for spec in registry.specs)
        raise SettingsError(
            f"no provider is configured: set at least one of {variables}. Without any, the built-in simulator"
            f" stands in {alone}"
        )
    emulations = load_emulations()
    rules = Rules(allow_loopback_media=settings.media.allow_http)
    simulator = Simulator(emulations, clock=SystemClock(), run_s=RUN_S, rules=rules)
    server = await stack.enter_async_context(await serve_simulator(simulator))
    settings = simulated(settings, emulations, url=server.url, poll_scale=POLL_SCALE)
    if not settings.enabled_providers:
        raise SettingsError("every provider is switched off; set providers.<name>.enabled to true for one")
    return settings


async def _admit(gateway: Gateway) -> list[str]:
    """See to it that somebody may call; return the lines that tell of secrets just made."""
    keys, settings = gateway.parts.keys, gateway.settings
    if not settings.auth.required:
        # Its jobs may bear webhooks, which are signed with the owner's secret.
        secret = await keys.ensure_owner(ANYBODY.owner)
        return [] if secret is None else [f"Webhook secret  {secret}"]
    if await keys.count():
        return []
    if not is_loopback(settings.server.host):
        raise SettingsError(
            f"no API key exists in {settings.database_shown}: make one with `motion-gateway keys create"
            f" --name NAME` (with the same --database or --config) before listening on {settings.server.host}"
        )
    made = await keys.create(name=FIRST_KEY, owner=FIRST_KEY, scopes=list(Scope))
    lines = [f"API key         {made.key}   (owner: {FIRST_KEY})"]
    return lines if made.webhook_secret is None else [*lines, f"Webhook secret  {made.webhook_secret}"]


async def _stop(gateway: Gateway, server: Running) -> None:
    """Stop together: from here on it is not ready, takes no connection and claims no task."""
    gateway.hang_up()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gateway.stop_worker())
        tasks.create_task(server.stop())
