"""Brings a database to this version's schema, and refuses one that this version must not touch."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from gateway.errors import SchemaRefused

_MIGRATIONS = Path(__file__).with_name("migrations")


class SchemaState(Struct, frozen=True, kw_only=True):
    """Where a database stands."""

    current: str | None
    """None for an empty one."""
    head: str
    pending: tuple[str, ...]
    """Revisions still to be applied, oldest first, each with its title."""


def inspect_schema(connection: Connection) -> SchemaState:
    """Tell how far the schema is behind.

    Raises:
        SchemaRefused: the file is damaged, no database at all, or of a newer version.
    """
    scripts = ScriptDirectory.from_config(_config(connection))
    head = scripts.get_current_head() or ""
    try:
        current = MigrationContext.configure(connection).get_current_revision()
        if connection.dialect.name == "sqlite":
            _check_sqlite(connection)
    except DatabaseError as error:
        raise SchemaRefused(f"the database cannot be read: {error.orig}") from error
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        reason = f"the database has schema {current}, which this version (schema {head}) does not know"
        raise SchemaRefused(f"{reason}; run the newer version that made it, or restore a backup")
    pending: list[str] = []
    for script in scripts.walk_revisions():
        if script.revision == current:
            break
        pending.append(f"{script.revision} {script.doc}")
    return SchemaState(current=current, head=head, pending=tuple(reversed(pending)))


def migrate(connection: Connection) -> None:
    """Apply every pending migration, in the transaction that `connection` is in."""
    command.upgrade(_config(connection), "head")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _check_sqlite(connection: Connection) -> None:
    verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if verdict != "ok":
        raise SchemaRefused(f"the database is damaged ({verdict}); restore a backup")
