"""Jobs from acceptance to their end, over HTTP, at every provider installed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from running_gateway import (
    ADAPTERS,
    CHARACTER,
    PROVIDERS,
    REGISTRY,
    Document,
    JumpClock,
    RunningGateway,
    StartGateway,
    asked,
    environment,
    fault,
)

from gateway.app import Gateway
from gateway.jobs.job import JobRequest
from gateway.service.keys import Scope
from gateway.settings import load
from providers.contract.mapping import unconveyable
from providers.contract.motion import Character, CharacterType, ContentModeration, Reference, Threshold

REQUEST = JobRequest(
    character=Character(type=CharacterType.IMAGE, url=CHARACTER),
    reference=Reference(url=CHARACTER),
    content_moderation=ContentModeration(public_figure_threshold=Threshold.LOW),
    deadline_s=60,
)
DEAF_TO_LOW = [name for name in PROVIDERS if unconveyable(ADAPTERS[name].spec.models[0], REQUEST)]
CANCELLING = [name for name in PROVIDERS if ADAPTERS[name].spec.cancel is not None]


def notes(timeline: list[Document], kind: str) -> Document:
    """The note of the first event of a type."""
    note: Document = next(entry["data"]["note"] for entry in timeline if entry.get("type") == kind)
    return note


async def half_done(start_gateway: StartGateway, provider: str) -> tuple[RunningGateway, str]:
    """A job that the provider works on, and will never finish."""
    clock = JumpClock()
    running = await start_gateway(simulator={"clock": clock, "run_s": 1000.0})
    job_id = await running.accept(provider)
    await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["state"] == "accepted")
    clock.jump(500)
    await running.until(job_id, lambda job: job["status"] == "running")
    return running, job_id


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_job_runs_and_succeeds(start_gateway: StartGateway, provider: str) -> None:
    running = await start_gateway()
    reply = await running.client.post("/v1/jobs", json=asked(provider))
    accepted = reply.json()
    assert reply.status_code == 202
    assert reply.headers["location"] == f"/v1/jobs/{accepted['id']}"
    assert reply.headers["idempotency-replayed"] == "false"
    assert accepted["status"] == "queued"
    assert accepted["attempts"] == []
    job = await running.ended(accepted["id"])
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


def plans_in(timeline: list[Document]) -> list[Document]:
    return [entry["plan"] for entry in timeline if entry["kind"] == "plan"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_timeline_tells_everything(start_gateway: StartGateway, provider: str) -> None:
    # By a clock that jumps, so that a poll sees it run, however busy the machine.
    clock = JumpClock()
    running = await start_gateway(simulator={"clock": clock, "run_s": 1000.0})
    job_id = await running.accept(provider)
    await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
    clock.jump(500)
    await running.until(job_id, lambda job: job["status"] == "running")
    clock.jump(1000)
    job = await running.ended(job_id)
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


async def test_without_a_wish_the_first_in_the_order_of_preference_is_taken(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway(settings={"ROUTING__PROVIDERS": PROVIDERS[-1]})
    job = await running.ended(await running.accept())
    assert job["provider"] == PROVIDERS[-1]


async def test_the_wish_and_the_exclusion_are_kept(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    routing = {"providers": list(reversed(PROVIDERS)), "exclude": [PROVIDERS[-1]]}
    job_id = await running.accept(routing=routing)
    assert (await running.ended(job_id))["provider"] == PROVIDERS[-2]
    (plan,) = plans_in(await running.timeline(job_id))
    assert plan["left_out"] == [
        {
            "provider": PROVIDERS[-1],
            "account": "default",
            "code": "excluded",
            "reason": "named in routing.exclude",
            "options": [],
        }
    ]


async def test_a_provider_without_an_account_is_named_with_what_to_set(start_gateway: StartGateway) -> None:
    running = await start_gateway(base_urls={PROVIDERS[0]: "http://127.0.0.1:9"})
    await running.gateway.stop_worker()
    reply = await running.client.post("/v1/jobs", json=asked(PROVIDERS[1]))
    assert (reply.status_code, reply.json()["type"]) == (422, "/problems/no-provider")
    assert ADAPTERS[PROVIDERS[1]].spec.key_env in reply.json()["detail"]
    (plan,) = plans_in(await running.timeline(await running.accept()))
    assert {one["provider"]: one["code"] for one in plan["left_out"]} == dict.fromkeys(
        PROVIDERS[1:], "not_enabled"
    )


@pytest.mark.parametrize("provider", DEAF_TO_LOW)
async def test_what_a_provider_cannot_convey_is_refused_with_the_reason(
    start_gateway: StartGateway, provider: str
) -> None:
    running = await start_gateway()
    low: Document = {"content_moderation": {"public_figure_threshold": "low"}}
    reply = await running.client.post("/v1/jobs", json=asked(provider, **low))
    problem = reply.json()
    assert (reply.status_code, problem["type"]) == (422, "/problems/no-provider")
    assert f"{provider}: content_moderation.public_figure_threshold" in problem["detail"]
    assert (await running.client.get("/v1/jobs")).json()["jobs"] == []
    if len(DEAF_TO_LOW) < len(PROVIDERS):
        job_id = await running.accept(**low)
        assert (await running.ended(job_id))["provider"] not in DEAF_TO_LOW
        (plan,) = plans_in(await running.timeline(job_id))
        left = {one["provider"]: one for one in plan["left_out"]}[provider]
        assert left["code"] == "cannot_convey"
        assert [one["option"] for one in left["options"]] == ["content_moderation.public_figure_threshold"]
    assert await running.accepted(provider) == 0


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


# --- the same request again ---


async def test_a_repeated_key_replays_the_job(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    provider = PROVIDERS[0]
    job_id = await running.accept(provider, key="once")
    await running.ended(job_id)
    for key, body in (
        ("once", json.dumps(asked(provider))),
        ('"once"', json.dumps(asked(provider), indent=3)),
        ("once", json.dumps(dict(reversed(asked(provider).items())))),
    ):
        reply = await running.client.post(
            "/v1/jobs", content=body, headers={"Idempotency-Key": key, "Content-Type": "application/json"}
        )
        assert (reply.status_code, reply.headers["idempotency-replayed"]) == (202, "true")
        assert (reply.json()["id"], reply.json()["status"]) == (job_id, "succeeded")
    other = await running.client.post(
        "/v1/jobs", json=asked(provider, seed=1), headers={"Idempotency-Key": "once"}
    )
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")
    async with running.another_client("somebody else") as client:
        theirs = await client.post("/v1/jobs", json=asked(provider), headers={"Idempotency-Key": "once"})
        assert theirs.headers["idempotency-replayed"] == "false"
        assert theirs.json()["id"] != job_id
    assert await running.accepted(provider) in {1, 2}


async def test_a_hundred_at_once_with_one_key_are_one_job(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    provider = PROVIDERS[0]
    headers = {"Idempotency-Key": "all-at-once"}
    replies = await asyncio.gather(
        *(running.client.post("/v1/jobs", json=asked(provider), headers=headers) for _ in range(100))
    )
    assert {reply.status_code for reply in replies} == {202}
    (job_id,) = {reply.json()["id"] for reply in replies}
    assert sum(reply.headers["idempotency-replayed"] == "false" for reply in replies) == 1
    await running.ended(job_id)
    assert await running.accepted(provider) == 1


async def test_a_refused_body_leaves_its_key_free(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    headers = {"Idempotency-Key": "second-try"}
    wrong = await running.client.post("/v1/jobs", json=asked(seed=-1), headers=headers)
    assert wrong.status_code == 422
    right = await running.client.post("/v1/jobs", json=asked(seed=1), headers=headers)
    assert (right.status_code, right.headers["idempotency-replayed"]) == (202, "false")


# --- lists ---


async def test_pages_are_newest_first_and_meet_at_their_cursors(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    made = [await running.accept(PROVIDERS[0]) for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    sizes = []
    while True:
        query = {"limit": "2"} | ({} if cursor is None else {"cursor": cursor})
        page = (await running.client.get("/v1/jobs", params=query)).json()
        seen += [job["id"] for job in page["jobs"]]
        sizes.append(len(page["jobs"]))
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sizes == [2, 2, 1]
    assert sorted(seen) == sorted(made)
    assert seen == sorted(seen, reverse=True)


async def test_filters_choose(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    provider, other = PROVIDERS[0], PROVIDERS[1]
    running.break_(fault("accept_500", provider=other), fault("no_rows", "list"))
    done, held = await running.accept(provider), await running.accept(other)
    finished = await running.ended(done)
    await running.held(held)
    await running.gateway.stop_worker()
    waiting = await running.accept(provider)

    async def found(**query: str) -> set[str]:
        reply = await running.client.get("/v1/jobs", params=query)
        assert reply.status_code == 200, reply.text
        return {job["id"] for job in reply.json()["jobs"]}

    assert await found() == {done, held, waiting}
    assert await found(status="succeeded") == {done}
    assert await found(status="queued") == {held, waiting}
    assert await found(held="true") == {held}
    assert await found(held="false") == {done, waiting}
    assert await found(provider=other) == {held}
    assert await found(provider=provider, status="queued") == set()
    assert await found(created_before=finished["created_at"]) == set()
    assert await found(created_after=finished["created_at"]) == {held, waiting}
    assert await found(status="failed") == set()


async def test_a_cursor_is_worth_nothing_elsewhere(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    for _ in range(2):
        await running.accept()
    cursor = (await running.client.get("/v1/jobs?limit=1")).json()["next_cursor"]
    assert (await running.client.get("/v1/jobs", params={"cursor": cursor})).status_code == 200
    async with running.another_client("somebody else") as client:
        for asking, query in (
            (running.client, {"cursor": cursor, "status": "queued"}),
            (running.client, {"cursor": cursor[:-1]}),
            (running.client, {"cursor": "A" * len(cursor)}),
            (client, {"cursor": cursor}),
        ):
            reply = await asking.get("/v1/jobs", params=query)
            assert (reply.status_code, reply.json()["type"]) == (400, "/problems/invalid-cursor")


# --- cancelling ---


async def test_a_job_that_was_not_submitted_is_cancelled_at_once(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    job_id = await running.accept(PROVIDERS[0])
    reply = await running.client.post(f"/v1/jobs/{job_id}/cancel")
    job = reply.json()
    assert (reply.status_code, job["status"], job["provider_may_bill"]) == (200, "cancelled", False)
    assert job["cancel_requested_at"] == job["finished_at"]
    await running.gateway.start_worker()
    await running.sweep()
    assert await running.accepted(PROVIDERS[0]) == 0
    assert await running.events(job_id) == ["job.accepted", "cancel.requested", "job.cancelled"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_running_job_is_cancelled_as_its_provider_allows(
    start_gateway: StartGateway, provider: str
) -> None:
    running, job_id = await half_done(start_gateway, provider)
    reply = await running.client.post(f"/v1/jobs/{job_id}/cancel")
    assert reply.status_code == 200
    assert reply.json()["cancel_requested_at"] is not None
    job = await running.ended(job_id)
    cancel = ADAPTERS[provider].spec.cancel
    assert job["status"] == "cancelled"
    stopped = cancel is not None and cancel.stops
    assert job["attempts"][0]["state"] == ("cancelled" if stopped else "accepted")
    assert job["provider_may_bill"] is not stopped
    assert (await running.stats())["cancels"][provider] == (0 if cancel is None else 1)
    again = await running.client.post(f"/v1/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/job-already-finished")


@pytest.mark.parametrize("provider", CANCELLING)
async def test_a_cancel_that_fails_is_tried_again(start_gateway: StartGateway, provider: str) -> None:
    unpolled = {f"PROVIDERS__{provider.upper()}__POLL_SCALE": "100"}
    running = await start_gateway(simulator={"run_s": 1000.0}, settings=unpolled)
    running.break_(fault("accept_502", "cancel", provider=provider, times=1))
    job_id = await running.accept(provider)
    await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
    first = await running.client.post(f"/v1/jobs/{job_id}/cancel")
    repeated = await running.client.post(f"/v1/jobs/{job_id}/cancel")
    asked_at = first.json()["cancel_requested_at"]
    assert (repeated.status_code, repeated.json()["cancel_requested_at"]) == (200, asked_at)
    job = await running.ended(job_id)
    assert job["status"] == "cancelled"
    cancel = ADAPTERS[provider].spec.cancel
    assert cancel is not None
    # The first one worked: its job is gone, which only asking again tells, or is shown as cancelled.
    assert (await running.stats())["cancels"][provider] == (2 if cancel.ref_gone else 1)
    assert job["provider_may_bill"] is not cancel.stops


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_finished_output_is_not_destroyed_by_a_late_cancel(
    start_gateway: StartGateway, provider: str
) -> None:
    slow = {f"PROVIDERS__{provider.upper()}__POLL_SCALE": "100"}
    running = await start_gateway(simulator={"run_s": 0.0}, settings=slow)
    job_id = await running.accept(provider)
    shown = await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
    theirs = running.simulator.simulator._mounts[provider].jobs
    ref = theirs.find(shown["attempts"][0]["provider_ref"])
    assert ref is not None

    async def finished() -> bool:
        return theirs.finished(ref)

    await running.when(finished)
    await running.client.post(f"/v1/jobs/{job_id}/cancel")
    job = await running.ended(job_id)
    assert (job["status"], len(job["outputs"])) == ("succeeded", 1)
    assert (await running.stats())["cancels"][provider] == 0


@pytest.mark.parametrize("provider", CANCELLING)
async def test_a_cancel_by_somebody_at_the_provider_ends_the_job(
    start_gateway: StartGateway, provider: str
) -> None:
    running, job_id = await half_done(start_gateway, provider)
    mount = running.simulator.simulator._mounts[provider]
    theirs = mount.jobs.find((await running.job(job_id))["attempts"][0]["provider_ref"])
    assert theirs is not None
    theirs.cancelled = True
    assert (await running.ended(job_id))["status"] == "cancelled"


# --- whose jobs, whose keys ---


async def test_somebody_elses_job_looks_like_none(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    job_id = await running.accept()
    unknown = "job_" + "0" * 32
    async with running.another_client("somebody else") as client:
        for method, path in (("GET", ""), ("GET", "/timeline"), ("POST", "/cancel")):
            bodies = []
            for given in (job_id, unknown):
                reply = await client.request(
                    method, f"/v1/jobs/{given}{path}", headers={"X-Request-Id": "the-same"}
                )
                assert reply.status_code == 404
                bodies.append(reply.content)
            assert bodies[0] == bodies[1]
        assert (await client.get("/v1/jobs")).json()["jobs"] == []
    async with running.another_client("the boss", Scope.OPERATOR) as client:
        assert (await client.get(f"/v1/jobs/{job_id}")).status_code == 200
        assert [job["id"] for job in (await client.get("/v1/jobs")).json()["jobs"]] == [job_id]
        assert (await client.post(f"/v1/jobs/{job_id}/cancel")).json()["status"] == "cancelled"


async def test_a_key_does_what_its_scopes_say(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    for scopes, jobs, metrics in (
        ([Scope.JOBS], 200, 403),
        ([Scope.METRICS], 403, 200),
        ([Scope.OPERATOR], 200, 200),
    ):
        async with running.another_client("scoped", *scopes) as client:
            assert (await client.get("/v1/jobs")).status_code == jobs
            assert (await client.get("/v1/providers")).status_code == jobs
            refused = await client.get("/metrics")
            assert refused.status_code == metrics
            if metrics == 403:
                assert refused.json()["type"] == "/problems/forbidden"


async def test_a_revoked_key_is_refused_within_ten_seconds(start_gateway: StartGateway) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock)
    assert (await running.client.get("/v1/jobs")).status_code == 200
    assert await running.gateway.keys.revoke(running.key.id)
    clock.jump(10)
    refused = await running.client.get("/v1/jobs")
    assert (refused.status_code, refused.json()["type"]) == (401, "/problems/unauthenticated")
    assert refused.headers["www-authenticate"].startswith("Bearer")


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


# --- providers and health ---


async def test_providers_are_shown_as_their_specs_say(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    shown = {one["name"]: one for one in (await running.client.get("/v1/providers")).json()["providers"]}
    assert set(shown) == set(PROVIDERS)
    for name, one in shown.items():
        spec = ADAPTERS[name].spec
        cancel = "none" if spec.cancel is None else "stops" if spec.cancel.stops else "detaches"
        assert (one["title"], one["enabled"], one["cancel"]) == (spec.title, True, cancel)
        assert one["accounts"] == [
            {
                "name": "default",
                "simulated": False,
                "slots_in_use": 0,
                "slots_limit": None,
                "unavailable": None,
            }
        ]
        assert [model["name"] for model in one["models"]] == [model.name for model in spec.models]


async def test_readiness_follows_the_worker(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    assert (await running.client.get("/health/ready")).json() == {"status": "ok", "reason": None}
    await running.gateway.stop_worker()
    reply = await running.client.get("/health/ready")
    assert (reply.status_code, reply.json()["status"]) == (503, "unavailable")
    assert (await running.client.get("/health/live")).status_code == 200


@pytest.mark.parametrize("works", [True, False], ids=["works", "only serves"])
async def test_a_gateway_that_stops_is_not_ready_whether_it_works_or_not(
    tmp_path: Path,
    works: bool,  # noqa: FBT001 - a column
) -> None:
    urls = dict.fromkeys(PROVIDERS, "http://127.0.0.1:9")
    settings = load(REGISTRY.specs, environ=environment(tmp_path, urls), cwd=tmp_path).settings
    gateway = Gateway(settings, REGISTRY, works=works)
    try:
        if works:
            await gateway.start_worker()
        assert await gateway._readiness() is None
        stopping = asyncio.create_task(gateway.stop_worker())
        await asyncio.sleep(0)
        assert await gateway._readiness() == "it is stopping"
        await stopping
    finally:
        await gateway.close()


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
