"""Webhook endpoints: what is frozen for them, what is kept, who may see them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from job_examples import NOW_MS, a_request, a_webhook
from msgspec.structs import replace
from sqlalchemy import Connection
from store_stage import Stage

from gateway.errors import Refusal
from gateway.ids import ENDPOINT
from gateway.jobs.transitions import Event, Step
from gateway.jobs.view import instant
from gateway.service import endpoints as service
from gateway.service import recovery
from gateway.service.endpoint_keys import endpoint_keys
from gateway.service.recovery import Recovered
from gateway.storage import endpoints as endpoint_rows
from gateway.storage import tables
from gateway.storage.deliveries import DeliveryAttempt
from gateway.storage.endpoints import Endpoint
from gateway.webhooks.keys import decode_key
from gateway.webhooks.lanes import WaitingLane

URL = "https://receiver.example/all"
CANCELLED = ("job.cancelled",)


async def an_endpoint(stage: Stage, url: str = URL, *, owner: str = "alice", **given: object) -> str:
    options: dict[str, object] = {"events": CANCELLED} | given
    return (await stage.endpoints.create(owner=owner, url=url, **options)).id


async def ended(stage: Stage, *, own: bool = False) -> str:
    """End a job of alice's."""
    job_id = await stage.accept(a_request(webhook=a_webhook("job.cancelled") if own else None))
    await stage.jobs.cancel(job_id, owner="alice")
    return job_id


async def rows(stage: Stage) -> list[dict[str, object]]:
    return await stage.rows(tables.deliveries)


async def stored(stage: Stage, endpoint_id: str) -> Endpoint:
    return await stage.endpoints.load(endpoint_id, owner=None)


async def test_each_endpoint_that_asks_gets_the_same_bytes_under_the_same_id(stage: Stage) -> None:
    wanted = {await an_endpoint(stage), await an_endpoint(stage)}
    await an_endpoint(stage, events=("job.succeeded",))
    await an_endpoint(stage, owner="bob")
    job_id = await ended(stage, own=True)
    found = await rows(stage)
    assert {row["endpoint_id"] for row in found} == {*wanted, None}
    assert len({row["message_id"] for row in found}) == len({row["body"] for row in found}) == 1
    assert job_id.encode() in (found[0]["body"] if isinstance(found[0]["body"], bytes) else b"")
    assert await stage.tasks() == [("deliver", 0)] * 3
    lanes = {str(row["lane"]) for row in await stage.rows(tables.tasks)}
    assert lanes == {*wanted, "receiver.example alice"}


