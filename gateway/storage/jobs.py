"""Statements on jobs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from gateway.errors import Unreadable
from gateway.jobs.job import Attempt, AttemptState, Job, JobRequest, JobState
from gateway.jobs.view import JobView, compose
from gateway.storage.tables import attempts, deliveries, jobs
from gateway.telemetry import get_logger
from providers.contract.status import JobStatus

_log = get_logger("gateway.storage")

_encode = msgspec.json.encode
_decode_request = msgspec.json.Decoder(JobRequest).decode
_decode_state = msgspec.json.Decoder(JobState).decode
_decode_attempt = msgspec.json.Decoder(Attempt).decode
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode


class Kept(Struct, frozen=True):
    """A job found under an idempotency key."""

    job_id: str
    owner: str
    idempotency_key: str
    fingerprint: str


class JobFilter(Struct, frozen=True, kw_only=True):
    """Which jobs to list; None leaves a condition out."""

    owner: str | None = None
    status: JobStatus | None = None
    held: bool | None = None
    provider: str | None = None
    created_after_ms: int | None = None
    created_before_ms: int | None = None
    before_id: str | None = None
    """Only ids that sort below this one: the page's cursor."""
    limit: int = 20


_UNFINISHED = (
    select(jobs.c.provider, jobs.c.status, func.count(), func.count(jobs.c.hold_until_ms))
    .where(jobs.c.finished_at_ms.is_(None))
    .group_by(jobs.c.provider, jobs.c.status)
)
# Counted no further than anybody asks.
_lapsing = (
    select(jobs.c.id)
    .where(
        jobs.c.outputs_expire_at_ms >= bindparam("now_ms"),
        jobs.c.outputs_expire_at_ms < bindparam("until_ms"),
    )
    .order_by(jobs.c.outputs_expire_at_ms)
    .limit(bindparam("most"))
    .subquery("bounded")
)
_told = (
    select(func.max(case((deliveries.c.state == "delivered", 2), else_=1)))
    .where(deliveries.c.job_id == _lapsing.c.id, deliveries.c.type == "job.succeeded")
    .scalar_subquery()
)
_TOLD: dict[int | None, str] = {None: "unasked", 1: "undelivered", 2: "delivered"}
_EXPIRING = select(_told.label("told"), func.count()).select_from(_lapsing).group_by("told")


def row_of(job: Job, *, idempotency_key: str | None, fingerprint: str) -> dict[str, object]:
    """Return a new job's row."""
    return {
        "id": job.id,
        "owner": job.owner,
        "model": job.request.model,
        "created_at_ms": job.created_at_ms,
        "idempotency_key": idempotency_key,
        "fingerprint": fingerprint,
        "simulated": job.simulated,
        "estimated_micro_usd": job.estimated_micro_usd,
        "sealed_webhook_secret": job.sealed_webhook_secret,
        "room": job.room,
        "traceparent": job.traceparent,
        "request": _encode(job.request).decode(),
        "metadata": _encode(job.metadata).decode(),
        **_changing(job),
    }


def _changing(job: Job) -> dict[str, object]:
    state = job.state
    return {
        "status": state.status.value,
        "provider": state.provider,
        "deadline_at_ms": state.deadline_at_ms,
        "finished_at_ms": state.finished_at_ms,
        "hold_until_ms": None if state.held is None else state.held.until_ms,
        "sequence": job.sequence,
        "progress": job.progress,
        "outputs_expire_at_ms": min((output.expires_at_ms for output in state.outputs), default=None),
        "state": _encode(state).decode(),
    }


