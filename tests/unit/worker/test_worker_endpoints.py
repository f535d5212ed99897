"""Sending to endpoints: signed with what is valid then, and to nobody who is disabled."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from job_examples import NOW_MS
from store_stage import Stage
from worker_bench import Answer, Bench, Killed, NobodyThere, Reply

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
        assert not self.bench.receiver.answers
        return self.bench.receiver.asked[before:]

    async def stands(self) -> Endpoint:
        return await self.stage.endpoints.load(self.id, owner="alice")

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
    (row,) = await told.stage.rows(tables.deliveries)
    await told.stage.deliveries.redeliver(str(row["id"]), owner="alice")
    (again,) = await told.tries(Reply(500))
    told.stage.clock.advance(5)
    (last,) = await told.tries(OK)
    ids = {one.headers["webhook-id"] for one in (*told.bench.receiver.asked, again, last)}
    assert len(ids) == 1
    shown = (await told.stage.deliveries.of_endpoint(told.id, owner="alice", before=None, limit=9))[0]
    assert [(one.number, one.outcome) for one in shown.attempts] == [
        (1, "delivered"),
        (2, "http_error"),
        (3, "delivered"),
    ]
    assert shown.state == "delivered"


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
