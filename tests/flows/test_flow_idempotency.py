"""The same request again: one job for one key."""

from __future__ import annotations

import asyncio
import json

from running_gateway import PROVIDERS, StartGateway, asked


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
