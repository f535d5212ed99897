"""Sending to endpoints: signed with what is valid then, and to nobody who is disabled."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from job_examples import NOW_MS
from store_stage import Stage
from told_endpoint import DAY_S, OK, URL, Told, advanced
from worker_bench import SCHEDULE_S, Answer, Killed, NobodyThere, Reply

from gateway.jobs.view import instant
from gateway.service.pings import Pings
from gateway.service.recovery import Recovered
from gateway.storage import tables
from gateway.storage.tasks import Claim


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
        recovered = await stage.recovery.recover(told.id, owner="alice", since_ms=0)
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
