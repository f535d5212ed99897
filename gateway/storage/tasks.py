"""Statements on tasks: what is due, and who holds it. Those on lanes of deliveries: `delivery_tasks`.

A claim takes a lease and raises the version. Whoever writes a result later must find that version still
there (fencing): a worker that slept through its lease cannot overwrite what another did meanwhile.

A lease that lapsed is free to every worker but its own holder, who may still be at it, however long it slept
and wherever its clock jumped; the holder gives back by itself what it is not at (`release_lapsed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    and_,
    bindparam,
    case,
    delete,
    insert,
    or_,
    select,
    update,
)

from gateway.jobs.transitions import TaskKind
from gateway.storage.tables import tasks
from gateway.telemetry import get_logger

_log = get_logger("gateway.storage")


class Memo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a task must remember between tries."""

    missing: int = 0
    """Polls in a row that answered 404."""
    missing_since_ms: int = 0
    doubted: int = 0
    """Polls in a row whose answer contradicts the provider's contract."""
    late: int = 0
    """Polls past the job's deadline that failed."""
    asked_ms: int = 0
    """When the provider was last asked, with an answer we could read."""
    since_ms: int = 0
    """When the provider held the run back no longer; while it does, the last look. 0: it never did."""
    cancel_doubted: bool = False
    """Whether a cancel was sent that may have been carried out, though its answer did not say so."""
    before: int = 0
    """How often a delivery was tried before it was queued anew: its tries are numbered on from there."""
    asked: bool = False
    """Whether somebody asked for a delivery once more: how late it comes then says nothing."""
    once_more: bool = False
    """Whether that was while it was under way: if that fails, it is due at once."""
    meant_ms: int = 0
    """When the schedule has it due: the try that is due was asked for, and does not count. 0: it counts."""
    delivered_ms: int = 0
    """When it was delivered before it was sent again, which stays so whatever comes of that. 0: never."""
    told: str = ""
    """What the timeline was last told of looks for a lost submission, so that it is told of changes only."""


class Claim(Struct, frozen=True, kw_only=True):
    """A task that this worker holds."""

    kind: TaskKind
    subject: str
    """The job's id, or the delivery's."""
    version: int
    tries: int
    due_at_ms: int
    memo: Memo

    def later(self, at_ms: int) -> Due:
        """Have it due again at that time, as if it had not been claimed."""
        return Due(claim=self, due_at_ms=at_ms, tries=self.tries, memo=self.memo)


class Due(Struct, frozen=True, kw_only=True):
    """When a held task is to be due again."""

    claim: Claim
    due_at_ms: int
    tries: int = 0
    memo: Memo = Memo()


VERSIONS = 2**30
"""Versions fit 31 bits, with room for every claim of a task's life."""

_decode_memo = msgspec.json.Decoder(Memo).decode

_INSERT = insert(tasks)


def free(of: FromClause) -> ColumnElement[bool]:
    """Of these tasks: nobody holds it, or its lease lapsed and the holder is another."""
    lapsed = of.c.leased_until_ms < bindparam("now_ms")
    return or_(of.c.leased_by.is_(None), and_(lapsed, of.c.leased_by != bindparam("holder")))


