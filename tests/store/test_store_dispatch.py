"""What a worker claims, and how it gives tasks back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from functools import partial

import pytest
from job_examples import NOW_MS, a_job, a_request, a_webhook, an_attempt
from sqlalchemy import Connection
from store_stage import LEASE_S, Stage

from gateway.jobs import transitions
from gateway.jobs.job import Attempt, AttemptState, Held, Job
from gateway.jobs.transitions import Step, TaskKind
from gateway.service.announce import Announcer
from gateway.service.dispatch import JOB_KINDS
from gateway.service.outbox import DELIVERY_KINDS, DeliveryTask
from gateway.service.wakeup import Wakeup
from gateway.storage import attempts as attempt_rows
from gateway.storage import delivery_tasks as delivery_task_rows
from gateway.storage import jobs as job_rows
from gateway.storage import tables
from gateway.storage import tasks as task_rows
from gateway.storage.deliveries import Backlog, DeliveryAttempt
from gateway.storage.postgres import PostgresDatabase
from gateway.storage.tasks import Due, Memo
from gateway.telemetry import Metrics
from providers.contract.status import JobStatus

HELD_S = 10.0
"""Longest that a transaction is kept open for another to meet it."""


def tried(task: DeliveryTask, number: int = 1) -> DeliveryAttempt:
    return DeliveryAttempt(
        delivery_id=task.delivery.id,
        number=number,
        at_ms=NOW_MS + number,
        duration_ms=5,
        outcome="delivered",
        status=200,
        detail="ok",
    )


async def ended(stage: Stage, count: int = 1) -> list[DeliveryTask]:
    """End jobs with receivers, and claim what is to be delivered."""
    for _ in range(count):
        await ended_unclaimed(stage)
    return await stage.outbox.claim(10)


async def ended_unclaimed(stage: Stage) -> None:
    """End a job with a receiver."""
    job_id = await stage.accept(a_request(webhook=a_webhook("job.cancelled")))
    await stage.record.transition(
        job_id, lambda job, found: transitions.cancel_requested(job, found, now_ms=NOW_MS)
    )


async def test_a_claim_brings_the_job_and_its_attempts(stage: Stage) -> None:
    job = a_job()
    first, second = an_attempt(AttemptState.REFUSED), an_attempt(AttemptState.ACCEPTED, 2)

    def operation(connection: Connection) -> None:
        job_rows.insert_many(connection, [job_rows.row_of(job, idempotency_key=None, fingerprint="f")])
        for attempt in (second, first):
            attempt_rows.insert_one(connection, attempt)
        task_rows.insert_many(connection, [(TaskKind.POLL, job.id, NOW_MS)])

    await stage.database.write(operation)
    (task,) = await stage.dispatch.claim(10)
    assert (task.job, task.attempts) == (job, (first, second))
    assert (task.claim.kind, task.claim.subject) == (TaskKind.POLL, job.id)


async def test_two_workers_share_the_work_and_none_is_done_twice(stage: Stage) -> None:
    jobs = [await stage.accept() for _ in range(40)]
    workers = [stage.worker(f"w{number}").dispatch for number in range(6)]
    rounds = await asyncio.gather(*(worker.claim(4) for worker in workers for _ in range(3)))
    found = [task.job.id for tasks in rounds for task in tasks]
    assert sorted(found) == sorted(jobs)


async def test_a_heartbeat_keeps_what_is_held_and_tells_what_is_lost(stage: Stage) -> None:
    await stage.accept()
    await stage.accept()
    first, second = await stage.dispatch.claim(10)
    stage.clock.advance(LEASE_S - 1)
    assert await stage.leases.heartbeat([first.claim]) == []
    stage.clock.advance(2)
    (stolen,) = await stage.worker("second").dispatch.claim(10)
    assert stolen.job.id == second.job.id
    claims = [first.claim, second.claim]
    lost = await stage.leases.heartbeat(claims)
    assert [claim.subject for claim in lost] == [second.job.id]
    assert lost[0] is claims[1]


async def test_released_tasks_are_due_at_once(stage: Stage) -> None:
    await stage.accept()
    task = await stage.claim()
    await stage.leases.release([task.claim])
    (again,) = await stage.worker("second").dispatch.claim(10)
    assert again.job == task.job


async def test_a_start_frees_every_lease(stage: Stage) -> None:
    await stage.accept()
    await stage.accept()
    await stage.worker("killed").dispatch.claim(10)
    assert await stage.leases.release_all() == 2
    assert len(await stage.dispatch.claim(10)) == 2


async def test_unchanged_polls_are_given_back_together(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [await stage.accept() for _ in range(20)]
    tasks = await stage.dispatch.claim(20)
    writes: list[int] = []
    write = stage.database.write

    async def counted(operation: object) -> object:
        writes.append(1)
        return await write(operation)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(stage.database, "write", counted)
    held = await asyncio.gather(
        *(
            stage.leases.unchanged(
                Due(claim=task.claim, due_at_ms=NOW_MS + 7, tries=2, memo=Memo(asked_ms=1)),
                progress=0.5 if number % 2 else None,
            )
            for number, task in enumerate(tasks)
        )
    )
    assert held == [True] * 20
    assert len(writes) <= 2
    stored = [await stage.job(job_id) for job_id in jobs]
    assert [job.progress for job in stored].count(0.5) == 10
    assert {job.sequence for job in stored} == {1}
    assert await stage.tasks() == [("submit", 7)] * 20


async def test_progress_of_a_lost_lease_is_not_written(stage: Stage) -> None:
    job_id = await stage.accept()
    task = await stage.claim()
    stage.clock.advance(LEASE_S + 1)
    await stage.worker("second").dispatch.claim(1)
    assert not await stage.leases.unchanged(Due(claim=task.claim, due_at_ms=0), progress=0.9)
    assert (await stage.job(job_id)).progress is None


async def test_a_delivery_comes_with_its_owners_secret(stage: Stage) -> None:
    created = await stage.keys.create(name="n", owner="alice", scopes=())
    (task,) = await ended(stage)
    assert (task.delivery.type, task.delivery.owner) == ("job.cancelled", "alice")
    assert task.owner_sealed_secret is not None
    assert stage.sealer.open(task.owner_sealed_secret, bound_to="alice") == created.webhook_secret
    assert await stage.dispatch.claim(10) == [], "deliveries are another lane's"


async def test_a_delivery_without_an_owner_is_claimed_all_the_same(stage: Stage) -> None:
    (task,) = await ended(stage)
    assert task.owner_sealed_secret is None


async def test_a_delivery_is_settled_with_its_try(stage: Stage) -> None:
    (task,) = await ended(stage)
    body = task.delivery.body
    later = Due(claim=task.claim, due_at_ms=NOW_MS + 60, tries=1)
    assert (await stage.outbox.delivered(task.claim, tried(task), state=None, due=later)).held
    assert await stage.tasks() == [("deliver", 60)]
    stage.clock.advance(1)
    (again,) = await stage.outbox.claim(10)
    assert (again.claim.tries, again.delivery.body, again.delivery) == (1, body, task.delivery)
    assert (await stage.outbox.delivered(again.claim, tried(again, 2), state="delivered", due=None)).held
    (row,) = await stage.rows(tables.deliveries)
    assert (row["state"], row["finished_at_ms"], row["body"]) == ("delivered", NOW_MS + 2, body)
    assert [one["number"] for one in await stage.rows(tables.delivery_attempts)] == [1, 2]
    assert await stage.tasks() == []


@pytest.mark.parametrize("state", ["delivered", None])
async def test_whoever_lost_a_delivery_logs_nothing(stage: Stage, state: str | None) -> None:
    (task,) = await ended(stage)
    stage.clock.advance(LEASE_S + 1)
    await stage.worker("second").outbox.claim(10)
    before = await stage.everything()
    due = Due(claim=task.claim, due_at_ms=0) if state is None else None
    assert not (await stage.outbox.delivered(task.claim, tried(task), state=state, due=due)).held
    assert await stage.everything() == before


async def test_the_next_due_is_by_lane(stage: Stage) -> None:
    async def next_due(kinds: Sequence[TaskKind]) -> int | None:
        return await stage.dispatch.next_due_ms(kinds)

    assert (await next_due(JOB_KINDS), await next_due(DELIVERY_KINDS)) == (None, None)
    job_id = await stage.accept()
    assert (await next_due(JOB_KINDS), await next_due(DELIVERY_KINDS)) == (None, None), (
        "it waits for its turn"
    )
    await stage.database.write(
        lambda connection: task_rows.hurry(connection, TaskKind.SUBMIT, job_id, at_ms=NOW_MS + 5)
    )
    assert (await next_due(JOB_KINDS), await next_due(DELIVERY_KINDS)) == (NOW_MS + 5, None)


async def test_right_after_a_claim_the_next_due_is_as_the_claim_found_it(stage: Stage) -> None:
    assert await stage.dispatch.claim(10, (TaskKind.POLL,)) == []
    assert await stage.outbox.claim(10) == []
    await ended_unclaimed(stage)
    job_id = await stage.accept()
    await stage.database.write(
        lambda connection: task_rows.insert_many(connection, [(TaskKind.POLL, job_id, NOW_MS + 5)])
    )
    polls = partial(stage.dispatch.next_due_ms, (TaskKind.POLL,))
    assert (await polls(), await stage.outbox.next_due_ms()) == (None, None)
    assert (await polls(), await stage.outbox.next_due_ms()) == (NOW_MS + 5, NOW_MS)


async def test_a_claim_out_of_a_lane_finds_when_what_it_leaves_there_is_due(stage: Stage) -> None:
    (failed,) = await ended(stage)
    later = Due(claim=failed.claim, due_at_ms=NOW_MS + 60_000, tries=1)
    await stage.outbox.delivered(failed.claim, tried(failed), state=None, due=later)
    stage.clock.advance(1)
    await ended_unclaimed(stage)
    stage.clock.advance(1)
    await ended_unclaimed(stage)
    found = [
        (len(await stage.outbox.claim(limit)), await stage.outbox.next_due_ms()) for limit in (1, 10, 10)
    ]
    assert found == [(1, NOW_MS + 1000), (1, NOW_MS + 60_000), (0, NOW_MS + 60_000)], "more may be due"


async def test_a_claim_keeps_others_from_nothing_but_what_it_takes(stage: Stage) -> None:
    """And whoever finds a lane's deliveries being taken looks at it again."""
    if not isinstance(stage.database, PostgresDatabase):
        pytest.skip("SQLite has one writer")
    (failed,) = await ended(stage)
    later = Due(claim=failed.claim, due_at_ms=NOW_MS + 60_000, tries=1)
    await stage.outbox.delivered(failed.claim, tried(failed), state=None, due=later)
    await ended_unclaimed(stage)
    taken, seen = threading.Event(), threading.Event()

    def taking(connection: Connection) -> list[str]:
        (lane,) = delivery_task_rows.lanes(connection, now_ms=NOW_MS, holder="w")
        head = delivery_task_rows.head_of(connection, lane.lane, limit=9, now_ms=NOW_MS, holder="w")
        taken.set()
        assert seen.wait(HELD_S)
        return head.due

    under_way = asyncio.create_task(stage.database.write(taking))
    await asyncio.to_thread(taken.wait, HELD_S)
    second = stage.worker("second").outbox
    assert (await second.claim(10), await second.next_due_ms()) == ([], NOW_MS)
    asked = await stage.database.write(
        lambda connection: delivery_task_rows.send_now(connection, failed.delivery.id, at_ms=NOW_MS)
    )
    seen.set()
    assert (asked, len(await under_way)) == (True, 1)


