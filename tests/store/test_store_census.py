"""What the gauges show of the store: who waits longest, whose budget is used up, what lapses untold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from job_examples import NOW_MS, OUTPUT_URL, a_job, a_request, a_webhook
from msgspec.structs import replace
from sqlalchemy import Connection, insert, update
from store_stage import Stage

from gateway.errors import StorageUnavailable
from gateway.jobs.job import Output
from gateway.jobs.spend import Money
from gateway.jobs.transitions import TaskKind
from gateway.service import census as service
from gateway.service.census import LAPSES_SOON_MS
from gateway.storage import jobs as job_rows
from gateway.storage import limits as limit_rows
from gateway.storage import spend as spend_rows
from gateway.storage import tables
from gateway.storage.reported import Reported
from providers.contract.status import JobStatus

TODAY = "2027-01-15"


async def spend(stage: Stage, owner: str, day: str, *, reserved: int = 0, charged: int = 0) -> None:
    change = {(owner, day, "acme"): Money(1, reserved, charged)}
    await stage.database.write(lambda connection: spend_rows.add(connection, change))


async def allow(stage: Stage, owner: str, budget: int | None) -> None:
    def operation(connection: Connection) -> None:
        row = {"name": owner, "sealed_webhook_secret": "s", "created_at_ms": 1}
        connection.execute(insert(tables.owners).values(row))
        limit_rows.set_owner(connection, owner, {"budget_micro_usd": budget})

    await stage.database.write(operation)


async def succeed(stage: Stage, number: int, *, expires_ms: int, **deliveries: str) -> None:
    """Store a success, with a delivery of each of these states, by the event's type with underscores."""
    output = Output(url=OUTPUT_URL, content_type="video/mp4", expires_at_ms=expires_ms)
    job = a_job(number, status=JobStatus.SUCCEEDED, finished_at_ms=NOW_MS, outputs=(output,))
    rows = [
        {
            "id": f"dlv_{number}_{sequence}",
            "job_id": job.id,
            "owner": "alice",
            "sequence": sequence,
            "message_id": "msg_1",
            "type": kind.replace("_", ".").rstrip("."),
            "url": "https://receiver.example",
            "body": b"{}",
            "created_at_ms": NOW_MS,
            "state": state,
        }
        for sequence, (kind, state) in enumerate(deliveries.items())
    ]

    def operation(connection: Connection) -> None:
        job_rows.insert_many(connection, [job_rows.row_of(job, idempotency_key=None, fingerprint="f")])
        if rows:
            connection.execute(insert(tables.deliveries), rows)

    await stage.database.write(operation)


async def test_the_oldest_that_waits_is_not_one_that_was_begun(stage: Stage) -> None:
    assert (await stage.census.count()).oldest_waiting_ms is None
    begun = await stage.accept()
    stage.clock.advance(5)
    await stage.accept()
    stage.clock.advance(5)
    await stage.accept()
    assert (await stage.census.count()).oldest_waiting_ms == NOW_MS
    leave = (
        update(tables.tasks)
        .where(tables.tasks.c.kind == TaskKind.SUBMIT.value, tables.tasks.c.subject == begun)
        .values(room=None)
    )
    await stage.database.write(lambda connection: connection.execute(leave).rowcount)
    assert (await stage.census.count()).oldest_waiting_ms == NOW_MS + 5000


async def test_owners_are_counted_by_what_is_left_of_the_months_budget(stage: Stage) -> None:
    assert (await stage.census.stock()).at_budget == {"80": 0, "100": 0}
    for owner, budget in (("low", 100), ("near", 100), ("over", 100), ("barred", 0), ("free", None)):
        await allow(stage, owner, budget)
        await spend(stage, owner, "2026-12-31", charged=1000)
    await spend(stage, "low", TODAY, charged=79)
    await spend(stage, "near", TODAY, charged=50)
    await spend(stage, "near", "2027-01-01", reserved=30)
    await spend(stage, "over", TODAY, charged=100)
    for owner in ("barred", "free"):
        await spend(stage, owner, TODAY, charged=1000)
    assert (await stage.census.stock()).at_budget == {"80": 2, "100": 1}


async def test_outputs_that_lapse_soon_are_counted_by_whether_anybody_was_told(stage: Stage) -> None:
    soon, later = NOW_MS + LAPSES_SOON_MS - 1, NOW_MS + LAPSES_SOON_MS
    assert (await stage.census.stock()).expiring == {}
    await succeed(stage, 1, expires_ms=soon, job_succeeded="pending", job_running="delivered")
    await succeed(stage, 2, expires_ms=soon, job_succeeded="given_up")
    await succeed(stage, 3, expires_ms=soon, job_succeeded="given_up", job_succeeded_="delivered")
    await succeed(stage, 4, expires_ms=soon)
    await succeed(stage, 5, expires_ms=soon, job_running="delivered")
    await succeed(stage, 6, expires_ms=later, job_succeeded="pending")
    await succeed(stage, 7, expires_ms=NOW_MS - 1, job_succeeded="pending")
    assert (await stage.census.stock()).expiring == {"undelivered": 2, "delivered": 1, "unasked": 2}


async def test_of_outputs_that_lapse_soon_the_first_are_looked_at(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "EXPIRING_MOST", 1)
    await succeed(stage, 1, expires_ms=NOW_MS + 2)
    await succeed(stage, 2, expires_ms=NOW_MS + 1, job_succeeded="pending")
    assert (await stage.census.stock()).expiring == {"undelivered": 1}


async def test_a_success_that_is_recorded_says_when_its_outputs_lapse(stage: Stage) -> None:
    job_id = await stage.accept(a_request(webhook=a_webhook()))
    job = await stage.job(job_id)
    outputs = tuple(Output(url=OUTPUT_URL, content_type="video/mp4", expires_at_ms=at) for at in (9, 7, 8))
    ended = replace(
        job, state=replace(job.state, status=JobStatus.SUCCEEDED, outputs=outputs), sequence=job.sequence + 1
    )
    await stage.database.write(lambda connection: job_rows.save(connection, ended, seen=job.sequence))
    (row,) = await stage.rows(tables.jobs)
    assert row["outputs_expire_at_ms"] == 7


async def test_what_the_database_refuses_is_told_and_nothing_else(stage: Stage) -> None:
    told: list[str] = []
    reported = Reported(stage.database, lambda: told.append("refused"))

    def fails(error: Exception) -> Callable[[Connection], None]:
        def operation(_: Connection) -> None:
            raise error

        return operation

    for run in (reported.read, reported.write):
        assert await run(lambda _: 5) == 5
        with pytest.raises(ZeroDivisionError):
            await run(fails(ZeroDivisionError()))
    assert told == []
    assert reported.trouble is None
    await stage.database.close()
    for run in (reported.read, reported.write):
        with pytest.raises(StorageUnavailable):
            await run(lambda _: 5)
    assert told == ["refused"] * 2
