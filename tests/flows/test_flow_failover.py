"""Routing from outside: plans, policies, limits, and jobs that move on, over real HTTP."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fault_proxy import open_proxy
from ports import reserve_port
from running_gateway import (
    ADAPTERS,
    BOTH_ENGINES,
    PROVIDERS,
    Document,
    JumpClock,
    StartGateway,
    StartSimulator,
    asked,
    client_of,
    fault,
    open_gateway,
)

from gateway.routing.breaker import IN_A_ROW
from gateway.service.keys import Scope

FIRST, SECOND = PROVIDERS[:2]
ORDER: Document = {"routing": {"providers": [FIRST, SECOND]}}
COUNT = 20


async def both(running: Any, body: Document) -> tuple[Document, Document]:
    """A job's plan as it is asked for, and as it is kept with the job."""
    reply = await running.client.post("/v1/plan", json=body, headers={"Idempotency-Key": '"no "use'})
    assert reply.status_code == 200, reply.text
    posted = await running.client.post("/v1/jobs", json=body)
    assert posted.status_code == 202, posted.text
    (entry,) = await running.timeline(posted.json()["id"], "plan")
    return reply.json(), entry["plan"]


async def test_a_plan_says_where_a_job_goes_and_is_kept_with_it(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    asked_for, kept = await both(running, asked(seed=7, routing={"exclude": [FIRST]}))
    assert asked_for == kept
    assert [one["provider"] for one in kept["candidates"]] == list(PROVIDERS[1:])
    assert [(one["provider"], one["account"], one["code"]) for one in kept["left_out"]] == [
        (FIRST, "default", "excluded")
    ]
    for one in kept["candidates"]:
        spec = ADAPTERS[one["provider"]].spec
        assert one["request"]["method"] == "POST"
        assert one["request"]["path"].startswith("/v")
        assert one["estimated_usd"] == spec.models[0].price.estimate(4) / 1_000_000
        assert (one["expected_run_s"], one["expected_run_by"]) == (spec.models[0].typical_run_s, "declared")
        assert one["unavailable"] is None
    assert (kept["policy"], kept["failover"], kept["duration_s"], kept["duration_told"]) == (
        "priority",
        True,
        4,
        True,
    )
    assert (await running.stats())["accepted"] == dict.fromkeys(PROVIDERS, 0), "nothing was sent"


async def test_a_plan_for_nobody_is_an_answer_and_such_a_job_is_refused(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    body = asked(routing={"max_cost_usd": 0.01, "exclude": [FIRST]})
    planned = (await running.client.post("/v1/plan", json=body)).json()
    assert planned["candidates"] == []
    assert {one["provider"]: one["code"] for one in planned["left_out"]} == {
        FIRST: "excluded",
        **dict.fromkeys(PROVIDERS[1:], "too_expensive"),
    }
    refused = await running.client.post("/v1/jobs", json=body)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/no-provider")
    places = [(error["pointer"], error["message"].partition(":")[0]) for error in refused.json()["errors"]]
    assert places == [
        ("/routing/exclude", FIRST),
        *(("/routing/max_cost_usd", provider) for provider in PROVIDERS[1:]),
    ]
    assert (await running.client.get("/v1/jobs")).json()["jobs"] == []


async def test_the_policy_is_the_jobs_else_the_keys_else_the_gateways(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings={"ROUTING__POLICY": "fastest", "ROUTING__FAILOVER": "false"})
    await running.gateway.stop_worker()
    key = await running.gateway.parts.keys.create(
        name="thrifty", owner="thrifty", scopes=[Scope.JOBS], policy="cheapest"
    )
    async with client_of(running.url, key.key) as thrifty:
        for client, routing, policy in [
            (running.client, {}, "fastest"),
            (thrifty, {}, "cheapest"),
            (thrifty, {"policy": "weighted"}, "weighted"),
            (thrifty, {"providers": [SECOND, FIRST]}, "priority"),
            (thrifty, {"providers": [SECOND], "policy": "cheapest"}, "cheapest"),
        ]:
            job = (await client.post("/v1/jobs", json=asked(routing=routing))).json()
            shown = job["request"]["routing"]
            assert (shown["policy"], shown["failover"]) == (policy, False)


async def test_what_a_job_asks_for_is_shown_back(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    wish = {"providers": [], "exclude": [], "policy": "cheapest", "failover": False, "max_cost_usd": 0.35}
    job = await running.job(await running.accept(routing=wish, priority="high"))
    assert job["request"]["routing"] == wish
    assert job["request"]["priority"] == "high"


@BOTH_ENGINES
async def test_where_one_refuses_every_connection_all_jobs_succeed_at_the_next(
    simulator_server: StartSimulator, tmp_path: Path, database_url: str
) -> None:
    served = await simulator_server()
    urls = {FIRST: f"http://127.0.0.1:{reserve_port()}", SECOND: f"{served.url}/{SECOND}"}
    async with open_gateway(tmp_path, served, database=database_url, base_urls=urls) as running:
        ids = [await running.accept(**ORDER) for _ in range(COUNT)]
        jobs = [await running.ended(job_id) for job_id in ids]
        assert {(job["status"], job["provider"]) for job in jobs} == {("succeeded", SECOND)}
        states = {tuple(one["state"] for one in job["attempts"]) for job in jobs}
        # Once its breaker is open, the first is not even tried.
        assert ("refused", "succeeded") in states <= {("refused", "succeeded"), ("succeeded",)}
        assert await running.accepted(SECOND) == COUNT


@BOTH_ENGINES
async def test_a_provider_that_is_back_is_found_by_one_probe(
    simulator_server: StartSimulator, tmp_path: Path, database_url: str
) -> None:
    served = await simulator_server()
    clock = JumpClock()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(open_proxy(("127.0.0.1", urlsplit(served.url).port or 0)))
        await proxy.refuse()
        urls = {name: f"http://127.0.0.1:{proxy.port}/{name}" for name in (FIRST,)}
        urls[SECOND] = f"{served.url}/{SECOND}"
        scaled = {f"PROVIDERS__{FIRST.upper()}__POLL_SCALE": "1", "WORKER__CONCURRENCY": "1"}
        running = await stack.enter_async_context(
            open_gateway(
                tmp_path, served, database=database_url, base_urls=urls, clock=clock, settings=scaled
            )
        )
        for _ in range(8):
            await running.ended(await running.accept(**ORDER))
        refused = proxy.connections
        await proxy.listen()
        for _ in range(3):
            job = await running.ended(await running.accept(**ORDER))
            assert [one["provider"] for one in job["attempts"]] == [SECOND]
        assert proxy.connections == refused == 0, "while its breaker is open, nothing goes there"
        clock.jump(31)
        job_id = await running.accept(**ORDER)
        job = await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
        assert [one["provider"] for one in job["attempts"]] == [FIRST]
        again = await running.accept(**ORDER)
        job = await running.until(again, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
        assert [one["provider"] for one in job["attempts"]] == [FIRST]


@BOTH_ENGINES
@pytest.mark.parametrize("spoilt", ["accept_500", "accept_reset"])
async def test_what_may_have_been_accepted_is_submitted_nowhere_else(
    start_gateway: StartGateway, spoilt: str
) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    running.break_(fault(spoilt, provider=FIRST), fault("no_rows", "list"))
    await running.gateway.start_worker()
    ids = [await running.accept(**ORDER) for _ in range(COUNT)]
    jobs = [
        await running.until(job_id, lambda job: job["held"] is not None or job["status"] == "succeeded")
        for job_id in ids
    ]
    held = [job for job in jobs if job["held"] is not None]
    assert {job["held"]["reason"] for job in held} == {"submission_unknown"}
    assert {len(job["attempts"]) for job in jobs} == {1}
    # Those that were not yet submitted when the first's breaker opened went to the second.
    assert len(held) >= IN_A_ROW
    assert await running.accepted(FIRST) == len(held)
    assert await running.accepted(SECOND) == COUNT - len(held)


@pytest.mark.parametrize("first", PROVIDERS)
async def test_a_run_that_failed_unbilled_is_done_elsewhere(start_gateway: StartGateway, first: str) -> None:
    other = next(provider for provider in PROVIDERS if provider != first)
    running = await start_gateway()
    running.break_(fault("fail:provider_error", provider=first))
    job = await running.ended(await running.accept(routing={"providers": [first, other]}))
    assert (job["status"], job["provider"], job["error"]) == ("succeeded", other, None)
    assert [(one["provider"], one["state"]) for one in job["attempts"]] == [
        (first, "failed"),
        (other, "succeeded"),
    ]
    assert job["attempts"][0]["error"]["code"] == "provider_error"


async def test_rejected_content_is_shown_to_nobody_else(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    running.break_(fault("fail:content_rejected", provider=FIRST))
    job = await running.ended(await running.accept(**ORDER))
    assert (job["status"], job["error"]["code"], len(job["attempts"])) == ("failed", "content_rejected", 1)
    assert await running.accepted(SECOND) == 0