async def test_an_end_is_a_reason_to_look_for_submits_only_while_some_wait(stage: Stage) -> None:
    wakeup = Wakeup()
    metrics = Metrics(version="0", providers=["acme"], models=["act-two"], routes=[])
    announcer = Announcer(metrics, wakeup, lambda _: None, lambda: stage.dispatch.submits_wait)
    submits, deliveries = wakeup.subscribe((TaskKind.SUBMIT,)), wakeup.subscribe((TaskKind.DELIVER,))

    async def woken() -> tuple[bool, bool]:
        submits.clear()
        deliveries.clear()
        await ended_unclaimed(stage)
        announcer.recorded(stage.heard[-1])
        return submits.is_set(), deliveries.is_set()

    assert await woken() == (True, True), "nobody has looked yet"
    assert await stage.dispatch.claim(10, (TaskKind.SUBMIT,)) == []
    assert await woken() == (False, True)
    await stage.accept()
    assert await stage.dispatch.claim(0, (TaskKind.SUBMIT,)) == [], "no opening"
    assert await woken() == (True, True)


async def test_the_sweep_and_the_census_see_the_store(stage: Stage) -> None:
    jobs = [
        a_job(1, deadline_at_ms=NOW_MS),
        a_job(2, deadline_at_ms=NOW_MS + 1),
        a_job(3, held=Held(reason="r", since_ms=0, until_ms=NOW_MS), deadline_at_ms=0),
        a_job(4, status=JobStatus.FAILED, finished_at_ms=NOW_MS, deadline_at_ms=0),
    ]
    rows = [job_rows.row_of(job, idempotency_key=None, fingerprint="f") for job in jobs]
    await stage.database.write(lambda connection: job_rows.insert_many(connection, rows))
    waiting = await stage.census.waiting(last_word_ms=0)
    assert (waiting.overdue, waiting.hold_expired) == ((jobs[0].id,), (jobs[2].id,))
    census = await stage.census.count()
    assert (census.unfinished, census.held) == ({(None, "queued"): 3}, 1)
    assert census.backlog == Backlog(0, None)


