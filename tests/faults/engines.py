"""The databases that faults are tried on, as settings of a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from postgres_server import SECRET_KEY, fresh_database

SQLITE: Final = "sqlite"
POSTGRES: Final = "postgres"
ENGINES: Final = (SQLITE, POSTGRES)


def sqlite_settings(folder: Path) -> dict[str, str]:
    """A file in a folder."""
    return {"DATABASE": f"sqlite:///{folder}/gateway.db"}


def postgres_settings(url: str, lease_s: float = 2.0) -> dict[str, str]:
    """A database on a server, and leases that lapse sooner than a test's patience.

    Args:
        url: the database's.
        lease_s: how long the tasks of a dead worker wait for another.
    """
    return {
        "DATABASE": url,
        "SECRET_KEY": SECRET_KEY,
        "WORKER__LEASE_S": str(lease_s),
        "WORKER__HEARTBEAT_S": str(lease_s / 4),
    }


@contextmanager
def fresh(engine: str, folder: Path) -> Iterator[dict[str, str]]:
    """Settings of a new, empty database, which is removed afterwards.

    Args:
        engine: one of `ENGINES`.
        folder: for a file.
    """
    if engine == SQLITE:
        yield sqlite_settings(folder)
        return
    with fresh_database() as url:
        yield postgres_settings(url)
