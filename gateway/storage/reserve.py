"""Room on the disk that is kept for the results of paid work.

A full disk refuses even a DELETE. The file beside the database is then removed, once, and what was begun can
still be recorded; nothing new is begun until the file could be made again.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError

RESERVE_BYTES = 32 * 1024 * 1024
DISK_FULL = "the disk is full; nothing new is begun until there is room, what was begun is still recorded"
_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})


def is_disk_full(error: BaseException) -> bool:
    """Whether SQLite could not write for want of room. A quota shows as a plain error of writing."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", None) in _CODES


class Reserve:
    """The file, which belongs to the one process that serves the database.

    Args:
        path: where; one that an earlier process left is taken over.
        size_bytes: how much room; 0 keeps none.

    Attributes:
        held: whether the room is there.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self.held = size_bytes == 0

    def hold(self) -> bool:
        """Make the file, all of it on the disk; False when there is no room, and then nothing of it is."""
        if self.held:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size_bytes)
            finally:
                os.close(descriptor)
        except OSError:
            self._remove()
        else:
            self.held = True
        return self.held

    def give_up(self) -> bool:
        """Remove the file; False when there is none or it cannot be, and so no room was made."""
        if self._size_bytes == 0 or not self.held or not self._remove():
            return False
        self.held = False
        return True

    def _remove(self) -> bool:
        try:
            self._path.unlink(missing_ok=True)
        except OSError:  # the file system went read-only, or away: what cannot be written says so by itself
            return False
        return True
