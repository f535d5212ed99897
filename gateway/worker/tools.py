"""What every step is handed, and the two ways in which each writes its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container
from contextlib import suppress
from typing import TypeVar

from msgspec import Struct

from gateway.clock import Clock
from gateway.errors import StorageUnavailable
from gateway.ids import Ids
from gateway.jobs.job import Attempt, AttemptState, Job
from gateway.jobs.transitions import Step
from gateway.routing.health import Operation
from gateway.service.census import Census
from gateway.service.health import Healths
from gateway.service.leases import Leases
from gateway.service.outbox import Outbox
from gateway.service.record import Decide, Record
from gateway.service.run_times import RunTimes
from gateway.telemetry import Metrics, get_logger
from gateway.telemetry.tracing import Tracing, Untraced
from gateway.upstream.accounts import Accounts, UpstreamAccount
from gateway.upstream.calls import Calls
from gateway.upstream.classify import Cancelling, Poll
from gateway.upstream.standing import standing

T = TypeVar("T")

_log = get_logger("gateway.worker")

KEEP_TRYING_S = 20.0


class Tools(Struct, frozen=True, kw_only=True):
    """What every step is handed."""

    record: Record
    leases: Leases
    outbox: Outbox
    census: Census
    healths: Healths
    calls: Calls
    accounts: Accounts
    clock: Clock
    ids: Ids
    metrics: Metrics
    run_times: RunTimes
    spread: Callable[[], float]
    """A random number from 0 to 1."""
    tracing: Tracing = Untraced()


def _say_nothing() -> None:
    """Do nothing."""


async def persist(
    write: Callable[[], Awaitable[T]],
    *,
    keep_s: float = KEEP_TRYING_S,
    unrecorded: Callable[[], None] = _say_nothing,
) -> T:
    """Write what a provider told us, again and again while storage fails: it was paid for.

    Args:
        write: to be done.
        keep_s: how long to go on trying, seconds.
        unrecorded: told once when storage fails, or this process ends: nobody else may know it by then.

    Raises:
        StorageUnavailable: it still fails after that.
    """
    deadline = asyncio.get_running_loop().time() + keep_s
    pause_s, told = 0.05, False
    while True:
        try:
            return await write()
        except asyncio.CancelledError:
            if not told:
                unrecorded()
            raise
        except StorageUnavailable as error:
            if not told:  # now, since a process that is killed says nothing any more
                unrecorded()
                told = True
            if asyncio.get_running_loop().time() + pause_s > deadline:
                raise
            _log.warning("storage.retry", error=str(error), pause_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 2.0)


async def note(
    tools: Tools, account: UpstreamAccount, operation: Operation, outcome: Poll | Cancelling
) -> None:
    """Note what a free call says of its account. What cannot be written now is found out again."""
    with suppress(StorageUnavailable):
        await tools.healths.note(account.id, operation, standing(outcome))


def nothing(job: Job, _attempts: tuple[Attempt, ...]) -> Step:
    """Decide that nothing changes; for closing a task whose work is done or pointless."""
    return Step(job=job)


def on_attempt(
    attempt_id: str, states: Container[AttemptState], change: Callable[[Job, Attempt], Step]
) -> Decide:
    """Apply a change to one attempt as it stands in the transaction, if its state is one of these."""

    def decide(job: Job, attempts: tuple[Attempt, ...]) -> Step:
        for attempt in attempts:
            if attempt.id == attempt_id and attempt.state in states:
                return change(job, attempt)
        return Step(job=job)

    return decide
