"""A SQLite database as a file: its folder, its lock, its schema."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from gateway.errors import SchemaRefused, SettingsError
from gateway.storage.schema import SchemaState, inspect_schema, migrate
from gateway.storage.sqlite import ServingLock, open_engine


def make_file(path: Path) -> None:
    """Make the file, empty, and its folder, when they are missing.

    Raises:
        SettingsError: they cannot be made.
    """
    _make_folder(path)
    if not path.exists():
        # Jobs hold URLs and metadata: for the owner's eyes. SQLite gives its other files the same mode.
        path.touch(mode=0o600)


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
        make_file(path)
        return migrate_file(path)
    finally:
        lock.release()


def lock_file(path: Path) -> ServingLock:
    """Take the lock of whoever serves, or changes, a database file.

    Raises:
        SchemaRefused: another process serves it.
        SettingsError: the lock file beside it cannot be written.
    """
    _make_folder(path)
    lock = ServingLock(path)
    try:
        lock.acquire()
    except OSError as error:
        raise SettingsError(
            f"database: {path} cannot be locked ({error.strerror}); name one in a folder that can be written"
        ) from error
    return lock


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"database: the folder {path.parent} cannot be made ({error.strerror}); name a file in another"
        ) from error
