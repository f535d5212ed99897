"""`motion-gateway simulate`: the providers' own wire on one port, for tests against faults."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import uvloop

from gateway.cli.exits import Failed
from gateway.cli.running import stop_signal
from gateway.clock import SystemClock
from gateway.registry import load_adapters, load_emulations
from gateway.simulator import Simulator, load_script, serve_simulator
from gateway.telemetry import Redactor, configure
from providers.contract.emulation import Rules
from providers.contract.spec import Spec

ANY_KEY = "simulated-key"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8090, show_default=True, help="0 takes a free one."
)
@click.option(
    "--run-s",
    type=click.FloatRange(0),
    default=45.0,
    show_default=True,
    help="How long a job takes, seconds.",
)
@click.option(
    "--fault", type=click.Path(path_type=Path), metavar="FILE", help="A fault script (JSON) to begin with."
)
@click.option(
    "--key", "keys", multiple=True, help="A key that is accepted; may be given again. [default: any]"
)
@click.option("--allow-loopback-media", is_flag=True, help="Fetch media from loopback hosts, http too.")
def command(
    host: str,
    port: int,
    run_s: float,
    fault: Path | None,
    keys: tuple[str, ...],
    *,
    allow_loopback_media: bool,
) -> None:
    """Serve simulated providers: each one's own wire, real MP4s, faults on demand.

    \b
    GET  /_stats    what was asked, counted
    POST /_faults   replace the fault script; GET shows it, DELETE clears it
    """  # noqa: D301  (click's mark for a paragraph that is not to be wrapped)
    configure("auto", "info", Redactor(keys), sys.stderr)
    emulations = load_emulations()
    simulator = Simulator(
        emulations,
        clock=SystemClock(),
        run_s=run_s,
        rules=Rules(keys=frozenset(keys) or None, allow_loopback_media=allow_loopback_media),
        faults=None if fault is None else load_script(fault),
    )
    specs = {spec.name: spec for spec in load_adapters().specs}
    variables = {name: specs.get(name) for name in emulations}
    uvloop.run(_simulate(simulator, host, port, lambda url: _announce(url, variables, (*keys, ANY_KEY)[0])))


async def _simulate(simulator: Simulator, host: str, port: int, announce: Callable[[str], None]) -> None:
    stopped = stop_signal()
    try:
        server = await serve_simulator(simulator, host, port)
    except OSError as error:
        problem = (error.strerror or str(error)).partition(" (while")[0].lower()
        raise Failed(f"cannot listen on {host} port {port}: {problem}") from error
    async with server:
        announce(server.url)
        await stopped.wait()


def _announce(url: str, specs: Mapping[str, Spec | None], key: str) -> None:
    """Say where each provider is, with its adapter's variables for a gateway that is to use it."""
    click.secho("Simulated providers", bold=True)
    for name in specs:
        click.echo(f"  {name:<12}{url}/{name}")
    click.echo(f"  {'counts':<12}{url}/_stats\n  {'faults':<12}{url}/_faults\n")
    click.echo("For a gateway on this machine:")
    for name, spec in specs.items():
        if spec is not None:
            click.echo(f"  export {spec.base_url_env}={url}/{name} {spec.key_env}={key}")
