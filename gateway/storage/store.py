"""Opens the database that the settings name, whichever engine it is, and the key of its secrets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

from msgspec import Struct

from gateway.clock import Clock, SystemClock
from gateway.errors import SchemaRefused, SettingsError
from gateway.settings import Settings
from gateway.storage import postgres_schema, sqlite_file
from gateway.storage.engine import Database, OnCommit
from gateway.storage.postgres import PostgresDatabase
from gateway.storage.postgres_schema import inspect_server, migrate_server
from gateway.storage.reported import Reported
from gateway.storage.reserve import RESERVE_BYTES
from gateway.storage.schema import SchemaState
from gateway.storage.sealing import Sealer, key_beside, key_file
from gateway.storage.sqlite import ServingLock, SQLiteDatabase
from gateway.storage.sqlite_file import bring_up, inspect_file, lock_file, make_file, migrate_file

SQLITE = "sqlite:///"
CHECKED_BYTES = 1024**3
"""Up to this size a start looks a SQLite file through for damage: a second or so before anybody is served."""


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


def inspect_store(settings: Settings, *, thorough: bool = False) -> SchemaState:
    """Tell how far the schema is behind; changes nothing.

    Args:
        settings: name it.
        thorough: whether to look a SQLite file through for damage, however large it is.

    Raises:
        SchemaRefused: it is newer than this version, damaged, or no database at all.
        StorageUnavailable: it cannot be read just now.
    """
    path = database_path(settings)
    if path is None:
        return inspect_server(settings.database)
    return inspect_file(path, checked_bytes=sys.maxsize if thorough else 0)


def check_key(settings: Settings) -> None:
    """Hold the key against the database, whose schema is this version's; changes nothing.

    Raises:
        SettingsError: its secrets were sealed with another key, or the key cannot be read.
        StorageUnavailable: it cannot be read just now.
    """
    path, given = database_path(settings), settings.secret_key
    if given is not None:
        _hold(settings, Sealer(given.reveal()), change=False)
    elif path is not None and key_file(path).exists():
        _hold(settings, Sealer(key_beside(path)), change=False)


def check_key_of(settings: Settings, copy: Path) -> None:
    """Hold the key of a SQLite file against a copy that is to take the file's place; changes nothing.

    Args:
        settings: name the file.
        copy: of this version's schema.

    Raises:
        SettingsError: the secrets in the copy were sealed with another key, or the key cannot be read.
        StorageUnavailable: the copy cannot be read just now.
    """
    path = Path(settings.database.removeprefix(SQLITE))
    if settings.secret_key is not None:
        sealer, key = Sealer(settings.secret_key.reveal()), "secret_key"
    elif key_file(path).exists():
        sealer, key = Sealer(key_beside(path)), str(key_file(path))
    else:
        sealer, key = Sealer(token_hex()), f"a new key, since there is no {key_file(path)},"
    sqlite_file.hold_key_against(copy, sealer, key=key, change=False)


def _hold(settings: Settings, sealer: Sealer, *, change: bool) -> None:
    path = database_path(settings)
    if path is None:
        postgres_schema.hold_key_against(settings.database, sealer, key="secret_key", change=change)
        return
    key = str(key_file(path)) if settings.secret_key is None else "secret_key"
    sqlite_file.hold_key_against(path, sealer, key=key, change=change)


def migrate_store(settings: Settings, *, restoring: bool = False) -> tuple[str, ...]:
    """Apply what the schema lacks, and return the revisions applied. Raises like `inspect_store`.

    On SQLite only while nobody serves it; on PostgreSQL beside whoever does, since migrations only add. A
    server's database whose restore is not finished is brought up by whoever restores it, and nobody else.
    """
    path = database_path(settings)
    return migrate_server(settings.database, restoring=restoring) if path is None else bring_up(path)


def open_store(
    settings: Settings,
    *,
    on_commit: OnCommit | None = None,
    on_refused: Callable[[], None] = lambda: None,
    clock: Clock | None = None,
    serving: bool = False,
    restoring: bool = False,
) -> Store:
    """Open the database: a SQLite file migrated on the way, a server only when its schema is this version's.

    Args:
        settings: name it.
        on_commit: told about each commit.
        on_refused: told about each operation that failed because the database could not be used.
        clock: the time to use; None takes the machine's for a file, the server's for a server.
        serving: whether the caller has the lock of `lock_store`, and so may keep room on the disk.
        restoring: whether the caller restores a server's database, which nobody else may use until then.

    Raises:
        SchemaRefused: it is newer than this version, damaged, or no database at all; or a server's is older,
            or its restore is not finished.
        SettingsError: its key file is empty, there is no key for a server's, or it is not the key that the
            secrets in it were sealed with.
        StorageUnavailable: it cannot be used just now.
    """
    path = database_path(settings)
    if path is None:
        return _open_server(settings, on_commit, on_refused, clock, restoring=restoring)
    make_file(path)
    migrate_file(path, checked_bytes=CHECKED_BYTES if serving else 0)
    secret = key_beside(path) if settings.secret_key is None else settings.secret_key.reveal()
    sealer = Sealer(secret)
    _hold(settings, sealer, change=True)
    database = SQLiteDatabase(path, on_commit=on_commit, reserve_bytes=RESERVE_BYTES if serving else 0)
    return Store(
        database=Reported(database, on_refused),
        sealer=sealer,
        secret=secret,
        clock=clock or SystemClock(),
    )


def _open_server(
    settings: Settings,
    on_commit: OnCommit | None,
    on_refused: Callable[[], None],
    clock: Clock | None,
    *,
    restoring: bool,
) -> Store:
    if settings.secret_key is None:  # `settings.load` refuses it earlier, and says from where
        raise SettingsError("secret_key: PostgreSQL needs one; set MOTION_GATEWAY_SECRET_KEY")
    pending = inspect_server(settings.database, restoring=restoring).pending
    if pending:
        numbers = ", ".join(revision.partition(" ")[0] for revision in pending)
        behind = f"the database's schema lacks what this version needs (migrations {numbers})"
        raise SchemaRefused(f"{behind}; run `motion-gateway migrate`, or start with `serve --migrate`")
    secret = settings.secret_key.reveal()
    sealer = Sealer(secret)
    _hold(settings, sealer, change=True)
    database = PostgresDatabase(settings.database, local=clock or SystemClock(), on_commit=on_commit)
    return Store(
        database=Reported(database, on_refused),
        sealer=sealer,
        secret=secret,
        clock=clock or database.clock,
    )
