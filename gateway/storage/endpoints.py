"""Statements on webhook endpoints: an owner's receivers. Their secrets are sealed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from gateway.storage.tables import owners, webhook_endpoints

Signing = Literal["hmac", "ed25519"]
EndpointState = Literal["enabled", "disabled"]
Reason = Literal["gone", "failing", "requested"]


class Endpoint(Struct, frozen=True, kw_only=True):
    """An endpoint as stored."""

    id: str
    owner: str
    url: str
    events: str
    """Types separated by spaces."""
    description: str | None = None
    signing: Signing = "hmac"
    sealed_secret: str
    """Bound to its id, as the previous one is; what is in it, `signing` says."""
    public_key: str | None = None
    sealed_previous_secret: str | None = None
    """Lines of `<until, milliseconds> <secret>`, the latest first."""
    previous_until_ms: int | None = None
    """Until then the latest of them signs, too."""
    state: EndpointState = "enabled"
    disabled_reason: Reason | None = None
    disabled_at_ms: int | None = None
    failing_since_ms: int | None = None
    """The first failure since the last success."""
    failures: int = 0
    """On how many days there were some, each at least a day after the one counted before. A version before
    `failed_ms` counts each, up to three."""
    failed_ms: int | None = None
    """The one of them that was counted last."""
    version: int = 0
    """Raised by another URL and by an enable: a try sent before says nothing of it."""
    created_at_ms: int
    updated_at_ms: int
    """When its URL, events or description changed last."""

    @property
    def enabled(self) -> bool:
        """Whether it is sent to."""
        return self.state == "enabled"

    def wants(self, event_type: str) -> bool:
        """Whether it is to hear of events of that type."""
        return event_type in self.events.split()


WELL = {"failing_since_ms": None, "failures": 0, "failed_ms": None}
"""The columns of one whose last try did not fail, for `change`."""

_OF_ID = webhook_endpoints.c.id == bindparam("of_id")
_INSERT = insert(webhook_endpoints)
_BY_ID = select(webhook_endpoints).where(_OF_ID)
_LOCK = _BY_ID.with_for_update()
_BY_IDS = select(webhook_endpoints).where(webhook_endpoints.c.id.in_(bindparam("ids", expanding=True)))
_KEEP = (
    select(webhook_endpoints.c.id, webhook_endpoints.c.state)
    .where(webhook_endpoints.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(webhook_endpoints.c.id)
    .with_for_update(read=True)
)
_OF_OWNER = (
    select(webhook_endpoints)
    .where(webhook_endpoints.c.owner == bindparam("of_owner"))
    .order_by(webhook_endpoints.c.id)
)
_COUNT_OF = (
    select(func.count())
    .select_from(webhook_endpoints)
    .where(webhook_endpoints.c.owner == bindparam("of_owner"))
)
_PAGE = (
    select(webhook_endpoints)
    .where(webhook_endpoints.c.id < bindparam("before"))
    .order_by(webhook_endpoints.c.id.desc())
    .limit(bindparam("limit"))
)
_PAGE_OF = _PAGE.where(webhook_endpoints.c.owner == bindparam("of_owner"))
# Types stand between spaces.
_PROGRESS_HEARD = (
    select(webhook_endpoints.c.owner)
    .where(
        webhook_endpoints.c.owner.in_(bindparam("owners", expanding=True)),
        # Not by the index on the state: nearly all are enabled.
        func.coalesce(webhook_endpoints.c.state, "") == "enabled",
        (" " + webhook_endpoints.c.events + " ").contains(" job.progress "),
    )
    .distinct()
)
_DELETE = delete(webhook_endpoints).where(_OF_ID)
_WELL = (
    update(webhook_endpoints)
    .where(
        _OF_ID,
        webhook_endpoints.c.failing_since_ms.is_not(None),
        webhook_endpoints.c.version == bindparam("seen"),
    )
    .values(**WELL)
)
_CENSUS = select(webhook_endpoints.c.state, func.count()).group_by(webhook_endpoints.c.state)
_OWNER = select(owners.c.name).where(owners.c.name == bindparam("of_owner")).with_for_update()

PAST_EVERY_ID = "we_g"


def disabling(reason: Reason, at_ms: int) -> dict[str, object]:
    """Return the columns that disable an endpoint, for `change`."""
    return {"state": "disabled", "disabled_reason": reason, "disabled_at_ms": at_ms}


def insert_one(connection: Connection, endpoint: Endpoint) -> None:
    """Store an endpoint."""
    connection.execute(_INSERT, {name: getattr(endpoint, name) for name in Endpoint.__struct_fields__})


def lock_owner(connection: Connection, owner: str) -> bool:
    """Keep others from giving this owner endpoints until the transaction ends; False: nobody is called so."""
    return connection.execute(_OWNER, {"of_owner": owner}).one_or_none() is not None


def count_of(connection: Connection, owner: str) -> int:
    """How many endpoints an owner has."""
    return connection.execute(_COUNT_OF, {"of_owner": owner}).scalar_one()


def load(connection: Connection, endpoint_id: str, *, lock: bool = False) -> Endpoint | None:
    """Read an endpoint; locked, it stays as it is until the transaction ends."""
    row = connection.execute(_LOCK if lock else _BY_ID, {"of_id": endpoint_id}).mappings().one_or_none()
    return None if row is None else Endpoint(**row)


def load_many(connection: Connection, ids: Sequence[str]) -> dict[str, Endpoint]:
    """Read these endpoints, by id; unknown ids are left out."""
    if not ids:
        return {}
    rows = connection.execute(_BY_IDS, {"ids": list(ids)}).mappings()
    return {row["id"]: Endpoint(**row) for row in rows}


def keep_disabled(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these that were read without a lock are disabled, or deleted, and stay so.

    What is given up for them is there, for `recover` to find, before anybody can have enabled them: whoever
    does so waits until this transaction ends. Locked in one order, so that two cannot deadlock.
    """
    if not ids:
        return set()
    rows = connection.execute(_KEEP, {"ids": sorted(ids)})
    return set(ids) - {row.id for row in rows if row.state == "enabled"}


