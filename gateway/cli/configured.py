"""Settings and database as a command's options, the environment and the configuration file name them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import click
from sqlalchemy.exc import DatabaseError

from gateway.clock import SystemClock
from gateway.errors import SchemaRefused
from gateway.ids import Ids
from gateway.registry import Registry
from gateway.service.keys import Keys
from gateway.settings import Loaded, Settings, load
from gateway.storage.schema import SchemaState, inspect_schema
from gateway.storage.sqlite import open_engine
from gateway.storage.store import lock_file, migrate_file, open_store

T = TypeVar("T")
Command = Callable[..., None]


def settings_options(command: Command) -> Command:
    """Add `--database` and `--config`; the command takes `database` and `config`."""
    database = click.option(
        "--database", metavar="URL", help="Where jobs are kept: sqlite:///PATH.  [default: motion-gateway.db]"
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


def inspect_file(path: Path) -> SchemaState:
    """Tell how far a database file's schema is behind; one that is missing is not made.

    Raises:
        SchemaRefused: it is newer than this version, damaged, or no database at all.
    """
    try:
        engine = open_engine(path if path.exists() else Path(":memory:"))
        with closing(engine.connect()) as connection, connection.begin():
            return inspect_schema(connection)
    except DatabaseError as error:
        raise SchemaRefused(f"{path} cannot be used as a database: {error.orig}") from error


def bring_up(path: Path) -> tuple[str, ...]:
    """Apply what a database file's schema lacks, unless a gateway of an older version serves it now.

    Returns:
        The revisions applied.

    Raises:
        SchemaRefused: it is being served, newer than this version, or damaged.
        SettingsError: its folder cannot be written.
    """
    if path.exists() and not inspect_file(path).pending:
        return ()
    lock = lock_file(path)
    try:
        return migrate_file(path)
    finally:
        lock.release()


def with_keys(settings: Settings, path: Path, work: Callable[[Keys], Awaitable[T]]) -> T:
    """Open the database for a moment, beside a gateway that may be serving it, and work on its keys."""

    async def run() -> T:
        bring_up(path)
        store = open_store(settings)
        clock = SystemClock()
        try:
            return await work(Keys(store.database, clock, Ids(clock), store.sealer))
        finally:
            await store.database.close()

    return asyncio.run(run())
