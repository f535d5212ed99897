"""Sending to endpoints: signed with what is valid then, and to nobody who is disabled."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from job_examples import NOW_MS
from sqlalchemy import Connection
from store_stage import Stage
from worker_bench import SCHEDULE_S, Answer, Bench, Killed, NobodyThere, Reply

from gateway.jobs.job import Job
from gateway.jobs.transitions import Event, Step
from gateway.jobs.view import instant
from gateway.service import endpoints as service
from gateway.service.deliveries import DeliveryView
from gateway.service.endpoints import Recovered
from gateway.service.pings import Pings
from gateway.settings.model import Webhooks
from gateway.storage import tables
from gateway.storage.endpoints import Endpoint
from gateway.storage.tasks import Claim
from gateway.telemetry.labels import DISABLED
from gateway.webhooks.endurance import ENDURED_MS
from gateway.webhooks.retry import BUSY_S

OK = Reply(200)
URL = "https://receiver.example/all"
DAY_S = 86_400


class Told:
    """An endpoint of alice's that hears of cancelled jobs."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.bench = Bench(stage)
        self.id = ""
        self.secret = ""
        self.public_key = ""

    async def made(self, *, signing: Any = "hmac") -> Told:
        made = await self.stage.endpoints.create(
            owner="alice", url=URL, events=["job.cancelled"], signing=signing
        )
        self.id, self.secret, self.public_key = made.id, made.secret or "", made.public_key or ""
        return self

    async def ends(self) -> None:
        """End a job."""
        await self.stage.jobs.cancel(await self.stage.accept(), owner="alice")

    async def tries(self, *answers: Answer) -> list[httpx.Request]:
        """Carry out what is due, to these answers; what was asked."""
        before = len(self.bench.receiver.asked)
        self.bench.receiver.says(*answers)
        for task in await self.bench.deliver.claim(64):
            await self.bench.deliver.carry_out(task)
        if (await self.stands()).enabled:
            assert not self.bench.receiver.answers
        self.bench.receiver.answers.clear()  # what was claimed with the one that disabled it is not sent
        return self.bench.receiver.asked[before:]

    async def stands(self) -> Endpoint:
        return await self.stage.endpoints.load(self.id, owner="alice")

    async def delivery(self) -> DeliveryView:
        """The latest."""
        found = await self.stage.deliveries.of_endpoint(self.id, owner="alice", before=None, limit=9)
        return found[0]

    async def redelivered(self) -> DeliveryView:
        """Ask for the latest once more."""
        return await self.stage.deliveries.redeliver((await self.delivery()).id, owner="alice")

    async def states(self) -> list[str]:
        return [str(row["state"]) for row in await self.stage.rows(tables.deliveries)]


@pytest.fixture
async def told(stage: Stage) -> Told:
    return await Told(stage).made()


def signatures(request: httpx.Request) -> list[str]:
    return request.headers["webhook-signature"].split(" ")


async def signed(request: httpx.Request) -> bytes:
    """What its signatures are over."""
    prefix = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}."
    return prefix.encode() + await request.aread()


