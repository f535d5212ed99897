"""The one place where a transition is carried out.

A transaction reads the job as it stands, lets a pure function of `gateway.jobs.transitions` decide, and
writes the state, its events, the tasks that follow and the webhook bodies that tell of it. All of it
commits, or none. A worker's result is fenced: if another claimed its task meanwhile, nothing is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.crash_points import Point, reach
from gateway.errors import GatewayError, LeaseLost, OutcomeUnknown, StorageUnavailable
from gateway.ids import Ids
from gateway.jobs import history, spend
from gateway.jobs.job import Attempt, AttemptState, Job
from gateway.jobs.spend import Money
from gateway.jobs.transitions import Event, Step, TaskKind
from gateway.service.messages import freeze
from gateway.service.quotas import check_budget
from gateway.storage import attempts as attempt_rows
from gateway.storage import callbacks as callback_rows
from gateway.storage import events as event_rows
from gateway.storage import exchanges as exchange_rows
from gateway.storage import jobs as job_rows
from gateway.storage import queue as queue_rows
from gateway.storage import spend as spend_rows
from gateway.storage import tasks as task_rows
from gateway.storage.engine import Database
from gateway.storage.exchanges import Exchange
from gateway.storage.tasks import Claim, Due

PAUSES_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Between looks for a transition that may stand, while the server comes back."""
MOST_UNANSWERED = 1000

Decide = Callable[[Job, tuple[Attempt, ...]], Step]
Also = Callable[[Connection], None]


class Recorded(Struct, frozen=True, kw_only=True):
    """What a transition came to."""

    before: Job
    after: Job
    attempts: tuple[Attempt, ...]
    """As they stand after it."""
    events: tuple[Event, ...]
    """Empty when nothing changed."""
    attempt: Attempt | None = None
    """The attempt that is new or changed."""
    attempt_before: Attempt | None = None
    """What it was; None when it is new, or when there is none."""
    spent: Mapping[str, Money] = {}
    """What was added to the ledger, by provider."""


Change = Callable[[Connection], Recorded]


class Verdict(Struct, frozen=True, kw_only=True):
    """What is to become of a job, and of the task that found it out."""

    step: Step
    then: Due | None = None
    """Keep the task, due again; None removes it."""
    exchanges: tuple[Exchange, ...] = ()
    """What was said to the provider, for the timeline."""


Weigh = Callable[[Connection, Job, tuple[Attempt, ...]], Verdict]
"""Decides by more of the store than the job itself, in the transaction that carries the verdict out."""


class Listener(Protocol):
    """Hears of every transition once it is durable: metrics, logs, the worker's wake-up."""

    def recorded(self, recorded: Recorded) -> None:
        """A transition was committed; `events` may be empty."""
        ...


class JobUnknown(GatewayError):
    """There is no such job."""


