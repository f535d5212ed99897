"""Connections to a PostgreSQL server: how each is set up, and how one that hangs is broken."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from gateway.errors import StorageUnavailable

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
"""Between two tries to reach a server that is away."""
SESSION: Final = {
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
}
"""What keeps one stuck statement, lock or process from holding up the rest."""
NETWORK: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "motion-gateway",
}
"""libpq's names: seconds, but for tcp_user_timeout, which is milliseconds."""


def server_url(database: str) -> URL:
    """Return the URL under which SQLAlchemy reaches what the setting `database` names."""
    return make_url(database).set(drivername="postgresql+psycopg")


def open_server(database: str, *, session: dict[str, str] = SESSION) -> Engine:
    """Return an engine whose connections are set up for this program.

    Args:
        database: the setting: `postgresql://...`.
        session: settings of each session.
    """
    engine = create_engine(
        server_url(database),
        poolclass=NullPool,
        isolation_level="READ COMMITTED",
        connect_args=dict(NETWORK),
        hide_parameters=True,  # what a statement is told may be somebody's secret, and errors are logged
    )

    def connect(dialect: Any, _record: object, arguments: Any, named: Any) -> Any:
        raw = dialect.connect(*arguments, **named)
        line: Line | None = getattr(_opening, "line", None)
        if line is not None:
            line.opened(raw)  # before anything is said on it: that, too, must not take for ever
        return raw

    def set_up(connection: Any, _record: object) -> None:
        # One round trip, and no `options` in the URL, which PgBouncer refuses.
        connection.execute("; ".join(f"SET {name} = '{value}'" for name, value in session.items()))
        connection.commit()

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", set_up)
    return engine


_opening = threading.local()
"""`line`: the one that this thread opens just now."""


class Reach:
    """Whether the server can be reached, which its connections learn together.

    While it is away they do not knock too often; as soon as one gets through, all may.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pause_s = FIRST_PAUSE_S
        self._not_before_s = 0.0
        self._reason = ""

    def refusal(self) -> str | None:
        """Return why it is not to be knocked at just now; None when it may be."""
        with self._lock:
            return self._reason if time.monotonic() < self._not_before_s else None

    def failed(self, reason: str) -> None:
        """It was not reached: leave it alone for a while, longer from time to time."""
        with self._lock:
            now_s = time.monotonic()
            if now_s >= self._not_before_s:  # not for each of those that knocked together
                self._not_before_s = now_s + self._pause_s
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._reason = reason

    def succeeded(self) -> None:
        """It was reached."""
        with self._lock:
            self._pause_s, self._not_before_s = FIRST_PAUSE_S, 0.0


class Line:
    """One thread's connection, opened when it is needed.

    Args:
        engine: makes connections.
        reach: shared by all lines to one server.
    """

    def __init__(self, engine: Engine, reach: Reach) -> None:
        self._engine = engine
        self._reach = reach
        self._connection: Connection | None = None
        self._raw: Any = None
        self._cut = False

    @property
    def kept(self) -> bool:
        """Whether there is a connection from earlier, which may have broken while nobody looked."""
        return self._connection is not None

    @property
    def is_cut(self) -> bool:
        """Whether the time of what uses it is over."""
        return self._cut

    def open(self) -> Connection:
        """Return the connection.

        Raises:
            StorageUnavailable: the server cannot be reached.
        """
        if self._connection is not None:
            return self._connection
        refusal = self._reach.refusal()
        if refusal is not None:
            raise StorageUnavailable(refusal)
        _opening.line = self
        try:
            self._connection = self._engine.connect()
        except DBAPIError as error:
            self._raw = None
            said = "it took too long to connect" if self._cut else first_line(error)
            reason = f"the PostgreSQL server cannot be reached: {said}"
            self._reach.failed(reason)
            raise StorageUnavailable(reason) from error
        finally:
            _opening.line = None
        self._reach.succeeded()
        return self._connection

    def opened(self, raw: Any) -> None:
        """Be told of the driver's connection as soon as there is one: what is said on it can be cut."""
        self._raw = raw
        if self._cut:  # while it was being made
            self.cut()

    def renew(self) -> None:
        """Begin with a connection that nobody has cut."""
        if self._cut:
            self.close()
            self._cut = False

    def close(self) -> None:
        """Let go of the connection; the next `open` makes a new one."""
        connection, self._connection, self._raw = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it may be broken, which is why it is let go
                connection.invalidate()
            with contextlib.suppress(Exception):
                connection.close()

    def cut(self) -> None:
        """Break the connection from another thread, so that the one that waits on it wakes."""
        self._cut = True
        raw = self._raw
        if raw is None or raw.closed:
            return
        # Closed meanwhile: then nothing waits on it any more.
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(raw.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)


def first_line(error: DBAPIError) -> str:
    """Return what the server said; the rest repeats the statement, and may hold values."""
    return str(error.orig).strip().partition("\n")[0] or type(error.orig).__name__