_INSERT = insert(jobs)
# By key alone, since SQLite answers an IN of row values with a scan of the whole table; the index is led by
# the key, and the few rows of other owners are sorted out here.
_KEPT = select(jobs.c.id, jobs.c.owner, jobs.c.idempotency_key, jobs.c.fingerprint).where(
    jobs.c.idempotency_key.in_(bindparam("keys", expanding=True))
)
_STORED = select(jobs.c.id).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
_BY_ID = select(jobs).where(jobs.c.id == bindparam("job_id"))
_BY_IDS = select(jobs).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
_LOCKED = _BY_ID.with_for_update()
_LOCKS = _STORED.order_by(jobs.c.id).with_for_update()
_SEQUENCE = select(jobs.c.sequence).where(jobs.c.id == bindparam("job_id"))
_UPDATE = update(jobs).where(jobs.c.id == bindparam("job_id"), jobs.c.sequence == bindparam("seen"))
_PROGRESS = (
    update(jobs)
    .where(jobs.c.id == bindparam("job_id"), jobs.c.finished_at_ms.is_(None))
    .values(progress=bindparam("value"))
)
_SHOWN = (
    jobs.c.id,
    jobs.c.owner,
    jobs.c.model,
    jobs.c.created_at_ms,
    jobs.c.progress,
    jobs.c.simulated,
    jobs.c.estimated_micro_usd,
    jobs.c.request,
    jobs.c.metadata,
    jobs.c.state,
    attempts.c.document,
)
# One statement for jobs and attempts, a row for each attempt (or one without): it is asked most of all.
_FROM = jobs.outerjoin(attempts, attempts.c.job_id == jobs.c.id)
_VIEWS = (
    select(*_SHOWN)
    .select_from(_FROM)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(attempts.c.number)
)
# Not those that would be left alone: whose submission is in flight, or whose provider has the last word.
_LEFT_ALONE = exists().where(
    attempts.c.job_id == jobs.c.id,
    or_(
        attempts.c.state == AttemptState.SUBMITTING.value,
        and_(
            attempts.c.state == AttemptState.ACCEPTED.value,
            jobs.c.deadline_at_ms > bindparam("last_word_ms"),
        ),
    ),
)
_OVERDUE = (
    select(jobs.c.id)
    .where(
        jobs.c.finished_at_ms.is_(None),
        jobs.c.hold_until_ms.is_(None),
        jobs.c.deadline_at_ms <= bindparam("now_ms"),
        ~_LEFT_ALONE,
    )
    .order_by(jobs.c.deadline_at_ms)
    .limit(bindparam("limit"))
)
_HOLD_EXPIRED = (
    select(jobs.c.id)
    .where(jobs.c.finished_at_ms.is_(None), jobs.c.hold_until_ms <= bindparam("now_ms"))
    .limit(bindparam("limit"))
)
# Sorted by whoever asks: an ORDER BY makes SQLite read the whole table in that order instead.
_HELD_IDS = select(jobs.c.id).where(jobs.c.finished_at_ms.is_(None), jobs.c.hold_until_ms.is_not(None))

_UNFINISHED_IDS = select(jobs.c.id).where(jobs.c.finished_at_ms.is_(None))

_HOUSE = update(jobs).where(jobs.c.id == bindparam("job_id")).values(room=bindparam("new_room"))
_OWNER = select(jobs.c.owner).where(jobs.c.id == bindparam("job_id"))


def insert_many(connection: Connection, rows: list[dict[str, object]]) -> None:
    """Store new jobs.

    Raises:
        IntegrityError: an idempotency key was taken meanwhile.
    """
    connection.execute(_INSERT, rows)


def find_kept(connection: Connection, keys: Sequence[tuple[str, str]]) -> list[Kept]:
    """Return the jobs that hold any of these (owner, idempotency key) pairs."""
    wanted = set(keys)
    rows = connection.execute(_KEPT, {"keys": list({key for _, key in keys})})
    return [Kept(*row) for row in rows if (row.owner, row.idempotency_key) in wanted]


def find_stored(connection: Connection, job_ids: Sequence[str]) -> frozenset[str]:
    """Return which of these jobs exist."""
    return frozenset(connection.execute(_STORED, {"ids": list(job_ids)}).scalars())


def sequence_of(connection: Connection, job_id: str) -> int:
    """Read the number of a job's last event; 0 for an unknown one."""
    return connection.execute(_SEQUENCE, {"job_id": job_id}).scalar_one_or_none() or 0


