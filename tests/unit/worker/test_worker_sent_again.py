"""Deliveries sent again: one that somebody asked for, and all that an endpoint missed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from job_examples import NOW_MS
from sqlalchemy import Connection
from store_stage import Stage
from told_endpoint import DAY_S, OK, Told, advanced
from worker_bench import SCHEDULE_S, Reply

from gateway.jobs.transitions import Event, Step
from gateway.jobs.view import instant
from gateway.service import recovery
from gateway.service.recovery import Recovered
from gateway.settings.model import Webhooks
from gateway.storage import tables


@pytest.fixture
async def told(stage: Stage) -> Told:
    return await Told(stage).made()


async def test_the_tries_of_one_that_is_sent_again_are_numbered_on(told: Told) -> None:
    await told.ends()
    await told.tries(OK)
    await told.redelivered()
    (again,) = await told.tries(Reply(500))
    await told.redelivered()
    (last,) = await told.tries(OK)
    ids = {one.headers["webhook-id"] for one in (*told.bench.receiver.asked, again, last)}
    assert len(ids) == 1
    shown = await told.delivery()
    assert [(one.number, one.outcome) for one in shown.attempts] == [
        (1, "delivered"),
        (2, "http_error"),
        (3, "delivered"),
    ]
    assert shown.state == "delivered"


async def test_one_that_was_delivered_stays_so_whatever_comes_of_sending_it_again(told: Told) -> None:
    await told.ends()
    await told.tries(OK)
    before = await told.delivery()
    told.stage.clock.advance(60)
    asked = await told.redelivered()
    assert (asked.state, asked.finished_at) == ("delivered", before.finished_at), "it was, and stays so"
    assert asked.next_try_at == instant(told.stage.clock.now_ms()), "and is on its way again"
    await told.tries(Reply(500))
    after = await told.delivery()
    assert (after.state, after.finished_at, after.next_try_at) == ("delivered", before.finished_at, None)
    assert [one.outcome for one in after.attempts] == ["delivered", "http_error"]
    recovered = await told.stage.recovery.recover(told.id, owner="alice", since_ms=NOW_MS)
    assert (recovered.requeued, await told.stage.tasks()) == (0, [])
    await told.redelivered()
    await told.stage.endpoints.disable(told.id, owner="alice")
    assert await told.tries() == []
    assert (await told.delivery()).state == "delivered", "nor does it matter that nothing was sent"


async def test_tries_that_are_asked_for_use_nothing_up_of_the_schedule(told: Told) -> None:
    await told.ends()
    await told.tries(Reply(500))
    told.stage.clock.advance(5)
    await told.tries(Reply(500))
    meant = (await told.delivery()).next_try_at
    for number in range(3, 3 + 2 * len(SCHEDULE_S)):
        asked = await told.redelivered()
        assert asked.next_try_at == instant(told.stage.clock.now_ms())
        await told.tries(Reply(500))
        shown = await told.delivery()
        assert [one.number for one in shown.attempts] == list(range(1, number + 1))
        assert (shown.state, shown.next_try_at) == ("pending", meant)
    told.stage.clock.advance(SCHEDULE_S[2])
    await told.tries(Reply(500))
    assert (await told.delivery()).state == "given_up", "its schedule is at its end"


async def test_a_try_asked_for_right_before_the_next_leaves_the_receiver_a_moment(told: Told) -> None:
    await told.ends()
    await told.tries(Reply(500))
    told.stage.clock.advance(4)
    await told.redelivered()
    await told.tries(Reply(500))
    assert await told.stage.tasks() == [("deliver", 9_000)]
    await told.redelivered()
    await told.tries(Reply(429))
    assert await told.stage.tasks() == [("deliver", 64_000)]


@pytest.mark.parametrize("tries", [1, len(SCHEDULE_S)])
async def test_what_is_asked_for_while_it_is_under_way_is_sent_once_more_if_that_fails(
    told: Told, tries: int
) -> None:
    await told.ends()
    for wait_s in SCHEDULE_S[1:tries]:
        await told.tries(Reply(500))
        told.stage.clock.advance(wait_s)
    promised: list[str | None] = []

    async def asked() -> None:
        told.stage.clock.advance(1)
        promised.append((await told.redelivered()).next_try_at)
        told.stage.clock.advance(10)

    told.bench.receiver.meanwhile = asked
    await told.tries(Reply(500))
    told.bench.receiver.meanwhile = None
    shown = await told.delivery()
    assert (shown.state, [shown.next_try_at]) == ("pending", promised)
    await told.tries(Reply(500))
    shown = await told.delivery()
    assert shown.state == ("pending" if tries == 1 else "given_up"), "as without it"
    assert [one.number for one in shown.attempts] == list(range(1, tries + 2))


async def test_what_is_asked_for_while_it_is_delivered_is_not_sent_again(told: Told) -> None:
    await told.ends()

    async def asked() -> None:
        told.stage.clock.advance(1)
        await told.redelivered()

    told.bench.receiver.meanwhile = asked
    await told.tries(OK)
    assert (await told.states(), await told.stage.tasks()) == (["delivered"], [])


async def test_what_waits_for_a_late_try_is_recovered_too(told: Told) -> None:
    await told.ends()
    await told.tries(Reply(500))
    told.stage.clock.advance(5)
    await told.tries(Reply(500))
    meant = (await told.delivery()).next_try_at
    told.stage.clock.advance(10)
    recover = partial(told.stage.recovery.recover, told.id, owner="alice")
    assert (await recover(since_ms=NOW_MS + 1)).requeued == 0, "it is of before"
    recovered = await recover(since_ms=NOW_MS)
    assert (recovered.requeued, recovered.complete) == (1, True)
    assert (await recover(since_ms=NOW_MS)).requeued == 0, "it is due"
    await told.tries(Reply(500))
    shown = await told.delivery()
    assert (shown.state, shown.next_try_at) == ("pending", meant), "that try did not count"
    await recover(since_ms=NOW_MS)
    await told.tries(OK)
    assert await told.states() == ["delivered"]


async def test_progress_that_is_no_news_any_more_is_not_sent_again(told: Told) -> None:
    stage = told.stage
    await stage.endpoints.change(told.id, owner="alice", events=["job.progress"])
    job_id = await stage.accept()

    async def advances(to: float) -> None:
        event = Event(type="job.progress", note={"progress": to})
        await stage.record.transition(job_id, lambda job, _: Step(job=job, events=(event,)))

    await advances(0.25)
    await told.tries(Reply(500))
    stage.clock.advance(5)
    await told.tries(Reply(500))
    await advances(0.5)
    await told.tries(Reply(500))
    before = await told.stands()
    stage.clock.advance(SCHEDULE_S[2])
    await told.tries(OK)
    latest, overtaken = await stage.deliveries.of_endpoint(told.id, owner="alice", before=None, limit=9)
    assert (latest.state, overtaken.state) == ("delivered", "overtaken")
    assert overtaken.finished_at == instant(stage.clock.now_ms())
    assert [one.outcome for one in overtaken.attempts] == ["http_error", "http_error", "overtaken"]
    assert "more has happened to the job" in overtaken.attempts[-1].detail
    assert (before.failures, before.failing_since_ms) == (1, NOW_MS)
    recovered = await stage.recovery.recover(told.id, owner="alice", since_ms=NOW_MS)
    assert (recovered.requeued, await told.tries()) == (0, [])
    asked = await stage.deliveries.redeliver(overtaken.id, owner="alice")
    assert asked.state == "pending"
    assert len(await told.tries(OK)) == 1, "whoever asks for this one gets it"
    assert (await told.delivery()).state == "delivered"


async def test_recover_gets_past_progress_that_is_no_news_to_what_lies_behind_it(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "RECOVERED_AT_ONCE", 2)
    monkeypatch.setattr(recovery, "MOST_RECOVERED", 6)
    stage = told.stage
    await stage.endpoints.change(told.id, owner="alice", events=["job.progress", "job.cancelled"])
    await stage.endpoints.disable(told.id, owner="alice")
    jobs = [await stage.accept() for _ in range(3)]
    for job_id in jobs:
        await advanced(stage, job_id, 0.2, 0.4, 0.6)
    for job_id in jobs:
        await stage.jobs.cancel(job_id, owner="alice")
    await stage.endpoints.enable(told.id, owner="alice")
    requeued: list[int] = []
    complete, sent = False, 0
    while not complete:
        recovered = await stage.recovery.recover(told.id, owner="alice", since_ms=0)
        complete = recovered.complete
        requeued.append(recovered.requeued)
        assert len(requeued) < 9, "it begins at the same ones again and again"
        while tasks := await told.bench.deliver.claim(64):
            for task in tasks:
                told.bench.receiver.says(OK)
                await told.bench.deliver.carry_out(task)
                sent += not told.bench.receiver.answers
                told.bench.receiver.answers.clear()
    assert (requeued, sent) == ([6, 6, 0], 3)
    found = {(row["type"], row["state"], row["overtaken"]) for row in await stage.rows(tables.deliveries)}
    assert found == {("job.progress", "given_up", 1), ("job.cancelled", "delivered", 0)}
    assert len(await stage.rows(tables.delivery_attempts)) == 12, "each was looked at once"


@pytest.mark.parametrize("tries", [1, 2])
async def test_a_recovery_of_all_ends_though_everything_fails_again_at_once(
    told: Told, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    """Whether it is given up again at once, or waits for a later try."""
    monkeypatch.setattr(recovery, "RECOVERED_AT_ONCE", 2)
    stage = told.stage
    told.bench.deliver._settings = Webhooks(schedule_s=SCHEDULE_S[:tries], jitter=0.0)
    for _ in range(6):
        await told.ends()

    async def failing_all() -> None:
        while tasks := await told.bench.deliver.claim(64):
            told.bench.receiver.says(*[Reply(500)] * len(tasks))
            for task in tasks:
                await told.bench.deliver.carry_out(task)

    await failing_all()
    stage.clock.advance(1)
    asked: list[int] = []
    woken = stage.recovery._woken

    async def failing(operation: Callable[[Connection], list[Any]]) -> list[Any]:
        """Everything that is made due fails before the recovery goes on."""
        found = await woken(operation)
        asked.append(len(found))
        assert len(asked) < 9, "it takes the same ones again and again"
        await failing_all()
        return found

    monkeypatch.setattr(stage.recovery, "_woken", failing)
    recovered = await stage.recovery.recover(told.id, owner="alice", since_ms=0, every=True)
    assert recovered == Recovered(requeued=6, complete=True)


async def test_what_was_asked_for_again_says_nothing_of_how_late_webhooks_are(told: Told) -> None:
    await told.ends()
    await told.tries(OK)
    lags = 'webhook_lag_seconds_bucket{le="+Inf"}'
    assert told.bench.counted(lags) == 1
    told.stage.clock.advance(DAY_S)
    await told.redelivered()
    await told.tries(OK)
    await told.stage.endpoints.disable(told.id, owner="alice")
    await told.ends()
    await told.stage.endpoints.enable(told.id, owner="alice")
    await told.stage.recovery.recover(told.id, owner="alice", since_ms=NOW_MS)
    await told.tries(OK)
    assert told.bench.counted(lags) == 1
