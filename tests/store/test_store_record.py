"""One transaction a transition, fenced; what is told is what was committed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from invariants import check_invariants
from job_examples import EVERY_EVENT, NOW_MS, OUTPUT_URL, a_request, a_spec, a_webhook, an_attempt
from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from store_stage import LEASE_S, Stage, types_of

from gateway.errors import LeaseLost
from gateway.jobs import transitions
from gateway.jobs.job import Attempt, AttemptState, Job
from gateway.jobs.transitions import Step, TaskKind
from gateway.service.record import Decide, JobUnknown
from gateway.storage import deliveries as delivery_rows
from gateway.storage import delivery_tasks, tables, tasks
from gateway.storage import events as event_rows
from gateway.storage.exchanges import Exchange
from gateway.storage.tasks import Due, Memo
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.normalize import Update
from providers.contract.status import JobStatus

SAID = Exchange(
    job_id="",
    attempt_id="",
    operation="submit",
    at_ms=NOW_MS,
    duration_ms=1,
    outcome="made",
    request="POST /jobs",
    status=200,
    response="{}",
)
TOLD = a_request(webhook=a_webhook())


def begin(job: Job, attempts: tuple[Attempt, ...]) -> Step:
    number = len(attempts) + 1
    return transitions.begin(job, an_attempt(number=number, job=job, id=f"att_{job.id[-26:]}{number:06x}"))


def accept(job: Job, attempts: tuple[Attempt, ...]) -> Step:
    return transitions.accepted(job, attempts[-1], ref="r", now_ms=NOW_MS, poll_at_ms=NOW_MS + 5000)


def saw(status: JobStatus) -> Decide:
    update = Update(provider_status=status.value, status=status, outputs=(OUTPUT_URL,))
    return lambda job, attempts: transitions.observed(
        job, attempts[-1], update=update, spec=a_spec(), now_ms=NOW_MS + 9000
    )


def cancel(job: Job, attempts: tuple[Attempt, ...]) -> Step:
    return transitions.cancel_requested(job, attempts, now_ms=NOW_MS)


def nothing(job: Job, _attempts: tuple[Attempt, ...]) -> Step:
    return Step(job=job)


async def accepted_job(stage: Stage, **request: object) -> str:
    """A job that its provider has accepted."""
    job_id = await stage.accept(replace(TOLD, **request))
    task = await stage.claim(TaskKind.SUBMIT)
    await stage.record.intent(task.claim, begin)
    await stage.record.result(task.claim, accept, exchange=replace(SAID, job_id=job_id))
    return job_id


async def test_a_whole_life_is_told_step_by_step(stage: Stage) -> None:
    job_id = await accepted_job(stage)
    assert await stage.tasks() == [("poll", 5000)]
    stage.clock.advance(6)
    task = await stage.claim(TaskKind.POLL)
    due = Due(claim=task.claim, due_at_ms=NOW_MS + 16_000, memo=Memo(asked_ms=7))
    await stage.record.result(task.claim, saw(JobStatus.RUNNING), then=due)
    stage.clock.advance(11)
    task = await stage.claim(TaskKind.POLL)
    assert task.claim.memo == Memo(asked_ms=7)
    await stage.record.result(task.claim, saw(JobStatus.SUCCEEDED))
    told = [
        "job.accepted",
        "attempt.submitting",
        "attempt.accepted",
        "job.running",
        "job.succeeded",
    ]
    assert await stage.events(job_id) == told
    assert types_of(stage.heard) == told[1:]
    job = await stage.job(job_id)
    assert (job.sequence, job.state.status, job.progress) == (5, JobStatus.SUCCEEDED, 1.0)
    assert [kind for kind, _ in await stage.tasks()] == ["deliver", "deliver"]
    assert len(await stage.rows(tables.exchanges)) == 1


async def test_the_log_replays_to_the_row(stage: Stage, database_path: Path) -> None:
    for ends in (saw(JobStatus.SUCCEEDED), saw(JobStatus.FAILED), saw(JobStatus.CANCELLED), cancel):
        job_id = await accepted_job(stage)
        await stage.record.transition(job_id, saw(JobStatus.RUNNING))
        await stage.record.transition(job_id, ends)
    await stage.accept(TOLD)
    assert check_invariants(database_path) == 5


async def test_a_decision_that_changes_nothing_writes_nothing(stage: Stage) -> None:
    job_id = await accepted_job(stage)
    before = await stage.everything()
    recorded = await stage.record.transition(job_id, nothing)
    assert (recorded.events, recorded.before, recorded.after) == ((), recorded.after, recorded.before)
    assert await stage.everything() == before


async def test_there_is_no_such_job(stage: Stage) -> None:
    with pytest.raises(JobUnknown):
        await stage.record.transition("job_x", nothing)


async def test_a_decision_that_raises_leaves_nothing(stage: Stage) -> None:
    """Neither the closed task nor the exchange, which were written before it."""

    def broken(_job: Job, _attempts: tuple[Attempt, ...]) -> Step:
        raise ZeroDivisionError

    await accepted_job(stage)
    stage.clock.advance(6)
    task = await stage.claim(TaskKind.POLL)
    before, heard = await stage.everything(), len(stage.heard)
    with pytest.raises(ZeroDivisionError):
        await stage.record.result(task.claim, broken, exchange=SAID)
    with pytest.raises(ZeroDivisionError):
        await stage.record.transition(task.job.id, broken)
    assert await stage.everything() == before
    assert len(stage.heard) == heard


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        (event_rows, "insert_many"),
        (tasks, "drop"),
        (delivery_rows, "insert_many"),
        (delivery_tasks, "insert_deliveries"),
    ],
    ids=["events", "follow-ups", "deliveries", "their tasks"],
)
async def test_a_statement_that_fails_leaves_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, module: object, statement: str
) -> None:
    """Each is the last but one, or the last, of what a job's end writes."""
    await accepted_job(stage)
    stage.clock.advance(6)
    task = await stage.claim(TaskKind.POLL)
    before = await stage.everything()

    def fails(connection: Connection, *_rest: object) -> None:
        connection.exec_driver_sql("INSERT INTO jobs (id) VALUES ('x')")

    with monkeypatch.context() as patched:
        patched.setattr(module, statement, fails)
        with pytest.raises(IntegrityError):
            await stage.record.result(task.claim, saw(JobStatus.SUCCEEDED), exchange=SAID)
    assert await stage.everything() == before
    await stage.record.result(task.claim, saw(JobStatus.SUCCEEDED), exchange=SAID)
    assert (await stage.job(task.job.id)).state.status is JobStatus.SUCCEEDED


