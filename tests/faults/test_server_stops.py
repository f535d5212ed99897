"""A PostgreSQL server that crashes again and again, under load: what was acknowledged exists, paid once."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from uuid import uuid4

import httpx
import pytest
from audit import check_database, check_messages, check_payments, to_be_told, told
from careful_client import CarefulClient, held_of
from engines import postgres_settings
from patience import WAIT_S
from postgres_server import OwnServer, create_database
from running_gateway import (
    PROVIDERS,
    Document,
    JumpClock,
    StartSimulator,
    client_of,
    environment,
    open_gateway,
    stats_of,
)
from serve_process import GatewayProcess, ServeProcess, WorkProcess, made_key
from slow_providers import open_providers
from steady_load import open_load
from webhook_receiver import open_receiver

from gateway.service.keys import Scope
from gateway.storage.postgres_schema import migrate_server

STOPS = 20
# What was written to the kernel survives the end of every process; only commits must not be put off.
SERVER = "fsync = off\n"
SETTINGS = {
    "WEBHOOKS__ALLOW_HTTP": "true",
    "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32",
    "WORKER__IDLE_S": "0.1",
}


@pytest.fixture
def server() -> Iterator[OwnServer]:
    """A server of the test's own; not in `tmp_path`, which its user may not enter."""
    folder = Path(tempfile.gettempdir()) / f"motion-gateway-stops-{uuid4().hex[:12]}"
    server = OwnServer(folder, SERVER)
    yield server
    server.close()


async def crash_again_and_again(server: OwnServer, chance: Random) -> None:
    for _ in range(STOPS):
        await asyncio.sleep(chance.uniform(0.05, 0.3))
        await asyncio.to_thread(server.stop, "immediate")
        await asyncio.sleep(chance.uniform(0, 0.1))
        await asyncio.to_thread(server.start)


async def none_held(client: CarefulClient) -> list[Document]:
    """Every job, once none is held: no process of ours died, so each can say what it did.

    While one of them finds the server away for longer than its leases last, the other may call what that one
    submitted unknown; the answer, once it can be written, settles it.
    """
    while held_of(jobs := await client.settled()):  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.1)
    return jobs


async def test_a_server_that_crashes_under_load_loses_nothing_that_was_acknowledged(
    tmp_path: Path, server: OwnServer
) -> None:
    url = create_database(server.url)
    migrate_server(url)
    async with (
        asyncio.timeout(WAIT_S),
        AsyncExitStack() as stack,
        open_providers(run_s=0.3, answer_s=0.05) as providers,
        open_receiver() as receiver,
    ):
        urls = {name: f"{providers.url}/{name}" for name in PROVIDERS}
        environ = environment(tmp_path, urls, **(SETTINGS | postgres_settings(url)))
        key = await made_key(environ, tmp_path, Scope.JOBS)
        api = ServeProcess(environ, tmp_path / "serve.log")
        processes: list[GatewayProcess] = [api, WorkProcess(environ, tmp_path / "work.log")]
        for process in processes:
            stack.push_async_exit(process)
        await asyncio.gather(*(process.start() for process in processes))
        http = await stack.enter_async_context(client_of(api.url, key.key))
        async with open_load(http, receiver.url()) as load:
            await load.more(1)
            await crash_again_and_again(server, Random(20261121))  # noqa: S311 - the same crashes in every run
        client = CarefulClient(http)
        jobs = await none_held(client)
        await receiver.received(lambda seen: told(seen) >= to_be_told(jobs))
        jobs = await client.settled()
        assert {job["id"] for job in jobs} == set(load.ids)
        assert set(load.answers) <= {(202, None), (503, "/problems/storage-unavailable")}, load.answers
        assert held_of(jobs) == []
        assert await asyncio.gather(*(process.end(signal.SIGTERM) for process in processes)) == [0, 0]
        check_payments(await stats_of(providers), jobs)
    check_messages(receiver.messages)
    assert check_database(url) == len(load.ids)


async def test_a_callback_that_cannot_be_stored_is_not_acknowledged(
    tmp_path: Path, server: OwnServer, simulator_server: StartSimulator
) -> None:
    """The provider sends it again; only then is it taken, once."""
    url = create_database(server.url)
    migrate_server(url)
    clock = JumpClock()  # nothing ends by itself
    simulator = await simulator_server(clock=clock, run_s=1000.0, callbacks=False)
    async with open_gateway(tmp_path, simulator, database=url, public=True) as running:
        job_id = await running.accept("eachlabs")
        await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
        (run,) = simulator.simulator._mounts["eachlabs"].jobs._jobs.values()
        await running.gateway.stop_worker()
        proof = {"x-webhook-secret": run.callback_secret}
        body = json.dumps({"exec_id": run.ref, "status": "succeeded"}).encode()
        async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as http:
            await asyncio.to_thread(server.stop, "immediate")
            away = await http.post(run.callback_url, content=body, headers=proof)
            assert (away.status_code, away.json()["type"]) == (503, "/problems/storage-unavailable")
            assert "retry-after" in away.headers
            await asyncio.to_thread(server.start)
            statuses = [away.status_code]
            while statuses[-1] != 200:  # its pool finds the server again
                assert statuses[-1] == 503
                again = await http.post(run.callback_url, content=body, headers=proof)
                statuses.append(again.status_code)
            assert (await http.post(run.callback_url, content=body, headers=proof)).status_code == 200
        taken = [
            await running.metric("callbacks_total", provider="eachlabs", outcome=outcome)
            for outcome in ("poll", "known")
        ]
    assert taken == [1, 1]


async def test_who_watches_is_answered_while_the_server_is_away(
    tmp_path: Path, server: OwnServer, simulator_server: StartSimulator
) -> None:
    """What Prometheus sees is then a gateway without its database, and not one that is down."""
    url = create_database(server.url)
    migrate_server(url)
    clock = JumpClock()
    simulator = await simulator_server(clock=clock)
    counted = {"LIMITS__RATE": "600/m"}  # in the database that is away
    async with open_gateway(tmp_path, simulator, database=url, clock=clock, settings=counted) as running:
        assert await running.metric("storage_failing") == 0
        await asyncio.to_thread(server.stop, "immediate")
        clock.jump(600)  # beyond what any route remembers
        async with asyncio.timeout(WAIT_S):
            while await running.metric("storage_failing") != 1:  # noqa: ASYNC110 - seen by a thread
                await asyncio.sleep(0.05)
        seen = await running.client.get("/metrics")
        jobs = await running.client.get("/v1/jobs")
        async with client_of(running.url, "mgk_of-nobody") as stranger:
            unknown = await stranger.get("/metrics")
        assert [seen.status_code, jobs.status_code, unknown.status_code] == [200, 503, 503]
        await asyncio.to_thread(server.start)
