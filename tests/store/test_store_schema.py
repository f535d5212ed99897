"""Migrations: they make what `tables` says, and a database that is not ours is left alone."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect
from sqlalchemy.exc import OperationalError
from store_stage import migrated_file

from gateway.errors import SchemaRefused, StorageUnavailable
from gateway.storage.schema import inspect_schema, migrate, unusable
from gateway.storage.sealing import key_beside
from gateway.storage.sqlite import open_engine
from gateway.storage.sqlite_file import inspect_file, lock_file, make_file, migrate_file
from gateway.storage.tables import metadata


def test_a_fresh_file_gets_exactly_the_tables(tmp_path: Path) -> None:
    with closing(open_engine(migrated_file(tmp_path)).connect()) as connection, connection.begin():
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        found = inspect(connection)
        assert set(found.get_table_names()) == {*metadata.tables, "alembic_version"}
        for table in metadata.tables.values():
            stored = {str(one["name"]) for one in found.get_indexes(table.name)}
            assert {str(index.name) for index in table.indexes} == stored, table.name


@pytest.mark.parametrize(
    ("table", "column"), [("jobs", "status"), ("attempts", "state"), ("deliveries", "state")]
)
def test_closed_sets_are_closed_in_the_database_too(tmp_path: Path, table: str, column: str) -> None:
    with closing(open_engine(migrated_file(tmp_path)).connect()) as connection, connection.begin():
        (check,) = inspect(connection).get_check_constraints(table)
        declared = [str(one.sqltext) for one in metadata.tables[table].constraints if hasattr(one, "sqltext")]
        assert column in check["sqltext"]
        assert declared == [check["sqltext"]]


def test_migrating_is_told_before_and_needed_once(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    with closing(open_engine(path).connect()) as connection, connection.begin():
        state = inspect_schema(connection)
        assert state.current is None
        assert state.pending[-1].startswith(state.head)
        assert not any(title.endswith(".") for title in state.pending), "they are told in a row"
        migrate(connection)
        assert inspect_schema(connection).pending == ()
    assert migrate_file(path) == ()


def test_a_migration_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    with closing(open_engine(path).connect()) as connection:
        with pytest.raises(RuntimeError), connection.begin():  # noqa: PT012 - the block is the transaction
            migrate(connection)
            raise RuntimeError
        with connection.begin():
            assert inspect(connection).get_table_names() == []
    assert migrate_file(path)


def refused(path: Path) -> str:
    before = path.read_bytes()
    with pytest.raises(SchemaRefused) as caught:
        migrate_file(path, checked_bytes=sys.maxsize)
    assert path.read_bytes() == before
    return str(caught.value)


def test_a_newer_schema_is_refused_and_named(tmp_path: Path) -> None:
    path = migrated_file(tmp_path)
    with closing(open_engine(path).connect()) as connection, connection.begin():
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert "9999" in refused(path)


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gateway.db"
    path.write_bytes(content)
    refused(path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = migrated_file(tmp_path)
    content = bytearray(path.read_bytes())
    assert len(content) > 8192
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    refused(path)


def test_only_a_file_of_a_size_is_looked_through_and_only_when_asked(tmp_path: Path) -> None:
    path = migrated_file(tmp_path)
    content = path.read_bytes()
    # A page of a table that a look at the schema does not touch.
    path.write_bytes(content[: len(content) - 4096] + b"\xa5" * 4096)
    assert inspect_file(path).pending == ()
    assert inspect_file(path, checked_bytes=len(content) - 1).pending == ()
    with pytest.raises(SchemaRefused, match=r"damaged|malformed"):
        inspect_file(path, checked_bytes=len(content))


def test_a_look_waits_for_no_writer(tmp_path: Path) -> None:
    path = migrated_file(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert inspect_file(path, checked_bytes=sys.maxsize).pending == ()


def test_a_file_that_is_locked_just_now_is_not_refused_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.storage.sqlite_file.open_engine", partial(open_engine, busy_timeout_ms=10))
    path = tmp_path / "gateway.db"
    make_file(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for look in (inspect_file, migrate_file):
            with pytest.raises(StorageUnavailable, match="locked"):
                look(path)
    assert migrate_file(path)


@pytest.mark.parametrize(
    ("code", "passing"),
    [
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_LOCKED_SHAREDCACHE, True),
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_CORRUPT, False),
        (sqlite3.SQLITE_NOTADB, False),
        (sqlite3.SQLITE_READONLY, False),
    ],
)
def test_what_passes_is_told_from_what_does_not(code: int, passing: bool) -> None:  # noqa: FBT001 - a column
    cause = sqlite3.OperationalError("told\nand more")
    cause.sqlite_errorcode = code
    error = unusable(OperationalError("SELECT", {}, cause), "it is no good")
    assert isinstance(error, StorageUnavailable) is passing
    assert str(error) == "it is no good: told"


def test_a_file_has_one_lock_and_one_key_by_whatever_name(tmp_path: Path) -> None:
    path, other = migrated_file(tmp_path), tmp_path / "elsewhere" / "other.db"
    other.parent.mkdir()
    other.symlink_to(path)
    lock = lock_file(path)
    with pytest.raises(SchemaRefused, match="another process serves"):
        lock_file(other)
    lock.release()
    lock_file(other).release()
    assert key_beside(other) == key_beside(path)
    assert [one.name for one in other.parent.iterdir()] == ["other.db"]
