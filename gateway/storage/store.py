"""Opens the database that the settings name, whichever engine it is, and the key of its secrets."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from gateway.clock import Clock, SystemClock
from gateway.errors import SchemaRefused, SettingsError
from gateway.settings import Settings
from gateway.storage.engine import Database, OnCommit
from gateway.storage.postgres import PostgresDatabase
from gateway.storage.postgres_schema import inspect_server, migrate_server
from gateway.storage.reserve import RESERVE_BYTES
from gateway.storage.schema import SchemaState
from gateway.storage.sealing import Sealer, key_beside
from gateway.storage.sqlite import ServingLock, SQLiteDatabase
from gateway.storage.sqlite_file import bring_up, inspect_file, lock_file, make_file, migrate_file

SQLITE = "sqlite:///"


class Store(Struct, frozen=True, kw_only=True):
    """An open database, and what seals its secrets."""

    database: Database
    sealer: Sealer
    secret: str
    clock: Clock
    """The time that its rows are written in: the machine's, or the server's."""


def database_path(settings: Settings) -> Path | None:
    """Return the SQLite file that the setting `database` names; None when it names a server."""
    if settings.database.startswith(SQLITE):
        return Path(settings.database.removeprefix(SQLITE))
    return None


def exists(settings: Settings) -> bool:
    """Whether there is a database to look into; a server's always counts as one."""
    path = database_path(settings)
    return path is None or path.exists()


def lock_store(settings: Settings) -> ServingLock | None:
    """Take the lock that a SQLite file's one serving process holds; a server needs none.

    Raises:
        SchemaRefused: another process serves it.
        SettingsError: the lock file cannot be written.
    """
    path = database_path(settings)
    return None if path is None else lock_file(path)


def inspect_store(settings: Settings) -> SchemaState:
    """Tell how far the schema is behind; changes nothing.

    Raises:
        SchemaRefused: it is newer than this version, damaged, or no database at all.
        StorageUnavailable: the server cannot be reached.
    """
    path = database_path(settings)
    return inspect_server(settings.database) if path is None else inspect_file(path)


def migrate_store(settings: Settings) -> tuple[str, ...]:
    """Apply what the schema lacks, and return the revisions applied. Raises like `inspect_store`.

    On SQLite only while nobody serves it; on PostgreSQL beside whoever does, since migrations only add.
    """
    path = database_path(settings)
    return migrate_server(settings.database) if path is None else bring_up(path)


def open_store(
    settings: Settings,
    *,
    on_commit: OnCommit | None = None,
    clock: Clock | None = None,
    serving: bool = False,
) -> Store:
    """Open the database: a SQLite file migrated on the way, a server only when its schema is this version's.

    Args:
        settings: name it.
        on_commit: told about each commit.
        clock: the time to use; None takes the machine's for a file, the server's for a server.
        serving: whether the caller has the lock of `lock_store`, and so may keep room on the disk.

    Raises:
        SchemaRefused: it is newer than this version, damaged, or no database at all; or a server's is older.
        SettingsError: its key file is empty, or there is no key for a server's.
        StorageUnavailable: the server cannot be reached.
    """
    path = database_path(settings)
    if path is None:
        return _open_server(settings, on_commit, clock)
    make_file(path)
    migrate_file(path)
    secret = key_beside(path) if settings.secret_key is None else settings.secret_key.reveal()
    return Store(
        database=SQLiteDatabase(path, on_commit=on_commit, reserve_bytes=RESERVE_BYTES if serving else 0),
        sealer=Sealer(secret),
        secret=secret,
        clock=clock or SystemClock(),
    )


def _open_server(settings: Settings, on_commit: OnCommit | None, clock: Clock | None) -> Store:
    if settings.secret_key is None:  # `settings.load` refuses it earlier, and says from where
        raise SettingsError("secret_key: PostgreSQL needs one; set MOTION_GATEWAY_SECRET_KEY")
    pending = inspect_server(settings.database).pending
    if pending:
        numbers = ", ".join(revision.partition(" ")[0] for revision in pending)
        behind = f"the database's schema lacks what this version needs (migrations {numbers})"
        raise SchemaRefused(f"{behind}; run `motion-gateway migrate`, or start with `serve --migrate`")
    secret = settings.secret_key.reveal()
    database = PostgresDatabase(settings.database, local=clock or SystemClock(), on_commit=on_commit)
    return Store(database=database, sealer=Sealer(secret), secret=secret, clock=clock or database.clock)