async def test_whoever_lost_its_lease_writes_nothing(stage: Stage) -> None:
    job_id = await stage.accept(TOLD)
    slow = await stage.claim(TaskKind.SUBMIT)
    await stage.record.intent(slow.claim, begin)
    stage.clock.advance(LEASE_S + 1)
    (taken,) = await stage.worker("second").dispatch.claim(10)
    before, heard = await stage.everything(), len(stage.heard)
    later = Due(claim=slow.claim, due_at_ms=NOW_MS)
    with pytest.raises(LeaseLost):
        await stage.record.result(slow.claim, accept, exchange=SAID)
    with pytest.raises(LeaseLost):
        await stage.record.result(slow.claim, accept, exchange=SAID, then=later)
    with pytest.raises(LeaseLost):
        await stage.record.intent(slow.claim, begin)
    assert not await stage.leases.unchanged(later, progress=0.5)
    assert await stage.leases.heartbeat([slow.claim]) == [slow.claim]
    await stage.leases.release([slow.claim])
    assert await stage.everything() == before
    assert len(stage.heard) == heard
    await stage.record.result(taken.claim, accept)
    assert await stage.states(job_id) == [AttemptState.ACCEPTED]


async def test_a_lease_is_not_good_for_the_task_that_came_after(stage: Stage) -> None:
    """A refused submit is done and made anew: who slept on the first must not find its version."""
    job_id = await stage.accept()
    asleep = await stage.claim(TaskKind.SUBMIT)
    stage.clock.advance(LEASE_S + 1)
    stage.become("second")
    second = await stage.claim(TaskKind.SUBMIT)
    await stage.record.intent(second.claim, begin)
    busy = UpstreamError(code=ErrorCode.RATE_LIMITED, message="busy")
    now_ms = stage.clock.now_ms()
    await stage.record.result(
        second.claim,
        lambda job, tried: transitions.refused(
            job, tried[-1], error=busy, now_ms=now_ms, again_at_ms=now_ms + 1000, others=tried
        ),
    )
    stage.clock.advance(1)
    for number in range(3):
        stage.become(f"later {number}")
        await stage.claim(TaskKind.SUBMIT)
        with pytest.raises(LeaseLost):
            await stage.record.intent(asleep.claim, begin)
        with pytest.raises(LeaseLost):
            await stage.record.result(asleep.claim, nothing)
        stage.clock.advance(LEASE_S + 1)
    assert await stage.states(job_id) == [AttemptState.REFUSED]


