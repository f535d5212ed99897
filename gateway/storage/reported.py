"""A database that tells of what could not be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gateway.errors import StorageUnavailable
from gateway.storage.engine import Database, Operation

T = TypeVar("T")


class Reported:
    """Hands everything on, and tells of each operation that failed because the database could not be used.

    Args:
        database: does the work.
        on_refused: told once for each.
    """

    def __init__(self, database: Database, on_refused: Callable[[], None]) -> None:
        self._database = database
        self._on_refused = on_refused

    @property
    def trouble(self) -> str | None:
        """As the database has it."""
        return self._database.trouble

    async def write(self, operation: Operation[T], *, vital: bool = True) -> T:
        """Run in a transaction, as the database does."""
        try:
            return await self._database.write(operation, vital=vital)
        except StorageUnavailable:
            self._on_refused()
            raise

    async def read(self, operation: Operation[T]) -> T:
        """Run over a snapshot, as the database does."""
        try:
            return await self._database.read(operation)
        except StorageUnavailable:
            self._on_refused()
            raise

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()
