"""Inserts into a row that may be there already, as each engine says them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Insert, Table
from sqlalchemy.dialects import postgresql, sqlite

ByDialect = Mapping[str, Insert]
"""The statement by the name of SQLAlchemy's dialect, as `connection.dialect.name` says it."""


def if_absent(table: Table) -> ByDialect:
    """Insert rows that are not there, and leave alone those that are.

    Of two transactions that insert the same row at once, one waits for the other.
    """
    return on_conflict(table, lambda statement: statement.on_conflict_do_nothing())


def on_conflict(table: Table, then: Callable[[postgresql.Insert | sqlite.Insert], Insert]) -> ByDialect:
    """Insert rows; `then` says what happens to those that are there."""
    return {"sqlite": then(sqlite.insert(table)), "postgresql": then(postgresql.insert(table))}
