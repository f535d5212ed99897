"""`motion-gateway backup`: the database, as it is at one instant, in a file."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.chosen_database import existing_settings
from gateway.cli.configured import settings_options
from gateway.cli.screen import busy, measured, open_console
from gateway.storage.postgres_backup import dump_server
from gateway.storage.sealing import key_file
from gateway.storage.sqlite_backup import back_up
from gateway.storage.store import database_path


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace a file of that name.")
@settings_options
def command(*, file: Path, force: bool, database: str | None, config: Path | None) -> None:
    """Copy the database into FILE, whoever serves it meanwhile; `restore` puts it back.

    The file is whole and checked when it has that name, and readable by its owner alone: it holds URLs,
    metadata, and webhook secrets, sealed. The key that opens them is not in it. On PostgreSQL it is made by
    pg_dump.
    """
    settings, console = existing_settings(database, config), open_console(stderr=True)
    path = database_path(settings)
    if path is None:
        with busy(console, f"pg_dump to {file}"):
            dump_server(settings.database, file, replace=force)
    else:
        with measured(console, f"copying to {file}") as shown:
            back_up(path, file, replace=force, on_copied=shown)
    click.echo(f"{settings.database_shown} is in {file}, {file.stat().st_size / 1e6:.1f} MB", err=True)
    click.echo(
        f"Not in it, and needed to restore it: {_key(path, given=settings.secret_key is not None)}", err=True
    )


def _key(path: Path | None, *, given: bool) -> str:
    """Say where the key is that its secrets are sealed with."""
    return "the secret_key of the settings" if given or path is None else f"the key in {key_file(path)}"
