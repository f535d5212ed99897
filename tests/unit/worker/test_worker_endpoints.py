"""Sending to endpoints: signed with what is valid then, and to nobody who is disabled."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from functools import partial
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from job_examples import NOW_MS
from store_stage import Stage
from worker_bench import SCHEDULE_S, Answer, Bench, Killed, NobodyThere, Reply

from gateway.jobs.transitions import Event, Step
from gateway.jobs.view import instant
from gateway.service.deliveries import DeliveryView
from gateway.service.pings import Pings
from gateway.storage import tables
from gateway.storage.endpoints import Endpoint
from gateway.telemetry.labels import DISABLED
from gateway.webhooks.endurance import ENDURED_MS

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
    told.stage.clock.advance(SCHEDULE_S[2])
    await told.tries(Reply(500))
    assert (await told.stands()).disabled_reason == "failing"


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
    assert (await told.redelivered()).state == "pending", "it is on its way"
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
    assert (latest.state, overtaken.state) == ("delivered", "given_up")
    assert [one.outcome for one in overtaken.attempts] == ["http_error", "http_error", "overtaken"]
    assert "more has happened to the job" in overtaken.attempts[-1].detail
    assert before.failures == 3
    await stage.endpoints.recover(told.id, owner="alice", since_ms=NOW_MS)
    assert await told.tries() == []
    await stage.deliveries.redeliver(overtaken.id, owner="alice")
    assert len(await told.tries(OK)) == 1, "whoever asks for this one gets it"


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
