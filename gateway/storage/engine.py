"""What the rest of the program needs of a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")

Operation = Callable[[Connection], T]
"""Statements over one connection. It may run more than once and must touch nothing else."""


class Database(Protocol):
    """An open database. Both calls raise `errors.StorageUnavailable` when it cannot be used just now."""

    async def write(self, operation: Operation[T]) -> T:
        """Run in a transaction of its own; when this returns, it is durable."""
        ...

    async def read(self, operation: Operation[T]) -> T:
        """Run over one consistent snapshot."""
        ...

    async def close(self) -> None:
        """Finish what was given, then let go of everything."""
        ...
