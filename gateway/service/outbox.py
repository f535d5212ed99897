"""What the worker tells receivers: deliveries claimed lane by lane, and what came of each try."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from sqlalchemy import Connection

from gateway.jobs.transitions import TaskKind
from gateway.service.leases import Leases
from gateway.storage import deliveries as delivery_rows
from gateway.storage import endpoints as endpoint_rows
from gateway.storage import keys as key_rows
from gateway.storage import tasks as task_rows
from gateway.storage.batching import Batched
from gateway.storage.deliveries import Delivery, DeliveryAttempt
from gateway.storage.endpoints import Endpoint, Reason
from gateway.storage.tasks import Claim, Due
from gateway.webhooks.endurance import disabled_for
from gateway.webhooks.outcome import Outcome

DELIVERY_KINDS = (TaskKind.DELIVER,)
LOGGED_AT_ONCE = 256
"""More tries than can end while a transaction is under way, so that none waits for a second one."""


class DeliveryTask(Struct, frozen=True):
    """A claimed delivery, with its owner's sealed secret."""

    claim: Claim
    delivery: Delivery
    owner_sealed_secret: str | None
    endpoint: Endpoint | None = None
    """None: it goes to the job's own receiver."""
    lane: str = ""


class Kept(Struct, frozen=True):
    """Whether a try was logged, and what followed for its endpoint."""

    held: bool
    """False when the lease was lost, and nothing was written."""
    disabled: Reason | None = None


class _Result(Struct, frozen=True, kw_only=True):
    """What came of one claimed delivery; see `Outbox.delivered`."""

    claim: Claim
    tried: DeliveryAttempt
    state: str | None
    due: Due | None
    endpoint_id: str | None


RoomOf = Callable[[str, int], int]
"""How many more deliveries of a lane may be taken, when so many may be of all."""

NO_LIMIT = 1_000_000


def _endless(_lane: str, left: int) -> int:
    return left


