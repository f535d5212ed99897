"""Statements on the callback inbox: what providers told of attempts, kept before they are answered."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, insert, select

from gateway.storage.tables import callback_inbox

MOST_REFS = 10
"""An honest provider names one."""

_INSERT = insert(callback_inbox)
_ONE = select(callback_inbox.c.ref).where(
    callback_inbox.c.attempt_id == bindparam("of_attempt"), callback_inbox.c.digest == bindparam("of_digest")
)
_REFS = (
    select(callback_inbox.c.ref)
    .where(callback_inbox.c.attempt_id == bindparam("of_attempt"))
    .order_by(callback_inbox.c.received_at_ms, callback_inbox.c.digest)
)


def insert_new(connection: Connection, *, attempt_id: str, digest: str, ref: str, at_ms: int) -> bool:
    """Store a callback; False when the same one is there already.

    Raises:
        IntegrityError: it was stored at the same moment by another.
    """
    if connection.execute(_ONE, {"of_attempt": attempt_id, "of_digest": digest}).one_or_none() is not None:
        return False
    row = {"attempt_id": attempt_id, "digest": digest, "ref": ref, "received_at_ms": at_ms}
    connection.execute(_INSERT, row)
    return True


def refs_of(connection: Connection, attempt_id: str) -> tuple[str, ...]:
    """Return the refs that callbacks named for an attempt, the first ones first, each once."""
    refs = dict.fromkeys(connection.execute(_REFS, {"of_attempt": attempt_id}).scalars())
    return tuple(refs)[:MOST_REFS]
