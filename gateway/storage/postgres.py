"""PostgreSQL as the database of a fleet: any number of processes, on any number of machines.

Each of a few threads owns one connection and carries operations out one at a time, each in a transaction of
its own. A connection in a thread, rather than one in the event loop, because a waiter that is cancelled then
cannot cut a transaction in two: what was begun is finished, and its outcome known.

What can be lost is the answer to a COMMIT. It is told apart (`OutcomeUnknown`), since the transaction may
stand: whoever asked reads again by key before doing anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway.clock import Clock
from gateway.errors import OutcomeUnknown, StorageUnavailable
from gateway.storage.engine import OnCommit, Operation
from gateway.storage.postgres_line import Line, Reach, first_line, open_server
from gateway.storage.server_clock import Sample, ServerClock
from gateway.telemetry import get_logger

T = TypeVar("T")

_log = get_logger("gateway.storage")

WRITERS: Final = 6
READERS: Final = 2
DEADLINE_S: Final = 10.0
"""For one operation, from hand-over to outcome. The server's own limits are shorter; this one holds when the
network swallows everything."""
CONFLICT_TRIES: Final = 3
WATCH_S: Final = 2.0
LAST_WORDS_S: Final = 1.0
"""How long `close` waits for a thread beyond its operation's deadline."""

# Classes and codes of appendix A of PostgreSQL's manual.
_CONFLICTS: Final = ("40001", "40P01")
_UNAVAILABLE: Final = ("53", "55P03", "57", "58", "XX")
_GONE: Final = ("08", "57P", "25006")
"""This connection is of no use any more: broken, shut down, or to what is a standby by now. A server that is
stopped at once says so wherever a backend stands, also after its commit was written."""


