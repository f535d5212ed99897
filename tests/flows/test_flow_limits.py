"""Limits over real HTTP: how often a key may ask, how many jobs an owner may have, what they may cost."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import AsyncExitStack

import httpx
import pytest
from running_gateway import (
    BOTH_ENGINES,
    ENDED,
    PATIENCE_S,
    Document,
    RunningGateway,
    StartGateway,
    asked,
    client_of,
    fault,
    replaced,
)

from gateway.service.keys import CreatedKey, Scope
from gateway.settings.rates import parse_rate
from gateway.simulator import FaultRule

RATE = '"requests";q=10;w=3600'
TWENTY_S = 20
"""At 0.05 USD a second, which Eachlabs and Runway ask: one dollar."""


async def limited_key(
    running: RunningGateway, owner: str = "limited", *, rate: str | None = None, **limits: int
) -> CreatedKey:
    return await running.gateway.parts.keys.create(
        name=owner,
        owner=owner,
        scopes=[Scope.JOBS, Scope.METRICS],
        rate=None if rate is None else parse_rate(rate),
        limits=limits,
    )


def a_dollar(provider: str = "eachlabs") -> Document:
    body = asked(provider)
    return body | {"reference": body["reference"] | {"duration_s": TWENTY_S}}


def on_eight_routes(client: httpx.AsyncClient) -> list[httpx.Request]:
    """One request to each of eight routes, none of them the same."""
    build = client.build_request
    unknown = "/v1/jobs/job_" + "0" * 32
    return [
        build("GET", "/v1/jobs"),
        build("GET", unknown),
        build("GET", f"{unknown}/timeline"),
        build("POST", f"{unknown}/cancel"),
        build("GET", "/v1/providers"),
        build("GET", "/v1/usage"),
        build("GET", "/metrics"),
        build("POST", "/v1/jobs", json={"nothing": "of the kind"}),
    ]


async def burst(urls: list[str], key: CreatedKey, count: int) -> list[httpx.Response]:
    """Send that many requests at once, over eight routes and over these gateways."""
    async with AsyncExitStack() as stack:
        # A connection each: one that is kept may be closed by the server at the moment it is used again.
        limits = httpx.Limits(max_connections=50, max_keepalive_connections=0)
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=url,
                    headers={"Authorization": f"Bearer {key.key}"},
                    trust_env=False,
                    timeout=60,
                    limits=limits,
                )
            )
            for url in urls
        ]
        requests = [(client, on_eight_routes(client)) for client in clients]
        chosen = (requests[number % len(requests)] for number in range(count))
        calls = [
            client.send(prepared[number // len(requests) % 8])
            for number, (client, prepared) in enumerate(chosen)
        ]
        return await asyncio.gather(*calls)


def check_refused(reply: httpx.Response) -> None:
    """A refusal says what, until when, and how to count."""
    problem = reply.json()
    assert problem["type"] == "/problems/quota-exceeded"
    assert problem["violated-policies"] == ["requests"]
    assert reply.headers["RateLimit-Policy"] == RATE
    found = re.fullmatch(r'"requests";r=0;t=(\d+)', reply.headers["RateLimit"])
    assert found is not None
    assert re.fullmatch(r"[1-9]\d*", reply.headers["Retry-After"])
    assert int(reply.headers["Retry-After"]) >= int(found[1]) > 0


@BOTH_ENGINES
async def test_of_500_requests_at_once_over_routes_and_replicas_exactly_ten_are_admitted(
    start_gateway: StartGateway, engine: str
) -> None:
    patient = {"SERVER__HEAD_TIMEOUT_S": "60"}
    first = await start_gateway(settings=patient)
    gateways = [first] if engine == "sqlite" else [first, await start_gateway(settings=patient)]
    key = await limited_key(first, rate="10/h")
    replies = await burst([one.url for one in gateways], key, 500)
    refused = [reply for reply in replies if reply.status_code == 429]
    assert len(replies) - len(refused) == 10
    for reply in refused:
        check_refused(reply)
    admitted = [reply for reply in replies if reply.status_code != 429]
    assert {reply.headers["RateLimit-Policy"] for reply in admitted} == {RATE}
    left = sorted(int(reply.headers["RateLimit"].partition("r=")[2].partition(";")[0]) for reply in admitted)
    if len(gateways) == 1:
        assert left == list(range(10))
    else:  # what is left is rounded down to whole requests, and two replicas' clocks differ by a moment
        assert all(0 <= full - one <= 1 for full, one in zip(range(10), left, strict=True)), left
    counted = [await one.metric("rate_limited_total", policy="requests") for one in gateways]
    assert sum(counted) == 490


async def test_what_is_no_business_of_a_key_does_not_count_against_it(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    key = await limited_key(running, rate="2/d")
    async with client_of(running.url, key.key) as client, client_of(running.url, "mgk_nobody") as nobody:
        for _ in range(3):
            assert (await client.get("/v1/nowhere")).status_code == 404
            assert (await nobody.get("/v1/jobs")).status_code == 401
            forbidden = await client.post("/v1/jobs/job_x/resolve", json={"action": "fail"})
            assert forbidden.status_code == 403
            assert "RateLimit" not in forbidden.headers
        assert (await client.head("/v1/jobs")).headers["RateLimit"].startswith('"requests";r=1;')
        assert [(await client.get("/v1/jobs")).status_code for _ in range(2)] == [200, 429]
        assert "RateLimit" not in (await running.client.get("/v1/jobs")).headers


async def test_the_settings_limit_keys_that_have_no_rate_of_their_own(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings={"LIMITS__RATE": "3/h"})
    own = await limited_key(running, rate="5/h")
    assert [(await running.client.get("/v1/jobs")).status_code for _ in range(4)] == [200, 200, 200, 429]
    async with client_of(running.url, own.key) as client:
        assert [(await client.get("/v1/jobs")).status_code for _ in range(6)] == [200] * 5 + [429]


@BOTH_ENGINES
async def test_owners_have_so_many_jobs_at_once_and_a_replay_is_never_refused(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway(settings={"LIMITS__MAX_IN_FLIGHT": "100"}, simulator={"run_s": 3600.0})
    keys = [await limited_key(running, max_in_flight=3) for _ in range(2)]
    async with client_of(running.url, keys[0].key) as one, client_of(running.url, keys[1].key) as other:

        async def post(number: int) -> httpx.Response:
            headers = {"Idempotency-Key": f"post-{number}"}
            return await (one, other)[number % 2].post("/v1/jobs", json=asked("runway"), headers=headers)

        replies = await asyncio.gather(*(post(number) for number in range(40)))
        assert Counter(reply.status_code for reply in replies) == {202: 3, 429: 37}
        taken = [number for number, reply in enumerate(replies) if reply.status_code == 202]
        again = await asyncio.gather(*(post(number) for number in taken))
        assert {reply.headers["Idempotency-Replayed"] for reply in again} == {"true"}
        refused = next(reply for reply in replies if reply.status_code == 429)
        assert refused.json()["violated-policies"] == ["jobs-in-flight"]
        assert refused.headers["RateLimit-Policy"] == '"jobs-in-flight";q=3;qu="concurrent-requests"'
        assert int(refused.headers["Retry-After"]) > 0
        job_id = again[0].json()["id"]
        assert (await one.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200

        async def has_room() -> bool:
            return (await one.post("/v1/jobs", json=asked("runway"))).status_code == 202

        await running.when(has_room)
    assert await running.metric("rate_limited_total", policy="jobs-in-flight") >= 37


async def test_a_full_queue_takes_nothing_and_says_when_to_come_back(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings={"LIMITS__MAX_QUEUED": "4"}, simulator={"run_s": 3600.0})
    replies = await asyncio.gather(
        *(running.client.post("/v1/jobs", json=asked("runway")) for _ in range(10))
    )
    assert Counter(reply.status_code for reply in replies) == {202: 4, 503: 6}
    refused = next(reply for reply in replies if reply.status_code == 503)
    assert refused.json()["type"] == "/problems/temporary-reduced-capacity"
    assert int(refused.headers["Retry-After"]) > 0
    assert len((await running.client.get("/v1/jobs")).json()["jobs"]) == 4


async def usage(client: httpx.AsyncClient, **query: str) -> Document:
    reply = await client.get("/v1/usage", params=query)
    assert reply.status_code == 200, reply.text
    shown: Document = reply.json()
    return shown


@BOTH_ENGINES
async def test_a_budget_of_ten_dollars_takes_ten_of_a_hundred_dollar_jobs(
    start_gateway: StartGateway, engine: str
) -> None:
    first = await start_gateway()
    gateways = [first] if engine == "sqlite" else [first, await start_gateway()]
    for one in gateways:
        await one.gateway.stop_worker()
    key = await limited_key(first, budget_micro_usd=10_000_000)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(one.url, key.key)) for one in gateways]
        replies = await asyncio.gather(
            *(clients[number % len(clients)].post("/v1/jobs", json=a_dollar()) for number in range(100))
        )
        assert Counter(reply.status_code for reply in replies) == {202: 10, 402: 90}
        refused = next(reply for reply in replies if reply.status_code == 402).json()
        assert refused["type"] == "/problems/spend-limit-reached"
        assert refused["violated-policies"] == ["budget"]
        assert "$10.00" in refused["detail"]
        shown = await usage(clients[0])
    (row,) = shown["rows"]
    assert (row["owner"], row["provider"], row["jobs"]) == ("limited", None, 10)
    assert (row["charged_usd"], row["reserved_usd"]) == (0, 10)
    (budget,) = shown["budgets"]
    assert (budget["budget_usd"], budget["used_usd"], budget["left_usd"]) == (10, 10, 0)


async def test_a_failed_jobs_reserve_is_released_and_a_lost_polls_is_not(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    key = await limited_key(running, budget_micro_usd=2_000_000)
    async with client_of(running.url, key.key) as client:

        async def ends(*rules: FaultRule) -> Document:
            running.break_(*rules)
            reply = await client.post("/v1/jobs", json=a_dollar())
            assert reply.status_code == 202, reply.text
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    job: Document = (await client.get(f"/v1/jobs/{reply.json()['id']}")).json()
                    if job["status"] in ENDED:
                        return job
                    await asyncio.sleep(0.02)

        failed = await ends(fault("fail:content_rejected"))
        assert failed["status"] == "failed", failed
        assert await money(client) == (0, 0)
        with replaced(running.simulator.simulator._mounts["eachlabs"].jobs, "find", lambda _ref: None):
            lost = await ends()
        assert lost["error"]["code"] == "provider_lost", lost
        assert await money(client) == (0, 1)
        good = await ends()
        assert good["status"] == "succeeded"
        charged, reserved = await money(client)
        assert reserved == 1
        assert charged == good["cost"]["charged_usd"]
        assert await running.metric("spend_usd_total", provider="eachlabs") == pytest.approx(charged)
        assert (await client.post("/v1/jobs", json=a_dollar())).status_code == 402


async def money(client: httpx.AsyncClient) -> tuple[float, float]:
    shown = await usage(client)
    return shown["charged_usd"], shown["reserved_usd"]


async def test_usage_is_ones_own_unless_one_operates(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    await running.accept("runway")
    async with (
        running.another_client("bob") as bob,
        running.another_client("boss", Scope.OPERATOR) as boss,
    ):
        assert (await bob.post("/v1/jobs", json=asked("runway"))).status_code == 202
        assert {row["owner"] for row in (await usage(bob))["rows"]} == {"bob"}
        assert {row["owner"] for row in (await usage(bob, owner="bob"))["rows"]} == {"bob"}
        assert (await bob.get("/v1/usage", params={"owner": "tester"})).status_code == 403
        assert {row["owner"] for row in (await usage(boss))["rows"]} == {"bob", "tester"}
        assert {row["owner"] for row in (await usage(boss, owner="tester"))["rows"]} == {"tester"}
        assert (await usage(boss, **{"from": "2020-01-01", "to": "2020-01-31"}))["rows"] == []
        for wrong in ("from=2026-13-01", "from=yesterday", "to=2020-01-01&from=2020-01-02", "day=1"):
            assert (await boss.get(f"/v1/usage?{wrong}")).status_code == 422