class Outbox:
    """Leases deliveries to one worker.

    Args:
        leases: the worker's.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._database = leases.database
        self._clock = leases.clock
        self._log = Batched(self._log_batch, limit=LOGGED_AT_ONCE)

    async def claim(self, limit: int, room: RoomOf = _endless) -> list[DeliveryTask]:
        """Lease due deliveries, the longest due lane first.

        What is for an endpoint that is disabled, or deleted, is given up instead: its bytes are kept.

        Args:
            limit: most of them.
            room: how many more of a lane may be taken, when so many may be of all.
        """
        now_ms = self._clock.now_ms()

        def operation(connection: Connection) -> list[DeliveryTask]:
            found = self._due_deliveries(connection, limit, room, now_ms)
            if not found:
                return []
            claims = task_rows.claim_named(
                connection,
                {TaskKind.DELIVER.value: list(found)},
                now_ms=now_ms,
                until_ms=self._leases.until_ms(now_ms),
                holder=self._leases.holder,
            )
            rows = delivery_rows.load_many(connection, [claim.subject for claim in claims])
            owners = {row.owner for row in rows.values() if row.endpoint_id is None}
            secrets = {owner: key_rows.owner_secret(connection, owner) for owner in owners}
            wanted = {row.endpoint_id for row in rows.values() if row.endpoint_id is not None}
            endpoints = endpoint_rows.load_many(connection, sorted(wanted))
            tasks: list[DeliveryTask] = []
            for claim in claims:
                row = rows.get(claim.subject)
                if row is None:
                    continue
                endpoint = endpoints.get(row.endpoint_id or "")
                if row.endpoint_id is not None and (endpoint is None or not endpoint.enabled):
                    task_rows.finish(connection, claim)
                    delivery_rows.settle(connection, [(row.id, "given_up", now_ms)])
                    continue
                secret = secrets.get(row.owner)
                tasks.append(DeliveryTask(claim, row, secret, endpoint, found[claim.subject]))
            return tasks

        return await self._database.write(operation)

    def _due_deliveries(
        self, connection: Connection, limit: int, room: RoomOf, now_ms: int
    ) -> dict[str, str]:
        """Read what is to be claimed, with its lane."""
        due = task_rows.lanes(connection, now_ms=now_ms, holder=self._leases.holder)
        found: dict[str, str] = {}
        for lane, at_ms in sorted(due.items(), key=lambda one: one[1]):
            left = limit - len(found)
            most = min(room(lane, left), left)
            if at_ms > now_ms or left <= 0:
                break
            if most > 0:
                subjects = task_rows.waiting_in(
                    connection, lane, limit=most, now_ms=now_ms, holder=self._leases.holder
                )
                found |= dict.fromkeys(subjects, lane)
        return found

    async def next_due_ms(self, room: RoomOf = _endless) -> int | None:
        """When the next delivery may be claimed of a lane that has room for it; None: there is none."""
        now_ms = self._clock.now_ms()
        due = await self._database.read(
            lambda connection: task_rows.lanes(connection, now_ms=now_ms, holder=self._leases.holder)
        )
        return min((at_ms for lane, at_ms in due.items() if room(lane, NO_LIMIT) > 0), default=None)

    async def delivered(
        self,
        claim: Claim,
        tried: DeliveryAttempt,
        *,
        state: str | None,
        due: Due | None,
        endpoint_id: str | None = None,
    ) -> Kept:
        """Log a try, and settle the delivery or make it due again; its endpoint is judged by it.

        Tries that end together share a transaction. May be said again after `OutcomeUnknown`: a try that is
        there is not stored twice.

        Args:
            claim: the task.
            tried: what came of it.
            state: how the delivery is settled; None when it is not.
            due: when it is tried again; None when it is settled.
            endpoint_id: whose it is; None for a job's own receiver.
        """
        return await self._log(
            _Result(claim=claim, tried=tried, state=state, due=due, endpoint_id=endpoint_id)
        )

    async def _log_batch(self, batch: list[_Result]) -> list[Kept]:
        return await self._database.write(lambda connection: _log_all(connection, batch))


def _log_all(connection: Connection, batch: Sequence[_Result]) -> list[Kept]:
    """Write what came of these tries, if their tasks are still held."""
    held = task_rows.which_held(connection, TaskKind.DELIVER, [one.claim for one in batch])
    kept = [one for one, ours in zip(batch, held, strict=True) if ours]
    task_rows.finish_many(
        connection, TaskKind.DELIVER, [one.claim.subject for one in kept if one.due is None]
    )
    for one in kept:
        if one.due is not None:
            task_rows.again(connection, one.due)
    delivery_rows.add_tries(connection, [one.tried for one in kept])
    delivery_rows.settle(
        connection,
        [(one.claim.subject, one.state, one.tried.at_ms) for one in kept if one.state is not None],
    )
    reasons = _judge_all(connection, kept)
    # The others are somebody else's, unless these very results were stored and the answer lost.
    lost = [one for one, ours in zip(batch, held, strict=True) if not ours]
    stored = delivery_rows.load_tries(connection, [one.claim.subject for one in lost])
    return [
        Kept(True, reasons.get(one.claim.subject))
        if ours
        else Kept(True, _disabled_by(connection, one.endpoint_id, one.tried))
        if one.tried in stored
        else Kept(False)
        for one, ours in zip(batch, held, strict=True)
    ]


def _judge_all(connection: Connection, kept: Sequence[_Result]) -> dict[str, Reason]:
    """Judge endpoints by what they answered, one after the other in one order; why some are disabled by it.

    Returns:
        The reasons, by the delivery that was the last straw.
    """
    by_endpoint: dict[str, list[DeliveryAttempt]] = {}
    for one in kept:
        if one.endpoint_id is not None:
            by_endpoint.setdefault(one.endpoint_id, []).append(one.tried)
    reasons: dict[str, Reason] = {}
    for endpoint_id, tries in sorted(by_endpoint.items()):
        # Of successes in a row one says it all.
        for first, tried in zip((None, *tries), tries, strict=False):
            if first is not None and first.outcome == tried.outcome == Outcome.DELIVERED:
                continue
            reason = _judge(connection, endpoint_id, tried)
            if reason is not None:
                reasons[tried.delivery_id] = reason
    return reasons


def _judge(connection: Connection, endpoint_id: str, tried: DeliveryAttempt) -> Reason | None:
    """Note on an endpoint what a try says of it; why it is disabled by it, if it is."""
    if tried.outcome == Outcome.DELIVERED:
        endpoint_rows.well(connection, endpoint_id)
        return None
    endpoint = endpoint_rows.load(connection, endpoint_id, lock=True)
    if endpoint is None or not endpoint.enabled:
        return None
    since_ms = endpoint.failing_since_ms
    reason = disabled_for(tried.outcome, failing_since_ms=since_ms, at_ms=tried.at_ms)
    changes: dict[str, object] = {} if since_ms is not None else {"failing_since_ms": tried.at_ms}
    if reason is not None:
        changes |= endpoint_rows.disabling(reason, tried.at_ms)
    if changes:
        endpoint_rows.change(connection, endpoint_id, changes)
    return reason


def _disabled_by(connection: Connection, endpoint_id: str | None, tried: DeliveryAttempt) -> Reason | None:
    """Why this try, whose record stands, disabled its endpoint; None when it did not."""
    endpoint = None if endpoint_id is None else endpoint_rows.load(connection, endpoint_id)
    return None if endpoint is None or endpoint.disabled_at_ms != tried.at_ms else endpoint.disabled_reason
