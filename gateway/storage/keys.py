"""Statements on API keys and their owners. Keys are stored hashed; owners' webhook secrets sealed."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import Connection, bindparam, func, insert, select, update

from gateway.jobs.job import Policy
from gateway.storage.tables import api_keys, owners


class KeyRow(Struct, frozen=True, kw_only=True):
    """A key as stored; the key itself is nowhere."""

    id: str
    hash: str
    """SHA-256 of the key, hex: the key holds 256 random bits, so a fast hash is enough."""
    name: str
    owner: str
    scopes: str
    """Separated by spaces."""
    created_at_ms: int
    revoked_at_ms: int | None = None
    policy: Policy | None = None
    """How the candidates for its jobs are ordered that choose no policy."""
    rate: str | None = None
    """Requests in an interval, such as 60/m; None for as many as the settings let any key send."""


_INSERT = insert(api_keys)
_BY_HASH = select(api_keys).where(api_keys.c.hash == bindparam("hash"))
_BY_ID = select(api_keys).where(api_keys.c.id == bindparam("key_id"))
_ALL = select(api_keys).order_by(api_keys.c.id)
_COUNT = select(func.count()).select_from(api_keys).where(api_keys.c.revoked_at_ms.is_(None))
_REVOKE = (
    update(api_keys)
    .where(api_keys.c.id == bindparam("key_id"), api_keys.c.revoked_at_ms.is_(None))
    .values(revoked_at_ms=bindparam("at_ms"))
)
_SET_RATE = (
    update(api_keys)
    .where(api_keys.c.id == bindparam("key_id"), api_keys.c.revoked_at_ms.is_(None))
    .values(rate=bindparam("new_rate"))
)
_ACTIVE_OWNER = select(api_keys.c.owner).where(
    api_keys.c.id == bindparam("key_id"), api_keys.c.revoked_at_ms.is_(None)
)
_SECRETS = select(owners.c.name, owners.c.sealed_webhook_secret).where(
    owners.c.name.in_(bindparam("names", expanding=True))
)
_OWNERS = select(owners.c.name).order_by(owners.c.name).limit(bindparam("limit"))
_INSERT_OWNER = insert(owners)


def insert_one(connection: Connection, key: KeyRow) -> None:
    """Store a key."""
    connection.execute(_INSERT, {name: getattr(key, name) for name in KeyRow.__struct_fields__})


def find(connection: Connection, key_hash: str) -> KeyRow | None:
    """Return the key with this hash, revoked or not."""
    row = connection.execute(_BY_HASH, {"hash": key_hash}).mappings().one_or_none()
    return None if row is None else KeyRow(**row)


def load(connection: Connection, key_id: str) -> KeyRow | None:
    """Return the key of this id, revoked or not."""
    row = connection.execute(_BY_ID, {"key_id": key_id}).mappings().one_or_none()
    return None if row is None else KeyRow(**row)


def load_all(connection: Connection) -> list[KeyRow]:
    """Read every key, oldest first."""
    return [KeyRow(**row) for row in connection.execute(_ALL).mappings()]


def count_active(connection: Connection) -> int:
    """How many keys are not revoked."""
    return connection.execute(_COUNT).scalar_one()


def revoke(connection: Connection, key_id: str, *, at_ms: int) -> bool:
    """Revoke a key; False when there is none, or it was revoked before."""
    return connection.execute(_REVOKE, {"key_id": key_id, "at_ms": at_ms}).rowcount == 1


def set_rate(connection: Connection, key_id: str, rate: str | None) -> None:
    """Give an active key another rate, or none of its own."""
    connection.execute(_SET_RATE, {"key_id": key_id, "new_rate": rate})


def find_owner(connection: Connection, key_id: str) -> str | None:
    """Return whose an active key is; None when there is no such one."""
    return connection.execute(_ACTIVE_OWNER, {"key_id": key_id}).scalar_one_or_none()


def owner_secrets(connection: Connection, owners: Sequence[str]) -> dict[str, str]:
    """Return these owners' sealed webhook secrets, by name; those we do not know are left out."""
    if not owners:
        return {}
    rows = connection.execute(_SECRETS, {"names": list(owners)})
    return {row.name: row.sealed_webhook_secret for row in rows}


def owner_names(connection: Connection, *, limit: int) -> list[str]:
    """Read the names of owners, in their order."""
    return list(connection.execute(_OWNERS, {"limit": limit}).scalars())


def insert_owner(connection: Connection, *, name: str, sealed_webhook_secret: str, at_ms: int) -> None:
    """Store an owner."""
    connection.execute(
        _INSERT_OWNER, {"name": name, "sealed_webhook_secret": sealed_webhook_secret, "created_at_ms": at_ms}
    )
