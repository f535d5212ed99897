"""`Prefer: wait=N` on POST /v1/jobs: who is kept, for how long, and what is answered then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from raw_client import connected, request_bytes
from running_gateway import (
    BOTH_ENGINES,
    Document,
    JumpClock,
    RunningGateway,
    StartGateway,
    asked,
    open_gateway,
    replaced,
)

from gateway.errors import StorageUnavailable


async def post(running: RunningGateway, prefer: str, **headers: str) -> httpx.Response:
    fields = {"Prefer": prefer} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await running.client.post("/v1/jobs", json=asked(), headers=fields)


async def waiting(running: RunningGateway, count: int = 1) -> None:
    """Wait until that many requests are kept for their jobs, which are stored by then."""
    watch = running.gateway.parts.watch

    async def as_many() -> bool:
        return len(watch._watchers) == count == sum(one.topic is not None for one in watch._watchers)

    await running.when(as_many)
    assert await running.metric("watchers", kind="wait") == count


async def idle(start_gateway: StartGateway, **options: Any) -> RunningGateway:
    """A gateway that carries out nothing until its worker is started."""
    running = await start_gateway(**options)
    await running.gateway.stop_worker()
    return running


async def kept(
    running: RunningGateway, prefer: str = "wait=60", **headers: str
) -> asyncio.Task[httpx.Response]:
    """Post a job, and go on once the request is kept for it."""
    asking = asyncio.create_task(post(running, prefer, **headers))
    await waiting(running)
    return asking


async def newest(running: RunningGateway) -> Document:
    """The job that was stored last."""
    page: Document = (await running.client.get("/v1/jobs", params={"limit": "1"})).json()
    job: Document = page["jobs"][0]
    return job


@BOTH_ENGINES
async def test_a_job_that_ends_in_time_is_the_answer(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    reply = await post(running, "respond-async, wait=30")
    assert reply.status_code == 200
    assert reply.headers["preference-applied"] == "wait=30"
    assert reply.headers["location"] == f"/v1/jobs/{reply.json()['id']}"
    assert reply.headers["idempotency-replayed"] == "false"
    assert reply.json()["status"] == "succeeded"
    assert reply.json() == await running.job(reply.json()["id"])


async def test_a_job_that_does_not_is_accepted_after_that_time(start_gateway: StartGateway) -> None:
    clock = JumpClock()
    running = await idle(start_gateway, clock=clock)
    asking = await kept(running, "wait=45")
    clock.jump(44)
    await waiting(running)
    assert not asking.done()
    clock.jump(1)
    reply = await asking
    assert reply.status_code == 202
    assert reply.headers["preference-applied"] == "wait=45"
    assert reply.json() == await running.job(reply.json()["id"])
    await waiting(running, 0)


async def test_more_than_a_minute_is_taken_as_a_minute_and_told(start_gateway: StartGateway) -> None:
    clock = JumpClock()
    running = await idle(start_gateway, clock=clock)
    asking = await kept(running, "wait=86400")
    clock.jump(60)
    reply = await asking
    assert reply.status_code == 202
    assert reply.headers["preference-applied"] == "wait=60"


@pytest.mark.parametrize("prefer", ["wait=0", "wait=soon", "respond-async", "wait=-1", "=", ""])
async def test_what_is_no_wait_is_answered_at_once(running: RunningGateway, prefer: str) -> None:
    reply = await post(running, prefer)
    assert reply.status_code == 202
    assert "preference-applied" not in reply.headers


async def test_a_replay_waits_for_the_job_that_there_is(start_gateway: StartGateway) -> None:
    running = await idle(start_gateway)
    first = await running.accept(key="k")
    asking = await kept(running, Idempotency_Key="k")
    await running.gateway.start_worker()
    for reply in (await asking, await post(running, "wait=60", Idempotency_Key="k")):
        assert reply.status_code == 200
        assert reply.headers["idempotency-replayed"] == "true"
        assert reply.headers["preference-applied"] == "wait=60"
        assert (reply.json()["id"], reply.json()["status"]) == (first, "succeeded")


async def test_a_client_that_goes_away_waits_no_more_and_its_job_goes_on(
    start_gateway: StartGateway,
) -> None:
    running = await idle(start_gateway)
    async with connected(running.url) as connection:
        body = httpx.Request("POST", running.url, json=asked()).content
        lines = (
            f"Authorization: Bearer {running.key.key}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Prefer: wait=60",
        )
        await connection.send(request_bytes("/v1/jobs", *lines, body=body))
        await waiting(running)
    await waiting(running, 0)
    assert await running.metric("http_requests_total", route="/v1/jobs", method="POST", status="499") == 1
    job_id = (await newest(running))["id"]
    await running.gateway.start_worker()
    assert (await running.ended(job_id))["status"] == "succeeded"


async def test_who_waits_when_the_gateway_stops_is_answered_with_the_job_as_it_is(
    start_gateway: StartGateway,
) -> None:
    running = await idle(start_gateway)
    asking = await kept(running)
    running.gateway.hang_up()
    for reply in (await asking, await post(running, "wait=60")):
        assert reply.status_code == 202
        assert "preference-applied" not in reply.headers
        assert reply.json() == await running.job(reply.json()["id"])


async def test_without_a_place_to_wait_nothing_is_stored(start_gateway: StartGateway) -> None:
    running = await idle(start_gateway, settings={"SERVER__WATCHERS_PER_OWNER": "1"})
    asking = await kept(running)
    job_id = (await newest(running))["id"]
    refused = await post(running, "wait=60")
    assert refused.status_code == 503
    assert refused.json()["type"] == "/problems/temporary-reduced-capacity"
    assert "retry-after" in refused.headers
    assert (await newest(running))["id"] == job_id
    assert (await running.client.post("/v1/jobs", json=asked())).status_code == 202
    await running.gateway.start_worker()
    assert (await asking).status_code == 200


async def test_a_database_that_goes_away_meanwhile_makes_no_error_of_an_accepted_job(
    start_gateway: StartGateway,
) -> None:
    running = await idle(start_gateway)
    asking = await kept(running)
    job_id = (await newest(running))["id"]

    async def away(_job_ids: list[str]) -> Any:
        raise StorageUnavailable("away")

    with replaced(running.gateway.parts.jobs._shown, "_run", away):
        assert (await running.client.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
        reply = await asking
    assert (reply.status_code, reply.json()["id"], reply.json()["status"]) == (202, job_id, "queued")


async def test_the_time_that_was_waited_is_no_time_of_a_request(start_gateway: StartGateway) -> None:
    running = await start_gateway(simulator={"run_s": 1.0})
    assert (await post(running, "wait=60")).status_code == 200

    async def counted() -> bool:
        return await running.metric("http_requests_total", route="/v1/jobs", method="POST", status="200") == 1

    await running.when(counted)
    assert await running.metric("http_request_duration_seconds_sum", route="/v1/jobs", method="POST") < 1.0


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_what_another_process_finishes_is_waited_for_too(
    start_gateway: StartGateway, database_url: str, tmp_path: Path
) -> None:
    working = await start_gateway()
    async with open_gateway(tmp_path, working.simulator, database=database_url, works=False) as serving:
        reply = await post(serving, "wait=60")
    assert (reply.status_code, reply.json()["status"]) == (200, "succeeded")
