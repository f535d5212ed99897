"""Room kept for what is vital, and what is refused while there is none."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from store_stage import Stage, migrated_file

from gateway.errors import StorageUnavailable
from gateway.jobs.transitions import TaskKind
from gateway.service.dispatch import FOLLOW_KINDS, SUBMIT_KINDS
from gateway.storage import sqlite
from gateway.storage.reserve import DISK_FULL, Reserve, is_disk_full
from gateway.storage.sqlite import SQLiteDatabase
from gateway.worker.tools import nothing

SIZE = 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db.reserve"


def no_room(_descriptor: int, _offset: int, _size: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_reserve_is_really_on_the_disk(path: Path) -> None:
    reserve = Reserve(path, SIZE)
    assert not reserve.held
    assert reserve.hold()
    found = path.stat()
    assert (reserve.held, found.st_size) == (True, SIZE)
    assert found.st_blocks * 512 >= SIZE
    assert found.st_mode & 0o777 == 0o600


def test_it_is_given_up_once_and_made_again(path: Path) -> None:
    reserve = Reserve(path, SIZE)
    reserve.hold()
    assert reserve.give_up()
    assert not path.exists()
    assert not reserve.give_up()
    assert reserve.hold()


def test_one_that_was_left_behind_is_taken_over(path: Path) -> None:
    path.write_bytes(b"x")
    assert Reserve(path, SIZE).hold()
    assert path.stat().st_size == SIZE


def test_without_room_nothing_of_it_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Reserve(path, SIZE)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    assert not reserve.hold()
    assert not path.exists()


def test_a_size_of_nothing_makes_no_file(path: Path) -> None:
    reserve = Reserve(path, 0)
    assert reserve.hold()
    assert not reserve.give_up()
    assert not path.exists()


@pytest.mark.parametrize(
    ("code", "full"),
    [
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_IOERR_WRITE, True),
        (sqlite3.SQLITE_IOERR_SHMSIZE, True),
        (sqlite3.SQLITE_BUSY, False),
        (sqlite3.SQLITE_IOERR_READ, False),
        (sqlite3.SQLITE_CORRUPT, False),
    ],
)
def test_only_want_of_room_counts(code: int, full: bool) -> None:  # noqa: FBT001 - a column
    error = sqlite3.OperationalError("told")
    error.sqlite_errorcode = code
    assert is_disk_full(OperationalError("", {}, error)) is full
    assert is_disk_full(error) is full


def there(path: Path) -> bool:
    return path.exists()


class Disk:
    """A disk that is full by decree: writes fail as SQLite's do, until the reserve is gone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, reserve: Path) -> None:
        self.full = False
        self._reserve = reserve
        fallocate = os.posix_fallocate

        def allocate(descriptor: int, offset: int, size: int) -> None:
            (no_room if self.full else fallocate)(descriptor, offset, size)

        monkeypatch.setattr(os, "posix_fallocate", allocate)
        monkeypatch.setattr(sqlite, "RESERVE_EVERY_S", 0.02)

    def write(self, name: str) -> Callable[[Connection], str]:
        def operation(connection: Connection) -> str:
            if self.full and self._reserve.exists():
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise OperationalError("", {}, error)
            statement = "INSERT INTO owners (name, sealed_webhook_secret, created_at_ms) VALUES (?, '', 0)"
            connection.exec_driver_sql(statement, (name,))
            return name

        return operation


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[SQLiteDatabase]:
    database = SQLiteDatabase(migrated_file(folder), reserve_bytes=SIZE)
    await database.write(lambda _connection: None)
    try:
        yield database
    finally:
        await database.close()


async def test_what_is_vital_is_stored_on_a_full_disk_and_nothing_else(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, path)
    async with opened(tmp_path) as database:
        assert there(path)
        disk.full = True
        with pytest.raises(StorageUnavailable, match="the disk is full"):
            await database.write(disk.write("new"), vital=False)
        assert (there(path), database.trouble) == (False, DISK_FULL)
        assert await database.write(disk.write("paid")) == "paid"
        assert database.trouble == DISK_FULL
        with pytest.raises(StorageUnavailable, match="the disk is full"):
            await database.write(disk.write("new"), vital=False)
        disk.full = False
        await until(lambda: database.trouble is None)
        assert there(path)
        assert await database.write(disk.write("new"), vital=False) == "new"
        names = await database.read(
            lambda connection: list(connection.exec_driver_sql("SELECT name FROM owners").scalars())
        )
        assert sorted(names) == ["new", "paid"]
    assert not there(path)


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not so():  # noqa: ASYNC110 - a thread makes it so
            await asyncio.sleep(0.01)


async def test_the_vital_of_one_batch_survive_the_rest(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, path)
    async with opened(tmp_path) as database:
        disk.full = True
        asked: list[Any] = [
            database.write(disk.write(f"n{number}"), vital=bool(number % 2)) for number in range(6)
        ]
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert found[1::2] == ["n1", "n3", "n5"]
    assert all(isinstance(one, StorageUnavailable) for one in found[0::2])


async def test_a_disk_without_room_for_the_reserve_is_served_all_the_same(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, path)
    disk.full = True
    async with opened(tmp_path) as database:
        assert (there(path), database.trouble) == (False, None)
        assert await database.write(disk.write("new"), vital=False) == "new"
        disk.full = False
        await until(lambda: there(path))


async def test_on_a_full_disk_nothing_is_bought_and_what_was_bought_is_followed(tmp_path: Path) -> None:
    database = SQLiteDatabase(migrated_file(tmp_path))
    stage = Stage(database)
    try:
        job_id = await stage.accept()
        task = await stage.claim(TaskKind.SUBMIT)
        database._short = True
        for refused in (
            stage.accept(),
            stage.dispatch.claim(10, SUBMIT_KINDS),
            stage.record.intent(task.claim, nothing),
        ):
            with pytest.raises(StorageUnavailable, match="the disk is full"):
                await refused
        assert await stage.dispatch.claim(10, FOLLOW_KINDS) == []
        assert await stage.leases.heartbeat([task.claim]) == []
        await stage.jobs.cancel(job_id, owner="alice")
        assert (await stage.job(job_id)).state.status.terminal
    finally:
        await database.close()


def read_only(_path: Path, *, missing_ok: bool = False) -> None:  # noqa: ARG001 - unlink's signature
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_a_reserve_that_cannot_be_removed_makes_no_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Reserve(path, SIZE)
    reserve.hold()
    monkeypatch.setattr(Path, "unlink", read_only)
    assert (reserve.give_up(), reserve.held) == (False, True)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    assert not Reserve(path, SIZE).hold()


async def test_a_file_system_that_goes_read_only_does_not_end_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwritable(_connection: Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
        raise OperationalError("", {}, error)

    async with opened(tmp_path) as database:
        monkeypatch.setattr(Path, "unlink", read_only)
        with pytest.raises(StorageUnavailable, match="I/O error"):
            await database.write(unwritable)
        assert database.trouble is not None
        monkeypatch.undo()
        assert await database.write(lambda _connection: 1) == 1
        assert database.trouble is None
