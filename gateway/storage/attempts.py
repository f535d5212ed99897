"""Statements on attempts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, bindparam, insert, select, update

from gateway.jobs.job import Attempt
from gateway.storage.tables import attempts

_decode = msgspec.json.Decoder(Attempt).decode

_INSERT = insert(attempts)
_UPDATE = (
    update(attempts)
    .where(attempts.c.id == bindparam("attempt_id"))
    .values(state=bindparam("new_state"), ref=bindparam("new_ref"), document=bindparam("new_document"))
)
_OF = (
    select(attempts.c.job_id, attempts.c.document)
    .where(attempts.c.job_id.in_(bindparam("ids", expanding=True)))
    .order_by(attempts.c.job_id, attempts.c.number)
)


def insert_one(connection: Connection, attempt: Attempt) -> None:
    """Store a new attempt.

    Raises:
        IntegrityError: the job has one of that number already.
    """
    connection.execute(
        _INSERT,
        {
            "id": attempt.id,
            "job_id": attempt.job_id,
            "number": attempt.number,
            "provider": attempt.provider,
            "account": attempt.account,
            "state": attempt.state.value,
            "ref": attempt.ref,
            "document": msgspec.json.encode(attempt).decode(),
        },
    )


def save(connection: Connection, attempt: Attempt) -> None:
    """Write an attempt as it now is; guarded by its job's sequence in the same transaction."""
    connection.execute(
        _UPDATE,
        {
            "attempt_id": attempt.id,
            "new_state": attempt.state.value,
            "new_ref": attempt.ref,
            "new_document": msgspec.json.encode(attempt).decode(),
        },
    )


def load_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, tuple[Attempt, ...]]:
    """Read the attempts of these jobs, by job, in their order."""
    found: dict[str, tuple[Attempt, ...]] = {}
    if not job_ids:
        return found
    for job_id, document in connection.execute(_OF, {"ids": list(job_ids)}):
        found[job_id] = (*found.get(job_id, ()), _decode(document))
    return found
