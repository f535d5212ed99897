"""Telling a receiver: the frozen bytes, until it takes them or the schedule ends."""

from __future__ import annotations

import httpx
import pytest
from job_examples import NOW_MS, a_request, a_webhook
from store_stage import LEASE_S, Stage
from worker_bench import SCHEDULE_S, Answer, Bench, Killed, NobodyThere, Reply

from gateway.errors import SettingsError
from gateway.service.keys import Scope
from gateway.service.outbox import DeliveryTask
from gateway.storage import tables
from gateway.webhooks.signing import decode_secret, sign

OWN_SECRET = "whsec_" + "T" * 32
OK = Reply(200, {"ok": True})


class Told:
    """A job that has ended, its receiver, and the keys of its owner."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.bench = Bench(stage)

    async def ends(self, *, secret: str | None = None) -> str:
        """End a job; returns its owner's secret."""
        created = await self.stage.keys.create(name="n", owner="alice", scopes=[Scope.JOBS])
        request = a_request(webhook=a_webhook("job.cancelled"))
        job_id = await self.stage.accept(request, webhook_secret=secret)
        await self.stage.jobs.cancel(job_id, owner="alice")
        return created.webhook_secret or ""

    async def due(self) -> DeliveryTask:
        (task,) = await self.stage.outbox.claim(10)
        return task

    async def tries(self, *answers: Answer) -> None:
        """Carry out what is due, to these answers."""
        self.bench.receiver.says(*answers)
        for task in await self.stage.outbox.claim(10):
            await self.bench.deliver(task)
        assert not self.bench.receiver.answers

    async def delivery(self) -> dict[str, object]:
        (row,) = await self.stage.rows(tables.deliveries)
        return row

    async def outcomes(self) -> list[tuple[object, object, object]]:
        rows = await self.stage.rows(tables.delivery_attempts)
        return [(row["number"], row["outcome"], row["status"]) for row in rows]


@pytest.fixture
def told(stage: Stage) -> Told:
    return Told(stage)


def headers_of(request: httpx.Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name.startswith("webhook-")}


@pytest.mark.parametrize("own", [OWN_SECRET, None])
async def test_the_frozen_body_goes_out_signed_with_the_right_secret(told: Told, own: str | None) -> None:
    owners = await told.ends(secret=own)
    await told.tries(OK)
    (request,) = told.bench.receiver.asked
    row = await told.delivery()
    body = await request.aread()
    assert body == row["body"]
    assert str(request.url) == "https://receiver.example/hook"
    expected = sign(
        [decode_secret(own or owners)],
        message_id=str(row["message_id"]),
        timestamp_s=NOW_MS // 1000,
        body=body,
    )
    assert headers_of(request) == expected
    assert (row["state"], row["finished_at_ms"]) == ("delivered", NOW_MS)
    assert await told.stage.tasks() == []


async def test_every_try_sends_the_same_with_a_new_time(told: Told) -> None:
    await told.ends()
    await told.tries(Reply(500))
    assert await told.stage.tasks() == [("deliver", 5000)]
    told.stage.clock.advance(5)
    await told.tries(OK)
    first, second = told.bench.receiver.asked
    assert await first.aread() == await second.aread()
    before, after = headers_of(first), headers_of(second)
    assert before["webhook-id"] == after["webhook-id"]
    assert int(after["webhook-timestamp"]) - int(before["webhook-timestamp"]) == 5
    assert before["webhook-signature"] != after["webhook-signature"]
    assert await told.outcomes() == [(1, "http_error", 500), (2, "delivered", 200)]
    assert (await told.delivery())["state"] == "delivered"


@pytest.mark.parametrize("answer", [Reply(500), Reply(404), Reply(301), NobodyThere()], ids=repr)
async def test_the_schedule_is_followed_to_its_end(told: Told, answer: Answer) -> None:
    await told.ends()
    for wait_s in SCHEDULE_S[1:]:
        await told.tries(answer)
        ((_, due_ms),) = await told.stage.tasks()
        assert due_ms == told.stage.clock.now_ms() - NOW_MS + wait_s * 1000
        assert (await told.delivery())["state"] == "pending"
        told.stage.clock.advance(wait_s)
    await told.tries(answer)
    assert (await told.delivery())["state"] == "given_up"
    assert await told.stage.tasks() == []
    assert [number for number, _, _ in await told.outcomes()] == [1, 2, 3]


