"""`motion-gateway migrate`: the database's schema, brought up or shown."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.configured import bring_up, inspect_file, load_settings, settings_options
from gateway.registry import load_adapters
from gateway.storage.store import database_path


@click.command()
@click.option("--show", is_flag=True, help="List what is pending, and change nothing.")
@settings_options
def command(*, show: bool, database: str | None, config: Path | None) -> None:
    """Bring the database to this version's schema. `serve` does so by itself on SQLite."""
    settings = load_settings(load_adapters(), config=config, database=database).settings
    path = database_path(settings)
    revisions = inspect_file(path).pending if show else bring_up(path)
    for revision in revisions:
        click.echo(f"{'pending' if show else 'applied'}  {revision}")
    if not revisions:
        click.echo(f"{path} is up to date")
    elif show and not path.exists():
        click.echo(f"{path} does not exist yet; serve makes it", err=True)