async def by_secret(request: httpx.Request, secret: str) -> str:
    """The signature that this secret makes, reckoned here anew."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, await signed(request), hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


async def verify(request: httpx.Request, public_key: str, signature: str) -> None:
    scheme, _, encoded = signature.partition(",")
    assert scheme == "v1a"
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    key.verify(base64.b64decode(encoded), await signed(request))


async def test_a_retry_is_signed_with_what_is_valid_when_it_is_sent(told: Told) -> None:
    await told.ends()
    (first,) = await told.tries(Reply(500))
    assert signatures(first) == [await by_secret(first, told.secret)]
    rotated = await told.stage.endpoints.rotate(told.id, owner="alice")
    new = rotated.secret or ""
    told.stage.clock.advance(5)
    (second,) = await told.tries(Reply(500))
    assert signatures(second) == [await by_secret(second, new), await by_secret(second, told.secret)]
    assert await first.aread() == await second.aread()
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    told.stage.clock.advance(DAY_S)
    (third,) = await told.tries(OK)
    assert signatures(third) == [await by_secret(third, new)]


async def test_an_ed25519_endpoint_is_verified_by_its_public_key(stage: Stage) -> None:
    told = await Told(stage).made(signing="ed25519")
    await told.ends()
    (request,) = await told.tries(Reply(500))
    (only,) = signatures(request)
    await verify(request, told.public_key, only)
    rotated = await stage.endpoints.rotate(told.id, owner="alice")
    stage.clock.advance(5)
    (request,) = await told.tries(OK)
    new, old = signatures(request)
    await verify(request, rotated.public_key or "", new)
    await verify(request, told.public_key, old)
    with pytest.raises(InvalidSignature):
        await verify(request, told.public_key, new)


async def test_what_waits_goes_where_the_endpoint_is_now(told: Told) -> None:
    await told.ends()
    await told.tries(NobodyThere())
    await told.stage.endpoints.change(told.id, owner="alice", url="https://moved.example/hook")
    told.stage.clock.advance(5)
    (request,) = await told.tries(OK)
    assert str(request.url) == "https://moved.example/hook"


@pytest.mark.parametrize("deed", ["rotate", "move", "disable", "delete"])
async def test_what_is_claimed_heeds_what_is_changed_before_its_turn_comes(told: Told, deed: str) -> None:
    await told.ends()
    (task,) = await told.bench.deliver.claim(1)
    endpoints, moved = told.stage.endpoints, "https://moved.example/hook"
    wanted: list[str | None] = [told.secret]
    match deed:
        case "rotate":
            wanted.insert(0, (await endpoints.rotate(told.id, owner="alice")).secret)
        case "move":
            await endpoints.change(told.id, owner="alice", url=moved)
        case "disable":
            await endpoints.disable(told.id, owner="alice")
        case _:
            await endpoints.delete(told.id, owner="alice")
    sent = deed in {"rotate", "move"}
    told.bench.receiver.says(*[OK] * sent)
    await told.bench.deliver.carry_out(task)
    assert [str(one.url) for one in told.bench.receiver.asked] == [moved if deed == "move" else URL] * sent
    for request in told.bench.receiver.asked:
        assert signatures(request) == [await by_secret(request, secret or "") for secret in wanted]
    assert await told.states() == ["delivered" if sent else "given_up"]
    assert await told.stage.tasks() == []
    assert len(await told.stage.rows(tables.delivery_attempts)) == sent


@pytest.mark.parametrize("asked", [True, False])
async def test_what_was_to_be_dropped_is_sent_when_its_endpoint_was_enabled_meanwhile(
    told: Told, monkeypatch: pytest.MonkeyPatch, *, asked: bool
) -> None:
    stage = told.stage
    await told.ends()
    await told.tries(Reply(500))
    stage.clock.advance(5)
    (task,) = await told.bench.deliver.claim(1)
    await stage.endpoints.disable(told.id, owner="alice")
    drop = stage.outbox.drop

    async def late(claim: Claim, endpoint_id: str) -> None:
        stage.clock.advance(1)
        await stage.endpoints.enable(told.id, owner="alice")
        recovered = await stage.endpoints.recover(told.id, owner="alice", since_ms=0)
        assert recovered == Recovered(requeued=0, complete=True), "it is under way"
        if asked:
            await told.redelivered()
        await drop(claim, endpoint_id)

    monkeypatch.setattr(stage.outbox, "drop", late)
    await told.bench.deliver.carry_out(task)
    shown = await told.delivery()
    assert shown.state == "pending"
    assert shown.next_try_at is not None
    assert shown.next_try_at <= instant(stage.clock.now_ms())
    await told.tries(Reply(500))
    shown = await told.delivery()
    assert [one.number for one in shown.attempts] == [1, 2]
    later_ms = 6_000 + round(SCHEDULE_S[1 if asked else 2] * 1000)
    assert await stage.tasks() == [("deliver", later_ms)], "a try that was asked for does not count"
    stage.clock.advance(SCHEDULE_S[2])
    await told.tries(OK)
    assert await told.states() == ["delivered"]


async def test_progress_that_is_asked_for_while_it_is_to_be_dropped_is_sent(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = told.stage
    await stage.endpoints.change(told.id, owner="alice", events=["job.progress"])
    job_id = await stage.accept()
    await advanced(stage, job_id, 0.2)
    (task,) = await told.bench.deliver.claim(1)
    await stage.endpoints.disable(told.id, owner="alice")
    drop = stage.outbox.drop

    async def late(claim: Claim, endpoint_id: str) -> None:
        await stage.endpoints.enable(told.id, owner="alice")
        await told.redelivered()
        await stage.jobs.cancel(job_id, owner="alice")
        await drop(claim, endpoint_id)

    monkeypatch.setattr(stage.outbox, "drop", late)
    await told.bench.deliver.carry_out(task)
    assert len(await told.tries(OK)) == 1
    assert await told.states() == ["delivered"]


async def test_dropping_is_the_same_said_twice(told: Told) -> None:
    """As after a commit whose answer was lost."""
    stage = told.stage
    await told.ends()
    (task,) = await told.bench.deliver.claim(1)
    await told.redelivered()
    seen: list[dict[str, list[dict[str, object]]]] = []
    for _ in range(2):
        await stage.outbox.drop(task.claim, told.id)
        seen.append({"tasks": await stage.rows(tables.tasks), "of": await stage.rows(tables.deliveries)})
    assert seen[0] == seen[1]


async def test_a_turn_that_comes_late_is_dated_when_it_comes(told: Told) -> None:
    await told.ends()
    (task,) = await told.bench.deliver.claim(1)
    told.bench.sender._queue_s = 60.0
    told.bench.receiver.says(OK)
    async with told.bench.sender._turns.place(told.id, owner="alice", within_s=1):
        waiting = asyncio.create_task(told.bench.deliver.carry_out(task))
        await asyncio.sleep(0)
        told.stage.clock.advance(4)
        await told.stage.endpoints.change(told.id, owner="alice", url="https://moved.example/hook")
    await waiting
    (request,) = told.bench.receiver.asked
    assert str(request.url) == "https://moved.example/hook"
    assert int(request.headers["webhook-timestamp"]) == NOW_MS // 1000 + 4


async def test_one_that_is_gone_is_disabled_and_nothing_more_is_sent_to_it(
    told: Told,
) -> None:
    for _ in range(3):
        await told.ends()
    (task, *_) = await told.bench.deliver.claim(1)
    told.bench.receiver.says(Reply(410))
    await told.bench.deliver.carry_out(task)
    stands = await told.stands()
    assert (stands.state, stands.disabled_reason, stands.disabled_at_ms) == ("disabled", "gone", NOW_MS)
    assert await told.tries() == []
    assert await told.states() == ["given_up"] * 3
    assert told.bench.counted('webhook_endpoints_disabled_total{reason="gone"}') == 1


async def test_five_days_without_a_success_disable_it(told: Told) -> None:
    hours = 24
    for hour in range(0, ENDURED_MS // 3_600_000 + 1, hours):
        await told.ends()
        assert (await told.stands()).enabled, f"after {hour} hours"
        await told.tries(*[Reply(500)] * len(await told.stage.tasks()))
        told.stage.clock.advance(hours * 3600)
    stands = await told.stands()
    assert (stands.disabled_reason, stands.failing_since_ms) == ("failing", NOW_MS)
    assert told.bench.counted('webhook_endpoints_disabled_total{reason="failing"}') == 1
    await told.stage.endpoints.enable(told.id, owner="alice")
    assert (await told.stands()).failing_since_ms is None
    await told.ends()
    await told.tries(*[Reply(500)] * len(await told.stage.tasks()))
    assert (await told.stands()).enabled, "it has five days again"


async def test_a_try_at_the_old_url_says_nothing_of_the_one_it_moved_to(told: Told) -> None:
    await told.ends()
    await told.tries(NobodyThere())
    told.stage.clock.advance(5)

    async def moved() -> None:
        await told.stage.endpoints.change(told.id, owner="alice", url="https://moved.example/hook")

    told.bench.receiver.meanwhile = moved
    await told.tries(Reply(410))
    told.bench.receiver.meanwhile = None
    stands = await told.stands()
    assert (stands.enabled, stands.failing_since_ms, stands.failures) == (True, None, 0)
    assert await told.states() == ["pending"], "where it is now nobody said that it is gone"
    told.stage.clock.advance(SCHEDULE_S[2])
    (request,) = await told.tries(OK)
    assert str(request.url) == "https://moved.example/hook"


@pytest.mark.parametrize("answer", [Reply(410), Reply(500), NobodyThere()])
async def test_the_last_try_at_the_old_url_gives_nothing_up_of_the_one_it_moved_to(
    told: Told, answer: Answer
) -> None:
    await told.ends()
    for wait_s in SCHEDULE_S[1:]:
        await told.tries(Reply(500))
        told.stage.clock.advance(wait_s)
    send = told.bench.receiver.handle_async_request

    async def moved(request: httpx.Request) -> httpx.Response:
        await told.stage.endpoints.change(told.id, owner="alice", url="https://moved.example/hook")
        return await send(request)

    told.bench.receiver.handle_async_request = moved  # type: ignore[method-assign]
    await told.tries(answer)
    told.bench.receiver.handle_async_request = send  # type: ignore[method-assign]
    assert await told.states() == ["pending"]
    told.stage.clock.advance(BUSY_S)
    (request,) = await told.tries(Reply(500))
    assert str(request.url) == "https://moved.example/hook"
    shown = await told.delivery()
    assert shown.state == "given_up", "there it failed as well, at the schedule's end"
    assert [one.number for one in shown.attempts] == list(range(1, len(SCHEDULE_S) + 2))


async def test_a_try_sent_before_it_was_enabled_does_not_disable_it_again(told: Told) -> None:
    await told.ends()

    async def enabled() -> None:
        await told.stage.endpoints.disable(told.id, owner="alice")
        await told.stage.endpoints.enable(told.id, owner="alice")

    told.bench.receiver.meanwhile = enabled
    await told.tries(Reply(410))
    assert (await told.stands()).enabled


async def test_two_failures_with_idle_days_between_do_not_disable_it(told: Told) -> None:
    await told.ends()
    await told.tries(Reply(500))
    told.stage.clock.advance(6 * DAY_S)
    await told.tries(Reply(500))
    stands = await told.stands()
    assert (stands.enabled, stands.failing_since_ms, stands.failures) == (True, NOW_MS, 2)
    told.stage.clock.advance(DAY_S)
    await told.tries(Reply(500))
    assert (await told.stands()).disabled_reason == "failing"


@pytest.mark.parametrize("sole", [True, False])
async def test_a_clock_set_forward_by_days_disables_nothing_that_failed_for_seconds(
    told: Told, *, sole: bool
) -> None:
    stage = told.stage
    await told.ends()
    await told.tries(Reply(500))
    stage.clock.advance(5)
    await told.tries(Reply(500))
    stage.clock.advance(6 * DAY_S)
    if sole:  # it moves what waits along
        await stage.leases.shift_due(6 * DAY_S * 1000, at_ms=stage.clock.now_ms())
    for _ in range(4):
        await told.ends()
        stage.clock.advance(SCHEDULE_S[2])
        await told.tries(*[Reply(500)] * len(await stage.tasks()))
        stands = await told.stands()
        assert (stands.enabled, stands.failing_since_ms, stands.failures) == (True, NOW_MS, 2)


async def test_one_success_begins_the_five_days_anew(told: Told) -> None:
    await told.ends()
    await told.tries(Reply(500))
    assert (await told.stands()).failing_since_ms == NOW_MS
    told.stage.clock.advance(5)
    await told.tries(OK)
    assert (await told.stands()).failing_since_ms is None
    told.stage.clock.advance(6 * DAY_S)
    await told.ends()
    await told.tries(Reply(500))
    assert (await told.stands()).enabled


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
    recovered = await told.stage.endpoints.recover(told.id, owner="alice", since_ms=NOW_MS)
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
    recover = partial(told.stage.endpoints.recover, told.id, owner="alice")
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
    recovered = await stage.endpoints.recover(told.id, owner="alice", since_ms=NOW_MS)
    assert (recovered.requeued, await told.tries()) == (0, [])
    asked = await stage.deliveries.redeliver(overtaken.id, owner="alice")
    assert asked.state == "pending"
    assert len(await told.tries(OK)) == 1, "whoever asks for this one gets it"
    assert (await told.delivery()).state == "delivered"


def _tells(event: Event, job: Job, _attempts: object) -> Step:
    return Step(job=job, events=(event,))


async def advanced(stage: Stage, job_id: str, *parts: float) -> None:
    """Have a job tell of its progress."""
    for part in parts:
        event = Event(type="job.progress", note={"progress": part})
        await stage.record.transition(job_id, partial(_tells, event))
        stage.clock.advance(1)


async def test_recover_gets_past_progress_that_is_no_news_to_what_lies_behind_it(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "RECOVERED_AT_ONCE", 2)
    monkeypatch.setattr(service, "MOST_RECOVERED", 6)
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
        recovered = await stage.endpoints.recover(told.id, owner="alice", since_ms=0)
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
    monkeypatch.setattr(service, "RECOVERED_AT_ONCE", 2)
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
    woken = stage.endpoints._woken

    async def failing(operation: Callable[[Connection], list[Any]]) -> list[Any]:
        """Everything that is made due fails before the recovery goes on."""
        found = await woken(operation)
        asked.append(len(found))
        assert len(asked) < 9, "it takes the same ones again and again"
        await failing_all()
        return found

    monkeypatch.setattr(stage.endpoints, "_woken", failing)
    recovered = await stage.endpoints.recover(told.id, owner="alice", since_ms=0, every=True)
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
    await told.stage.endpoints.recover(told.id, owner="alice", since_ms=NOW_MS)
    await told.tries(OK)
    assert told.bench.counted(lags) == 1


async def test_death_between_the_send_and_its_record_keeps_the_id(told: Told) -> None:
    await told.ends()
    with pytest.raises(Killed):
        await told.tries(Killed())
    told.stage.clock.advance(60)
    told.bench.receiver.says(OK)
    for task in await told.stage.worker("second").outbox.claim(10):
        await told.bench.deliver(task)
    first, second = told.bench.receiver.asked
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 60


@pytest.mark.parametrize(("answer", "delivered"), [(OK, True), (Reply(410), False), (NobodyThere(), False)])
async def test_a_test_is_sent_at_once_and_changes_nothing(
    told: Told, answer: Answer, *, delivered: bool
) -> None:
    stage, bench = told.stage, told.bench
    await stage.endpoints.disable(told.id, owner="alice")
    before = await stage.everything()
    counted: list[str] = []
    pings = Pings(stage.clock, stage.ids, stage.sealer, bench.sender, counted.append)
    bench.receiver.says(answer)
    sent = await pings.send(await told.stands())
    (request,) = bench.receiver.asked
    assert signatures(request) == [await by_secret(request, told.secret)]
    body = await request.aread()
    assert (b'"type":"ping"' in body, told.id.encode() in body) == (True, True)
    assert (sent.delivered, sent.webhook_id) == (delivered, request.headers["webhook-id"])
    assert counted == [sent.outcome]
    assert await stage.everything() == before


def test_the_reasons_have_labels() -> None:
    assert set(DISABLED) == {"gone", "failing", "requested"}
