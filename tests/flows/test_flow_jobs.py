"""Jobs from acceptance to their end, over HTTP, at every provider installed."""

from __future__ import annotations

import json

import pytest
from running_gateway import (
    ADAPTERS,
    CHARACTER,
    PROVIDERS,
    Document,
    JumpClock,
    RunningGateway,
    StartGateway,
    asked,
    fault,
)
from timeline_entries import notes, plans_in

RUN_S = 1000.0


async def run_through(running: RunningGateway, clock: JumpClock, job_id: str) -> Document:
    """Let a poll see the run under way, however busy the machine, and then its end."""
    await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
    clock.jump(RUN_S / 2)
    await running.until(job_id, lambda job: job["status"] == "running")
    clock.jump(RUN_S)
    return await running.ended(job_id)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_job_runs_and_succeeds(start_gateway: StartGateway, provider: str) -> None:
    clock = JumpClock()
    running = await start_gateway(simulator={"clock": clock, "run_s": RUN_S})
    reply = await running.client.post("/v1/jobs", json=asked(provider))
    accepted = reply.json()
    assert reply.status_code == 202
    assert reply.headers["location"] == f"/v1/jobs/{accepted['id']}"
    assert reply.headers["idempotency-replayed"] == "false"
    assert accepted["status"] == "queued"
    assert accepted["attempts"] == []
    job = await run_through(running, clock, accepted["id"])
    spec = ADAPTERS[provider].spec
    (attempt,) = job["attempts"]
    (output,) = job["outputs"]
    assert job["status"] == "succeeded"
    assert (job["provider"], job["model"], job["progress"]) == (provider, "act-two", 1.0)
    assert job["error"] is job["held"] is job["cancel_requested_at"] is None
    assert job["created_at"] <= job["started_at"] <= job["finished_at"] <= job["deadline_at"]
    assert output["url"].startswith(f"{running.simulator.url}/media/{provider}/")
    assert output["content_type"] == "video/mp4"
    assert output["expires_at"] > job["finished_at"]
    assert (attempt["state"], attempt["account"], attempt["error"]) == ("succeeded", "default", None)
    assert spec.word(attempt["provider_status"]) is not None
    assert attempt["provider_ref"]
    assert await running.accepted(provider) == 1
    film = await running.client.get(output["url"], headers={"Authorization": ""})
    assert film.content[4:8] == b"ftyp"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_cost_is_estimated_and_taken_from_the_provider(
    start_gateway: StartGateway, provider: str
) -> None:
    running = await start_gateway()
    job = await running.ended(await running.accept(provider))
    price = ADAPTERS[provider].spec.models[0].price
    assert job["cost"]["estimated_usd"] == pytest.approx(price.estimate(4.0) / 1e6)
    told = job["attempts"][0]["cost"]
    charged = None if told is None else told["usd"]
    assert job["cost"]["charged_usd"] == charged
    if charged is not None:
        assert charged == pytest.approx(price.micro_usd_per_s * 4 / 1e6, rel=0.01)
    untold = await running.job(
        await running.accept(provider, reference=asked()["reference"] | {"duration_s": 30})
    )
    assert untold["cost"]["estimated_usd"] == pytest.approx(price.estimate(30.0) / 1e6)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_timeline_tells_everything(start_gateway: StartGateway, provider: str) -> None:
    clock = JumpClock()
    running = await start_gateway(simulator={"clock": clock, "run_s": RUN_S})
    job_id = await running.accept(provider)
    job = await run_through(running, clock, job_id)
    timeline = await running.timeline(job_id)
    events = [entry for entry in timeline if entry["kind"] == "event"]
    exchanges = [entry for entry in timeline if entry["kind"] == "exchange"]
    types = [entry["type"] for entry in events]
    assert [entry["sequence"] for entry in events] == list(range(1, len(events) + 1))
    assert [entry["at"] for entry in timeline] == sorted(entry["at"] for entry in timeline)
    assert types[:3] == ["job.accepted", "attempt.submitting", "attempt.accepted"]
    assert types[-1] == "job.succeeded"
    assert types.index("job.running") > 2
    (plan,) = plans_in(timeline)
    assert [candidate["provider"] for candidate in plan["candidates"]] == [provider]
    assert {one["provider"]: one["code"] for one in plan["left_out"]} == {
        other: "not_requested" for other in PROVIDERS if other != provider
    }
    assert notes(timeline, "attempt.accepted") == {"provider_ref": job["attempts"][0]["provider_ref"]}
    submit, *polls = exchanges
    assert (submit["operation"], submit["outcome"]) == ("submit", "made")
    assert submit["request"].startswith("POST /")
    assert CHARACTER in submit["request"]
    assert {entry["operation"] for entry in polls} == {"poll"}
    assert {entry["attempt_id"] for entry in exchanges} == {job["attempts"][0]["id"]}
    assert all(200 <= entry["status"] < 300 for entry in exchanges)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_failure_is_told_in_one_vocabulary(start_gateway: StartGateway, provider: str) -> None:
    running = await start_gateway()
    running.break_(fault("fail:content_rejected", provider=provider))
    job = await running.ended(await running.accept(provider))
    assert job["status"] == "failed"
    assert (job["error"]["code"], job["error"]["retryable"]) == ("content_rejected", False)
    assert job["error"]["message"]
    assert job["attempts"][0]["state"] == "failed"
    assert job["attempts"][0]["error"] == job["error"]
    assert job["outputs"] == []


