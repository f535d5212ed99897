"""What the rest of the program needs of a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")

OnCommit = Callable[[float, int], None]
"""Told after each commit: seconds it took, operations in it."""

Operation = Callable[[Connection], T]
"""Statements over one connection. It may run more than once and must touch nothing else."""


class Database(Protocol):
    """An open database. Both calls raise `errors.StorageUnavailable` when it cannot be used just now."""

    @property
    def trouble(self) -> str | None:
        """Why it could not be written to when that was last tried; None when it could."""
        ...

    async def write(self, operation: Operation[T], *, vital: bool = True) -> T:
        """Run in a transaction of its own; when this returns, it is durable.

        Raises `errors.OutcomeUnknown` when the answer to the commit was lost: it may be stored or not.

        Args:
            operation: what to do.
            vital: False for what begins something new. It is refused while space is short, so that there is
                room for the results of what was begun; an engine that cannot tell takes no notice.
        """
        ...

    async def read(self, operation: Operation[T]) -> T:
        """Run over one consistent snapshot."""
        ...

    async def close(self) -> None:
        """Finish what was given, then let go of everything."""
        ...