async def test_what_tells_nothing_asks_for_no_endpoints(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    load_of = endpoint_rows.load_of

    def counted(connection: Connection, owner: str) -> list[Endpoint]:
        asked.append(owner)
        return load_of(connection, owner)

    monkeypatch.setattr(endpoint_rows, "load_of", counted)
    job_id = await stage.accept()
    await stage.record.transition(job_id, lambda job, _: Step(job=job, events=(Event(type="plan.changed"),)))
    assert asked == [], "nobody is told of it"
    await ended(stage)
    assert asked == ["alice"]


async def test_what_happens_while_it_is_disabled_is_kept_and_can_be_recovered(stage: Stage) -> None:
    endpoint_id = await an_endpoint(stage)
    await stage.endpoints.disable(endpoint_id, owner="alice")
    await ended(stage)
    (before,) = await rows(stage)
    assert (before["state"], before["finished_at_ms"]) == ("given_up", NOW_MS)
    assert await stage.tasks() == []
    with pytest.raises(Refusal, match="disabled") as caught:
        await stage.recovery.recover(endpoint_id, owner="alice", since_ms=NOW_MS)
    assert caught.value.slug == "endpoint-disabled"
    await stage.endpoints.enable(endpoint_id, owner="alice")
    assert await stage.tasks() == [], "it is for its owner to say from when on"
    assert (await stage.recovery.recover(endpoint_id, owner="alice", since_ms=NOW_MS + 1)).requeued == 0
    recovered = await stage.recovery.recover(endpoint_id, owner="alice", since_ms=NOW_MS)
    assert (recovered.requeued, recovered.complete) == (1, True)
    (after,) = await rows(stage)
    assert after == before | {"state": "pending", "finished_at_ms": None}
    assert await stage.tasks() == [("deliver", 0)]
    again = await stage.recovery.recover(endpoint_id, owner="alice", since_ms=NOW_MS)
    assert again.requeued == 0, "it is under way"


@pytest.mark.parametrize("how", ["frozen", "claimed", "dropped"])
async def test_what_is_given_up_is_there_for_recover_once_it_is_enabled(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whoever enables it, and recovers then, finds all that was given up since it was read as disabled."""
    endpoint_id = await an_endpoint(stage)
    if how != "frozen":
        await ended(stage)
    (task,) = await stage.outbox.claim(1) if how == "dropped" else [None]
    job_id = await stage.accept()
    await stage.endpoints.disable(endpoint_id, owner="alice")
    reading, on = threading.Event(), threading.Event()
    keep = endpoint_rows.keep_disabled

    def slow(connection: Connection, ids: Sequence[str]) -> set[str]:
        kept = keep(connection, ids)
        if kept:
            reading.set()
            assert on.wait(10)
        return kept

    monkeypatch.setattr(endpoint_rows, "keep_disabled", slow)
    if task is not None:
        giving_up: asyncio.Task[object] = asyncio.create_task(stage.outbox.drop(task.claim, endpoint_id))
    elif how == "claimed":
        giving_up = asyncio.create_task(stage.outbox.claim(1))
    else:
        giving_up = asyncio.create_task(stage.jobs.cancel(job_id, owner="alice"))
    assert await asyncio.to_thread(reading.wait, 10)

    async def enabled_and_recovered() -> Recovered:
        await stage.endpoints.enable(endpoint_id, owner="alice")
        return await stage.recovery.recover(endpoint_id, owner="alice", since_ms=0)

    recovering = asyncio.create_task(enabled_and_recovered())
    await asyncio.wait([recovering], timeout=0.3)  # it has to wait; were it not to, it would be through
    on.set()
    await giving_up
    assert await recovering == Recovered(requeued=1, complete=True)
    assert [kind for kind, _ in await stage.tasks()].count("deliver") == 1


async def test_an_endpoint_that_was_enabled_since_it_was_read_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint_id = await an_endpoint(stage)
    load_of = endpoint_rows.load_of

    def outdated(connection: Connection, owner: str) -> list[Endpoint]:
        return [replace(one, state="disabled") for one in load_of(connection, owner)]

    monkeypatch.setattr(endpoint_rows, "load_of", outdated)
    await ended(stage)
    assert [(row["endpoint_id"], row["state"]) for row in await rows(stage)] == [(endpoint_id, "pending")]
    assert await stage.tasks() == [("deliver", 0)]


async def test_much_is_recovered_in_small_transactions_and_several_requests(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "RECOVERED_AT_ONCE", 2)
    monkeypatch.setattr(recovery, "MOST_RECOVERED", 4)
    endpoint_id, other = await an_endpoint(stage), await an_endpoint(stage)
    for one in (endpoint_id, other):
        await stage.endpoints.disable(one, owner="alice")
    for _ in range(7):
        await ended(stage)
        stage.clock.advance(1)
    for one in (endpoint_id, other):
        await stage.endpoints.enable(one, owner="alice")
    counts: list[Recovered] = []
    while not counts or not counts[-1].complete:
        counts.append(await stage.recovery.recover(endpoint_id, owner="alice", since_ms=0))
    assert [one.requeued for one in counts] == [4, 3]
    states = {(row["endpoint_id"], row["state"]) for row in await rows(stage)}
    assert states == {(endpoint_id, "pending"), (other, "given_up")}


async def test_what_was_due_when_it_was_disabled_is_given_up_and_never_sent(stage: Stage) -> None:
    disabled, deleted = await an_endpoint(stage), await an_endpoint(stage)
    await ended(stage)
    await stage.endpoints.disable(disabled, owner="alice")
    await stage.endpoints.delete(deleted, owner="alice")
    assert await stage.outbox.claim(10) == []
    assert {row["state"] for row in await rows(stage)} == {"given_up"}
    assert await stage.tasks() == []


async def test_a_lane_gives_what_there_is_room_for_and_keeps_nobody_waiting(stage: Stage) -> None:
    busy, quiet = await an_endpoint(stage), await an_endpoint(stage, events=("job.cancelled",))
    await stage.endpoints.disable(quiet, owner="alice")
    for _ in range(30):
        await ended(stage)
    await stage.endpoints.enable(quiet, owner="alice")
    stage.clock.advance(1)
    await ended(stage)
    shares = {busy: 3, quiet: 3}
    claimed = await stage.outbox.claim(10, lambda _waiting, _limit: shares)
    assert sorted(task.lane for task in claimed) == sorted([busy, busy, busy, quiet])
    assert await stage.outbox.claim(10, lambda _waiting, _limit: {}) == []
    assert await stage.outbox.next_due_ms(lambda lane, _owner: lane != busy) is None
    assert await stage.outbox.next_due_ms() == NOW_MS


async def test_whose_a_lane_is_is_known_before_anything_of_it_is_claimed(stage: Stage) -> None:
    endpoint_id = await an_endpoint(stage, owner="bob")
    await ended(stage, own=True)
    await stage.jobs.cancel(await stage.accept(owner="bob"), owner="bob")
    seen: list[WaitingLane] = []

    def deal(waiting: Sequence[WaitingLane], limit: int) -> dict[str, int]:
        seen.extend(waiting)
        return {one.lane: limit for one in waiting}

    first, *others = await stage.outbox.claim(10, deal)
    assert {(one.lane, one.owner) for one in seen} == {
        (endpoint_id, "bob"),
        ("receiver.example alice", "alice"),
    }
    assert {(one.lane, one.delivery.owner) for one in (first, *others)} == {
        (one.lane, one.owner) for one in seen
    }
    stage.clock.advance(1)
    await ended(stage, own=True)
    seen.clear()
    await stage.database.write(lambda c: c.execute(tables.tasks.update().values(lane="receiver.example")))
    await stage.outbox.claim(10, deal)
    assert [(one.lane, one.owner) for one in seen] == [("receiver.example", "")], "as older versions name it"


async def test_what_a_version_before_lanes_stored_is_delivered(stage: Stage) -> None:
    await ended(stage, own=True)
    await stage.database.write(lambda c: c.execute(tables.tasks.update().values(lane="")))
    (task,) = await stage.outbox.claim(10)
    assert task.lane == ""


async def test_a_delivery_is_sent_again_whatever_became_of_it(stage: Stage) -> None:
    endpoint_id = await an_endpoint(stage)
    await ended(stage)
    (task,) = await stage.outbox.claim(1)
    tried = DeliveryAttempt(
        delivery_id=task.delivery.id,
        number=1,
        at_ms=NOW_MS,
        duration_ms=1,
        outcome="delivered",
        status=200,
        detail="",
    )
    await stage.outbox.delivered(task.claim, tried, state="delivered", due=None, endpoint_id=endpoint_id)
    stage.clock.advance(60)
    shown = await stage.deliveries.redeliver(task.delivery.id, owner="alice")
    assert (shown.state, shown.finished_at, len(shown.attempts)) == ("delivered", instant(NOW_MS), 1)
    assert shown.next_try_at == "2027-01-15T08:01:00.000Z"
    assert await stage.tasks() == [("deliver", 60_000)]
    (again,) = await stage.outbox.claim(1)
    assert (again.delivery.body, again.delivery.message_id) == (task.delivery.body, task.delivery.message_id)
    assert (again.claim.memo.before, again.claim.tries) == (1, 0)


async def test_one_that_waits_for_its_next_try_is_sent_now(stage: Stage) -> None:
    await ended(stage, own=True)
    (task,) = await stage.outbox.claim(1)
    await stage.leases.unchanged(task.claim.later(NOW_MS + 3_600_000), progress=None)
    await stage.deliveries.redeliver(task.delivery.id, owner="alice")
    assert await stage.tasks() == [("deliver", 0)]


async def test_nothing_is_sent_again_to_an_endpoint_that_is_disabled_or_deleted(stage: Stage) -> None:
    endpoint_id = await an_endpoint(stage)
    await ended(stage)
    await stage.endpoints.disable(endpoint_id, owner="alice")
    (row,) = await rows(stage)
    for _ in range(2):
        before = await stage.everything()
        with pytest.raises(Refusal) as caught:
            await stage.deliveries.redeliver(str(row["id"]), owner="alice")
        assert caught.value.slug == "endpoint-disabled"
        assert await stage.everything() == before
        if endpoint_id in {str(one["id"]) for one in await stage.rows(tables.webhook_endpoints)}:
            await stage.endpoints.delete(endpoint_id, owner="alice")


async def test_what_is_somebody_elses_is_unknown(stage: Stage) -> None:
    endpoint_id = await an_endpoint(stage)
    job_id = await ended(stage)
    (row,) = await rows(stage)
    before = await stage.everything()
    nobodys = f"{ENDPOINT}_{0:032x}"
    answers = set()
    for one, owner in ((endpoint_id, "bob"), (nobodys, "alice")):
        for call in (
            stage.endpoints.show(one, owner=owner),
            stage.endpoints.change(one, owner=owner, url=URL),
            stage.endpoints.rotate(one, owner=owner),
            stage.endpoints.enable(one, owner=owner),
            stage.endpoints.disable(one, owner=owner),
            stage.endpoints.delete(one, owner=owner),
            stage.recovery.recover(one, owner=owner, since_ms=0),
            stage.deliveries.of_endpoint(one, owner=owner, before=None, limit=9),
        ):
            with pytest.raises(Refusal) as caught:
                await call
            answers.add((caught.value.slug, caught.value.detail))
    assert len(answers) == 1
    with pytest.raises(Refusal, match="no such job"):
        await stage.deliveries.of_job(job_id, owner="bob", before=None, limit=9)
    with pytest.raises(Refusal, match="no such delivery"):
        await stage.deliveries.redeliver(str(row["id"]), owner="bob")
    assert await stage.everything() == before
    assert (await stage.endpoints.show(endpoint_id, owner=None)).owner == "alice"
    assert await stage.endpoints.page(owner="bob", before=None, limit=9) == []


async def test_an_owner_has_as_many_as_it_may(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_OF_AN_OWNER", 2)
    await stage.keys.ensure_owner("alice")
    for _ in range(2):
        await an_endpoint(stage)
    with pytest.raises(Refusal) as caught:
        await an_endpoint(stage)
    assert caught.value.slug == "too-many-endpoints"
    await an_endpoint(stage, owner="bob")


@pytest.mark.parametrize(
    ("url", "slug"),
    [
        ("https://127.0.0.1/", "forbidden-target"),
        ("https://169.254.169.254/", "forbidden-target"),
        ("http://receiver.example/", "insecure-callback"),
        ("https://me@receiver.example/", "invalid-url"),
    ],
)
async def test_a_url_is_judged_as_a_jobs_own_is(stage: Stage, url: str, slug: str) -> None:
    endpoint_id = await an_endpoint(stage)
    before = await stage.everything()
    for call in (
        stage.endpoints.create(owner="alice", url=url),
        stage.endpoints.change(endpoint_id, owner="alice", url=url),
    ):
        with pytest.raises(Refusal) as caught:
            await call
        assert caught.value.slug == slug
        assert caught.value.errors[0].pointer == "/url"
    assert await stage.everything() == before


async def test_what_is_changed_is_changed_alone(stage: Stage) -> None:
    made = await stage.endpoints.create(owner="alice", url=URL, description="all")
    stage.clock.advance(5)
    changed = await stage.endpoints.change(made.id, owner="alice", events=["job.held", "job.held"])
    assert (changed.events, changed.url, changed.description) == (["job.held"], URL, "all")
    assert changed.updated_at == "2027-01-15T08:00:05.000Z"
    moved = await stage.endpoints.change(
        made.id, owner="alice", url="https://Other.example", description=None
    )
    assert (moved.url, moved.description, moved.events) == ("https://other.example/", None, ["job.held"])
    same = await stage.endpoints.change(made.id, owner="alice")
    assert same == moved


async def test_secrets_are_stored_sealed_and_shown_once(stage: Stage) -> None:
    made = await stage.endpoints.create(owner="alice", url=URL)
    rotated = await stage.endpoints.rotate(made.id, owner="alice")
    pair = await stage.endpoints.create(owner="alice", url=URL, signing="ed25519")
    assert made.secret is not None
    assert rotated.secret is not None
    assert made.secret != rotated.secret
    assert (pair.secret, (pair.public_key or "")[:5]) == (None, "whpk_")
    shown = repr([await stage.endpoints.show(one.id, owner="alice") for one in (made, pair)])
    everywhere = repr(await stage.everything()) + shown
    for prefix in ("whsec_", "whsk_"):
        assert prefix not in everywhere
    for secret in (made.secret, rotated.secret):
        assert secret.removeprefix("whsec_") not in everywhere


async def test_old_secrets_sign_for_a_day_and_one_that_would_end_sooner_is_not_replaced(stage: Stage) -> None:
    made = await stage.endpoints.create(owner="alice", url=URL)
    secrets = [made.secret]
    for _ in range(3):
        stage.clock.advance(3600)
        secrets.append((await stage.endpoints.rotate(made.id, owner="alice")).secret)
    with pytest.raises(Refusal) as caught:  # or the first would not sign any more
        await stage.endpoints.rotate(made.id, owner="alice")
    assert caught.value.slug == "rotated-too-often"
    counts = []
    for hours in (0, 21, 22, 23, 24):
        at_ms = stage.clock.now_ms() + hours * 3_600_000
        keys = endpoint_keys(await stored(stage, made.id), stage.sealer, at_ms=at_ms)
        counts.append(len(keys))
        assert keys[0] == decode_key(secrets[-1] or "")
    assert counts == [4, 4, 3, 2, 1]
    stage.clock.advance(22 * 3600)  # the first has ended
    await stage.endpoints.rotate(made.id, owner="alice")


async def test_the_log_of_deliveries_comes_in_pages_newest_first(stage: Stage) -> None:
    endpoint_id = await an_endpoint(stage)
    jobs = []
    for _ in range(3):
        jobs.append(await ended(stage, own=True))
        stage.clock.advance(1)
    first = await stage.deliveries.of_endpoint(endpoint_id, owner="alice", before=None, limit=2)
    rest = await stage.deliveries.of_endpoint(endpoint_id, owner="alice", before=first[-1].id, limit=2)
    assert [one.job_id for one in (*first, *rest)] == jobs[::-1]
    of_job = await stage.deliveries.of_job(jobs[0], owner=None, before=None, limit=9)
    assert {one.endpoint_id for one in of_job} == {endpoint_id, None}
    assert {one.job_id for one in of_job} == {jobs[0]}


async def test_an_owner_that_does_not_exist_gets_none_and_those_that_do_are_named(stage: Stage) -> None:
    for name in ("carol", "bob"):
        await stage.keys.ensure_owner(name)
    before = await stage.everything()
    with pytest.raises(Refusal, match=r"no owner 'alice'; there is 'bob', 'carol'$"):
        await service.Endpoints.create(stage.endpoints, owner="alice", url=URL)
    assert await stage.everything() == before
