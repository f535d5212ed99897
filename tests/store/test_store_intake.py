"""Accepting a job, once, whatever is sent again."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from job_examples import DEADLINE_S, NOW_MS, a_request
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from store_stage import Stage

from gateway.errors import Refusal
from gateway.jobs.job import JobRequest
from gateway.routing.catalogue import Catalogue
from gateway.service import intake as intake_module
from gateway.service.intake import Accepted, NewJob
from gateway.storage import jobs as job_rows
from gateway.storage import tables
from gateway.storage.jobs import Kept


def new(
    key: str | None = "k",
    *,
    fingerprint: str = "f",
    owner: str = "alice",
    request: JobRequest | None = None,
    metadata: dict[str, str] | None = None,
    webhook_secret: str | None = None,
) -> NewJob:
    return NewJob(
        owner=owner,
        request=request or a_request(),
        metadata=metadata or {"a": "b"},
        webhook_secret=webhook_secret,
        idempotency_key=key,
        fingerprint=fingerprint,
    )


async def test_a_job_its_event_and_its_task_are_stored_together(stage: Stage) -> None:
    accepted = await stage.intake.accept(new(None))
    job = await stage.job(accepted.job_id)
    assert job == accepted.job
    assert (job.created_at_ms, job.state.deadline_at_ms) == (NOW_MS, NOW_MS + DEADLINE_S * 1000)
    assert (job.sequence, job.estimated_micro_usd, job.metadata) == (1, 1_500_000, {"a": "b"})
    assert await stage.tasks() == [("submit", 0)]
    (event,) = await stage.rows(tables.events)
    data = msgspec.json.decode(str(event["data"]))
    assert (event["type"], event["sequence"], event["at_ms"]) == ("job.accepted", 1, NOW_MS)
    assert data["state"] == {"deadline_at_ms": NOW_MS + DEADLINE_S * 1000}
    assert [one["provider"] for one in data["plan"]["candidates"]] == ["acme"]
    assert stage.accepted == [job]


async def test_two_hundred_at_once_under_one_key_are_one_job(stage: Stage) -> None:
    answers = await asyncio.gather(*(stage.intake.accept(new()) for _ in range(200)))
    assert len({answer.job_id for answer in answers}) == 1
    assert sum(answer.job is not None for answer in answers) == 1
    assert len(await stage.rows(tables.jobs)) == len(stage.accepted) == 1
    assert await stage.tasks() == [("submit", 0)]


async def test_many_at_once_without_a_key_are_many_jobs(stage: Stage) -> None:
    answers = await asyncio.gather(*(stage.intake.accept(new(None)) for _ in range(100)))
    assert len({answer.job_id for answer in answers}) == len(await stage.rows(tables.jobs)) == 100


async def test_a_known_key_replays_the_job(stage: Stage) -> None:
    first = await stage.intake.accept(new())
    again = await stage.intake.accept(new())
    assert again == Accepted(first.job_id, None)
    assert len(stage.accepted) == 1


async def test_another_body_under_a_known_key_is_refused(stage: Stage) -> None:
    first = await stage.intake.accept(new())
    with pytest.raises(Refusal) as caught:
        await stage.intake.accept(new(fingerprint="other"))
    assert caught.value.slug == "idempotency-key-reused"
    assert first.job_id in caught.value.detail


async def test_of_two_bodies_at_once_under_one_key_one_is_refused(stage: Stage) -> None:
    answers = await asyncio.gather(
        *(stage.intake.accept(new(fingerprint=f"body {number % 2}")) for number in range(50)),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert {answer.slug for answer in refused} == {"idempotency-key-reused"}
    assert len(refused) == 25
    assert len(await stage.rows(tables.jobs)) == 1


async def test_another_owners_key_is_another_key(stage: Stage) -> None:
    ours, theirs = await asyncio.gather(
        stage.intake.accept(new()), stage.intake.accept(new(owner="bob", fingerprint="other"))
    )
    assert ours.job_id != theirs.job_id
    assert (await stage.intake.accept(new(owner="bob", fingerprint="other"))).job_id == theirs.job_id


async def test_a_refused_request_leaves_its_key_free(stage: Stage) -> None:
    with pytest.raises(Refusal) as caught:
        await stage.intake.accept(new(request=a_request(model="nothing")))
    assert caught.value.slug == "no-provider"
    assert "acme: Acme does not sell nothing" in caught.value.detail
    assert await stage.rows(tables.jobs) == []
    assert (await stage.intake.accept(new(fingerprint="mended"))).job is not None


async def test_a_replay_needs_no_provider_any_more(stage: Stage) -> None:
    first = await stage.intake.accept(new())
    without = stage.taking(Catalogue(offers=()))
    assert await without.accept(new()) == Accepted(first.job_id, None)
    with pytest.raises(Refusal, match="None is installed"):
        await without.accept(new("another"))
    with pytest.raises(Refusal, match="None is installed"):
        await without.accept(new(None))
    with pytest.raises(Refusal) as caught:
        await without.accept(new(fingerprint="other"))
    assert caught.value.slug == "idempotency-key-reused"


async def test_a_webhook_secret_is_sealed_for_its_job_alone(stage: Stage) -> None:
    accepted = await stage.intake.accept(new(webhook_secret="whsec_marker"))
    job = await stage.job(accepted.job_id)
    assert job.sealed_webhook_secret is not None
    assert "marker" not in str(await stage.everything())
    assert stage.sealer.open(job.sealed_webhook_secret, bound_to=job.id) == "whsec_marker"


async def test_a_key_taken_by_another_replica_meanwhile_is_looked_up_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await stage.intake.accept(new())
    looks: list[int] = []

    def blind(connection: Connection, keys: list[tuple[str, str]]) -> list[Kept]:
        looks.append(1)
        return [] if len(looks) == 1 else find_kept(connection, keys)

    find_kept = job_rows.find_kept
    monkeypatch.setattr(job_rows, "find_kept", blind)
    answers = await asyncio.gather(stage.intake.accept(new()), stage.intake.accept(new("fresh")))
    assert answers[0] == Accepted(first.job_id, None)
    assert answers[1].job is not None
    assert len(looks) == 2


async def test_a_race_that_never_ends_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.intake.accept(new())
    monkeypatch.setattr(intake_module, "PAUSES_S", (0.0,))
    monkeypatch.setattr(job_rows, "find_kept", lambda _connection, _keys: [])
    before = await stage.everything()
    with pytest.raises(IntegrityError):
        await stage.intake.accept(new())
    assert await stage.everything() == before


async def test_one_that_cannot_be_written_down_does_not_hurt_the_others(stage: Stage) -> None:
    bad = new(None, metadata={"a": "\ud800"})
    answers = await asyncio.gather(
        *(stage.intake.accept(one) for one in (new("a"), bad, new("b"), new("c"))), return_exceptions=True
    )
    assert [isinstance(answer, Accepted) for answer in answers] == [True, False, True, True]
    assert isinstance(answers[1], UnicodeEncodeError)


async def test_keys_are_inserted_in_one_order_whoever_came_first(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    inserted: list[object] = []
    insert_many = job_rows.insert_many

    def seen(connection: Connection, rows: list[dict[str, object]]) -> None:
        inserted.extend(row["idempotency_key"] for row in rows)
        insert_many(connection, rows)

    monkeypatch.setattr(job_rows, "insert_many", seen)
    await asyncio.gather(*(stage.accept(idempotency_key=key) for key in ("c", "a", None, "b")))
    assert inserted == [None, "a", "b", "c"]
