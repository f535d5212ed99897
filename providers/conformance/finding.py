"""What a check has to say."""

from __future__ import annotations

from msgspec import Struct


class Finding(Struct, frozen=True):
    """One thing that is wrong with an adapter."""

    check: str
    """Which check found it, such as `declared.status-words`."""
    where: str
    """The table entry, call or exchange file it is about."""
    problem: str
    """What is wrong and what to do about it."""

    def __str__(self) -> str:
        return f"{self.check}: {self.where}: {self.problem}"
