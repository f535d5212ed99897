"""`motion-gateway migrate`: the database's schema, brought up or shown."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.chosen_database import chosen_settings
from gateway.cli.configured import settings_options
from gateway.storage.store import exists, inspect_store, migrate_store


@click.command()
@click.option("--show", is_flag=True, help="List what is pending, and change nothing.")
@settings_options
def command(*, show: bool, database: str | None, config: Path | None) -> None:
    """Bring the database to this version's schema. `serve` does so by itself on SQLite.

    On PostgreSQL it is done beside running gateways of the version before: migrations only add.
    """
    settings = chosen_settings(database, config)
    revisions = inspect_store(settings).pending if show else migrate_store(settings)
    for revision in revisions:
        click.echo(f"{'pending' if show else 'applied'}  {revision}")
    if not revisions:
        click.echo(f"{settings.database_shown} is up to date")
    elif show and not exists(settings):
        click.echo(f"{settings.database_shown} does not exist yet; serve makes it", err=True)