class PostgresDatabase:
    """An open PostgreSQL database.

    Args:
        database: the setting: `postgresql://...`; its schema is already as it should be.
        local: the machine's clocks; the time is the server's.
        on_commit: told about each commit.
        deadline_s: for one operation, seconds.
    """

    def __init__(
        self,
        database: str,
        *,
        local: Clock,
        on_commit: OnCommit | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._engine = open_server(database)
        self._on_commit = on_commit
        self._deadline_s = deadline_s
        self._queue: queue.SimpleQueue[_Errand | None] = queue.SimpleQueue()
        self._questions: queue.SimpleQueue[_Errand | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self.clock = ServerClock(local)
        self.trouble: str | None = None
        """Why the server could not be reached when last looked for; None when it could."""
        reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        reach = Reach()
        self._line = Line(reading, reach)
        self._look()
        lanes = [
            *((self._queue, Line(self._engine, reach), True) for _ in range(WRITERS)),
            *((self._questions, Line(reading, reach), False) for _ in range(READERS)),
        ]
        self._lines = [self._line, *(line for _, line, _ in lanes)]
        self._threads = [
            threading.Thread(target=self._carry_out_all, args=lane, name=f"postgres-{number}", daemon=True)
            for number, lane in enumerate(lanes)
        ]
        self._threads.append(threading.Thread(target=self._watch, name="postgres-watch", daemon=True))
        for thread in self._threads:
            thread.start()

    async def write(self, operation: Operation[T], *, vital: bool = True) -> T:  # noqa: ARG002  (the server knows its disk)
        """Run in a transaction; durable when this returns.

        Raises:
            StorageUnavailable: the server cannot be used just now; nothing was stored.
            OutcomeUnknown: the connection broke in the COMMIT; it may be stored or not.
        """
        return await self._hand_over(self._queue, operation)

    async def read(self, operation: Operation[T]) -> T:
        """Run over one snapshot.

        Raises:
            StorageUnavailable: the server cannot be used just now.
        """
        return await self._hand_over(self._questions, operation)

    async def close(self) -> None:
        """Carry out what was given, then let go of the server."""
        if self._closed.is_set():
            return
        self._closed.set()
        for _ in range(WRITERS):
            self._queue.put(None)
        for _ in range(READERS):
            self._questions.put(None)
        await asyncio.to_thread(self._join)
        self._engine.dispose()

    def _join(self) -> None:
        """Wait for the threads, no longer than their operations may take; they do not keep the process."""
        for grace_s in (self._deadline_s + LAST_WORDS_S, LAST_WORDS_S):
            until_s = time.monotonic() + grace_s
            for thread in self._threads:
                thread.join(max(0.0, until_s - time.monotonic()))
            left = [thread.name for thread in self._threads if thread.is_alive()]
            if not left:
                return
            for line in self._lines:
                line.cut()
        _log.error("storage.threads_left", error="they hang on the PostgreSQL server", threads=left)

    async def _hand_over(self, to: queue.SimpleQueue[_Errand | None], operation: Operation[T]) -> T:
        if self._closed.is_set():
            raise StorageUnavailable("the database is closed")
        loop = asyncio.get_running_loop()
        errand = _Errand(operation, loop, deadline_s=self._deadline_s)
        to.put(errand)
        result: T = await errand.future
        return result

    def _carry_out_all(
        self,
        errands: queue.SimpleQueue[_Errand | None],
        line: Line,
        writes: bool,  # noqa: FBT001  (called by the thread, by position)
    ) -> None:
        while (errand := errands.get()) is not None:
            if not errand.begin(line):
                continue  # abandoned while it waited
            started = time.perf_counter()
            try:
                result = _carry_out(line, errand.operation, writes=writes)
            except BaseException as error:  # noqa: BLE001  (whatever it is, its waiter hears it)
                errand.settle(None, error)
            else:
                errand.settle(result, None)
                if writes:
                    self._tell(time.perf_counter() - started)
        line.close()

    def _tell(self, seconds: float) -> None:
        try:
            if self._on_commit is not None:
                self._on_commit(seconds, 1)
        except Exception as error:  # noqa: BLE001  (were the thread to end, nobody would do its work)
            _log.exception("storage.listener_failed", error=repr(error))

    def _watch(self) -> None:
        """Look at the server and its clock again and again, so that readiness needs no traffic to be true."""
        while not self._closed.wait(WATCH_S):
            try:
                self._look()
            except StorageUnavailable as error:
                self.trouble = str(error)
            else:
                self.trouble = None
        self._line.close()

    def _look(self) -> None:
        def ask(connection: Connection) -> Sample:
            asked_s = self.clock.local.monotonic_s()
            row = connection.exec_driver_sql(
                "SELECT extract(epoch FROM clock_timestamp()) * 1000, pg_is_in_recovery()"
            ).one()
            if row[1]:
                raise StorageUnavailable("the server is a standby, which takes no writes")
            answered_s = self.clock.local.monotonic_s()
            return Sample(server_ms=float(row[0]), asked_s=asked_s, answered_s=answered_s)

        self._line.renew()
        cut = threading.Timer(self._deadline_s, self._line.cut)
        cut.daemon = True
        cut.start()
        try:
            self.clock.anchor(_carry_out(self._line, ask, writes=False))
        finally:
            cut.cancel()


class _Errand:
    """One operation on its way through a thread.

    Args:
        operation: what to do.
        loop: its waiter's. Who waits may go away; the time runs on, since the thread may hang on the network.
        deadline_s: how much time it has, seconds.
    """

    __slots__ = ("_late", "_line", "_lock", "_state", "_until_s", "future", "loop", "operation")

    def __init__(
        self, operation: Operation[Any], loop: asyncio.AbstractEventLoop, *, deadline_s: float
    ) -> None:
        self.operation = operation
        self.loop = loop
        self._late = loop.call_later(deadline_s, self.abandon)
        self._until_s = time.monotonic() + deadline_s
        self.future: asyncio.Future[Any] = loop.create_future()
        self._lock = threading.Lock()
        self._state = "waiting"
        self._line: Line | None = None

    def begin(self, line: Line) -> bool:
        """Take it up; False when its time is over, of which its waiter hears by `abandon`."""
        with self._lock:
            if self._state != "waiting" or time.monotonic() >= self._until_s:
                return False
            self._state, self._line = "begun", line
            line.renew()
            return True

    def abandon(self) -> None:
        """Its time is over: drop it when it was not begun, else break the connection it hangs on."""
        with self._lock:
            state, self._state = self._state, "over" if self._state == "waiting" else self._state
            if state == "begun" and self._line is not None:
                self._line.cut()  # its thread then settles it, and knows how far it had come
        if state == "waiting" and not self.future.done():
            self.future.set_exception(StorageUnavailable("the database is too busy; nothing was stored"))

    def settle(self, result: object, error: BaseException | None) -> None:
        """Hand the outcome to whoever waits; called from the thread."""
        with self._lock:
            self._state = "over"

        def tell() -> None:
            self._late.cancel()
            if self.future.done():
                return
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(result)

        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self.loop.call_soon_threadsafe(tell)


def _carry_out(line: Line, operation: Operation[T], *, writes: bool) -> T:
    """Run one transaction; conflicts are tried again as a whole, and so is what a stale connection broke.

    A connection that was kept may have ended with a restart of the server; that costs nobody an error, since
    before its COMMIT was sent a transaction that loses its connection is none.
    """
    for tries in range(1, CONFLICT_TRIES + 1):
        kept = line.kept
        connection = line.open()
        transaction = connection.begin()
        committing = False
        try:
            result = operation(connection)
            committing = True
            transaction.commit()
        except IntegrityError:
            _roll_back(line, transaction)
            raise
        except DBAPIError as error:
            code = _code(error)
            if error.connection_invalidated or code is None or code.startswith(_GONE):
                _let_go(line, error, committing=committing and writes, kept=kept)
                continue
            _roll_back(line, transaction)
            if code in _CONFLICTS and tries < CONFLICT_TRIES:
                _log.warning("storage.conflict", code=code, error=first_line(error), tries=tries)
                continue
            if code in _CONFLICTS or code.startswith(_UNAVAILABLE):
                raise StorageUnavailable(f"PostgreSQL refuses just now: {first_line(error)}") from error
            raise
        except BaseException:
            _roll_back(line, transaction)
            raise
        else:
            return result
    raise AssertionError("unreachable")


def _let_go(line: Line, error: DBAPIError, *, committing: bool, kept: bool) -> None:
    """Close a connection that broke; returns when its transaction may run again on a new one."""
    line.close()
    said = first_line(error)
    if committing:
        raise OutcomeUnknown(f"the connection to PostgreSQL broke in a commit: {said}") from error
    if not kept or line.is_cut:
        raise StorageUnavailable(f"the connection to PostgreSQL broke: {said}") from error
    _log.warning("storage.reconnect", error=said)


def _roll_back(line: Line, transaction: Any) -> None:
    try:
        transaction.rollback()
    except DBAPIError:
        line.close()  # the server rolls back what loses its connection


def _code(error: DBAPIError) -> str | None:
    """SQLSTATE of what the server said; None when it said nothing."""
    code = getattr(error.orig, "sqlstate", None)
    return code if isinstance(code, str) else None
