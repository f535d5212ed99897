"""Statements on submits that wait for their turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection, and_, bindparam, func, insert, literal_column, select, update

from gateway.jobs.job import Job
from gateway.jobs.transitions import TaskKind
from gateway.routing.queue import Waiting, turns
from gateway.storage import tables
from gateway.storage.tables import tasks
from gateway.storage.tasks import FREE, VERSIONS
from gateway.storage.upserts import if_absent

_SERVED = ""
"""Nobody's name: the owner of the turn that was served last."""

_TURN = select(tables.turns.c.turn).where(tables.turns.c.owner == bindparam("of_owner"))
_TAKE = _TURN.with_for_update()
_MAKE = if_absent(tables.turns)
_LAST = update(tables.turns).where(tables.turns.c.owner == bindparam("of_owner"))
_SET = _LAST.values(turn=bindparam("new_turn"))
_SERVE = _LAST.where(tables.turns.c.turn < bindparam("new_turn")).values(turn=bindparam("new_turn"))
_ENTER = insert(tasks)

_WAITS = and_(tasks.c.room.is_not(None), tasks.c.due_at_ms <= bindparam("now_ms"), FREE)
_FIRST_ROOM = select(func.min(tasks.c.room).label("room")).where(tasks.c.room.is_not(None))
_rooms = _FIRST_ROOM.cte("rooms", recursive=True)
_NEXT_ROOM = (
    select(func.min(tasks.c.room)).where(tasks.c.room.is_not(None), tasks.c.room > _rooms.c.room)
).scalar_subquery()
# From one room to the next by the index: rooms are few, whatever waits in them.
_ROOMS = select(_rooms.union_all(select(_NEXT_ROOM).where(_rooms.c.room.is_not(None))).c.room)
_HEADS = (
    select(tasks.c.subject, tasks.c.owner, tasks.c.room, tasks.c.turn)
    .where(tasks.c.room == bindparam("of_room"), _WAITS)
    .order_by(tasks.c.turn)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_MOST_URGENT = (
    select(tasks.c.subject, tasks.c.owner, tasks.c.room, tasks.c.turn)
    .where(tasks.c.owner == bindparam("of_owner"), tasks.c.room == bindparam("of_room"), _WAITS)
    .order_by(tasks.c.rank.desc(), tasks.c.turn)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_AT = and_(tasks.c.kind == TaskKind.SUBMIT.value, tasks.c.subject == bindparam("of_subject"))
_MOVE = update(tasks).where(_AT).values(turn=bindparam("new_turn"))
_HOUSE = update(tasks).where(_AT).values(room=bindparam("new_room"))
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
    served = connection.execute(_TURN, {"of_owner": _SERVED}).scalar_one()
    by_owner: dict[str, list[Entry]] = {}
    for entry in entries:
        by_owner.setdefault(entry.owner, []).append(entry)
    rows: list[dict[str, object]] = []
    for owner in sorted(by_owner):  # locks are taken in one order
        last = connection.execute(_TAKE, {"of_owner": owner}).scalar_one_or_none()
        if last is None:
            connection.execute(_MAKE[connection.dialect.name], {"owner": owner, "turn": 0})
            last = connection.execute(_TAKE, {"of_owner": owner}).scalar_one()
        numbers = turns(len(by_owner[owner]), served=served, last=last)
        connection.execute(_SET, {"of_owner": owner, "new_turn": numbers[-1]})
        rows += [_row(entry, turn) for entry, turn in zip(by_owner[owner], numbers, strict=True)]
    connection.execute(_ENTER, rows)


def enter_first(connection: Connection, entry: Entry) -> None:
    """Let a job wait that had its turn before: it is next.

    Raises:
        IntegrityError: it waits already.
    """
    served = connection.execute(_TURN, {"of_owner": _SERVED}).scalar_one()
    connection.execute(_ENTER, [_row(entry, served)])


def heads(connection: Connection, room: str, *, limit: int, now_ms: int, holder: str) -> list[Waiting]:
    """Read the next jobs of a room, and keep them from other workers until this transaction ends."""
    asked = {"of_room": room, "limit": limit, "now_ms": now_ms, "holder": holder}
    return [_waiting(row) for row in connection.execute(_HEADS, asked)]


def rooms(connection: Connection) -> list[str]:
    """Read every room that somebody waits in."""
    return [room for room in connection.execute(_ROOMS).scalars() if room is not None]


def most_urgent(
    connection: Connection, chosen: Sequence[Waiting], *, now_ms: int, holder: str
) -> list[Waiting]:
    """Let each owner's most urgent jobs take the turns of those that were chosen, room by room.

    Returns:
        As many jobs as were chosen, by turn; who was passed has the other's turn now.
    """
    groups: dict[tuple[str, str], list[Waiting]] = {}
    for one in chosen:
        groups.setdefault((one.owner, one.room), []).append(one)
    found: list[Waiting] = []
    for (owner, room), group in groups.items():
        asked = {"of_owner": owner, "of_room": room, "limit": len(group), "now_ms": now_ms, "holder": holder}
        urgent = [_waiting(row) for row in connection.execute(_MOST_URGENT, asked)]
        passed = [one for one in group if one.job_id not in {other.job_id for other in urgent}]
        passing = [one for one in urgent if one.job_id not in {other.job_id for other in group}]
        found += [one for one in group if one not in passed]
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


def _waiting(row: Any) -> Waiting:
    return Waiting(job_id=row.subject, owner=row.owner, room=row.room, turn=row.turn)


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
