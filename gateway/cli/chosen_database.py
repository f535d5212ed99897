"""The settings of commands that work on a database, whether or not it must be there already."""

from __future__ import annotations

from pathlib import Path

from gateway.cli.configured import load_settings
from gateway.cli.exits import Failed
from gateway.registry import load_adapters
from gateway.settings import Settings
from gateway.storage.store import database_path, exists


def chosen_settings(database: str | None, config: Path | None) -> Settings:
    """Return the settings with the database that the command line named.

    Args:
        database: `--database`.
        config: `--config`.

    Raises:
        SettingsError: a setting is wrong.
    """
    return load_settings(load_adapters(), config=config, database=database).settings


def existing_settings(database: str | None, config: Path | None) -> Settings:
    """Return settings whose database is there; a mistyped name must not look like an empty list.

    Raises:
        Failed: there is no such database.
        SettingsError: a setting is wrong.
    """
    settings = chosen_settings(database, config)
    if not exists(settings):
        raise Failed(
            f"there is no database at {database_path(settings)}; name it with --database or --config"
        )
    return settings