class Record:
    """Carries transitions out.

    Args:
        database: where.
        clock: stamps the events.
        ids: names deliveries and messages.
        listener: told after each commit.
    """

    def __init__(self, database: Database, clock: Clock, ids: Ids, listener: Listener) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._listener = listener
        self._unanswered: dict[tuple[TaskKind, str, int], Recorded] = {}
        """By claim: what may stand, since the answer to its commit was lost."""

    async def transition(self, job_id: str, decide: Decide, *, also: Also | None = None) -> Recorded:
        """Change a job on somebody's wish, or by what was found out for a task that another has taken.

        Args:
            job_id: the job.
            decide: from the job as it stands to the step.
            also: written in the same transaction.

        Raises:
            JobUnknown: there is no such job.
            StorageUnavailable: it may be tried again.
        """

        def operation(connection: Connection) -> Recorded:
            return self._apply(connection, _locked(connection, job_id), decide, also)

        return await self._insist(operation)

    async def result(
        self,
        claim: Claim,
        decide: Decide,
        *,
        exchange: Exchange | None = None,
        then: Due | None = None,
        also: Also | None = None,
    ) -> Recorded:
        """Change a job by what a task found out, and close the task.

        Args:
            claim: the task; its subject is the job.
            decide: from the job as it stands to the step.
            exchange: what was said to the provider, for the timeline.
            then: keep the task, due again; None removes it.
            also: what else the same transaction is to write: before the ledger, whose rows many want.

        After `OutcomeUnknown` it may be said again: what stands is then not done twice, but told.

        Raises:
            LeaseLost: another worker holds the task now; nothing was written.
        """

        def operation(connection: Connection) -> Recorded:
            job = _locked(connection, claim.subject)
            if not _close(connection, claim, then):
                raise _no_longer_held(claim)
            if exchange is not None:
                exchange_rows.insert_one(connection, exchange)
            return self._apply(connection, job, decide, also)

        return await self._commit(operation, claim)

    async def weighed(self, job_id: str, weigh: Weigh, *, claim: Claim | None = None) -> Recorded:
        """Change a job by what the whole store says of it.

        Args:
            job_id: the job.
            weigh: looks, and decides; what it raises is raised here, and nothing is written.
            claim: the task that asks, closed with the verdict, which may be said again like a result; None
                when somebody else asks.

        Raises:
            JobUnknown: there is no such job.
            LeaseLost: another worker holds the task now; nothing was written.
        """

        def operation(connection: Connection) -> Recorded:
            job = _locked(connection, job_id)
            verdict = weigh(connection, job, _attempts_of(connection, job_id))
            if claim is not None and not _close(connection, claim, verdict.then):
                raise _no_longer_held(claim)
            for exchange in verdict.exchanges:
                exchange_rows.insert_one(connection, exchange)
            return self._apply(connection, job, lambda _job, _attempts: verdict.step)

        return await (self._insist(operation) if claim is None else self._commit(operation, claim))

    async def intent(
        self, claim: Claim, decide: Decide, *, admit: Callable[[Connection], Due | None] = lambda _: None
    ) -> Recorded | None:
        """Note what a task is about to do, and keep the task. Durable before the paid call.

        Args:
            claim: the task.
            decide: from the job as it stands to the step; without events nothing is to be done.
            admit: takes what the deed needs; or says when to try again, and only that is written.

        Returns:
            None when it was not admitted, and the task was given back.

        Raises:
            LeaseLost: another worker holds the task now; nothing was written, nothing may be sent.
            BudgetSpent: the same; the owner's budget has no room for what this job would cost beyond its
                estimate.
            StorageUnavailable: the same; also while there is no room for what would follow.
        """

        def operation(connection: Connection) -> Recorded | None:
            job = _locked(connection, claim.subject)
            if not task_rows.still_held(connection, claim):
                raise _no_longer_held(claim)
            attempts = _attempts_of(connection, job.id)
            step = decide(job, attempts)
            later = admit(connection) if step.events else None
            if later is not None:
                task_rows.again(connection, later)
                queue_rows.put_back(connection, job)
                return None
            if step.events:
                queue_rows.leave(connection, job.id)
            return self._carry_out(connection, job, attempts, step, buys=True)

        recorded = await self._database.write(operation, vital=False)
        if recorded is not None:
            self._listener.recorded(recorded)
        return recorded

    async def _commit(self, operation: Change, claim: Claim) -> Recorded:
        """Write what a task found out, and tell of it: also when an earlier try turns out to stand."""
        key = (claim.kind, claim.subject, claim.version)
        once = _Once(operation, self._unanswered.pop(key, None))
        try:
            recorded = await self._database.write(once)
        except StorageUnavailable:
            if once.made is not None:  # kept for the next try, which comes soon or never
                self._unanswered[key] = once.made
                while len(self._unanswered) > MOST_UNANSWERED:
                    self._unanswered.pop(next(iter(self._unanswered)))
            raise
        self._listener.recorded(recorded)
        return recorded

    async def _insist(self, operation: Change) -> Recorded:
        """Write what nobody says again in the same words: while its outcome is unknown, look for a while."""
        once, pauses, doubt = _Once(operation, None), iter(PAUSES_S), ""
        while True:
            try:
                recorded = await self._database.write(once)
                break
            except StorageUnavailable as error:
                doubt = doubt or (str(error) if isinstance(error, OutcomeUnknown) else "")
                pause_s = next(pauses, None)
                if not doubt:
                    raise
                if pause_s is None:
                    raise OutcomeUnknown(doubt) from error
            await asyncio.sleep(pause_s)
        self._listener.recorded(recorded)
        return recorded

    def _apply(
        self, connection: Connection, before: Job, decide: Decide, also: Also | None = None
    ) -> Recorded:
        attempts = _attempts_of(connection, before.id)
        return self._carry_out(connection, before, attempts, decide(before, attempts), also=also)

    def _carry_out(
        self,
        connection: Connection,
        before: Job,
        attempts: tuple[Attempt, ...],
        step: Step,
        *,
        buys: bool = False,
        also: Also | None = None,
    ) -> Recorded:
        job_id = before.id
        if also is not None and not step.events:
            also(connection)
        if not step.events:
            unchanged = Recorded(before=before, after=before, attempts=attempts, events=())
            self._follow_up(connection, unchanged, step)  # a task that was closed may be wanted after all
            return unchanged
        now_ms = self._clock.now_ms()
        after = replace(step.job, sequence=before.sequence + len(step.events))
        previous = _write_attempt(connection, attempts, step.attempt)
        booked = spend.booked(before, attempts)
        attempts = _with(attempts, step.attempt)
        booking = spend.booked(after, attempts)
        spent = spend.difference(booked, booking)
        if not job_rows.save(connection, after, seen=before.sequence):
            raise GatewayError(f"{job_id} changed under its lock")
        event_rows.insert_many(connection, _event_rows(before, after, previous, step, now_ms))
        recorded = Recorded(
            before=before,
            after=after,
            attempts=attempts,
            events=step.events,
            attempt=step.attempt,
            attempt_before=previous,
            spent=spent,
        )
        self._follow_up(connection, recorded, step)
        _heed_earlier_callback(connection, recorded, now_ms)
        freeze(
            connection,
            after,
            attempts,
            [(number, event.type) for number, event in enumerate(step.events, start=before.sequence + 1)],
            ids=self._ids,
            now_ms=now_ms,
        )
        if also is not None:
            also(connection)
        if buys and spend.total(booking) > (after.estimated_micro_usd or 0):
            check_budget(connection, after, more=spend.total(spent))
        day = spend.day_of(before.created_at_ms)
        spend_rows.add(connection, {(after.owner, day, name): money for name, money in spent.items()})
        reach(Point.RECORD_BEFORE_COMMIT)
        return recorded

    def _follow_up(self, connection: Connection, recorded: Recorded, step: Step) -> None:
        before, after = recorded.before, recorded.after
        if after.state.status.terminal and not before.state.status.terminal:
            task_rows.drop(connection, after.id, (TaskKind.SUBMIT, TaskKind.POLL, TaskKind.CANCEL))
        if before.state.held is not None and after.state.held is None:
            task_rows.drop(connection, after.id, (TaskKind.RECONCILE,))
        for task in step.follow_ups:
            if task_rows.hurry(connection, task.kind, after.id, at_ms=task.due_at_ms):
                continue
            if task.kind is TaskKind.SUBMIT:
                queue_rows.enter_first(connection, queue_rows.entry_of(after, task.due_at_ms))
            else:
                task_rows.insert_many(connection, [(task.kind, after.id, task.due_at_ms)])


