"""Statements on accounts at providers: how they fare, and how many runs are in flight there."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, bindparam, func, or_, select, text, update

from gateway.routing.account import Account
from gateway.routing.health import WELL, Health
from gateway.storage.tables import LIVE, accounts, attempts
from gateway.storage.upserts import if_absent

_decode = msgspec.json.Decoder(Health).decode

_OF = (accounts.c.provider == bindparam("of_provider"), accounts.c.account == bindparam("of_account"))
_ALL = select(accounts.c.provider, accounts.c.account, accounts.c.health)
_ONE = select(accounts.c.health).where(*_OF)
_LOCK = _ONE.with_for_update()
_MAKE = if_absent(accounts)
_SAVE = update(accounts).where(*_OF).values(health=bindparam("new_health"))
_IN_FLIGHT = (
    select(func.count())
    .select_from(attempts)
    .where(
        attempts.c.provider == bindparam("of_provider"),
        attempts.c.account == bindparam("of_account"),
        text(LIVE),  # the very text of the partial index, without which SQLite would not use it
        # Also what was written off: the risk of paying twice was accepted, not that of a run too many there.
        or_(attempts.c.state != "unknown", attempts.c.started_at_ms > bindparam("since_ms")),
    )
)


def load_all(connection: Connection) -> dict[Account, Health]:
    """Read how every account fares; one that is missing is well."""
    return {(row.provider, row.account): _decode(row.health) for row in connection.execute(_ALL)}


def load(connection: Connection, account: Account) -> Health:
    """Read how an account fares."""
    found = connection.execute(_ONE, _named(account)).scalar_one_or_none()
    return WELL if found is None else _decode(found)


def lock(connection: Connection, account: Account) -> Health:
    """Read how an account fares, and let nobody else decide by it until this transaction ends."""
    found = connection.execute(_LOCK, _named(account)).scalar_one_or_none()
    if found is None:
        row = {"provider": account[0], "account": account[1], "health": "{}"}
        connection.execute(_MAKE[connection.dialect.name], row)
        found = connection.execute(_LOCK, _named(account)).scalar_one()
    return _decode(found)


def save(connection: Connection, account: Account, health: Health) -> None:
    """Write how an account fares, which was locked before."""
    connection.execute(_SAVE, {**_named(account), "new_health": msgspec.json.encode(health).decode()})


def count_in_flight(connection: Connection, account: Account, *, since_ms: int) -> int:
    """Count the runs that have a slot at an account.

    Args:
        connection: a transaction's.
        account: which.
        since_ms: when the oldest run may have begun that can still be under way, if nobody knows better.
    """
    return connection.execute(_IN_FLIGHT, {**_named(account), "since_ms": since_ms}).scalar_one()


def _named(account: Account) -> dict[str, object]:
    return {"of_provider": account[0], "of_account": account[1]}
