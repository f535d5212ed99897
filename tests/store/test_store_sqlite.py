"""One writer, group commit, snapshots for readers; and what happens when the file cannot be used."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from store_stage import migrated_file

from gateway.errors import OutcomeUnknown, SchemaRefused, StorageUnavailable
from gateway.storage import sqlite as sqlite_module
from gateway.storage.engine import Operation
from gateway.storage.sqlite import ServingLock, SQLiteDatabase


@asynccontextmanager
async def opened(path: Path, *, busy_timeout_ms: int = 50) -> AsyncIterator[SQLiteDatabase]:
    database = SQLiteDatabase(path, busy_timeout_ms=busy_timeout_ms)
    yield database
    await database.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return migrated_file(tmp_path)


def put(name: str) -> Operation[str]:
    def operation(connection: Connection) -> str:
        statement = "INSERT INTO owners (name, sealed_webhook_secret, created_at_ms) VALUES (?, '', 0)"
        connection.exec_driver_sql(statement, (name,))
        return name

    return operation


def names(connection: Connection) -> list[str]:
    return list(connection.exec_driver_sql("SELECT name FROM owners ORDER BY name").scalars())


@asynccontextmanager
async def busy(database: SQLiteDatabase) -> AsyncIterator[None]:
    """Keep the writer busy, so that what comes meanwhile forms one batch."""
    release, started = threading.Event(), threading.Event()

    def hold(_connection: Connection) -> None:
        started.set()
        release.wait(5)

    holding = asyncio.ensure_future(database.write(hold))
    await asyncio.to_thread(started.wait, 5)
    yield
    release.set()
    await holding


async def together(database: SQLiteDatabase, *operations: Operation[str]) -> list[str | BaseException]:
    """Carry operations out in one batch."""
    async with busy(database):
        waiting = [asyncio.ensure_future(database.write(operation)) for operation in operations]
        await asyncio.sleep(0)
    return await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_batch_is_one_commit(file: Path) -> None:
    batches: list[int] = []
    database = SQLiteDatabase(file, on_commit=lambda _seconds, operations: batches.append(operations))
    await together(database, *(put(f"n{number:02}") for number in range(20)))
    assert len(await database.read(names)) == 20
    await database.close()
    assert batches == [1, 20]


async def test_no_batch_is_larger_than_its_limit(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_module, "BATCH_LIMIT", 8)
    batches: list[int] = []
    database = SQLiteDatabase(file, on_commit=lambda _seconds, operations: batches.append(operations))
    await together(database, *(put(f"n{number:02}") for number in range(20)))
    await database.close()
    assert batches == [1, 8, 8, 4]


def bad(name: str) -> Operation[str]:
    def operation(connection: Connection) -> str:
        put(name)(connection)
        raise KeyError(name)

    return operation


def doubled(name: str) -> Operation[str]:
    def operation(connection: Connection) -> str:
        put(f"{name} before")(connection)
        return put("a")(connection)

    return operation


async def test_one_failing_operation_does_not_hurt_the_others(file: Path) -> None:
    async with opened(file) as database:
        outcome = await together(database, put("a"), bad("b"), put("c"), doubled("d"), put("e"))
        assert [outcome[0], outcome[2], outcome[4]] == ["a", "c", "e"]
        assert isinstance(outcome[1], KeyError)
        assert isinstance(outcome[3], IntegrityError)
        assert await database.read(names) == ["a", "c", "e"]


async def test_an_operation_that_fails_alone_leaves_nothing(file: Path) -> None:
    async with opened(file) as database:
        with pytest.raises(KeyError):
            await database.write(bad("b"))
        await database.write(put("a"))
        with pytest.raises(IntegrityError):
            await database.write(doubled("d"))
        assert await database.read(names) == ["a"]


async def test_a_waiter_that_goes_away_disturbs_nobody(file: Path) -> None:
    async with opened(file) as database:
        async with busy(database):
            gone = asyncio.ensure_future(database.write(put("gone")))
            stays = asyncio.ensure_future(database.write(put("stays")))
            await asyncio.sleep(0)
            gone.cancel()
        assert await stays == "stays"
        with pytest.raises(asyncio.CancelledError):
            await gone


async def test_a_reader_sees_one_snapshot_and_cannot_write(file: Path) -> None:
    async with opened(file) as database:
        inside, go_on = threading.Event(), threading.Event()

        def look(connection: Connection) -> tuple[list[str], list[str]]:
            first = names(connection)
            inside.set()
            go_on.wait(5)
            return first, names(connection)

        looking = asyncio.ensure_future(database.read(look))
        await asyncio.to_thread(inside.wait, 5)
        await database.write(put("a"))
        go_on.set()
        assert await looking == ([], [])
        with pytest.raises(StorageUnavailable):
            await database.read(put("b"))
        assert await database.read(names) == ["a"]


async def test_a_reader_hears_what_its_operation_raised(file: Path) -> None:
    async with opened(file) as database:
        with pytest.raises(ZeroDivisionError):
            await database.read(lambda _connection: 1 // 0)
        assert await database.read(names) == []


async def test_a_locked_file_is_not_available_and_then_is_again(file: Path) -> None:
    async with opened(file) as database:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StorageUnavailable, match="locked"):
                await database.write(put("a"))
            assert await database.read(names) == []
            other.execute("ROLLBACK")
        assert await database.write(put("a")) == "a"
        assert await database.read(names) == ["a"]


async def test_a_lock_that_is_gone_is_noticed_without_a_write(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "LOOK_AGAIN_S", 0.02)
    async with asyncio.timeout(20), opened(file) as database:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StorageUnavailable, match="locked"):
                await database.write(put("a"))
            await asyncio.sleep(0.1)
            assert "locked" in str(database.trouble)
            other.execute("ROLLBACK")
        while database.trouble is not None:  # noqa: ASYNC110 - the writer's thread notices
            await asyncio.sleep(0.01)
        assert await database.read(names) == []


async def test_a_lock_that_ends_in_time_is_waited_for(file: Path) -> None:
    async with opened(file, busy_timeout_ms=5000) as database:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            writing = asyncio.ensure_future(database.write(put("a")))
            await asyncio.sleep(0.05)
            assert not writing.done()
            other.execute("ROLLBACK")
            assert await writing == "a"


async def test_a_full_disk_stores_nothing_of_the_batch_and_later_works_again(file: Path) -> None:
    def limit(connection: Connection) -> str:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        return str(connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}").scalar_one())

    def fill(connection: Connection) -> str:
        return put("x" * 100_000)(connection)

    def relax(connection: Connection) -> str:
        return str(connection.exec_driver_sql("PRAGMA max_page_count = 1000000").scalar_one())

    async with opened(file) as database:
        await database.write(limit)
        outcome = await together(database, put("a"), fill, put("b"))
        assert [type(one) for one in outcome] == [StorageUnavailable] * 3
        assert "full" in str(outcome[0])
        with pytest.raises(StorageUnavailable, match="full"):
            await database.write(fill)
        assert await database.read(names) == []
        await database.write(relax)
        assert await database.write(put("a")) == "a"


async def test_a_file_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "missing"
    async with opened(folder / "gateway.db") as database:
        with pytest.raises(StorageUnavailable):
            await database.write(put("a"))
        with pytest.raises(StorageUnavailable):
            await database.read(names)
        folder.mkdir()
        migrated_file(folder)
        assert await database.write(put("a")) == "a"
        assert await database.read(names) == ["a"]


async def test_closing_commits_what_was_given_and_takes_no_more(file: Path) -> None:
    database = SQLiteDatabase(file)
    given = [asyncio.ensure_future(database.write(put(name))) for name in "abc"]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*given) == ["a", "b", "c"]
    for refused in (database.write(put("d")), database.read(names)):
        with pytest.raises(StorageUnavailable, match="closed"):
            await refused
    await database.close()


async def test_the_log_is_moved_into_the_file_now_and_then(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CHECKPOINT_AFTER", "CHECKPOINT_ANYWAY"):
        monkeypatch.setattr(sqlite_module, name, 3)
    async with opened(file) as database:
        before = os.stat(file).st_size  # noqa: PTH116 - asynchronous code is to leave paths alone
        for number in range(6):
            await database.write(put(f"{number}" * 5000))
        await database.write(put("so that the checkpoint before is over"))
        assert os.stat(file).st_size > before + 20_000  # noqa: PTH116


async def test_what_nobody_foresaw_fails_its_batch_and_the_writer_goes_on(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def on_commit(_seconds: float, operations: int) -> None:
        told.append(operations)
        if len(told) == 1:
            raise ZeroDivisionError

    database = SQLiteDatabase(file, on_commit=on_commit)
    monkeypatch.setattr(database, "_checkpoint", lambda _connection: 1 // 0)
    with pytest.raises(OutcomeUnknown, match="ZeroDivisionError"):
        await asyncio.wait_for(database.write(put("a")), 5)
    assert await asyncio.wait_for(database.write(put("b")), 5) == "b"
    monkeypatch.undo()
    assert await asyncio.wait_for(database.write(put("c")), 5) == "c"
    assert await database.read(names) == ["a", "b", "c"]
    assert database.trouble is None
    await database.close()


async def test_a_commit_is_durable_and_the_journal_a_log(file: Path) -> None:
    def pragmas(connection: Connection) -> list[object]:
        asked = ("journal_mode", "synchronous", "wal_autocheckpoint", "query_only")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in asked]

    async with opened(file) as database:
        assert await database.write(pragmas) == ["wal", 2, 0, 0]
        assert await database.read(pragmas) == ["wal", 2, 0, 1]


def test_only_one_process_serves_a_file(file: Path) -> None:
    first, second = ServingLock(file), ServingLock(file)
    first.acquire()
    with pytest.raises(SchemaRefused, match="another process serves"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    second.release()
