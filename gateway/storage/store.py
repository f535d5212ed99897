"""Opens the database that the settings name: its folder, its lock, its schema, and the key of its secrets."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from msgspec import Struct
from sqlalchemy.exc import DatabaseError

from gateway.errors import SchemaRefused, SettingsError
from gateway.settings import Settings
from gateway.storage.schema import inspect_schema, migrate
from gateway.storage.sealing import Sealer, key_beside
from gateway.storage.sqlite import OnCommit, ServingLock, SQLiteDatabase, open_engine

SQLITE = "sqlite:///"


class Store(Struct, frozen=True, kw_only=True):
    """An open database, and what seals its secrets."""

    database: SQLiteDatabase
    sealer: Sealer
    secret: str
    path: Path


def database_path(settings: Settings) -> Path:
    """Return the SQLite file that the setting `database` names."""
    return Path(settings.database.removeprefix(SQLITE))


def open_store(settings: Settings, *, on_commit: OnCommit | None = None) -> Store:
    """Open the database, migrated to this version's schema.

    Raises:
        SchemaRefused: it is newer than this version, damaged, or no database at all.
        SettingsError: its key file is empty.
    """
    path = database_path(settings)
    make_folder(path)
    if not path.exists():
        # Jobs hold URLs and metadata: for the owner's eyes. SQLite gives its other files the same mode.
        path.touch(mode=0o600)
    migrate_file(path)
    secret = key_beside(path) if settings.secret_key is None else settings.secret_key.reveal()
    return Store(
        database=SQLiteDatabase(path, on_commit=on_commit), sealer=Sealer(secret), secret=secret, path=path
    )


def migrate_file(path: Path) -> tuple[str, ...]:
    """Bring a SQLite file to this version's schema; returns the revisions applied.

    Raises:
        SchemaRefused: it is newer than this version, damaged, or no database at all.
    """
    try:
        with closing(open_engine(path).connect()) as connection:
            with connection.begin():
                state = inspect_schema(connection)
            if state.pending:
                with connection.begin():
                    migrate(connection)
            return state.pending
    except DatabaseError as error:
        raise SchemaRefused(f"{path} cannot be used as a database: {error.orig}") from error


def make_folder(path: Path) -> None:
    """Make the folder that a database file lies in.

    Raises:
        SettingsError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"database: the folder {path.parent} cannot be made ({error.strerror}); name a file in another"
        ) from error


def lock_file(path: Path) -> ServingLock:
    """Take the lock of whoever serves, or changes, a database file.

    Raises:
        SchemaRefused: another process serves it.
        SettingsError: the lock file beside it cannot be written.
    """
    make_folder(path)
    lock = ServingLock(path)
    try:
        lock.acquire()
    except OSError as error:
        raise SettingsError(
            f"database: {path} cannot be locked ({error.strerror}); name one in a folder that can be written"
        ) from error
    return lock
