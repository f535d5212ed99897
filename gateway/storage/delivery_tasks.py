"""Statements on tasks to deliver: lane by lane, and sent once more when somebody asks for that."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from gateway.jobs.transitions import TaskKind
from gateway.storage.tables import DELIVERS, tasks, webhook_endpoints
from gateway.storage.tasks import FREE, VERSIONS, Memo, free, read_memo

_INSERT = insert(tasks)
# The very text of the partial index, without which SQLite would not use it.
_DELIVERS: ColumnElement[bool] = literal_column(DELIVERS)
_FIRST_LANE = select(func.min(tasks.c.lane).label("lane")).where(_DELIVERS)
_lanes = _FIRST_LANE.cte("lanes", recursive=True)
_NEXT_LANE = select(func.min(tasks.c.lane)).where(_DELIVERS, tasks.c.lane > _lanes.c.lane).scalar_subquery()
# From one lane to the next by the index, however many deliveries wait in them.
_found = _lanes.union_all(select(_NEXT_LANE).where(_lanes.c.lane.is_not(None)))
_LANES = select(
    _found.c.lane,
    select(func.min(tasks.c.due_at_ms))
    .where(_DELIVERS, tasks.c.lane == _found.c.lane, FREE)
    .scalar_subquery()
    .label("due_at_ms"),
    webhook_endpoints.c.owner,
    webhook_endpoints.c.state,
).select_from(_found.outerjoin(webhook_endpoints, webhook_endpoints.c.id == _found.c.lane))
_later = tasks.alias("later")
_IN_LANE = (
    select(
        tasks.c.subject,
        # Not by reading on: what is not due is not to be locked.
        select(func.min(_later.c.due_at_ms))
        .where(
            _DELIVERS,
            _later.c.lane == bindparam("of_lane"),
            _later.c.due_at_ms > bindparam("now_ms"),
            free(_later),
        )
        .scalar_subquery()
        .label("later_ms"),
    )
    .where(_DELIVERS, tasks.c.lane == bindparam("of_lane"), tasks.c.due_at_ms <= bindparam("now_ms"), FREE)
    .order_by(tasks.c.due_at_ms)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_DUE_OF = select(tasks.c.subject, tasks.c.due_at_ms, tasks.c.memo).where(
    tasks.c.kind == TaskKind.DELIVER.value, tasks.c.subject.in_(bindparam("ids", expanding=True))
)
_ASKED = (
    select(tasks.c.due_at_ms, tasks.c.leased_by, tasks.c.tries, tasks.c.memo)
    .where(_DELIVERS, tasks.c.subject == bindparam("of_subject"))
    .with_for_update()
)
_LATE = (
    select(tasks.c.subject, tasks.c.due_at_ms, tasks.c.tries, tasks.c.memo)
    .where(
        _DELIVERS,
        tasks.c.lane == bindparam("of_lane"),
        tasks.c.due_at_ms > bindparam("now_ms"),
        tasks.c.due_at_ms <= bindparam("before_ms"),
        or_(tasks.c.due_at_ms < bindparam("before_ms"), tasks.c.subject < bindparam("before")),
        tasks.c.subject >= bindparam("first"),
        tasks.c.subject <= bindparam("last"),
        tasks.c.leased_by.is_(None),
        tasks.c.tries > 0,
    )
    .order_by(tasks.c.due_at_ms.desc(), tasks.c.subject.desc())
    .limit(bindparam("limit"))
    .with_for_update()
)
_SEND_NOW = (
    update(tasks)
    .where(tasks.c.kind == TaskKind.DELIVER.value, tasks.c.subject == bindparam("of_subject"))
    .values(due_at_ms=bindparam("at_ms"), memo=bindparam("new_memo"))
)


class NewDelivery(Struct, frozen=True, kw_only=True):
    """A delivery that is due."""

    subject: str
    lane: str
    due_at_ms: int
    memo: Memo = Memo()


def insert_deliveries(connection: Connection, due: Sequence[NewDelivery]) -> None:
    """Store new tasks to deliver, each in its lane.

    Raises:
        IntegrityError: one of them is due already.
    """
    connection.execute(
        _INSERT,
        [
            {
                "kind": TaskKind.DELIVER.value,
                "subject": one.subject,
                "due_at_ms": one.due_at_ms,
                "version": one.due_at_ms % VERSIONS,
                "tries": 0,
                "memo": msgspec.json.encode(one.memo).decode(),
                "lane": one.lane,
            }
            for one in due
        ],
    )


class DueLane(Struct, frozen=True):
    """A lane with deliveries that could be claimed, now or later."""

    lane: str
    endpoint_owner: str | None
    """None: it is no endpoint's, or of one that was deleted."""
    endpoint_enabled: bool
    """False for a job's own receiver, too."""
    due_at_ms: int


