"""A SQLite database as a file: its folder, its lock, its schema."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError, IntegrityError

from gateway.errors import SettingsError
from gateway.storage.canary import hold_against
from gateway.storage.schema import SchemaState, inspect_schema, migrate, unusable
from gateway.storage.sealing import Sealer
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


def inspect_file(path: Path, *, checked_bytes: int = 0) -> SchemaState:
    """Tell how far a database file's schema is behind; one that is missing is not made.

    Args:
        path: the file.
        checked_bytes: it is looked through for damage, all of it, when it is no larger than that.

    Raises:
        SchemaRefused: it is newer than this version, damaged, or no database at all.
        StorageUnavailable: it cannot be read just now.
    """
    with _opened(path if path.exists() else Path(":memory:"), "BEGIN") as connection:
        return inspect_schema(connection, checked_bytes=checked_bytes)


def migrate_file(path: Path, *, checked_bytes: int = 0) -> tuple[str, ...]:
    """Bring a SQLite file to this version's schema; returns the revisions applied. Like `inspect_file`."""
    pending = inspect_file(path, checked_bytes=checked_bytes).pending
    if pending:
        with _opened(path, "BEGIN IMMEDIATE") as connection:
            migrate(connection)
    return pending


def hold_key_against(path: Path, sealer: Sealer, *, key: str, change: bool) -> None:
    """Make sure that a key is the one that the secrets in a file were sealed with.

    Args:
        path: the file, of this version's schema.
        sealer: seals with the key.
        key: where the key comes from, for the error.
        change: whether it becomes the file's when that has none yet.

    Raises:
        SettingsError: it is another.
        StorageUnavailable: that cannot be told just now.
    """
    writing = partial(_opened, path, "BEGIN IMMEDIATE") if change else None
    hold_against(partial(_opened, path, "BEGIN"), writing, sealer, key=key)


@contextmanager
def _opened(path: Path, begin: str) -> Generator[Connection]:
    """Open a file for one transaction: a snapshot that nobody waits for, or one that writes."""
    try:
        with closing(open_engine(path, begin=begin).connect()) as connection, connection.begin():
            yield connection
    except IntegrityError:
        raise
    except DatabaseError as error:
        raise unusable(error, f"{path} cannot be used as a database") from error


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