FREE = free(tasks)
_LAPSED = tasks.c.leased_until_ms < bindparam("now_ms")
# One kind a statement: the index on (kind, due_at_ms) then gives them in order, however many wait.
_CANDIDATES = (
    select(tasks.c.kind, tasks.c.subject, tasks.c.due_at_ms)
    .where(tasks.c.kind == bindparam("of_kind"), tasks.c.due_at_ms <= bindparam("now_ms"), FREE)
    .order_by(tasks.c.due_at_ms)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
# One kind a statement here too: SQLite answers an IN of row values with a scan of the whole table.
_CLAIM = (
    update(tasks)
    .where(
        tasks.c.kind == bindparam("of_kind"), tasks.c.subject.in_(bindparam("found", expanding=True)), FREE
    )
    .values(leased_until_ms=bindparam("until_ms"), leased_by=bindparam("holder"), version=tasks.c.version + 1)
    .returning(tasks.c.kind, tasks.c.subject, tasks.c.version, tasks.c.tries, tasks.c.due_at_ms, tasks.c.memo)
)
_HELD = and_(
    tasks.c.kind == bindparam("of_kind"),
    tasks.c.subject == bindparam("of_subject"),
    tasks.c.version == bindparam("seen"),
)
_CHECK = select(tasks.c.version).where(_HELD).with_for_update()
_OF_KIND = and_(
    tasks.c.kind == bindparam("of_kind"), tasks.c.subject.in_(bindparam("subjects", expanding=True))
)
_VERSIONS = (
    select(tasks.c.subject, tasks.c.version, tasks.c.due_at_ms, tasks.c.memo)
    .where(_OF_KIND)
    .order_by(tasks.c.subject)
    .with_for_update()
)
_FINISH = delete(tasks).where(_HELD)
_FINISH_MANY = delete(tasks).where(_OF_KIND)
# A question that was made due once more while it was asked: its answer may be older than the reason.
_HURRIED = and_(
    tasks.c.kind.in_([TaskKind.POLL.value, TaskKind.RECONCILE.value]),
    tasks.c.due_at_ms > bindparam("claimed_due_ms"),
    tasks.c.due_at_ms < bindparam("at_ms"),
)
_AGAIN = (
    update(tasks)
    .where(_HELD)
    .values(
        due_at_ms=case((_HURRIED, tasks.c.due_at_ms), else_=bindparam("at_ms", type_=BigInteger)),
        tries=bindparam("new_tries"),
        memo=bindparam("new_memo"),
        leased_until_ms=None,
        leased_by=None,
    )
)
# What was given back in the meantime has no holder: a lease on it would be nobody's, and lapse for nobody.
_EXTEND = (
    update(tasks).where(_HELD, tasks.c.leased_by.is_not(None)).values(leased_until_ms=bindparam("until_ms"))
)
_RELEASE = update(tasks).where(_HELD).values(leased_until_ms=None, leased_by=None)
# What has no holder was given back by a result that stands, though its answer was lost: nothing to put off.
_PUT_OFF = (
    update(tasks)
    .where(_HELD, tasks.c.leased_by.is_not(None))
    .values(due_at_ms=bindparam("at_ms"), leased_until_ms=None, leased_by=None)
)
# Whoever is at it finds another version than it claimed, as after any claim.
_TAKE_AWAY = (
    update(tasks)
    .where(tasks.c.kind == bindparam("of_kind"), tasks.c.subject == bindparam("of_subject"))
    .values(version=tasks.c.version + 1, due_at_ms=bindparam("at_ms"), leased_until_ms=None, leased_by=None)
)
_RELEASE_LAPSED = (
    update(tasks)
    # What is leased was due: the index then spares all that lies in the future.
    .where(
        tasks.c.kind.in_([kind.value for kind in TaskKind]),
        tasks.c.due_at_ms <= bindparam("now_ms"),
        tasks.c.leased_by == bindparam("holder"),
        _LAPSED,
    )
    .values(leased_until_ms=None, leased_by=None)
)
_RELEASE_ALL = (
    update(tasks).where(tasks.c.leased_by.is_not(None)).values(leased_until_ms=None, leased_by=None)
)
_HURRY = (
    update(tasks)
    .where(tasks.c.kind == bindparam("of_kind"), tasks.c.subject == bindparam("of_subject"))
    .values(due_at_ms=bindparam("at_ms"))
)
_LOOK = (
    select(tasks.c.due_at_ms, tasks.c.leased_by)
    .where(tasks.c.kind == bindparam("of_kind"), tasks.c.subject == bindparam("of_subject"))
    .with_for_update()
)
_SHIFT = update(tasks).values(due_at_ms=tasks.c.due_at_ms + bindparam("delta_ms"))
_SHIFT_FORWARD = _SHIFT.where(tasks.c.due_at_ms < bindparam("at_ms"))
_SHIFT_BACK = _SHIFT.where(tasks.c.due_at_ms > bindparam("at_ms"))
_DROP = delete(tasks).where(
    tasks.c.subject == bindparam("of_subject"), tasks.c.kind.in_(bindparam("kinds", expanding=True))
)
_NEXT = (
    select(tasks.c.due_at_ms)
    .where(tasks.c.kind == bindparam("of_kind"), tasks.c.leased_until_ms.is_(None))
    .order_by(tasks.c.due_at_ms)
    .limit(1)
)


def insert_many(connection: Connection, due: Sequence[tuple[TaskKind, str, int]]) -> None:
    """Store new tasks, (kind, subject, due at) each.

    Versions start at the due time, not at nothing: a worker that slept on a lease of a task that was done and
    made anew since, as a second submit is, must not find its version there again.

    Raises:
        IntegrityError: the subject has a task of that kind already.
    """
    connection.execute(
        _INSERT,
        [
            {
                "kind": kind.value,
                "subject": subject,
                "due_at_ms": at_ms,
                "version": at_ms % VERSIONS,
                "tries": 0,
                "memo": "{}",
            }
            for kind, subject, at_ms in due
        ],
    )


def claim(
    connection: Connection, *, kinds: Sequence[TaskKind], limit: int, now_ms: int, until_ms: int, holder: str
) -> list[Claim]:
    """Lease up to `limit` due tasks, the longest due first."""
    due: list[tuple[int, str, str]] = []
    for kind in kinds:
        asked = {"of_kind": kind.value, "now_ms": now_ms, "limit": limit, "holder": holder}
        due += [(row.due_at_ms, row.kind, row.subject) for row in connection.execute(_CANDIDATES, asked)]
    found: dict[str, list[str]] = {}
    for _, of_kind, subject in sorted(due)[:limit]:
        found.setdefault(of_kind, []).append(subject)
    return claim_named(connection, found, now_ms=now_ms, until_ms=until_ms, holder=holder)


def claim_named(
    connection: Connection, found: Mapping[str, Sequence[str]], *, now_ms: int, until_ms: int, holder: str
) -> list[Claim]:
    """Lease those of these tasks, subjects by kind, that are still free; the longest due first."""
    lease = {"now_ms": now_ms, "until_ms": until_ms, "holder": holder}
    claims = [
        Claim(
            kind=TaskKind(row.kind),
            subject=row.subject,
            version=row.version,
            tries=row.tries,
            due_at_ms=row.due_at_ms,
            memo=read_memo(row.subject, row.memo),
        )
        for of_kind, subjects in found.items()
        for row in connection.execute(_CLAIM, {**lease, "of_kind": of_kind, "found": list(subjects)})
    ]
    return sorted(claims, key=lambda claim: claim.due_at_ms)


def read_memo(subject: str, document: str) -> Memo:
    """Read a memo. One that cannot be is forgotten: it counts what may as well be counted anew."""
    try:
        return _decode_memo(document)
    except msgspec.DecodeError as error:
        _log.error("storage.unreadable", subject=subject, error=str(error))
        return Memo()


def still_held(connection: Connection, claim: Claim) -> bool:
    """Whether nobody claimed the task since; it stays so until this transaction ends."""
    return connection.execute(_CHECK, _of(claim)).one_or_none() is not None


class Held(Struct, frozen=True):
    """A task that is still held."""

    asked_ms: int | None
    """When somebody asked for it once more since it was claimed; None when nobody did."""


def which_held(connection: Connection, kind: TaskKind, claims: Sequence[Claim]) -> list[Held | None]:
    """Which of these tasks, all of one kind, are still held; they stay so until this transaction ends.

    They are locked in the order of their subjects, as in `extend`: in two orders, two could deadlock.
    """
    asked = {"of_kind": kind.value, "subjects": [claim.subject for claim in claims]}
    rows = {row.subject: row for row in connection.execute(_VERSIONS, asked)}
    held: list[Held | None] = []
    for claim in claims:
        row = rows.get(claim.subject)
        if row is None or row.version != claim.version:
            held.append(None)
            continue
        # A clock that jumped moves what is due, too.
        hurried = row.due_at_ms > claim.due_at_ms and read_memo(row.subject, row.memo).once_more
        held.append(Held(row.due_at_ms if hurried else None))
    return held


def finish_many(connection: Connection, kind: TaskKind, subjects: Sequence[str]) -> None:
    """Remove tasks of one kind that are known to be held."""
    if subjects:
        connection.execute(_FINISH_MANY, {"of_kind": kind.value, "subjects": list(subjects)})


def finish(connection: Connection, claim: Claim) -> bool:
    """Remove a held task; False when it is no longer held."""
    return connection.execute(_FINISH, _of(claim)).rowcount == 1


def again(connection: Connection, due: Due) -> bool:
    """Give a held task back, due later; False when it is no longer held.

    A poll or a look that was made due again since its claim is due then, and not later.
    """
    values = {
        **_of(due.claim),
        "claimed_due_ms": due.claim.due_at_ms,
        "at_ms": due.due_at_ms,
        "new_tries": due.tries,
        "new_memo": msgspec.json.encode(due.memo).decode(),
    }
    return connection.execute(_AGAIN, values).rowcount == 1


def put_off(connection: Connection, claim: Claim, *, due_at_ms: int) -> bool:
    """Give a task back as it was, due later; False when it is no longer held."""
    return connection.execute(_PUT_OFF, {**_of(claim), "at_ms": due_at_ms}).rowcount == 1


def take_away(connection: Connection, kind: TaskKind, subject: str, *, at_ms: int) -> None:
    """Make a task due later, if there is one, and have nothing written of what somebody is finding out."""
    connection.execute(_TAKE_AWAY, {"of_kind": kind.value, "of_subject": subject, "at_ms": at_ms})


def extend(connection: Connection, claims: Sequence[Claim], *, until_ms: int) -> list[Claim]:
    """Lengthen leases; returns those that are no longer held."""
    return [
        held
        for held in sorted(claims, key=lambda claim: (claim.kind, claim.subject))
        if connection.execute(_EXTEND, {**_of(held), "until_ms": until_ms}).rowcount != 1
    ]


def release(connection: Connection, claims: Sequence[Claim]) -> None:
    """Give held tasks back as they were, due when they were."""
    for held in claims:
        connection.execute(_RELEASE, _of(held))


def release_lapsed(connection: Connection, *, holder: str, now_ms: int) -> int:
    """Give back this holder's lapsed leases: after `extend`, those it is no longer at. Returns how many."""
    return connection.execute(_RELEASE_LAPSED, {"holder": holder, "now_ms": now_ms}).rowcount


def release_all(connection: Connection) -> int:
    """Give back every lease: only where it is certain that no other worker lives. Returns how many."""
    return connection.execute(_RELEASE_ALL).rowcount


def hurry(connection: Connection, kind: TaskKind, subject: str, *, at_ms: int) -> bool:
    """Make a task due at another time; False when there is none."""
    values = {"of_kind": kind.value, "of_subject": subject, "at_ms": at_ms}
    return connection.execute(_HURRY, values).rowcount == 1


def bring_forward(connection: Connection, kind: TaskKind, subject: str, *, at_ms: int) -> int | None:
    """Make a task due at `at_ms`, unless it is due before; one that is under way is then due once more.

    Returns:
        When it is due now; None when there is none.
    """
    found = connection.execute(_LOOK, {"of_kind": kind.value, "of_subject": subject}).one_or_none()
    if found is None:
        return None
    if found.leased_by is None and found.due_at_ms <= at_ms:
        due_at_ms: int = found.due_at_ms
        return due_at_ms
    hurry(connection, kind, subject, at_ms=at_ms)
    return at_ms


def shift_due(connection: Connection, *, delta_ms: int, at_ms: int) -> int:
    """Move due times along with a wall clock that jumped. Returns how many moved.

    Forward, what was due before `at_ms` was dated by the old clock and moves; what is dated later is either
    new, or so far away that it comes early by the jump. Back, what lies in the future moves: what is new
    among it comes early, which a poll, a try and a delivery can bear.
    """
    statement = _SHIFT_FORWARD if delta_ms > 0 else _SHIFT_BACK
    return connection.execute(statement, {"delta_ms": delta_ms, "at_ms": at_ms}).rowcount


def drop(connection: Connection, subject: str, kinds: Sequence[TaskKind]) -> None:
    """Remove a subject's tasks of these kinds, whoever holds them."""
    connection.execute(_DROP, {"of_subject": subject, "kinds": [kind.value for kind in kinds]})


def next_due_ms(connection: Connection, kinds: Sequence[TaskKind]) -> int | None:
    """When the next task that nobody holds is due; None when there is none."""
    found = [connection.execute(_NEXT, {"of_kind": kind.value}).scalar() for kind in kinds]
    return min((due_at_ms for due_at_ms in found if due_at_ms is not None), default=None)


def _of(claim: Claim) -> dict[str, object]:
    return {"of_kind": claim.kind.value, "of_subject": claim.subject, "seen": claim.version}