async def test_the_request_is_shown_with_its_defaults_and_without_the_secret(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway(settings={"WEBHOOKS__ALLOWED_HOSTS": "receiver.example"})
    await running.gateway.stop_worker()
    secret = "whsec_" + "c2VjcmV0" * 4
    job = await running.job(
        await running.accept(
            ratio="9:16", seed=7, webhook={"url": "https://receiver.example/hook", "secret": secret}
        )
    )
    request = job["request"]
    assert (request["ratio"], request["body_control"], request["expression_intensity"]) == (
        "720:1280",
        True,
        3,
    )
    assert (request["seed"], request["deadline_s"], request["on_unknown_submission"]) == (7, 1800, "hold")
    assert request["content_moderation"] == {"public_figure_threshold": "auto"}
    assert request["webhook"] == {
        "url": "https://receiver.example/hook",
        "events": ["job.succeeded", "job.failed", "job.cancelled"],
    }
    assert secret[6:] not in json.dumps(job)


async def test_metadata_comes_back_and_never_reaches_a_provider(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    metadata = {"order": "4711", "__proto__": "x", "name": "Zoë 🎬"}
    job_id = await running.accept(metadata=metadata)
    assert (await running.ended(job_id))["metadata"] == metadata
    (listed,) = (await running.client.get("/v1/jobs")).json()["jobs"]
    assert listed["metadata"] == metadata
    said = json.dumps(await running.timeline(job_id, "exchange"))
    assert "4711" not in said
    assert "order" not in said


async def test_a_restart_goes_on_where_it_was(start_gateway: StartGateway) -> None:
    """A worker that stops in good order leaves every job to the next one."""
    clock = JumpClock()
    running = await start_gateway(simulator={"clock": clock, "run_s": 1000.0})
    job_ids = [await running.accept(provider) for provider in PROVIDERS]
    for job_id in job_ids:
        await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
    await running.gateway.stop_worker()
    clock.jump(1000)
    queued = await running.accept(PROVIDERS[0])
    await running.gateway.start_worker()
    clock.jump(1000)
    for job_id in (*job_ids, queued):
        await running.until(job_id, lambda job: job["attempts"])
        clock.jump(1000)
        assert (await running.ended(job_id))["status"] == "succeeded"
    assert sum((await running.stats())["accepted"].values()) == len(PROVIDERS) + 1
