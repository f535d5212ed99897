"""A SQLite database copied while it is served, and put back.

The copy is made over one snapshot, beside its final name, checked, flushed, and only then given that name:
whenever the process dies, a file of that name is whole. It is one file without a WAL, mode 0600, and does not
hold the key that its secrets are sealed with.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from gateway.errors import BackupRefused, StorageUnavailable
from gateway.storage.backup_name import flush_folder, give_name, refuse_taken

PAGES: Final = 2000
"""Copied between two words on how far it is."""
BUSY_TIMEOUT_S: Final = 5.0
WAL: Final = ("-wal", "-shm")
"""What SQLite keeps beside a file."""

OnCopied = Callable[[int, int], None]
"""Told how many pages are copied, and of how many."""


def back_up(source: Path, target: Path, *, replace: bool, on_copied: OnCopied) -> None:
    """Copy a database, whoever serves it, into a file.

    Args:
        source: the database.
        target: the file to be.
        replace: whether one of that name is replaced.
        on_copied: told how far it is.

    Raises:
        BackupRefused: there is a file of that name, its folder cannot be written, or the copy is damaged.
        StorageUnavailable: the database cannot be read just now.
    """
    refuse_taken(target, replace=replace)
    with copied(source, beside=target, on_copied=on_copied) as copy:
        give_name(copy, target, replace=replace)


@contextmanager
def copied(source: Path, *, beside: Path, on_copied: OnCopied) -> Generator[Path]:
    """Copy a database into a new file in a folder; checked and flushed. What is left of it then is removed.

    Args:
        source: a database, or a backup of one.
        beside: a file of that folder, after which the new one is named.
        on_copied: told how far it is.

    Raises:
        BackupRefused: the folder cannot be written, or the copy is damaged or no database.
        StorageUnavailable: the database cannot be read just now.
    """
    copy = _make_file(beside)
    try:
        try:
            _copy(source, copy, on_copied)
            _check(copy)
        except sqlite3.DatabaseError as error:
            raise _translated(error, source) from error
        flush(copy)
        yield copy
    finally:
        for leftover in (copy, *beside_of(copy)):
            leftover.unlink(missing_ok=True)


def put_in_place(copy: Path, path: Path, *, aside: Path) -> bool:
    """Let a file take a database's place, and keep the old one under another name.

    At every instant one of them is whole under the database's name.

    Args:
        copy: in the same folder, flushed, without a WAL.
        path: the database, which nobody uses.
        aside: where the old one is kept.

    Returns:
        Whether there was an old one.

    Raises:
        BackupRefused: the old one cannot be kept; it is in its place, as it was.
    """
    had = path.exists()
    try:
        if had:
            _empty_wal(path)
            os.link(path, aside)
        for kind in WAL:  # a foreign WAL would be read into the file that comes
            leftover = path.with_name(path.name + kind)
            if leftover.exists():
                leftover.rename(aside.with_name(aside.name + kind))
        copy.replace(path)
    except OSError as error:
        raise BackupRefused(f"{path} cannot be kept as {aside} ({error.strerror})") from error
    flush_folder(path.parent)
    return had


def flush(path: Path) -> None:
    """Have a file on the disk, all of it; what a connection wrote to its WAL is in the file by then."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def beside_of(path: Path) -> tuple[Path, ...]:
    """Return what SQLite may keep beside a file."""
    return tuple(path.with_name(path.name + kind) for kind in (*WAL, "-journal"))


def _copy(source: Path, copy: Path, on_copied: OnCopied) -> None:
    if not source.is_file():
        raise BackupRefused(f"there is no file {source}")
    with (
        closing(sqlite3.connect(source, isolation_level=None, timeout=BUSY_TIMEOUT_S)) as reading,
        closing(sqlite3.connect(copy, isolation_level=None)) as writing,
    ):
        reading.execute("PRAGMA query_only = ON")
        # One snapshot for all of it: what is committed meanwhile neither comes in nor begins the copy anew.
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        reading.backup(
            writing,
            pages=PAGES,
            progress=lambda _status, remaining, total: on_copied(total - remaining, total),
            sleep=0,
        )


def _check(copy: Path) -> None:
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        known = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'alembic_version'")
        ours = known.fetchone()[0]
    if verdict != "ok":
        raise BackupRefused(
            f"the database is damaged ({verdict}), and so would be its copy; nothing was made"
        )
    if not ours:
        raise BackupRefused("that file is no database of Motion Gateway")


def _translated(error: sqlite3.DatabaseError, source: Path) -> Exception:
    if isinstance(error, sqlite3.OperationalError):
        return StorageUnavailable(f"{source} could not be copied: {error}")
    return BackupRefused(f"{source} cannot be used as a database: {error}")


def _make_file(beside: Path) -> Path:
    try:
        # Made with mode 0600: jobs hold URLs and metadata.
        descriptor, name = tempfile.mkstemp(prefix=f".{beside.name}.", suffix=".partial", dir=beside.parent)
    except OSError as error:
        raise BackupRefused(f"the folder {beside.parent} cannot be written ({error.strerror})") from error
    os.close(descriptor)
    return Path(name)


def _empty_wal(path: Path) -> None:
    """Bring what is in the WAL into the file. One that is damaged is kept as it is, with its WAL."""
    with (
        contextlib.suppress(sqlite3.DatabaseError),
        closing(sqlite3.connect(path, isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
