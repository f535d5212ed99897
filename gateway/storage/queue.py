"""Statements on submits that wait for their turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection, and_, bindparam, func, insert, literal_column, select, union_all, update

from gateway.jobs.job import RANKS, Job
from gateway.jobs.transitions import TaskKind
from gateway.routing.account import Account
from gateway.routing.queue import (
    Chosen,
    Waiting,
    accounts_of,
    next_turn,
    sharing,
    turn_before,
    turns,
)
from gateway.storage import tables
from gateway.storage.tables import tasks
from gateway.storage.tasks import FREE, VERSIONS
from gateway.storage.upserts import if_absent

_SERVED = ""
"""Nobody's name: whose row has the highest turn that was served."""

_TURN = select(tables.turns.c.turn).where(tables.turns.c.owner == bindparam("of_owner"))
# Of two processes that give turns to one owner's jobs, the second sees what the first gave.
_LOCK = _TURN.with_for_update()
_MAKE = if_absent(tables.turns)
_SERVE = (
    update(tables.turns)
    .where(tables.turns.c.owner == bindparam("of_owner"), tables.turns.c.turn < bindparam("new_turn"))
    .values(turn=bindparam("new_turn"))
)
_ENTER = insert(tasks)

_WAITS = and_(tasks.c.room.is_not(None), tasks.c.due_at_ms <= bindparam("now_ms"), FREE)
_FIRST_ROOM = select(func.min(tasks.c.room).label("room")).where(tasks.c.room.is_not(None))
_rooms = _FIRST_ROOM.cte("rooms", recursive=True)
_NEXT_ROOM = (
    select(func.min(tasks.c.room)).where(tasks.c.room.is_not(None), tasks.c.room > _rooms.c.room)
).scalar_subquery()
# From one room to the next by the index: rooms are few, whatever waits in them.
_found = _rooms.union_all(select(_NEXT_ROOM).where(_rooms.c.room.is_not(None)))
_ROOMS = select(_found.c.room).where(_found.c.room.is_not(None))
_LOWEST = select(
    _found.c.room,
    select(func.min(tasks.c.turn))
    .where(tasks.c.room.is_not(None), tasks.c.room == _found.c.room, tasks.c.leased_by.is_(None))
    .scalar_subquery()
    .label("turn"),
)
_LASTS = union_all(
    *(
        select(func.max(tasks.c.turn).label("turn")).where(
            tasks.c.owner == bindparam("of_owner"),
            tasks.c.room.is_not(None),
            tasks.c.room == bindparam("of_room"),
            tasks.c.rank == rank,
            tasks.c.leased_by.is_(None),
        )
        for rank in sorted(RANKS.values())
    )
)
_WAITING = tasks.c.subject, tasks.c.owner, tasks.c.room, tasks.c.turn, tasks.c.rank
_HEADS = (
    select(*_WAITING)
    .where(tasks.c.room == bindparam("of_room"), _WAITS)
    .order_by(tasks.c.turn)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_MOST_URGENT = (
    select(*_WAITING)
    .where(tasks.c.owner == bindparam("of_owner"), tasks.c.room == bindparam("of_room"), _WAITS)
    .order_by(tasks.c.rank.desc(), tasks.c.turn)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_AT = and_(tasks.c.kind == TaskKind.SUBMIT.value, tasks.c.subject == bindparam("of_subject"))
_MOVE = update(tasks).where(_AT).values(turn=bindparam("new_turn"))
_HOUSE = update(tasks).where(_AT).values(room=bindparam("new_room"))
_LEAVE = update(tasks).where(_AT).values(room=None)
# What a version before the queue stored has no owner here, and so no turn.
_RETURN = update(tasks).where(_AT, tasks.c.owner.is_not(None)).values(room=bindparam("new_room"))
# The very texts of the partial indexes, without which SQLite would not use them.
_BEGINNING = select(*_WAITING).where(
    literal_column("room IS NOT NULL AND leased_by IS NOT NULL"),
    tasks.c.leased_until_ms >= bindparam("now_ms"),
)
_BEGUN = (
    select(tasks.c.subject)
    .where(literal_column("kind = 'submit' AND room IS NULL"), tasks.c.due_at_ms <= bindparam("now_ms"), FREE)
    .order_by(tasks.c.due_at_ms)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_HOUSED = (
    select(tasks.c.subject, tasks.c.room)
    .where(tasks.c.room.is_not(None), tasks.c.subject > bindparam("after"))
    .order_by(tasks.c.subject)
    .limit(bindparam("limit"))
)
_NEXT_DUE = (
    select(tasks.c.due_at_ms)
    .where(
        literal_column("kind = 'submit'"),
        tasks.c.leased_until_ms.is_(None),
        tasks.c.due_at_ms > bindparam("now_ms"),
    )
    .order_by(tasks.c.due_at_ms)
    .limit(1)
)


# Ids sort by their age. The first of the key's order that waits: those before it are begun, and few.
_OLDEST = select(tables.jobs.c.created_at_ms).where(
    tables.jobs.c.id
    == select(tasks.c.subject)
    .where(tasks.c.kind == TaskKind.SUBMIT.value, tasks.c.room.is_not(None))
    .order_by(tasks.c.subject)
    .limit(1)
    .scalar_subquery()
)


class Entry(Struct, frozen=True, kw_only=True):
    """A job that begins to wait."""

    job_id: str
    owner: str
    room: str
    rank: int
    due_at_ms: int


def entry_of(job: Job, due_at_ms: int) -> Entry:
    """A job's own place in the queue."""
    return Entry(job_id=job.id, owner=job.owner, room=job.room, rank=job.rank, due_at_ms=due_at_ms)


def enter(connection: Connection, entries: Sequence[Entry]) -> None:
    """Let jobs wait, each owner's in the order given.

    Raises:
        IntegrityError: a job waits already.
    """
    places: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        places.setdefault((entry.owner, entry.room), []).append(entry)
    for owner in sorted({owner for owner, _ in places}):  # locks are taken in one order
        if connection.execute(_LOCK, {"of_owner": owner}).scalar_one_or_none() is None:
            connection.execute(_MAKE[connection.dialect.name], {"owner": owner, "turn": 0})
            connection.execute(_LOCK, {"of_owner": owner})
    served, lowest = _served(connection), _lowest(connection)
    given: set[str] = set()
    for (owner, room), entered in places.items():
        given.add(room)
        last = _last(connection, owner, sharing(room, {*lowest, *given}))
        numbers = turns(len(entered), following=next_turn(room, lowest, served=served), last=last)
        rows = [_row(entry, turn) for entry, turn in zip(entered, numbers, strict=True)]
        connection.execute(_ENTER, rows)


def enter_first(connection: Connection, entry: Entry) -> None:
    """Let a job wait that had its turn before: it is next.

    Raises:
        IntegrityError: it waits already.
    """
    turn = turn_before(entry.room, _lowest(connection), served=_served(connection))
    connection.execute(_ENTER, [_row(entry, turn)])


def leave(connection: Connection, job_id: str) -> None:
    """Take a job out of the queue whose submission begins; its task stays, for whoever may have to close it.

    What was begun is looked at by the next worker whatever openings there are: it may have the last of them.
    """
    connection.execute(_LEAVE, {"of_subject": job_id})


def put_back(connection: Connection, job: Job) -> None:
    """Let a job wait where it waited."""
    connection.execute(_RETURN, {"of_subject": job.id, "new_room": job.room})


def begun(connection: Connection, *, limit: int, now_ms: int, holder: str) -> list[str]:
    """Read the jobs whose submission was begun and left behind, and keep them from other workers."""
    asked = {"limit": limit, "now_ms": now_ms, "holder": holder}
    return list(connection.execute(_BEGUN, asked).scalars())


def beginning(connection: Connection, *, now_ms: int) -> list[Waiting]:
    """Read the jobs that somebody has claimed and whose submission is not begun yet."""
    return [_waiting(row) for row in connection.execute(_BEGINNING, {"now_ms": now_ms})]


def heads(connection: Connection, room: str, *, limit: int, now_ms: int, holder: str) -> list[Waiting]:
    """Read the next jobs of a room, and keep them from other workers until this transaction ends."""
    asked = {"of_room": room, "limit": limit, "now_ms": now_ms, "holder": holder}
    return [_waiting(row) for row in connection.execute(_HEADS, asked)]


def rooms(connection: Connection) -> list[str]:
    """Read every room that somebody waits in, claimed or not."""
    return list(connection.execute(_ROOMS).scalars())


def most_urgent(
    connection: Connection, chosen: Sequence[Chosen], rooms: Sequence[str], *, now_ms: int, holder: str
) -> list[Waiting]:
    """Let each owner's most urgent jobs take the turns of those that were chosen.

    Args:
        connection: a transaction's.
        chosen: see `routing.queue.choose`.
        rooms: every room; in those that have the same opening a more urgent job may wait.
        now_ms: the instant.
        holder: who claims.

    Returns:
        As many jobs as were chosen, by turn; who was passed has the other's turn now.
    """
    groups: dict[tuple[str, tuple[Account, ...]], list[Waiting]] = {}
    for one in chosen:
        groups.setdefault((one.waiting.owner, one.at), []).append(one.waiting)
    found: list[Waiting] = []
    taken = {one.waiting.job_id for one in chosen}
    for (owner, at), group in groups.items():
        own = {one.job_id for one in group}
        near = [room for room in rooms if set(at).intersection(accounts_of(room))] or [group[0].room]
        asked = {"of_owner": owner, "limit": len(taken), "now_ms": now_ms, "holder": holder}
        waiting = [
            _waiting(row)
            for room in near
            for row in connection.execute(_MOST_URGENT, {**asked, "of_room": room})
            if row.subject in own or row.subject not in taken
        ]
        urgent = sorted(waiting, key=lambda one: (-one.rank, one.turn, one.job_id))[: len(group)]
        passing = [one for one in urgent if one.job_id not in own]
        passed = [one for one in group if one not in urgent]
        taken.update(one.job_id for one in passing)
        found += [one for one in group if one in urgent]
        for behind, before in zip(passed, passing, strict=False):
            connection.execute(_MOVE, {"of_subject": behind.job_id, "new_turn": before.turn})
            connection.execute(_MOVE, {"of_subject": before.job_id, "new_turn": behind.turn})
            found.append(replace(before, turn=behind.turn))
        found += passed[len(passing) :]
    return sorted(found, key=lambda one: one.turn)


def serve(connection: Connection, turn: int) -> None:
    """Note the turn that is being served."""
    connection.execute(_SERVE, {"of_owner": _SERVED, "new_turn": turn})


def housed(connection: Connection, *, after: str, limit: int) -> list[tuple[str, str]]:
    """Read who waits where, (job, room), in the order of their ids after this one."""
    found = connection.execute(_HOUSED, {"after": after, "limit": limit})
    return [(row.subject, row.room) for row in found]


def move(connection: Connection, job_id: str, room: str) -> None:
    """Let a waiting job wait in another room."""
    connection.execute(_HOUSE, {"of_subject": job_id, "new_room": room})


def next_due_ms(connection: Connection, *, now_ms: int) -> int | None:
    """When the next submit is due that is not due yet; None when there is none."""
    found: int | None = connection.execute(_NEXT_DUE, {"now_ms": now_ms}).scalar()
    return found


def _served(connection: Connection) -> int:
    found: int = connection.execute(_TURN, {"of_owner": _SERVED}).scalar_one()
    return found


def _lowest(connection: Connection) -> dict[str, int]:
    """Read the lowest turn that waits in each room, of those that nobody has claimed."""
    return {row.room: row.turn for row in connection.execute(_LOWEST) if row.turn is not None}


def _last(connection: Connection, owner: str, rooms: Iterable[str]) -> int | None:
    """Return the last turn of an owner's jobs that wait in these rooms; None: none does."""
    found = (
        turn
        for room in rooms
        for turn in connection.execute(_LASTS, {"of_owner": owner, "of_room": room}).scalars()
    )
    return max((turn for turn in found if turn is not None), default=None)


def _waiting(row: Any) -> Waiting:
    return Waiting(job_id=row.subject, owner=row.owner, room=row.room, turn=row.turn, rank=row.rank)


def _row(entry: Entry, turn: int) -> dict[str, object]:
    return {
        "kind": TaskKind.SUBMIT.value,
        "subject": entry.job_id,
        "due_at_ms": entry.due_at_ms,
        "version": entry.due_at_ms % VERSIONS,
        "tries": 0,
        "memo": "{}",
        "owner": entry.owner,
        "room": entry.room,
        "turn": turn,
        "rank": entry.rank,
    }


def oldest_ms(connection: Connection) -> int | None:
    """Tell when the oldest job was accepted that waits to be submitted; None when none waits."""
    return connection.execute(_OLDEST).scalar_one_or_none()
