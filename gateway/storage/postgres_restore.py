"""A PostgreSQL database restored from a dump: marked, loaded, and usable only when its jobs are settled.

Whenever the process dies, the database is empty, or has a marker on which every start is refused, and the
same command goes on where it died. pg_restore may outlive who started it: the marker is there before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from gateway.errors import BackupRefused, StorageUnavailable
from gateway.storage.postgres_backup import LOADER, load_dump
from gateway.storage.postgres_schema import LOCK, connected, kept_connected
from gateway.storage.restore_marker import TABLE, Marker, find_marker, remove_marker, write_marker

RESTORING: Final = LOCK + 1
"""Of pg_advisory_lock, held by the one command that restores."""


@contextmanager
def restoring(database: str) -> Generator[None]:
    """Be the only one who restores a database.

    Raises:
        BackupRefused: another process does.
        StorageUnavailable: the server cannot be reached.
    """
    with kept_connected(database) as connection:
        with connection.begin():
            had = connection.execute(
                text("SELECT pg_try_advisory_lock(:key)"), {"key": RESTORING}
            ).scalar_one()
        if not had:
            raise BackupRefused("another `motion-gateway restore` of this database is under way")
        yield  # the lock goes with the connection


def load_server(database: str, dump: Path, *, choice: str) -> None:
    """Mark an empty database and read a dump into it, all of it or nothing; one that was loaded is left so.

    Args:
        database: the setting: `postgresql://...`.
        dump: what `dump_server` made.
        choice: what is to become of the jobs, for whoever has to finish it.

    Raises:
        BackupRefused: the database is not empty, another dump was loaded, or pg_restore is missing or failed.
        StorageUnavailable: the server cannot be reached.
    """
    marker = Marker(file=str(dump.resolve()), digest=_digest_of(dump), choice=choice)
    with _alone(database) as connection:
        loaded = _mark(connection, marker)
    if loaded:
        return
    try:
        load_dump(database, dump)
    except BackupRefused:
        # Else the marker stays, which is safe: the next restore begins anew.
        with suppress(StorageUnavailable), _alone(database) as connection:
            if not _is_loading(connection) and not _is_loaded(connection):
                remove_marker(connection)
        raise


def finish_restore(database: str) -> None:
    """Let a database be used whose jobs are settled.

    Raises:
        StorageUnavailable: the server cannot be reached.
    """
    with connected(database) as connection:
        remove_marker(connection)


@contextmanager
def _alone(database: str) -> Generator[Connection]:
    """Connect for one transaction in which nobody migrates the database."""
    with connected(database) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        yield connection


def _mark(connection: Connection, marker: Marker) -> bool:
    """Mark a database that is empty, or was to be restored already; return whether it has been loaded."""
    before = find_marker(connection)
    if before is not None and _is_loading(connection):
        raise BackupRefused("pg_restore of a restore that was broken off still runs; wait until it has ended")
    if before is not None and _is_loaded(connection):
        if before.digest != marker.digest:
            raise BackupRefused(
                f"{before.file} was loaded into this database, and that restore is not finished; name that"
                " file, or restore into a new database (createdb)"
            )
        return True
    if _count_tables(connection):
        raise BackupRefused(
            "the database is not empty; make a new one (createdb), and name that with --database: the one"
            " that is there stays as it is"
        )
    write_marker(connection, marker)
    return False


def _is_loading(connection: Connection) -> bool:
    """Whether a pg_restore of ours is at it."""
    running = connection.execute(
        text(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = :name"
        ),
        {"name": LOADER},
    )
    return bool(running.scalar_one())


def _is_loaded(connection: Connection) -> bool:
    """Whether a dump is in a marked database: it came in one transaction, and nobody else migrates one."""
    return connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one() is not None


def _count_tables(connection: Connection) -> int:
    counted: int = connection.execute(
        text("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename <> :marker"),
        {"marker": TABLE},
    ).scalar_one()
    return counted


def _digest_of(dump: Path) -> str:
    try:
        with dump.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BackupRefused(f"{dump} cannot be read ({error.strerror})") from error