def _heed_earlier_callback(connection: Connection, recorded: Recorded, now_ms: int) -> None:
    """Make the poll due now of an attempt whose callback came before its own answer.

    One that comes while this is written waits for the job's lock, and then finds the attempt accepted.
    """
    attempt, before = recorded.attempt, recorded.attempt_before
    if attempt is None or attempt.state is not AttemptState.ACCEPTED or attempt.ref is None:
        return
    if before is not None and before.state is AttemptState.ACCEPTED:
        return
    if callback_rows.names(connection, attempt.id, attempt.ref):
        task_rows.hurry(connection, TaskKind.POLL, attempt.job_id, at_ms=now_ms)


class _Once:
    """An operation that may be carried out again though it may stand: then it is not done twice.

    Args:
        operation: locks its job before anything else.
        made: what an earlier try came to, whose commit nobody answered.
    """

    def __init__(self, operation: Change, made: Recorded | None) -> None:
        self._operation = operation
        self.made = made
        update_wrapper(self, operation)

    def __call__(self, connection: Connection) -> Recorded:
        if self.made is None or not _stands(connection, self.made):
            self.made = None  # in case the next line raises
            self.made = self._operation(connection)
        return self.made


def _stands(connection: Connection, made: Recorded) -> bool:
    """Whether exactly these events are in the log. What told nothing is not recognized, and need not be."""
    if not made.events:
        return False
    _locked(connection, made.after.id)  # waits for a commit that is under way still
    step = Step(job=made.after, attempt=made.attempt, events=made.events)
    rows = _event_rows(made.before, made.after, made.attempt_before, step, 0)
    logged = {
        (row.sequence, row.type, bytes(row.data).decode())
        for row in event_rows.load_of(connection, made.after.id)
    }
    return logged.issuperset((row["sequence"], row["type"], row["data"]) for row in rows)


