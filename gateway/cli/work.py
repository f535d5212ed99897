"""`motion-gateway work`: a worker without the API, beside any number of others."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

import click
import uvloop

from gateway.api.server import build_server
from gateway.app.gateway import Gateway
from gateway.app.heap import keep_what_is_loaded
from gateway.cli.banner import announce
from gateway.cli.configured import load_settings, settings_options
from gateway.cli.open_files import raise_limit
from gateway.cli.running import claim_port, start, stop_signal
from gateway.errors import SettingsError
from gateway.registry import Registry, load_adapters
from gateway.settings import Settings
from gateway.storage.store import database_path
from gateway.telemetry import Redactor, configure, get_logger

_log = get_logger("gateway.work")


@click.command()
@settings_options
def command(database: str | None, config: Path | None) -> None:
    """Carry out jobs, until SIGTERM or Ctrl-C; any number of these share one PostgreSQL database.

    One that dies is replaced by the others within half a minute; one that is stopped, within two seconds.
    """
    registry = load_adapters()
    settings = load_settings(registry, config=config, database=database).settings
    if database_path(settings) is not None:
        raise SettingsError(
            "work needs a PostgreSQL database: a SQLite file has one process, which serves and works; run"
            " `motion-gateway serve`, or set database to postgresql://..."
        )
    if not settings.enabled_providers:
        variables = ", ".join(spec.key_env for spec in registry.specs)
        raise SettingsError(f"no provider is configured: set at least one of {variables}")
    raise_limit()
    uvloop.run(_work(settings, registry))


async def _work(settings: Settings, registry: Registry) -> None:
    async with AsyncExitStack() as stack:
        configure(settings.logs.format, settings.logs.level, Redactor(settings.secrets()), sys.stderr)
        gateway = Gateway(settings, registry)
        stack.push_async_callback(gateway.close)
        gateway.start_measuring()
        await gateway.check_accounts()
        stopped = stop_signal()
        await announce(gateway, None, [], probes=await _watched(gateway, stack))
        keep_what_is_loaded()
        await gateway.start_worker()
        await stopped.wait()
        _log.info("work.stopping")
        await gateway.stop_worker()
        _log.info("work.stopped")


async def _watched(gateway: Gateway, stack: AsyncExitStack) -> str | None:
    """Answer those who watch this process, to its end; return where, or None where it shall not."""
    settings = gateway.settings
    if settings.metrics.port is None:
        return None
    listener = claim_port(settings.server.host, settings.metrics.port, name="metrics.port")
    server = await start(build_server(gateway.build_probes(), settings.server).config, listener)
    stack.push_async_callback(server.stop)
    return server.url
