"""What the worker tells receivers: deliveries claimed lane by lane, and what came of each try."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from gateway.jobs.transitions import TaskKind
from gateway.service.leases import Leases
from gateway.storage import deliveries as delivery_rows
from gateway.storage import delivery_tasks as delivery_task_rows
from gateway.storage import endpoints as endpoint_rows
from gateway.storage import jobs as job_rows
from gateway.storage import tasks as task_rows
from gateway.storage.batching import Batched
from gateway.storage.deliveries import Delivery, DeliveryAttempt
from gateway.storage.endpoints import Endpoint, Reason
from gateway.storage.tasks import Claim, Due, Held
from gateway.webhooks.endurance import Failing, disabled_for, failing
from gateway.webhooks.lanes import WaitingLane, owner_of
from gateway.webhooks.outcome import Outcome

DELIVERY_KINDS = (TaskKind.DELIVER,)
LOGGED_AT_ONCE = 256
"""More tries than can end while a transaction is under way, so that none waits for a second one."""


class DeliveryTask(Struct, frozen=True):
    """A claimed delivery, with its owner's sealed secret."""

    claim: Claim
    delivery: Delivery
    owner_sealed_secret: str | None
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
    version: int
    elsewhere: Due | None


class _Judged(Struct, frozen=True):
    """What a try says of its endpoint."""

    disabled: Reason | None = None
    outdated: bool = False
    """It was of where the endpoint was before: it says nothing."""


Deal = Callable[[Sequence[WaitingLane], int], Mapping[str, int]]
"""How many deliveries of each lane may be taken, when so many may be of all."""
MayTake = Callable[[str, str], bool]
"""Whether one more may be taken of a lane and its owner."""


