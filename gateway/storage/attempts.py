"""Statements on attempts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from gateway.errors import Unreadable
from gateway.ids import ATTEMPT, first_id
from gateway.jobs.job import LIVE, Attempt
from gateway.storage.tables import UNSETTLED, adoptions, attempts, jobs

_decoder = msgspec.json.Decoder(Attempt)

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
_BY_ID = select(attempts.c.document).where(attempts.c.id == bindparam("attempt_id"))
_TAKEN = select(attempts.c.ref).where(
    attempts.c.provider == bindparam("of_provider"),
    attempts.c.ref.in_(bindparam("refs", expanding=True)),
    attempts.c.id != bindparam("but_of"),
)
# Not by account: a provider may list the runs of a whole organization, to whom several accounts belong.
_AT = attempts.c.provider == bindparam("of_provider")
# The very text of the partial index, without which SQLite would not use it.
_UNSETTLED = select(attempts.c.document).where(_AT, text(UNSETTLED))
_KNOWN = (
    select(attempts.c.ref)
    .where(
        # Disguised, or all the refs there ever were would be read in their order: few attempts began then.
        attempts.c.provider.concat("") == bindparam("of_provider"),
        attempts.c.ref.is_not(None),
        attempts.c.id >= bindparam("from_id"),
        attempts.c.id < bindparam("to_id"),
        attempts.c.id != bindparam("but_of"),
    )
    .limit(bindparam("limit"))
)
# By id, which sorts by time: a range of the primary key, however many attempts there ever were.
_LATELY = (
    select(attempts.c.provider, attempts.c.account, attempts.c.state)
    .where(attempts.c.id >= bindparam("from_id"))
    .order_by(attempts.c.id.desc())
    .limit(bindparam("limit"))
    .subquery("bounded")
)
_TALLY = select(_LATELY.c.provider, _LATELY.c.account, _LATELY.c.state, func.count()).group_by(
    _LATELY.c.provider, _LATELY.c.account, _LATELY.c.state
)
_ADOPT = insert(adoptions)
# The jobs under way are few, whatever the number of attempts there ever were.
_UNDER_WAY = select(jobs.c.id).where(jobs.c.finished_at_ms.is_(None), jobs.c.simulated.is_(False))
_NEEDED = (
    select(attempts.c.provider, attempts.c.account, func.count(attempts.c.job_id.distinct()))
    .where(
        attempts.c.job_id.in_(_UNDER_WAY),
        attempts.c.state.in_([state.value for state in LIVE]),
        attempts.c.document.not_like('%"written_off":true%'),
    )
    .group_by(attempts.c.provider, attempts.c.account)
)


def _decode(document: str, whose: str) -> Attempt:
    try:
        return _decoder.decode(document)
    except msgspec.DecodeError as error:
        raise Unreadable(f"an attempt {whose} cannot be read: {error}") from error


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
            "started_at_ms": attempt.started_at_ms,
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
        found[job_id] = (*found.get(job_id, ()), _decode(document, f"of {job_id}"))
    return found


def count_needed(connection: Connection) -> dict[tuple[str, str], int]:
    """Count the jobs under way by the (provider, account) that may be working on them; not the simulated."""
    return {(provider, account): count for provider, account, count in connection.execute(_NEEDED)}


def find(connection: Connection, attempt_id: str) -> Attempt | None:
    """Read an attempt, or None when there is none of that id."""
    document = connection.execute(_BY_ID, {"attempt_id": attempt_id}).scalar_one_or_none()
    return None if document is None else _decode(document, attempt_id)


def load_unsettled(connection: Connection, *, provider: str) -> list[Attempt]:
    """Read the attempts at a provider, of every job, that may have made a run whose ref is not known."""
    found = connection.execute(_UNSETTLED, {"of_provider": provider})
    return [_decode(document, f"in doubt at {provider}") for (document,) in found]


def find_taken(connection: Connection, *, provider: str, refs: Sequence[str], but_of: str) -> frozenset[str]:
    """Return which of these refs an attempt other than `but_of` has."""
    if not refs:
        return frozenset()
    asked = {"of_provider": provider, "refs": list(refs), "but_of": but_of}
    return frozenset(connection.execute(_TAKEN, asked).scalars())


def find_known(
    connection: Connection,
    *,
    provider: str,
    since_ms: int,
    until_ms: int,
    but_of: str,
    limit: int,
) -> frozenset[str]:
    """Return refs of attempts, other than `but_of`, that began at a provider in that time."""
    asked = {
        "of_provider": provider,
        "from_id": first_id(ATTEMPT, since_ms),
        "to_id": first_id(ATTEMPT, until_ms),
        "but_of": but_of,
        "limit": limit,
    }
    return frozenset(connection.execute(_KNOWN, asked).scalars())


def adopt(connection: Connection, attempt: Attempt, *, ref: str, at_ms: int) -> None:
    """Note that a ref was adopted, in the transaction that gives it to the attempt.

    Raises:
        IntegrityError: another attempt adopted it before.
    """
    connection.execute(
        _ADOPT, {"provider": attempt.provider, "ref": ref, "attempt_id": attempt.id, "at_ms": at_ms}
    )


def tally(connection: Connection, *, since_ms: int, limit: int) -> dict[tuple[str, str, str], int]:
    """Count the latest attempts by (provider, account, state).

    Args:
        connection: for reading.
        since_ms: of those begun at that instant or later.
        limit: how many are looked at, the latest.
    """
    asked = {"from_id": first_id(ATTEMPT, since_ms), "limit": limit}
    return {(row[0], row[1], row[2]): row[3] for row in connection.execute(_TALLY, asked)}
