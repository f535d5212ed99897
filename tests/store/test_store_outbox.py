"""Tries that end together: logged in one transaction, each as if it were alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest
from job_examples import NOW_MS, a_request, a_webhook
from sqlalchemy import Connection
from store_stage import LEASE_S, Stage

from gateway.errors import OutcomeUnknown
from gateway.service.outbox import DeliveryTask, Kept
from gateway.storage import tables
from gateway.storage.deliveries import DeliveryAttempt
from gateway.storage.tasks import Due

T = TypeVar("T")


async def ended(stage: Stage, count: int) -> list[DeliveryTask]:
    """End jobs of alice's, and claim what is to be delivered."""
    for _ in range(count):
        job_id = await stage.accept(a_request(webhook=a_webhook("job.cancelled")))
        await stage.jobs.cancel(job_id, owner="alice")
    return await stage.outbox.claim(100)


async def told(stage: Stage, count: int) -> tuple[str, list[DeliveryTask]]:
    """Give alice an endpoint, end jobs of hers, and claim what it is to be told."""
    url = "https://receiver.example/all"
    made = await stage.endpoints.create(owner="alice", url=url, events=("job.cancelled",))
    for _ in range(count):
        await stage.jobs.cancel(await stage.accept(), owner="alice")
    return made.id, await stage.outbox.claim(100)


async def log(
    stage: Stage, task: DeliveryTask, outcome: str = "delivered", *, again: bool = False, version: int = 0
) -> Kept:
    tried = DeliveryAttempt(
        delivery_id=task.delivery.id,
        number=task.claim.tries + 1,
        at_ms=stage.clock.now_ms() + 5,
        duration_ms=5,
        outcome=outcome,
        status=200,
        detail="ok",
    )
    state = None if again else "delivered" if outcome == "delivered" else "given_up"
    due = Due(claim=task.claim, due_at_ms=NOW_MS + 60_000, tries=task.claim.tries + 1) if again else None
    endpoint_id = task.delivery.endpoint_id
    return await stage.outbox.delivered(
        task.claim, tried, state=state, due=due, endpoint_id=endpoint_id, version=version
    )


async def states(stage: Stage) -> dict[str, str]:
    return {str(row["id"]): str(row["state"]) for row in await stage.rows(tables.deliveries)}


async def test_tries_that_end_together_share_a_transaction(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = await ended(stage, 5)
    write, written = stage.database.write, list[object]()

    async def counted(operation: Callable[[Connection], T]) -> T:
        written.append(operation)
        return await write(operation)

    monkeypatch.setattr(stage.database, "write", counted)
    kept = await asyncio.gather(*(log(stage, task) for task in tasks))
    assert kept == [Kept(True)] * 5
    assert len(written) == 1
    assert set((await states(stage)).values()) == {"delivered"}
    assert await stage.tasks() == []
    assert len(await stage.rows(tables.delivery_attempts)) == 5


async def test_each_is_settled_or_due_again_for_itself(stage: Stage) -> None:
    first, second, third = await ended(stage, 3)
    await asyncio.gather(
        log(stage, first), log(stage, second, "timeout", again=True), log(stage, third, "gone")
    )
    assert await states(stage) == {
        first.delivery.id: "delivered",
        second.delivery.id: "pending",
        third.delivery.id: "given_up",
    }
    assert await stage.tasks() == [("deliver", 60_000)]


async def test_one_that_lost_its_lease_is_left_out_and_keeps_no_other(stage: Stage) -> None:
    lost, *_ = await ended(stage, 1)
    stage.clock.advance(LEASE_S + 1)
    await stage.worker("second").outbox.claim(1)
    (held,) = await ended(stage, 1)
    kept = await asyncio.gather(*[log(stage, task) for task in (lost, held)])
    assert kept == [Kept(False), Kept(True)]
    assert await states(stage) == {lost.delivery.id: "pending", held.delivery.id: "delivered"}
    (logged,) = await stage.rows(tables.delivery_attempts)
    assert logged["delivery_id"] == held.delivery.id


async def test_an_endpoint_is_judged_by_its_tries_one_after_the_other(stage: Stage) -> None:
    endpoint_id, tasks = await told(stage, 4)
    await asyncio.gather(*(log(stage, task, "timeout", again=True) for task in tasks[:2]))
    assert (await stage.endpoints.load(endpoint_id, owner=None)).failing_since_ms == NOW_MS + 5
    await asyncio.gather(log(stage, tasks[2]), log(stage, tasks[3]))
    assert (await stage.endpoints.load(endpoint_id, owner=None)).failing_since_ms is None


async def test_a_failure_between_successes_is_no_failure_any_more(stage: Stage) -> None:
    endpoint_id, tasks = await told(stage, 4)
    outcomes = ("delivered", "timeout", "delivered", "delivered")
    await asyncio.gather(*(log(stage, task, how) for task, how in zip(tasks, outcomes, strict=True)))
    assert (await stage.endpoints.load(endpoint_id, owner=None)).failing_since_ms is None


async def test_a_try_says_nothing_of_an_endpoint_that_moved_since(stage: Stage) -> None:
    endpoint_id, (at_old, at_new, late) = await told(stage, 3)
    await log(stage, at_old, "timeout", again=True)
    await stage.endpoints.change(endpoint_id, owner="alice", url="https://receiver.example/moved")
    stands = await stage.endpoints.load(endpoint_id, owner=None)
    assert (stands.failing_since_ms, stands.failures, stands.version) == (None, 0, 1)
    await log(stage, at_new, "timeout", again=True, version=1)
    await log(stage, late)
    assert (await stage.endpoints.load(endpoint_id, owner=None)).failures == 1, "it was of the old one"


async def test_the_try_that_disabled_its_endpoint_alone_says_so(stage: Stage) -> None:
    endpoint_id, tasks = await told(stage, 3)
    outcomes = ("timeout", "gone", "gone")
    kept = await asyncio.gather(*(log(stage, task, how) for task, how in zip(tasks, outcomes, strict=True)))
    assert kept == [Kept(True), Kept(True, "gone"), Kept(True)]
    assert not (await stage.endpoints.load(endpoint_id, owner=None)).enabled


async def test_tries_whose_commit_nobody_answered_are_logged_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled, later = await ended(stage, 2)
    write = stage.database.write

    async def deaf(operation: Callable[[Connection], T]) -> T:
        await write(operation)
        raise OutcomeUnknown("nobody answered")

    monkeypatch.setattr(stage.database, "write", deaf)
    tries = (log(stage, settled), log(stage, later, "timeout", again=True))
    failed = await asyncio.gather(*tries, return_exceptions=True)
    assert {type(error) for error in failed} == {OutcomeUnknown}
    before = await stage.everything()
    monkeypatch.setattr(stage.database, "write", write)
    again = [log(stage, settled), log(stage, later, "timeout", again=True)]
    assert await asyncio.gather(*again) == [Kept(True), Kept(True)]
    assert await stage.everything() == before