def _all(waiting: Sequence[WaitingLane], limit: int) -> dict[str, int]:
    return {one.lane: limit for one in sorted(waiting, key=lambda one: one.due_at_ms)}


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
        self._progress = Batched(self._progress_batch, limit=LOGGED_AT_ONCE)
        self._endpoints = Batched(self._load_batch, limit=LOGGED_AT_ONCE)
        self._left: list[WaitingLane] | None = None

    async def claim(self, limit: int, deal: Deal = _all) -> list[DeliveryTask]:
        """Lease due deliveries.

        What is for an endpoint that is disabled, or deleted, is given up instead: its bytes are kept. What
        waits after that is known by then, for `next_due_ms`, which is asked next.

        Args:
            limit: most of them.
            deal: how many of each lane.
        """
        now_ms = self._clock.now_ms()

        def operation(connection: Connection) -> tuple[list[DeliveryTask], list[WaitingLane]]:
            waiting = self._waiting(connection, now_ms)
            found, left = self._due_deliveries(connection, waiting, limit, deal, now_ms)
            if not found:
                return [], left
            claims = task_rows.claim_named(
                connection,
                {TaskKind.DELIVER.value: list(found)},
                now_ms=now_ms,
                until_ms=self._leases.until_ms(now_ms),
                holder=self._leases.holder,
            )
            rows = delivery_rows.load_claimed(connection, [claim.subject for claim in claims])
            enabled = {one.lane for one in waiting if one.endpoint_enabled}
            off = {row.endpoint_id for row, _ in rows.values() if row.endpoint_id is not None} - enabled
            disabled = endpoint_rows.keep_disabled(connection, sorted(off))
            tasks: list[DeliveryTask] = []
            for claim in claims:
                row, secret = rows.get(claim.subject, (None, None))
                if row is None:
                    continue
                if row.endpoint_id in disabled:
                    task_rows.finish(connection, claim)
                    delivery_rows.settle(connection, [_dropped(claim, now_ms)])
                    continue
                tasks.append(DeliveryTask(claim, row, secret, found[claim.subject]))
            return tasks, left

        tasks, self._left = await self._database.write(operation)
        return tasks

    def _due_deliveries(
        self,
        connection: Connection,
        waiting: Sequence[WaitingLane],
        limit: int,
        deal: Deal,
        now_ms: int,
    ) -> tuple[dict[str, str], list[WaitingLane]]:
        """Read what is to be claimed, with its lane, and which lanes wait after that."""
        found: dict[str, str] = {}
        left = {one.lane: one for one in waiting}
        for lane, share in deal([one for one in waiting if one.due_at_ms <= now_ms], limit).items():
            most = min(share, limit - len(found))
            if most > 0:
                head = delivery_task_rows.head_of(
                    connection, lane, limit=most, now_ms=now_ms, holder=self._leases.holder
                )
                found |= dict.fromkeys(head.due, lane)
                # Of as many as there was room for more may be due; of none others are being claimed just now.
                if not 0 < len(head.due) < most:
                    continue
                if head.later_ms is None:
                    del left[lane]
                else:
                    left[lane] = replace(left[lane], due_at_ms=head.later_ms)
        return found, list(left.values())

    async def next_due_ms(self, may_take: MayTake = lambda _lane, _owner: True) -> int | None:
        """When the next delivery may be claimed of a lane that may have one more; None: there is none.

        Right after a claim it is as the claim left it.
        """
        now_ms = self._clock.now_ms()
        waiting, self._left = self._left, None
        if waiting is None:
            waiting = await self._database.read(lambda connection: self._waiting(connection, now_ms))
        return min((one.due_at_ms for one in waiting if may_take(one.lane, one.owner)), default=None)

    def _waiting(self, connection: Connection, now_ms: int) -> list[WaitingLane]:
        found = delivery_task_rows.lanes(connection, now_ms=now_ms, holder=self._leases.holder)
        return [
            WaitingLane(
                one.lane, one.endpoint_owner or owner_of(one.lane), one.due_at_ms, one.endpoint_enabled
            )
            for one in found
        ]

    async def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """Return an endpoint as it stands now, if it is to be sent to: read right before that."""
        found = await self._endpoints(endpoint_id)
        return found if found is not None and found.enabled else None

    async def progress_heard(self, owner: str) -> bool:
        """Whether an endpoint of this owner hears of jobs' progress."""
        return await self._progress(owner)

    async def overtaken(self, delivery: Delivery) -> bool:
        """Whether more has happened to its job since."""
        found = await self._database.read(
            lambda connection: job_rows.sequence_of(connection, delivery.job_id)
        )
        return found > delivery.sequence

    async def drop(self, claim: Claim, endpoint_id: str) -> None:
        """Give a delivery up whose endpoint is disabled, or gone; its bytes are kept.

        One whose endpoint was enabled since it was looked at is given back instead, and due: nobody would
        recover it, since it was under way when they did.
        """
        now_ms = self._clock.now_ms()

        def operation(connection: Connection) -> None:
            # The task before the endpoint, and the delivery last, as whoever writes a try has it.
            (held,) = task_rows.which_held(connection, TaskKind.DELIVER, [claim])
            if held is None:
                return
            if endpoint_id not in endpoint_rows.keep_disabled(connection, [endpoint_id]):
                _give_back(connection, claim, held)
                return
            task_rows.finish(connection, claim)
            delivery_rows.settle(connection, [_dropped(claim, now_ms)])

        await self._database.write(operation)

    async def delivered(
        self,
        claim: Claim,
        tried: DeliveryAttempt,
        *,
        state: str | None,
        due: Due | None,
        endpoint_id: str | None = None,
        version: int = 0,
        elsewhere: Due | None = None,
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
            version: the endpoint's, when it was sent.
            elsewhere: when it is tried again, not settled, if the endpoint has moved since; None: never.
        """
        return await self._log(
            _Result(
                claim=claim,
                tried=tried,
                state=state,
                due=due,
                endpoint_id=endpoint_id,
                version=version,
                elsewhere=elsewhere,
            )
        )

    async def _progress_batch(self, owners: list[str]) -> list[bool]:
        wanted = sorted(set(owners))
        found = await self._database.read(lambda connection: endpoint_rows.progress_heard(connection, wanted))
        return [one in found for one in owners]

    async def _load_batch(self, ids: list[str]) -> list[Endpoint | None]:
        wanted = sorted(set(ids))
        found = await self._database.read(lambda connection: endpoint_rows.load_many(connection, wanted))
        return [found.get(one) for one in ids]

    async def _log_batch(self, batch: list[_Result]) -> list[Kept]:
        return await self._database.write(lambda connection: _log_all(connection, batch))


def _log_all(connection: Connection, batch: Sequence[_Result]) -> list[Kept]:
    """Write what came of these tries, if their tasks are still held."""
    held = task_rows.which_held(connection, TaskKind.DELIVER, [one.claim for one in batch])
    ours = [(one, still) for one, still in zip(batch, held, strict=True) if still is not None]
    judged = _judge_all(connection, [one for one, _ in ours])
    kept = [
        _once_more(_elsewhere(one) if judged[one.claim.subject].outdated else one, still.asked_ms)
        for one, still in ours
    ]
    task_rows.finish_many(
        connection, TaskKind.DELIVER, [one.claim.subject for one in kept if one.due is None]
    )
    for one in kept:
        if one.due is not None:
            task_rows.again(connection, one.due)
    delivery_rows.add_tries(connection, [one.tried for one in kept])
    delivery_rows.settle(
        connection,
        [(one.claim.subject, one.state, _settled_ms(one)) for one in kept if one.state is not None],
    )
    # The others are somebody else's, unless these very results were stored and the answer lost.
    lost = [one for one, still in zip(batch, held, strict=True) if still is None]
    stored = delivery_rows.load_tries(connection, [one.claim.subject for one in lost])
    return [
        Kept(True, judged[one.claim.subject].disabled)
        if still is not None
        else Kept(True, _disabled_by(connection, one.endpoint_id, one.tried))
        if one.tried in stored
        else Kept(False)
        for one, still in zip(batch, held, strict=True)
    ]


def _give_back(connection: Connection, claim: Claim, held: Held) -> None:
    """Have it sent now; as somebody asked for it meanwhile, if so: then it does not count."""
    if held.asked_ms is None:
        task_rows.release(connection, [claim])
        return
    meant_ms = claim.memo.meant_ms or max(claim.due_at_ms, held.asked_ms)
    memo = replace(claim.memo, asked=True, once_more=False, meant_ms=meant_ms)
    task_rows.again(connection, Due(claim=claim, due_at_ms=held.asked_ms, tries=claim.tries, memo=memo))


def _dropped(claim: Claim, now_ms: int) -> tuple[str, str, int]:
    """How a delivery is settled that is not sent: given up, unless it had been delivered before."""
    had_ms = claim.memo.delivered_ms
    return (claim.subject, "delivered", had_ms) if had_ms else (claim.subject, "given_up", now_ms)


def _settled_ms(one: _Result) -> int:
    had_ms = one.claim.memo.delivered_ms
    return had_ms if had_ms and one.tried.outcome != Outcome.DELIVERED else one.tried.at_ms


def _once_more(one: _Result, asked_ms: int | None) -> _Result:
    """What failed, and was asked for while it was under way, is due at once: a try that does not count."""
    if asked_ms is None or one.tried.outcome == Outcome.DELIVERED:
        return one
    later = one.due or one.claim.later(asked_ms)
    tries = one.claim.tries + 1 if one.due is None else one.due.tries
    memo = replace(
        later.memo,
        before=one.tried.number - tries,
        asked=True,
        once_more=False,
        meant_ms=max(later.due_at_ms, asked_ms),
    )
    return replace(one, state=None, due=Due(claim=one.claim, due_at_ms=asked_ms, tries=tries, memo=memo))


def _elsewhere(one: _Result) -> _Result:
    """Where it is now nobody failed for good."""
    return one if one.elsewhere is None else replace(one, state=None, due=one.elsewhere)


def _judge_all(connection: Connection, kept: Sequence[_Result]) -> dict[str, _Judged]:
    """Judge endpoints by what they answered, one after the other in one order; by the delivery's id."""
    judged = {one.claim.subject: _Judged() for one in kept}
    by_endpoint: dict[str, list[_Result]] = {}
    for one in kept:
        if one.endpoint_id is not None:
            by_endpoint.setdefault(one.endpoint_id, []).append(one)
    for endpoint_id, tries in sorted(by_endpoint.items()):
        before: tuple[str, int] | None = None
        for one in tries:
            said = (one.tried.outcome, one.version)
            # Of successes in a row one says it all.
            if said != before or one.tried.outcome != Outcome.DELIVERED:
                judged[one.claim.subject] = _judge(connection, endpoint_id, one)
            before = said
    return judged


def _judge(connection: Connection, endpoint_id: str, one: _Result) -> _Judged:
    """Note on an endpoint what a try says of it."""
    tried = one.tried
    if tried.outcome == Outcome.DELIVERED:
        endpoint_rows.well(connection, endpoint_id, version=one.version)
        return _Judged()
    endpoint = endpoint_rows.load(connection, endpoint_id, lock=True)
    if endpoint is None:
        return _Judged()
    if endpoint.version != one.version:
        return _Judged(outdated=True)
    if not endpoint.enabled:
        return _Judged()
    before = _failing(endpoint)
    now = failing(before, at_ms=tried.at_ms)
    reason = disabled_for(tried.outcome, now, at_ms=tried.at_ms)
    changes: dict[str, object] = {}
    if now != before:
        changes = {"failing_since_ms": now.since_ms, "failures": now.days, "failed_ms": now.counted_ms}
    if reason is not None:
        changes |= endpoint_rows.disabling(reason, tried.at_ms)
    if changes:
        endpoint_rows.change(connection, endpoint_id, changes)
    return _Judged(disabled=reason)


def _failing(endpoint: Endpoint) -> Failing | None:
    since_ms, counted_ms = endpoint.failing_since_ms, endpoint.failed_ms
    if since_ms is None:
        return None
    return Failing(since_ms, endpoint.failures, since_ms if counted_ms is None else counted_ms)


def _disabled_by(connection: Connection, endpoint_id: str | None, tried: DeliveryAttempt) -> Reason | None:
    """Why this try, whose record stands, disabled its endpoint; None when it did not."""
    endpoint = None if endpoint_id is None else endpoint_rows.load(connection, endpoint_id)
    return None if endpoint is None or endpoint.disabled_at_ms != tried.at_ms else endpoint.disabled_reason
