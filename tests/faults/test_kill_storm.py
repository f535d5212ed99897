"""`serve` killed again and again, at any moment, while it works: nothing is paid twice, nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from invariants import check_invariants
from running_gateway import (
    EMULATIONS,
    ENDED,
    PROVIDERS,
    Document,
    asked,
    client_of,
    environment,
    stats_of,
)
from serve_process import ServeProcess, made_key
from webhook_receiver import Receiver, open_receiver

from gateway.clock import SystemClock
from gateway.service.keys import Scope
from gateway.simulator import Simulator, serve_simulator
from gateway.worker.submit import DIED

JOBS, KILLS = 50, 10
WAIT_S = 120.0
"""For the whole of it; never reached when all is well."""


class SlowSimulator(Simulator):
    """Takes a job at once and says so late: the moment at which a crash costs most."""

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        async def late(message: Any) -> None:
            if scope["method"] == "POST" and message["type"] == "http.response.start":
                await asyncio.sleep(0.15)
            await send(message)

        await super().asgi(scope, receive, late)


async def post(client: httpx.AsyncClient, number: int, receiver: Receiver) -> str:
    """Post a job until it is accepted, as a careful client does: always with the same key."""
    events = ["job.succeeded", "job.failed", "job.cancelled", "job.held"]
    body = asked(
        PROVIDERS[number % len(PROVIDERS)],
        character=f"{asked()['character']['url']}?job={number}",
        webhook={"url": receiver.url(), "events": events},
    )
    while True:
        try:
            reply = await client.post("/v1/jobs", json=body, headers={"Idempotency-Key": f"storm-{number}"})
        except httpx.TransportError:
            await asyncio.sleep(0.02)
            continue
        assert reply.status_code == 202, reply.text
        accepted: str = reply.json()["id"]
        return accepted


async def settled(client: httpx.AsyncClient) -> list[Document]:
    """Every job, once each has ended or is held."""
    while True:
        jobs: list[Document] = (await client.get("/v1/jobs?limit=100")).json()["jobs"]
        if all(job["status"] in ENDED or job["held"] is not None for job in jobs):
            return jobs
        await asyncio.sleep(0.05)


async def storm(
    victim: ServeProcess, client: httpx.AsyncClient, receiver: Receiver, chance: Random
) -> list[str]:
    """Post all jobs while the gateway is killed; return the ids that were answered."""

    async def post_all() -> list[str]:
        found = []
        for number in range(JOBS):
            found.append(asyncio.create_task(post(client, number, receiver)))
            await asyncio.sleep(chance.uniform(0, 0.3))
        return await asyncio.gather(*found)

    posting = asyncio.create_task(post_all())
    while victim.kills < KILLS or not posting.done():
        await asyncio.sleep(chance.uniform(0.05, 0.6))
        await victim.end(signal.SIGKILL)
        await victim.start()
        if posting.done() and posting.exception():
            break
    return await posting


@pytest.mark.parametrize("seed", [20261121])
async def test_a_storm_of_kills_pays_nothing_twice_and_loses_nothing(tmp_path: Path, seed: int) -> None:
    simulator = SlowSimulator(EMULATIONS, clock=SystemClock(), run_s=0.5, render=False)
    async with (
        asyncio.timeout(WAIT_S),
        await serve_simulator(simulator) as providers,
        open_receiver(pause_s=0.05) as receiver,
    ):
        environ = environment(
            tmp_path,
            {name: f"{providers.url}/{name}" for name in PROVIDERS},
            WEBHOOKS__ALLOW_HTTP="true",
            WEBHOOKS__ALLOWED_NETWORKS="127.0.0.1/32",
        )
        key = await made_key(environ, tmp_path, Scope.JOBS)
        async with (
            ServeProcess(environ, tmp_path / "serve.log") as victim,
            client_of(victim.url, key.key) as client,
        ):
            ids = await storm(victim, client, receiver, Random(seed))  # noqa: S311 - the same storm in every run
            jobs = await settled(client)
            ended = {job["id"] for job in jobs if job["status"] in ENDED}
            held = {job["id"] for job in jobs if job["held"] is not None}
            await receiver.received(lambda seen: told(seen) >= ended | held)
            assert victim.kills >= KILLS
            assert sorted(ids) == sorted(job["id"] for job in jobs)
            assert len(set(ids)) == JOBS
            for job_id in held:
                timeline = (await client.get(f"/v1/jobs/{job_id}/timeline")).json()["entries"]
                (doubt,) = [entry for entry in timeline if entry.get("type") == "attempt.unknown"]
                assert doubt["data"]["note"]["reason"] == DIED
            assert await victim.end(signal.SIGTERM) == 0
        check_payments(await stats_of(providers), jobs)
    check_messages(receiver)
    assert check_invariants(tmp_path / "gateway.db") == JOBS
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def told(messages: list[Any]) -> set[str]:
    """The jobs that a receiver heard of."""
    return {message.event["data"]["id"] for message in messages}


def check_payments(stats: Document, jobs: list[Document]) -> None:
    """No job was accepted twice by its provider, and each that succeeded was accepted."""
    paid = {url: times for seen in stats["by_character"].values() for url, times in seen.items()}
    assert set(paid.values()) <= {1}, paid
    for job in jobs:
        if job["held"] is None:
            assert job["status"] == "succeeded", job
            assert paid[job["request"]["character"]["url"]] == 1
            assert [attempt["state"] for attempt in job["attempts"]][-1] == "succeeded"


def check_messages(receiver: Receiver) -> None:
    """However often an event was sent, it was the same bytes under one id, and each job ended once."""
    sent = defaultdict(set)
    for message in receiver.messages:
        sent[message.event["data"]["id"], message.event["type"]].add((message.id, message.body))
    assert all(len(versions) == 1 for versions in sent.values())
    ends = [job_id for job_id, kind in sent if kind != "job.held"]
    assert len(ends) == len(set(ends))