def _locked(connection: Connection, job_id: str) -> Job:
    """Lock the job, and nothing before it: transactions that take their locks in one order never deadlock."""
    job = job_rows.load(connection, job_id, lock=True)
    if job is None:
        raise JobUnknown(job_id)
    return job


def _attempts_of(connection: Connection, job_id: str) -> tuple[Attempt, ...]:
    return attempt_rows.load_of(connection, [job_id]).get(job_id, ())


def _close(connection: Connection, claim: Claim, then: Due | None) -> bool:
    """Remove a held task, or give it back; False when it is no longer held."""
    return task_rows.finish(connection, claim) if then is None else task_rows.again(connection, then)


def _no_longer_held(claim: Claim) -> LeaseLost:
    reason = "claimed anew after its lease, or dropped because the job ended"
    return LeaseLost(f"the {claim.kind} task of {claim.subject} is no longer held: {reason}")


def _write_attempt(
    connection: Connection, attempts: tuple[Attempt, ...], changed: Attempt | None
) -> Attempt | None:
    """Store a new or changed attempt; return it as it was before."""
    if changed is None:
        return None
    previous = next((attempt for attempt in attempts if attempt.id == changed.id), None)
    if previous is None:
        attempt_rows.insert_one(connection, changed)
    elif previous != changed:
        attempt_rows.save(connection, changed)
    return previous


def _with(attempts: tuple[Attempt, ...], changed: Attempt | None) -> tuple[Attempt, ...]:
    if changed is None:
        return attempts
    others = tuple(attempt for attempt in attempts if attempt.id != changed.id)
    return tuple(sorted((*others, changed), key=lambda attempt: attempt.number))


def _event_rows(
    before: Job, after: Job, previous: Attempt | None, step: Step, now_ms: int
) -> list[dict[str, object]]:
    """Log the step: each event with its note, the first with everything that changed."""
    rows: list[dict[str, object]] = []
    for offset, event in enumerate(step.events, start=1):
        data: dict[str, object] = {"note": event.note} if event.note else {}
        if offset == 1:
            state = history.changed(before.state, after.state)
            if state:
                data["state"] = state
            if step.attempt is not None:
                data["attempt"] = {"id": step.attempt.id, **history.changed(previous, step.attempt)}
        rows.append(
            {
                "job_id": after.id,
                "sequence": before.sequence + offset,
                "at_ms": now_ms,
                "type": event.type,
                "data": msgspec.json.encode(data).decode(),
            }
        )
    return rows
