"""SQLite as the database of one serving process.

One thread owns the one connection that writes. It commits what has gathered in groups: each operation in a
savepoint of its own, one durable commit for all. Transactions begin IMMEDIATE: a deferred one that writes
later fails at once, whatever busy_timeout says. Other threads only read, each over its own snapshot.

WAL with synchronous=FULL, so that a commit survives power loss. Only the writer checkpoints, since SQLite
before 3.51.3 can damage a WAL that one connection resets while another commits.

When the disk is full the writer gives its reserve up and takes only what is vital, until there is room for
the reserve again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway.errors import OutcomeUnknown, SchemaRefused, StorageUnavailable
from gateway.storage.engine import Operation
from gateway.storage.reserve import DISK_FULL, Reserve, is_disk_full
from gateway.telemetry import get_logger

T = TypeVar("T")

_log = get_logger("gateway.storage")

RESERVE_EVERY_S = 5.0
"""Between two tries to make a reserve that is missing."""
LOOK_AGAIN_S = 1.0
"""After a write that the file refused: its cause may pass, and readiness needs no traffic to be true."""
BATCH_LIMIT = 64
READERS = 2
BUSY_TIMEOUT_MS = 5000
CHECKPOINT_AFTER = 1000
"""Operations after which an idle writer checkpoints. Counted, since the WAL's file never shrinks."""
CHECKPOINT_ANYWAY = 20_000
"""The same for a writer that is never idle."""

OnCommit = Callable[[float, int], None]
"""Told after each commit: seconds it took, operations in it."""


def open_engine(
    path: Path, *, begin: str = "BEGIN IMMEDIATE", busy_timeout_ms: int = BUSY_TIMEOUT_MS
) -> Engine:
    """Return an engine whose connections are set up for this program.

    Args:
        path: the file.
        begin: how a transaction begins; `BEGIN` is a snapshot that waits for nobody, and can then only read.
        busy_timeout_ms: how long another process's transaction is waited for, milliseconds.
    """
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=NullPool,
        connect_args={"check_same_thread": False},
        hide_parameters=True,  # what a statement is told may be somebody's secret, and errors are logged
    )

    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver then begins nothing by itself
        connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        connection.execute("PRAGMA journal_mode = WAL")  # stays with the file; costs nothing once set
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        if begin == "BEGIN":
            connection.execute("PRAGMA query_only = ON")

    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", start)
    return engine