async def test_a_receiver_that_is_gone_is_not_asked_again(told: Told) -> None:
    await told.ends()
    await told.tries(Reply(410))
    assert (await told.delivery())["state"] == "given_up"
    assert await told.outcomes() == [(1, "gone", 410)]


async def test_a_receiver_that_was_not_asked_was_not_tried(told: Told) -> None:
    await told.ends()
    task = await told.due()
    async with told.bench.sender._turns.place("receiver.example", within_s=1):
        await told.bench.deliver(task)
    assert (told.bench.receiver.asked, await told.outcomes()) == ([], [])
    assert await told.stage.tasks() == [("deliver", 10_000)]
    told.stage.clock.advance(10)
    await told.tries(OK)
    assert await told.outcomes() == [(1, "delivered", 200)]


async def carried_out(told: Told, *answers: Answer) -> bool:
    """Claim what is due and carry it out as the lane does; whether that is a reason to look."""
    told.bench.receiver.says(*answers)
    (task,) = await told.bench.deliver.claim(10)
    return told.bench.deliver.looks_after(await told.bench.deliver.carry_out(task))


async def test_a_try_that_was_taken_is_no_reason_to_look_for_more(told: Told) -> None:
    await told.ends()
    assert not await carried_out(told, OK)


async def test_one_that_comes_again_says_when(told: Told) -> None:
    await told.ends()
    assert await carried_out(told, Reply(500))


async def test_whatever_ends_makes_room_for_what_was_kept_out(told: Told) -> None:
    await told.ends()
    await told.ends()
    (first,) = await told.bench.deliver.claim(1)  # of a lane that is new, and has one place
    assert await told.bench.deliver.next_due_ms() is None
    told.bench.receiver.says(OK)
    took = await told.bench.deliver.carry_out(first)
    assert (took, told.bench.deliver.looks_after(took)) == (True, True)
    assert await told.bench.deliver.next_due_ms() == NOW_MS
    assert not told.bench.deliver.looks_after(took)


async def test_what_ends_in_another_lane_makes_no_room_in_one_that_has_its_fill(told: Told) -> None:
    await told.ends()
    await told.ends()
    (first,) = await told.bench.deliver.claim(1)
    assert await told.bench.deliver.next_due_ms() is None
    assert not told.bench.deliver.looks_after(True)  # what was taken elsewhere
    told.bench.receiver.says(OK)
    await told.bench.deliver.carry_out(first)
    assert told.bench.deliver.looks_after(True)


async def test_death_after_the_send_sends_again_under_the_same_id(told: Told) -> None:
    await told.ends()
    with pytest.raises(Killed):
        await told.tries(Killed())
    told.stage.clock.advance(LEASE_S + 1)
    told.stage.become("second")
    await told.tries(OK)
    first, second = (headers_of(request) for request in told.bench.receiver.asked)
    assert first["webhook-id"] == second["webhook-id"]
    assert await told.outcomes() == [(1, "delivered", 200)]


async def test_whoever_lost_its_lease_logs_nothing(told: Told) -> None:
    await told.ends()
    task = await told.due()
    told.stage.clock.advance(LEASE_S + 1)
    await told.stage.worker("second").outbox.claim(10)
    told.bench.receiver.says(OK)
    await told.bench.deliver(task)
    assert await told.outcomes() == []
    assert (await told.delivery())["state"] == "pending"


async def test_without_a_secret_nothing_is_sent(told: Told) -> None:
    request = a_request(webhook=a_webhook("job.cancelled"))
    job_id = await told.stage.accept(request, owner="nobody")
    await told.stage.jobs.cancel(job_id, owner=None)
    with pytest.raises(SettingsError, match="nobody"):
        await told.tries()
    assert told.bench.receiver.asked == []


async def test_what_becomes_of_it_is_counted(told: Told) -> None:
    await told.ends()
    await told.tries(Reply(500))
    told.stage.clock.advance(5)
    await told.tries(OK)
    assert told.bench.counted("webhook_attempts_total") == 2