def load(connection: Connection, job_id: str, *, lock: bool = False) -> Job | None:
    """Read a job; with `lock`, no other transaction changes it before this one ends."""
    row = connection.execute(_LOCKED if lock else _BY_ID, {"job_id": job_id}).mappings().one_or_none()
    return None if row is None else _job(row)


def owner_of(connection: Connection, job_id: str) -> str | None:
    """Return whose a job is, readable or not; None when there is no such job."""
    found: str | None = connection.execute(_OWNER, {"job_id": job_id}).scalar_one_or_none()
    return found


def lock(connection: Connection, job_ids: Sequence[str]) -> None:
    """Lock jobs before their tasks, which whoever changes both does; in one order, so that none deadlock."""
    connection.execute(_LOCKS, {"ids": sorted(job_ids)}).all()


def load_many(connection: Connection, job_ids: Sequence[str]) -> dict[str, Job]:
    """Read these jobs, by id; unknown ids are left out."""
    if not job_ids:
        return {}
    rows = connection.execute(_BY_IDS, {"ids": list(job_ids)}).mappings()
    return {row["id"]: _job(row) for row in rows}


def save(connection: Connection, job: Job, *, seen: int) -> bool:
    """Write what changed; False when the job is no longer at sequence `seen`."""
    values = {**_changing(job), "job_id": job.id, "seen": seen}
    return connection.execute(_UPDATE, values).rowcount == 1


def save_progress(connection: Connection, values: list[tuple[str, float]]) -> None:
    """Write the progress of unfinished jobs, (job id, 0 to 1) each; changes no sequence."""
    connection.execute(_PROGRESS, [{"job_id": job_id, "value": value} for job_id, value in values])


def load_views(connection: Connection, job_ids: Sequence[str]) -> dict[str, tuple[str, JobView | Unreadable]]:
    """Show these jobs: id to (owner, view, or why there is none). Unknown ids are left out."""
    return _shown([tuple(row) for row in connection.execute(_VIEWS, {"ids": list(job_ids)})])


def list_views(connection: Connection, wanted: JobFilter) -> list[JobView]:
    """Show a page of jobs, newest first; one that cannot be read is left out, and the log names it."""
    return [view for _, view in list_owned(connection, wanted)]


def list_owned(connection: Connection, wanted: JobFilter) -> list[tuple[str, JobView]]:
    """Show a page of jobs like `list_views`, each with its owner before it."""
    compared: tuple[tuple[object, ColumnElement[Any], Callable[[Any, Any], ColumnElement[bool]]], ...] = (
        (wanted.owner, jobs.c.owner, operator.eq),
        (wanted.status, jobs.c.status, operator.eq),
        (wanted.provider, jobs.c.provider, operator.eq),
        (wanted.created_after_ms, jobs.c.created_at_ms, operator.gt),
        (wanted.created_before_ms, jobs.c.created_at_ms, operator.lt),
        (wanted.before_id, jobs.c.id, operator.lt),
    )
    given = [compare(column, value) for value, column, compare in compared if value is not None]
    if wanted.held is not None:
        waits = jobs.c.hold_until_ms.is_not(None)
        given.append(waits if wanted.held else ~waits)
    found = select(jobs.c.id).where(*given).order_by(jobs.c.id.desc()).limit(wanted.limit)
    shown = load_views(connection, list(connection.execute(found).scalars()))
    views: list[tuple[str, JobView]] = []
    for job_id in sorted(shown, reverse=True):
        owner, view = shown[job_id]
        if isinstance(view, Unreadable):
            _log.error("storage.unreadable", job_id=job_id, error=str(view))
        else:
            views.append((owner, view))
    return views


def find_overdue(connection: Connection, *, now_ms: int, last_word_ms: int, limit: int) -> list[str]:
    """Return unfinished jobs to be ended for their deadline; held ones and submissions in flight are not.

    Args:
        connection: to the store.
        now_ms: the instant.
        last_word_ms: a job that its provider accepted is left alone when its deadline was later than that.
        limit: the most to return, those of the earliest deadlines.
    """
    asked = {"now_ms": now_ms, "last_word_ms": last_word_ms, "limit": limit}
    return list(connection.execute(_OVERDUE, asked).scalars())


