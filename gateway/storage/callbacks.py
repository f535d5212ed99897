"""Statements on the callback inbox: what providers told of attempts, kept before they are answered."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, bindparam, func, insert, select

from gateway.storage.tables import callback_inbox

MOST_REFS = 10
"""An honest provider names one."""

_OF_ATTEMPT = callback_inbox.c.attempt_id == bindparam("of_attempt")
_INSERT = insert(callback_inbox)
_ONE = select(callback_inbox.c.ref).where(_OF_ATTEMPT, callback_inbox.c.digest == bindparam("of_digest"))
_REFS = (
    select(callback_inbox.c.ref)
    .where(_OF_ATTEMPT)
    .order_by(callback_inbox.c.received_at_ms, callback_inbox.c.digest)
)
_NAMED = (
    select(callback_inbox.c.digest).where(_OF_ATTEMPT, callback_inbox.c.ref == bindparam("of_ref")).limit(1)
)
_PAST = select(func.count(), func.max(callback_inbox.c.due_at_ms)).where(_OF_ATTEMPT)


class CallbackRow(Struct, frozen=True, kw_only=True):
    """One callback, as it is kept."""

    attempt_id: str
    digest: str
    """SHA-256 of its body, in hex: the same once more is the same callback."""
    ref: str
    received_at_ms: int
    body: str
    """Redacted, and cut."""
    due_at_ms: int | None
    """When the question is due that it led to; None where it led to none."""


class Past(Struct, frozen=True):
    """What came of an attempt before."""

    kept: int
    due_at_ms: int | None
    """When the last question was due that any of them led to."""


def has(connection: Connection, attempt_id: str, digest: str) -> bool:
    """Whether that callback is there."""
    asked = {"of_attempt": attempt_id, "of_digest": digest}
    return connection.execute(_ONE, asked).one_or_none() is not None


def names(connection: Connection, attempt_id: str, ref: str) -> bool:
    """Whether a callback about the attempt named that ref."""
    asked = {"of_attempt": attempt_id, "of_ref": ref}
    return connection.execute(_NAMED, asked).one_or_none() is not None


def past_of(connection: Connection, attempt_id: str) -> Past:
    """Return what came of an attempt so far."""
    kept, due_at_ms = connection.execute(_PAST, {"of_attempt": attempt_id}).one()
    return Past(kept, due_at_ms)


def insert_one(connection: Connection, row: CallbackRow) -> None:
    """Store a callback.

    Raises:
        IntegrityError: it was stored at the same moment by another.
    """
    connection.execute(
        _INSERT,
        {
            "attempt_id": row.attempt_id,
            "digest": row.digest,
            "ref": row.ref,
            "received_at_ms": row.received_at_ms,
            "body": row.body,
            "due_at_ms": row.due_at_ms,
        },
    )


def refs_of(connection: Connection, attempt_id: str) -> tuple[str, ...]:
    """Return the refs that callbacks named for an attempt, the first ones first, each once."""
    refs = dict.fromkeys(connection.execute(_REFS, {"of_attempt": attempt_id}).scalars())
    return tuple(refs)[:MOST_REFS]
