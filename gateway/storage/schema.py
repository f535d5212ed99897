"""Brings a database to this version's schema, and refuses one that this version must not touch."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError, OperationalError

from gateway.errors import SchemaRefused, StorageUnavailable

_PASSING = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_FULL}
)
"""Primary result codes of SQLite that say nothing against the file."""

_MIGRATIONS = Path(__file__).with_name("migrations")


class SchemaState(Struct, frozen=True, kw_only=True):
    """Where a database stands."""

    current: str | None
    """None for an empty one."""
    head: str
    pending: tuple[str, ...]
    """Revisions still to be applied, oldest first, each with its title."""


def inspect_schema(connection: Connection, *, checked_bytes: int = 0) -> SchemaState:
    """Tell how far the schema is behind.

    Args:
        connection: in a transaction; that it reads suffices.
        checked_bytes: a SQLite file is looked through for damage when it is no larger than that.

    Raises:
        SchemaRefused: the file is damaged, no database at all, or of a newer version.
        StorageUnavailable: it cannot be read just now.
    """
    scripts = ScriptDirectory.from_config(_config(connection))
    head = scripts.get_current_head() or ""
    try:
        current = MigrationContext.configure(connection).get_current_revision()
        if connection.dialect.name == "sqlite" and checked_bytes:
            _check_sqlite(connection, checked_bytes)
    except DatabaseError as error:
        raise unusable(error, "the database cannot be read") from error
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        reason = f"the database has schema {current}, which this version (schema {head}) does not know"
        raise SchemaRefused(f"{reason}; run the newer version that made it, or restore a backup")
    pending: list[str] = []
    for script in scripts.walk_revisions():
        if script.revision == current:
            break
        pending.append(f"{script.revision} {script.doc.rstrip('.')}")
    return SchemaState(current=current, head=head, pending=tuple(reversed(pending)))


def is_known(revision: str) -> bool:
    """Whether this version knows a revision of the schema; a newer one's it does not."""
    return revision in {
        script.revision for script in ScriptDirectory.from_config(_scripts()).walk_revisions()
    }


def unusable(error: DatabaseError, what: str) -> SchemaRefused | StorageUnavailable:
    """Make the error that says why a database cannot be used: for good, or just now.

    Args:
        error: what the database said.
        what: begins the text.
    """
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        passing = getattr(cause, "sqlite_errorcode", 0) & 0xFF in _PASSING  # the rest is detail
    else:
        passing = isinstance(error, OperationalError)
    # The first line alone: the rest may repeat the statement.
    text = f"{what}: {str(cause).strip().partition(chr(10))[0]}"
    return StorageUnavailable(text) if passing else SchemaRefused(text)


def migrate(connection: Connection) -> None:
    """Apply every pending migration, in the transaction that `connection` is in."""
    command.upgrade(_config(connection), "head")


def _config(connection: Connection) -> Config:
    config = _scripts()
    config.attributes["connection"] = connection
    return config


def _scripts() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _check_sqlite(connection: Connection, most_bytes: int) -> None:
    pages, page_bytes = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size")
    )
    if pages * page_bytes > most_bytes:
        return
    verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if verdict != "ok":
        raise SchemaRefused(f"the database is damaged ({verdict}); restore a backup")