async def test_an_intent_keeps_the_task_and_its_lease(stage: Stage) -> None:
    job_id = await stage.accept()
    task = await stage.claim(TaskKind.SUBMIT)
    recorded = await stage.record.intent(task.claim, begin)
    assert recorded is not None
    assert [attempt.state for attempt in recorded.attempts] == [AttemptState.SUBMITTING]
    assert await stage.dispatch.claim(10) == []
    assert await stage.leases.heartbeat([task.claim]) == []
    assert (await stage.job(job_id)).state.provider == "acme"


async def test_the_end_drops_what_was_still_to_be_done(stage: Stage) -> None:
    job_id = await stage.accept()
    await stage.record.transition(job_id, cancel)
    assert await stage.tasks() == []


async def test_a_follow_up_that_is_due_already_is_only_moved(stage: Stage) -> None:
    job_id = await accepted_job(stage)
    await stage.record.transition(job_id, cancel)
    assert await stage.tasks() == [("cancel", 0), ("poll", 5000)]
    stage.clock.advance(900)
    now_ms = stage.clock.now_ms()
    await stage.record.transition(
        job_id, lambda job, tried: transitions.deadline_passed(job, tried, now_ms=now_ms)
    )
    assert [task for task in await stage.tasks() if task[0] != "deliver"] == [("cancel", 900_000)]


async def test_every_event_asked_for_is_frozen_once_as_the_job_stood(stage: Stage) -> None:
    job_id = await accepted_job(stage, webhook=a_webhook("job.running", "job.succeeded"))
    await stage.record.transition(job_id, saw(JobStatus.RUNNING))
    (running,) = await stage.rows(tables.deliveries)
    await stage.record.transition(job_id, saw(JobStatus.SUCCEEDED))
    rows = await stage.rows(tables.deliveries)
    assert [row["type"] for row in rows] == ["job.running", "job.succeeded"]
    assert rows[0] == running, "what was frozen is never written again"
    bodies = [msgspec.json.decode(row["body"]) for row in rows if isinstance(row["body"], bytes)]
    assert [(one["type"], one["sequence"], one["data"]["status"]) for one in bodies] == [
        ("job.running", 4, "running"),
        ("job.succeeded", 5, "succeeded"),
    ]
    assert bodies[0]["timestamp"] == "2027-01-15T08:00:00.000Z"
    assert len({row["message_id"] for row in rows} | {row["id"] for row in rows}) == 4


async def test_two_events_of_one_step_are_two_deliveries(stage: Stage) -> None:
    assert "job.held" in EVERY_EVENT
    job_id = await stage.accept(TOLD)
    task = await stage.claim()
    await stage.record.intent(task.claim, begin)
    await stage.record.result(
        task.claim,
        lambda job, tried: transitions.unknown(
            job, tried[-1], reason="silence", now_ms=NOW_MS, hold_until_ms=NOW_MS + 1000
        ),
    )
    assert (await stage.events(job_id))[-2:] == ["attempt.unknown", "job.held"]
    (row,) = await stage.rows(tables.deliveries)
    assert (row["type"], row["sequence"]) == ("job.held", 4)
    assert [kind for kind, _ in await stage.tasks()] == ["deliver"]


async def test_nobody_is_told_who_did_not_ask(stage: Stage) -> None:
    job_id = await accepted_job(stage, webhook=None)
    await stage.record.transition(job_id, saw(JobStatus.SUCCEEDED))
    assert await stage.rows(tables.deliveries) == []
    assert await stage.tasks() == []


async def test_what_changed_is_logged_with_the_first_event_of_a_step(stage: Stage) -> None:
    job_id = await accepted_job(stage)
    log = await stage.database.read(lambda connection: event_rows.load_of(connection, job_id))
    entries = [msgspec.json.decode(row.data) for row in log]
    assert entries[1]["state"] == {"provider": "acme"}
    assert entries[1]["attempt"]["state"] == "submitting"
    assert "state" not in entries[2]
    assert entries[2]["attempt"] == {
        "id": entries[1]["attempt"]["id"],
        "state": "accepted",
        "ref": "r",
        "accepted_at_ms": NOW_MS,
    }
    assert entries[2]["note"] == {"provider_ref": "r"}