def find_hold_expired(connection: Connection, *, now_ms: int, limit: int) -> list[str]:
    """Return held jobs whose hold is over."""
    return list(connection.execute(_HOLD_EXPIRED, {"now_ms": now_ms, "limit": limit}).scalars())


def house(connection: Connection, job_id: str, room: str) -> None:
    """Note which accounts can run a job by these settings."""
    connection.execute(_HOUSE, {"job_id": job_id, "new_room": room})


def find_unfinished(connection: Connection) -> list[str]:
    """Return every job that has not ended, the oldest first."""
    return sorted(connection.execute(_UNFINISHED_IDS).scalars())


def find_held(connection: Connection) -> list[str]:
    """Return every job that is held, the oldest first."""
    return sorted(connection.execute(_HELD_IDS).scalars())


def _job(row: RowMapping) -> Job:
    try:
        return _decoded(row)
    except msgspec.DecodeError as error:
        raise Unreadable(f"{row['id']} cannot be read: {error}") from error


def _decoded(row: RowMapping) -> Job:
    return Job(
        id=row["id"],
        owner=row["owner"],
        created_at_ms=row["created_at_ms"],
        request=_decode_request(row["request"]),
        metadata=_decode_metadata(row["metadata"]),
        state=_decode_state(row["state"]),
        progress=row["progress"],
        sequence=row["sequence"],
        estimated_micro_usd=row["estimated_micro_usd"],
        simulated=row["simulated"],
        sealed_webhook_secret=row["sealed_webhook_secret"],
        room=row["room"],
        traceparent=row["traceparent"],
    )


def _shown(rows: Sequence[tuple[Any, ...]]) -> dict[str, tuple[str, JobView | Unreadable]]:
    parts: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        parts.setdefault(row[0], []).append(row)
    return {job_id: (of_job[0][1], _view_or_why_not(of_job)) for job_id, of_job in parts.items()}


def _view_or_why_not(rows: list[tuple[Any, ...]]) -> JobView | Unreadable:
    try:
        tried = tuple(_decode_attempt(row[-1]) for row in rows if row[-1] is not None)
        return _view(rows[0], tried)
    except msgspec.DecodeError as error:
        return Unreadable(f"{rows[0][0]} cannot be read: {error}")


def _view(row: tuple[Any, ...], tried: tuple[Attempt, ...]) -> JobView:
    # In the order of _SHOWN: by position, since looking columns up by name costs more than reading them.
    job_id, _, model, created_at_ms, progress, simulated, estimated, request, metadata, state, _ = row
    return compose(
        job_id=job_id,
        model=model,
        simulated=simulated,
        created_at_ms=created_at_ms,
        progress=progress,
        estimated_micro_usd=estimated,
        state=_decode_state(state),
        request=msgspec.Raw(request.encode()),
        metadata=msgspec.Raw(metadata.encode()),
        attempts=tried,
    )


def count_unfinished(connection: Connection) -> tuple[dict[tuple[str | None, str], int], int]:
    """Count unfinished jobs by (provider, status), and the held ones among them."""
    counts: dict[tuple[str | None, str], int] = {}
    held = 0
    for provider, status, count, waiting in connection.execute(_UNFINISHED):
        counts[provider, status] = count
        held += waiting
    return counts, held


def count_expiring(connection: Connection, *, now_ms: int, until_ms: int, most: int) -> dict[str, int]:
    """Count the successes whose outputs lapse in that time, by whether whoever asked to be was told.

    Args:
        connection: any.
        now_ms: from when.
        until_ms: to when.
        most: no more are looked at, those that lapse first.
    """
    rows = connection.execute(_EXPIRING, {"now_ms": now_ms, "until_ms": until_ms, "most": most})
    return {_TOLD[told]: count for told, count in rows}
