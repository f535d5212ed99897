"""Migrations: they make what `tables` says, and a database that is not ours is left alone."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect
from store_stage import migrated_file

from gateway.errors import SchemaRefused
from gateway.storage.schema import inspect_schema, migrate
from gateway.storage.sqlite import open_engine
from gateway.storage.sqlite_file import migrate_file
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
        migrate_file(path)
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