def lanes(connection: Connection, *, now_ms: int, holder: str) -> list[DueLane]:
    """Read when the next delivery of each lane is due that could be claimed, now or later."""
    found = connection.execute(_LANES, {"now_ms": now_ms, "holder": holder})
    return [
        DueLane(row.lane, row.owner, row.state == "enabled", row.due_at_ms)
        for row in found
        if row.lane is not None and row.due_at_ms is not None
    ]


class Head(Struct, frozen=True):
    """The first deliveries of a lane."""

    due: list[str]
    later_ms: int | None
    """When the first is due that is not due yet; None: there is none, or nothing that is due."""


def head_of(connection: Connection, lane: str, *, limit: int, now_ms: int, holder: str) -> Head:
    """Read a lane's deliveries that are due, and keep them from other workers until the transaction ends."""
    asked = {"of_lane": lane, "limit": limit, "now_ms": now_ms, "holder": holder}
    rows = connection.execute(_IN_LANE, asked).all()
    return Head([row.subject for row in rows], rows[0].later_ms if rows else None)


class Waits(Struct, frozen=True):
    """A delivery that is to be sent."""

    due_at_ms: int
    delivered_ms: int
    """When it was delivered before; 0: it was not."""


def due_of(connection: Connection, delivery_ids: Sequence[str]) -> dict[str, Waits]:
    """Read when deliveries are due; those that are settled are left out."""
    if not delivery_ids:
        return {}
    rows = connection.execute(_DUE_OF, {"ids": list(delivery_ids)})
    return {row.subject: Waits(row.due_at_ms, read_memo(row.subject, row.memo).delivered_ms) for row in rows}


def send_now(connection: Connection, delivery_id: str, *, at_ms: int) -> bool:
    """Make a delivery due now that waits; one that is under way, once more if that fails.

    Returns:
        False when it neither waits nor is under way.
    """
    row = connection.execute(_ASKED, {"of_subject": delivery_id}).one_or_none()
    if row is None:
        return False
    memo = read_memo(delivery_id, row.memo)
    if row.leased_by is not None:
        _make_due(connection, delivery_id, max(at_ms, row.due_at_ms + 1), replace(memo, once_more=True))
    elif row.due_at_ms > at_ms:
        _make_due(connection, delivery_id, at_ms, _asked(memo, row.tries, row.due_at_ms))
    return True


Place = tuple[int, str]
"""When a delivery is due, and its id."""
PAST_EVERY_PLACE: Place = (2**63 - 1, "")


def send_late_now(
    connection: Connection, lane: str, *, first: str, last: str, before: Place, at_ms: int, limit: int
) -> list[Place]:
    """Make due now what was tried before, and what nobody is at; the latest due first.

    What fails at once comes back to where it was, or later: whoever goes on `before` the last place does not
    find it again, and comes to an end.

    Args:
        connection: for writing.
        lane: of what.
        first: deliveries of this id and later ones.
        last: not later than this one.
        before: where those of the last call ended.
        at_ms: now; what is due is left alone.
        limit: most of them.

    Returns:
        Where each was.
    """
    before_ms, before_id = before
    asked = {
        "of_lane": lane,
        "first": first,
        "last": last,
        "now_ms": at_ms,
        "before_ms": before_ms,
        "before": before_id,
        "limit": limit,
    }
    rows = connection.execute(_LATE, asked).all()
    for row in rows:
        memo = read_memo(row.subject, row.memo)
        _make_due(connection, row.subject, at_ms, _asked(memo, row.tries, row.due_at_ms))
    return [(row.due_at_ms, row.subject) for row in rows]


def _asked(memo: Memo, tries: int, due_at_ms: int) -> Memo:
    """A try that is asked for does not count; the first, which is due at once, was not asked for."""
    return replace(memo, asked=True, meant_ms=memo.meant_ms or (due_at_ms if tries else 0))


def _make_due(connection: Connection, delivery_id: str, at_ms: int, memo: Memo) -> None:
    values = {"of_subject": delivery_id, "at_ms": at_ms, "new_memo": msgspec.json.encode(memo).decode()}
    connection.execute(_SEND_NOW, values)
