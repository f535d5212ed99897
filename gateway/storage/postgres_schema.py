"""The schema on a PostgreSQL server: looked at, and migrated by one process at a time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from functools import partial

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway.errors import StorageUnavailable
from gateway.storage.canary import hold_against
from gateway.storage.postgres_line import SESSION, open_server
from gateway.storage.restore_marker import refuse_marked
from gateway.storage.schema import SchemaState, inspect_schema, migrate
from gateway.storage.sealing import Sealer

LOCK = 7_234_019_446_711_208_001
"""Of pg_advisory_lock; any number that nobody else uses in this database."""
# A migration may take as long as it needs, but must not queue for a table lock with everybody behind it.
MIGRATING = {**SESSION, "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}


def inspect_server(database: str, *, restoring: bool = False) -> SchemaState:
    """Tell how far the schema is behind.

    Args:
        database: the setting: `postgresql://...`.
        restoring: whether the caller restores it; nobody else may use it until that is done.

    Raises:
        SchemaRefused: it is newer than this version, or a restore of it is not finished.
        StorageUnavailable: the server cannot be reached.
    """
    with connected(database) as connection:
        state = inspect_schema(connection)
        if not restoring:
            refuse_marked(connection)
        return state


def migrate_server(database: str, *, restoring: bool = False) -> tuple[str, ...]:
    """Apply what the schema lacks; processes that do so at once wait for the first.

    Args:
        database: the setting: `postgresql://...`.
        restoring: whether the caller restores it.

    Returns:
        The revisions applied.

    Raises:
        SchemaRefused: it is newer than this version, or a restore of it is not finished.
        StorageUnavailable: the server cannot be reached.
    """
    with _connected(database, MIGRATING) as connection:
        with connection.begin():
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
        with connection.begin():
            state = inspect_schema(connection)
            if not restoring:
                refuse_marked(connection)
        if state.pending:
            with connection.begin():
                migrate(connection)
        return state.pending  # the lock goes with the connection


def hold_key_against(database: str, sealer: Sealer, *, key: str, change: bool) -> None:
    """Make sure that a key is the one that the secrets in a database were sealed with.

    Args:
        database: the setting: `postgresql://...`; its schema is this version's.
        sealer: seals with the key.
        key: where the key comes from, for the error.
        change: whether it becomes the database's when that has none yet.

    Raises:
        SettingsError: it is another.
        StorageUnavailable: the server cannot be reached.
    """
    opened = partial(connected, database)
    hold_against(opened, opened if change else None, sealer, key=key)


@contextmanager
def kept_connected(database: str) -> Generator[Connection]:
    """Connect for as long as the caller likes, outside of a transaction. Raises like `connected`."""
    with _connected(database, SESSION) as connection:
        yield connection


@contextmanager
def connected(database: str) -> Generator[Connection]:
    """Connect for one transaction, raising `StorageUnavailable` when the server cannot be reached."""
    with _connected(database, SESSION) as connection, connection.begin():
        yield connection


@contextmanager
def _connected(database: str, session: dict[str, str]) -> Generator[Connection]:
    engine = open_server(database, session=session)
    try:
        with closing(engine.connect()) as connection:
            yield connection
    except IntegrityError:
        raise
    except DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        raise StorageUnavailable(f"the PostgreSQL server cannot be used: {reason}") from error
    finally:
        engine.dispose()
