"""A table that a PostgreSQL database has while it is being restored: nobody else may use it until then.

It is written before anything else is, and goes when the jobs are settled. Without it a database whose
restore died half way would look like any other, and whoever serves it would submit what was submitted since.
It is in no migration, since a dump brings those tables along.
"""

from __future__ import annotations

import shlex

from msgspec import Struct
from sqlalchemy import Connection, text

from gateway.errors import SchemaRefused

TABLE = "unfinished_restore"


class Marker(Struct, frozen=True, kw_only=True):
    """What is being restored."""

    file: str
    """The backup's path, for whoever is to finish it."""
    digest: str
    """SHA-256 of the backup, in hexadecimal."""
    choice: str
    """What was asked for the jobs: `--fail-queued` or `--requeue`."""


def find_marker(connection: Connection) -> Marker | None:
    """Return what is being restored; None where nothing is."""
    if connection.execute(text(f"SELECT to_regclass('{TABLE}')")).scalar_one() is None:
        return None
    row = connection.execute(text(f"SELECT file, digest, choice FROM {TABLE}")).one()  # noqa: S608  (a constant)
    return Marker(file=row.file, digest=row.digest, choice=row.choice)


def write_marker(connection: Connection, marker: Marker) -> None:
    """Mark a database, or mark it with another backup."""
    remove_marker(connection)
    connection.execute(
        text(f"CREATE TABLE {TABLE} (file text NOT NULL, digest text NOT NULL, choice text NOT NULL)")
    )
    connection.execute(
        text(f"INSERT INTO {TABLE} (file, digest, choice) VALUES (:file, :digest, :choice)"),  # noqa: S608  (a constant)
        {"file": marker.file, "digest": marker.digest, "choice": marker.choice},
    )


def remove_marker(connection: Connection) -> None:
    """Let the database be used."""
    connection.execute(text(f"DROP TABLE IF EXISTS {TABLE}"))


def refuse_marked(connection: Connection) -> None:
    """Make sure that a database is not one whose restore is not finished.

    To be asked after its schema was looked at, never before: a schema that is there came after its marker.

    Raises:
        SchemaRefused: it is, and whoever used it might pay twice.
    """
    marker = find_marker(connection)
    if marker is not None:
        raise SchemaRefused(
            "a restore of this database is not finished, and jobs in it may have been submitted since the"
            f" backup was made; finish it: motion-gateway restore {shlex.quote(marker.file)} {marker.choice}"
        )
