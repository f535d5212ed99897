"""What `serve` says of itself at start: where, with what, and what it may dial."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import click

from gateway.app.gateway import Gateway
from gateway.simulator.samples import SAMPLE_HOST, SAMPLES
from gateway.storage.store import database_path

LABEL_WIDTH = 12


async def announce(
    gateway: Gateway, url: str | None, secrets: Sequence[str], *, probes: str | None = None
) -> None:
    """Print it to stdout.

    Args:
        gateway: about to serve.
        url: where it is reached; None for a worker without an API.
        secrets: lines with secrets that were just made, and are shown this once.
        probes: where such a worker answers those who watch it.
    """
    settings = gateway.settings
    click.secho(f"Motion Gateway {version('motion-gateway')}", bold=True)
    if url is not None:
        _line("URL", url)
        _line("API", f"{url}/docs")
        _line("Console", f"{url}/console")
    if probes is not None:
        _line("Metrics", f"{probes}/metrics")
    path = database_path(settings)
    _line("Database", settings.database_shown + (f" ({path.resolve()})" if path is not None else ""))
    _tell_providers(gateway)
    _line("Webhooks", gateway.parts.receivers.describe())
    _line("Media", gateway.parts.media.describe())
    if url is not None:
        _line("Keys", await _keys(gateway))
    if secrets:
        click.echo()
        for line in secrets:
            _line("", line)
        _line("", click.style("Keep it: it is shown this once." if len(secrets) == 1 else _KEEP, fg="yellow"))
    if any(account.simulated for account in gateway.parts.accounts.all()):
        _warn_simulated(gateway)
    click.echo()


_KEEP = "Keep them: they are shown this once. The secret verifies the webhooks of this key's jobs."


def _tell_providers(gateway: Gateway) -> None:
    accounts = gateway.parts.accounts.all()
    names = [f"{account.adapter.spec.name} ({account.name})" for account in accounts]
    width = max(map(len, names))
    for place, (name, account) in enumerate(zip(names, accounts, strict=True)):
        mark = click.style("  simulated", fg="yellow") if account.simulated else ""
        _line("" if place else "Providers", f"{name.ljust(width)}  {account.base_url}{mark}")


def _line(label: str, text: str) -> None:
    click.echo(f"  {click.style(label.ljust(LABEL_WIDTH), dim=True)}{text}")


async def _keys(gateway: Gateway) -> str:
    if not gateway.settings.auth.required:
        return click.style(
            "NONE ASKED FOR (auth.required is false): everybody here may do everything", fg="red"
        )
    active = await gateway.parts.keys.count()
    return f"required; {active} active"


def _warn_simulated(gateway: Gateway) -> None:
    variables = ", ".join(account.adapter.spec.key_env for account in gateway.parts.accounts.all())
    character, reference = (f"https://{SAMPLE_HOST}{path}" for path in SAMPLES)
    click.echo()
    click.secho(
        "  SIMULATED: no provider is configured, so the built-in simulator answers.", fg="yellow", bold=True
    )
    click.echo(f"  No film is real, nothing is paid. For a provider, set one of {variables}.")
    click.echo("  To try it, in another terminal (MOTION_GATEWAY_KEY holds the key):")
    click.echo(f"    motion-gateway submit --character {character} \\")
    click.echo(f"      --reference {reference} --wait --output film.mp4")