async def test_a_task_whose_job_is_gone_is_not_handed_out(stage: Stage) -> None:
    due = [(TaskKind.POLL, "job_gone", NOW_MS), (TaskKind.DELIVER, "dlv_gone", NOW_MS)]
    await stage.database.write(lambda connection: task_rows.insert_many(connection, due))
    assert await stage.dispatch.claim(10) == []
    assert await stage.outbox.claim(10) == []


async def test_progress_and_the_jobs_end_at_once_do_not_deadlock(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held by one waits for the other, either way round, for as long as each can see."""
    await stage.accept()
    task = await stage.claim()
    gave, ended = threading.Event(), threading.Event()
    runs = {"give": 0, "end": 0}
    again = task_rows.again

    def slow(connection: Connection, due: Due) -> bool:
        runs["give"] += 1
        done = again(connection, due)
        gave.set()
        ended.wait(0.3)
        return done

    def cancelled(job: Job, found: tuple[Attempt, ...]) -> Step:
        runs["end"] += 1
        ended.set()
        gave.wait(0.3)
        return transitions.cancel_requested(job, found, now_ms=NOW_MS)

    monkeypatch.setattr(task_rows, "again", slow)
    await asyncio.gather(
        stage.leases.unchanged(Due(claim=task.claim, due_at_ms=NOW_MS), progress=0.5),
        stage.record.transition(task.job.id, cancelled),
    )
    assert runs == {"give": 1, "end": 1}, "one was broken off, and begun again"