class ServingLock:
    """Held by the one process that serves a database file; other commands open it briefly without."""

    def __init__(self, path: Path) -> None:
        # By whatever name it is opened, the file has one lock.
        path = path.resolve()
        self._path = path.with_name(path.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            SchemaRefused: another process serves this database.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            reason = (
                f"another process serves this database (it holds {self._path}); stop it, or name another file"
            )
            raise SchemaRefused(reason) from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; harmless when not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class SQLiteDatabase:
    """An open SQLite file.

    Args:
        path: the file; its schema is already as it should be.
        on_commit: told about each commit.
        busy_timeout_ms: how long a commit waits for another process's transaction, milliseconds.
        reserve_bytes: room to keep for what is vital; only for the process that has the serving lock.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_commit: OnCommit | None = None,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        reserve_bytes: int = 0,
    ) -> None:
        self._path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._on_commit = on_commit
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._questions: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._unmoved = 0
        real = path.resolve()
        self._reserve = Reserve(real.with_name(real.name + ".reserve"), reserve_bytes)
        self._reserve_due_s = 0.0
        self._short = False
        self.trouble: str | None = None
        """Why the last commit failed; None when it did not."""
        self._threads = [
            threading.Thread(target=self._write_loop, name="sqlite-writer", daemon=True),
            *(
                threading.Thread(target=self._read_loop, name=f"sqlite-reader-{number}", daemon=True)
                for number in range(READERS)
            ),
        ]
        for thread in self._threads:
            thread.start()

    async def write(self, operation: Operation[T], *, vital: bool = True) -> T:
        """Run in a transaction; durable when this returns.

        Args:
            operation: what to do.
            vital: False for what is refused while the disk is full.

        Raises:
            StorageUnavailable: the file is locked, full or gone; nothing was stored.
        """
        return await self._hand_over(self._queue, operation, vital=vital)

    async def read(self, operation: Operation[T]) -> T:
        """Run over one snapshot.

        Raises:
            StorageUnavailable: the file cannot be read just now.
        """
        return await self._hand_over(self._questions, operation)

    async def close(self) -> None:
        """Commit what was given, then let go of the file."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        for _ in range(READERS):
            self._questions.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    async def _hand_over(
        self, to: queue.SimpleQueue[_Job | None], operation: Operation[T], *, vital: bool = True
    ) -> T:
        if self._closed:
            raise StorageUnavailable("the database is closed")
        loop = asyncio.get_running_loop()
        job = _Job(operation, loop, loop.create_future(), vital=vital)
        to.put(job)
        result: T = await job.future
        return result

    def _read_loop(self) -> None:
        engine = open_engine(self._path, begin="BEGIN", busy_timeout_ms=self._busy_timeout_ms)
        connection: Connection | None = None
        while (job := self._questions.get()) is not None:
            try:
                connection = connection or engine.connect()
                with connection.begin():
                    job.run(connection, alone=True)
            except DBAPIError as error:
                job.fail(_translated(error))
            except BaseException as error:  # noqa: BLE001  (whatever it is, its waiter hears it)
                job.fail(error)
            _deliver([job])
        if connection is not None:
            connection.close()

    def _write_loop(self) -> None:
        engine = open_engine(self._path, busy_timeout_ms=self._busy_timeout_ms)
        connection: Connection | None = None
        stop = False
        while not stop:
            batch: list[_Job] = []
            try:
                self._hold_reserve()
                stop = self._gather(batch)
                connection = (connection or _connect(engine, batch)) if batch else connection
                if batch and connection is not None:
                    self._commit(connection, batch)
                    batch = []  # they are answered
                    self._checkpoint(connection)
                elif self.trouble is not None and connection is not None and not stop:
                    self._run(connection, [], look=True)
            except BaseException as error:  # noqa: BLE001  (were this thread to end, everybody would wait for ever)
                self._stumble(batch, error)
                _drop(connection)
                connection = None
        if connection is not None:
            connection.close()
        self._reserve.give_up()  # it is worth nothing while nobody serves

    def _stumble(self, batch: list[_Job], error: BaseException) -> None:
        """Tell those who wait that something failed which nobody foresaw: before or after their commit."""
        _log.exception("storage.writer_failed", error=repr(error))
        self.trouble = f"SQLite's writer failed: {error!r}"
        for job in batch:
            job.fail(OutcomeUnknown(self.trouble))
        _deliver(batch)

    def _hold_reserve(self) -> None:
        """Make the reserve, if it is missing and was not tried for just now; with it, all goes on again."""
        if self._reserve.held or time.monotonic() < self._reserve_due_s:
            return
        first, self._reserve_due_s = not self._reserve_due_s, time.monotonic() + RESERVE_EVERY_S
        if self._reserve.hold():
            if self._short:
                _log.warning("storage.room_again")
            self._short, self.trouble = False, None
            return
        if first:
            _log.warning("storage.no_reserve", error="there is no room on the disk to keep for paid results")

    def _gather(self, batch: list[_Job]) -> bool:
        """Wait for work, and add all that is there; True when no more will come."""
        wait_s = None if self._reserve.held else RESERVE_EVERY_S  # then it is tried for again
        if self.trouble is not None:
            wait_s = LOOK_AGAIN_S
        with contextlib.suppress(queue.Empty):
            while len(batch) < BATCH_LIMIT:
                job = self._queue.get(block=not batch, timeout=wait_s)
                if job is None:
                    return True
                batch.append(job)
        return False

    def _commit(self, connection: Connection, batch: list[_Job]) -> None:
        started = time.perf_counter()
        self._unmoved += len(batch)
        if self._run(connection, self._affordable(batch)) and self._reserve.give_up():
            self._short, self._reserve_due_s = True, time.monotonic() + RESERVE_EVERY_S
            self.trouble = DISK_FULL
            _log.error("storage.disk_full", error="the reserve was given up; nothing new is begun")
            self._move(connection)  # what the log holds then makes room for what comes
            self._run(connection, self._affordable(batch))
        if self._on_commit is not None:
            self._on_commit(time.perf_counter() - started, len(batch))
        _deliver(batch)

    def _affordable(self, batch: list[_Job]) -> list[_Job]:
        """Return what there is room for, and refuse the rest."""
        if not self._short:
            return batch
        for job in batch:
            if not job.vital:
                job.fail(StorageUnavailable(DISK_FULL))
        return [job for job in batch if job.vital]

    def _run(self, connection: Connection, batch: list[_Job], *, look: bool = False) -> bool:
        """Carry out a batch in one transaction; True when the disk is full, and nothing of it was stored.

        Args:
            connection: the writer's.
            batch: may be empty.
            look: begin and commit even so, to see whether the file takes writes again.
        """
        if not batch and not look:
            return False
        try:
            with connection.begin():
                for job in batch:
                    job.run(connection, alone=len(batch) == 1)
        except DBAPIError as error:
            # Also a commit that failed: SQLite has rolled back then, so nothing of the batch was stored.
            translated = _translated(error)
            refused = isinstance(translated, StorageUnavailable)
            self.trouble = DISK_FULL if self._short else str(translated) if refused else None
            for job in batch:
                job.fail(translated)
            return is_disk_full(error)
        except BaseException as error:  # noqa: BLE001  (whatever an operation run alone raised, its waiter hears it)
            for job in batch:
                job.fail(error)
        else:
            self.trouble = DISK_FULL if self._short else None
        return False

    def _checkpoint(self, connection: Connection) -> None:
        if self._unmoved < (CHECKPOINT_ANYWAY if self._queue.qsize() else CHECKPOINT_AFTER):
            return
        self._unmoved = 0
        self._move(connection)

    def _move(self, connection: Connection) -> None:
        """Move the log into the file."""
        raw = connection.connection.driver_connection
        with contextlib.suppress(sqlite3.Error):  # busy or full, which the next commit will say louder
            if isinstance(raw, sqlite3.Connection):
                raw.execute("PRAGMA wal_checkpoint(PASSIVE)").close()


class _Job:
    """One operation on its way through the writer."""

    __slots__ = ("_error", "_operation", "_result", "future", "loop", "vital")

    def __init__(
        self,
        operation: Operation[Any],
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Any],
        *,
        vital: bool,
    ) -> None:
        self._operation = operation
        self.loop = loop
        self.future = future
        self.vital = vital
        self._result: object = None
        self._error: BaseException | None = None

    def run(self, connection: Connection, *, alone: bool) -> None:
        """Carry it out; a failure undoes this operation alone."""
        self._error = None
        if alone:
            self._result = self._operation(connection)
            return
        connection.exec_driver_sql("SAVEPOINT operation")
        try:
            self._result = self._operation(connection)
        except Exception as error:
            driver = connection.connection.driver_connection
            rolled_back = isinstance(driver, sqlite3.Connection) and not driver.in_transaction
            if rolled_back or is_disk_full(error):
                raise  # a full disk rolls back the whole transaction, mostly by itself
            connection.exec_driver_sql("ROLLBACK TO operation")
            self._error = _translated(error) if isinstance(error, DBAPIError) else error
        connection.exec_driver_sql("RELEASE operation")

    def fail(self, error: BaseException) -> None:
        """Note that its transaction was not committed."""
        self._error = error

    def settle(self) -> None:
        """Hand the outcome to whoever waits; runs in the waiter's loop."""
        if self.future.done():
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result)


def _connect(engine: Engine, waiting: list[_Job]) -> Connection | None:
    """Open the file; when it cannot be, those who wait hear it, and whoever comes next makes it try again."""
    try:
        return engine.connect()
    except DBAPIError as error:
        for job in waiting:
            job.fail(_translated(error))
        _deliver(waiting)
        return None


def _drop(connection: Connection | None) -> None:
    """Let go of a connection, in whatever state it is."""
    if connection is not None:
        with contextlib.suppress(Exception):  # what is wrong with it was told
            connection.invalidate()
            connection.close()


def _deliver(batch: list[_Job]) -> None:
    """Wake each loop once for the whole batch."""

    def settle(jobs: list[_Job]) -> None:
        for job in jobs:
            job.settle()

    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in batch:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, jobs)


def _translated(error: DBAPIError) -> Exception:
    """Integrity errors are the operation's own affair; everything else means: not just now."""
    if isinstance(error, IntegrityError):
        return error
    return StorageUnavailable(f"SQLite: {error.orig}")
