"""What a client may ask about its jobs."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from job_examples import NOW_MS, a_request, a_webhook, an_attempt
from sqlalchemy import Connection
from store_stage import Stage

from gateway.errors import Refusal, Unreadable
from gateway.jobs import transitions
from gateway.jobs.job import AttemptState
from gateway.jobs.view import JobView
from gateway.service.jobs import DeliveryEntry, EventEntry, ExchangeEntry
from gateway.storage import jobs as job_rows
from gateway.storage.deliveries import DeliveryAttempt
from gateway.storage.exchanges import Exchange
from gateway.storage.jobs import JobFilter
from providers.contract.status import JobStatus


@pytest.mark.parametrize("owner", ["alice", None])
async def test_a_job_is_shown_to_its_owner_and_to_operators(stage: Stage, owner: str | None) -> None:
    job_id = await stage.accept()
    assert (await stage.jobs.show(job_id, owner=owner)).id == job_id


async def test_a_strangers_job_is_as_unknown_as_one_that_is_not_there(stage: Stage) -> None:
    job_id = await stage.accept()
    asked = [
        stage.jobs.show(job_id, owner="bob"),
        stage.jobs.cancel(job_id, owner="bob"),
        stage.jobs.timeline(job_id, owner="bob"),
        stage.jobs.show("job_x", owner=None),
        stage.jobs.cancel("job_x", owner=None),
        stage.jobs.timeline("job_x", owner=None),
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {(type(one), str(one), getattr(one, "slug", "")) for one in answers} == {
        (Refusal, "there is no such job", "not-found")
    }
    assert (await stage.jobs.show(job_id, owner="alice")).status is JobStatus.QUEUED


async def test_reads_at_once_are_few_statements(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [await stage.accept() for _ in range(10)]
    asked: list[int] = []

    def counted(connection: Connection, job_ids: list[str]) -> dict[str, tuple[str, JobView | Unreadable]]:
        asked.append(len(job_ids))
        return load_views(connection, job_ids)

    load_views = job_rows.load_views
    monkeypatch.setattr(job_rows, "load_views", counted)
    shown = await asyncio.gather(
        *(stage.jobs.show(jobs[number % 10], owner="alice") for number in range(100))
    )
    assert [one.id for one in shown] == jobs * 10
    assert len(asked) <= 2
    assert max(asked) == 10


async def test_a_page_is_bound_to_its_filter(stage: Stage) -> None:
    jobs = [await stage.accept() for _ in range(3)]
    page = await stage.jobs.page(JobFilter(owner="alice", limit=2))
    assert {one.id for one in page} < set(jobs)
    assert await stage.jobs.page(JobFilter(owner="bob")) == []


async def test_a_cancel_answers_with_the_job_as_it_then_is(stage: Stage) -> None:
    job_id = await stage.accept()
    shown = await stage.jobs.cancel(job_id, owner="alice")
    assert (shown.status, shown.cancel_requested_at) == (JobStatus.CANCELLED, "2027-01-15T08:00:00.000Z")
    with pytest.raises(Refusal, match="cancelled already") as caught:
        await stage.jobs.cancel(job_id, owner="alice")
    assert caught.value.slug == "job-already-finished"


async def test_a_cancel_of_a_running_job_is_noted_and_may_be_repeated(stage: Stage) -> None:
    job_id = await stage.accept()
    task = await stage.claim()
    await stage.record.intent(task.claim, lambda job, _: transitions.begin(job, an_attempt(job=job)))
    first = await stage.jobs.cancel(job_id, owner="alice")
    stage.clock.advance(5)
    again = await stage.jobs.cancel(job_id, owner="alice")
    assert msgspec.json.encode(first) == msgspec.json.encode(again)
    assert (first.status, first.attempts[0].state) == (JobStatus.QUEUED, AttemptState.SUBMITTING)


async def test_cancels_of_many_hurt_nobody_elses(stage: Stage) -> None:
    """One refused cancel among others in the same commit."""
    jobs = [await stage.accept() for _ in range(5)]
    await stage.jobs.cancel(jobs[2], owner="alice")
    answers = await asyncio.gather(
        *(stage.jobs.cancel(job_id, owner="alice") for job_id in jobs), return_exceptions=True
    )
    assert [isinstance(one, Refusal) for one in answers] == [False, False, True, False, False]


async def test_a_timeline_tells_all_in_order(stage: Stage) -> None:
    job_id = await stage.accept(a_request(webhook=a_webhook("job.cancelled")))
    task = await stage.claim()
    stage.clock.advance(1)
    said = Exchange(
        job_id=job_id,
        attempt_id="att_1",
        operation="submit",
        at_ms=stage.clock.now_ms(),
        duration_ms=3,
        outcome="made",
        request="POST /jobs",
        status=None,
        response="",
    )
    stage.clock.advance(1)
    await stage.record.result(
        task.claim,
        lambda job, found: transitions.cancel_requested(job, found, now_ms=stage.clock.now_ms()),
        exchange=said,
    )
    (delivery,) = await stage.outbox.claim(1)
    tried = DeliveryAttempt(
        delivery_id=delivery.delivery.id,
        number=1,
        at_ms=NOW_MS + 3000,
        duration_ms=9,
        outcome="delivered",
        status=204,
        detail="",
    )
    await stage.outbox.delivered(delivery.claim, tried, state="delivered", due=None)
    timeline = await stage.jobs.timeline(job_id, owner="alice")
    told: list[tuple[str, str, object]] = []
    for entry in timeline.entries:
        match entry:
            case EventEntry():
                told.append((entry.at[17:-1], entry.type, entry.sequence))
            case ExchangeEntry():
                told.append((entry.at[17:-1], entry.operation, entry.outcome))
            case DeliveryEntry():
                told.append((entry.at[17:-1], entry.outcome, entry.number))
    assert told == [
        ("00.000", "job.accepted", 1),
        ("01.000", "submit", "made"),
        ("02.000", "cancel.requested", 2),
        ("02.000", "job.cancelled", 3),
        ("02.000", "frozen", 0),
        ("03.000", "delivered", 1),
    ]
    kinds = [entry["kind"] for entry in msgspec.json.decode(msgspec.json.encode(timeline))["entries"]]
    assert kinds == ["plan", "event", "exchange", "event", "event", "delivery", "delivery"]
