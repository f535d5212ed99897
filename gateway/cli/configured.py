"""Settings and database as a command's options, the environment and the configuration file name them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import click

from gateway.ids import Ids
from gateway.registry import Registry
from gateway.service.keys import Keys
from gateway.settings import Loaded, Settings, load
from gateway.storage.store import Store, database_path, migrate_store, open_store

T = TypeVar("T")
Command = Callable[..., None]


def settings_options(command: Command) -> Command:
    """Add `--database` and `--config`; the command takes `database` and `config`."""
    database = click.option(
        "--database",
        metavar="URL",
        help="Where jobs are kept: sqlite:///PATH or postgresql://...  [default: sqlite:///motion-gateway.db]",
    )
    config = click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A TOML file of settings.  [default: motion-gateway.toml, if there is one]",
    )
    return database(config(command))


def load_settings(
    registry: Registry,
    *,
    config: Path | None,
    database: str | None,
    more: Mapping[str, object] | None = None,
) -> Loaded:
    """Read all settings, with what the command line gave on top.

    Args:
        registry: says which providers can be set.
        config: `--config`.
        database: `--database`.
        more: further options by key; None values count as not given.

    Raises:
        SettingsError: anything is wrong.
    """
    return load(
        registry.specs,
        environ=os.environ,
        config_path=config,
        cwd=Path.cwd(),
        overrides={"database": database, **(more or {})},
    )


def with_store(settings: Settings, work: Callable[[Store], Awaitable[T]]) -> T:
    """Open the database for a moment, beside whatever serves it, and work on it.

    Raises:
        SchemaRefused: it cannot be used by this version.
        StorageUnavailable: it cannot be reached.
    """

    async def run() -> T:
        if database_path(settings) is not None:
            migrate_store(settings)
        store = open_store(settings)
        try:
            return await work(store)
        finally:
            await store.database.close()

    return asyncio.run(run())


def with_keys(settings: Settings, work: Callable[[Keys], Awaitable[T]]) -> T:
    """Open the database for a moment, and work on its keys."""

    async def with_them(store: Store) -> T:
        return await work(Keys(store.database, store.clock, Ids(store.clock), store.sealer))

    return with_store(settings, with_them)