def load_of(connection: Connection, owner: str) -> list[Endpoint]:
    """Read an owner's endpoints, oldest first."""
    return [Endpoint(**row) for row in connection.execute(_OF_OWNER, {"of_owner": owner}).mappings()]


def page(connection: Connection, *, owner: str | None, before: str | None, limit: int) -> list[Endpoint]:
    """Read endpoints, newest first.

    Args:
        connection: for reading.
        owner: whose; None for everybody's.
        before: the id after which the page begins; None for the first page.
        limit: most of them.
    """
    asked: dict[str, object] = {"before": before or PAST_EVERY_ID, "limit": limit}
    if owner is not None:
        asked["of_owner"] = owner
    return [
        Endpoint(**row) for row in connection.execute(_PAGE if owner is None else _PAGE_OF, asked).mappings()
    ]


def progress_heard(connection: Connection, of_owners: Sequence[str]) -> set[str]:
    """Which of these owners have an enabled endpoint that hears of jobs' progress."""
    return set(connection.execute(_PROGRESS_HEARD, {"owners": list(of_owners)}).scalars())


def change(connection: Connection, endpoint_id: str, values: Mapping[str, object]) -> None:
    """Write these columns of an endpoint that was locked before."""
    connection.execute(update(webhook_endpoints).where(_OF_ID).values(dict(values)), {"of_id": endpoint_id})


def remove(connection: Connection, endpoint_id: str) -> None:
    """Forget an endpoint; its deliveries stay."""
    connection.execute(_DELETE, {"of_id": endpoint_id})


def well(connection: Connection, endpoint_id: str, *, version: int) -> None:
    """Note that it took something, if it is still at that version."""
    connection.execute(_WELL, {"of_id": endpoint_id, "seen": version})


def count_by_state(connection: Connection) -> dict[str, int]:
    """Count all endpoints by state."""
    return {str(row[0]): int(row[1]) for row in connection.execute(_CENSUS)}
