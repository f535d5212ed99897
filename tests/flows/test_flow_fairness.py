"""What one owner's receivers do costs no other owner's anything, on both engines."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from refusals import judged
from running_gateway import BOTH_ENGINES, PROVIDERS, Document, RunningGateway, StartGateway, asked
from webhook_receiver import open_receiver

PROVIDER = PROVIDERS[0]
ENDPOINTS = "/v1/webhook-endpoints"
SETTINGS = {
    "WEBHOOKS__ALLOW_HTTP": "true",
    "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32",
    "WEBHOOKS__TIMEOUT_S": "600",
    "WEBHOOKS__CONNECT_TIMEOUT_S": "0.2",
    "WORKER__STOP_S": "0.1",
}
"""No try to a receiver ends by itself; one whose name is not found ends soon."""
EVENTS = ["job.cancelled"]

pytestmark = BOTH_ENGINES


async def add_endpoint(client: httpx.AsyncClient, url: str) -> Document:
    reply = await client.post(ENDPOINTS, json={"url": url, "events": EVENTS})
    assert reply.status_code == 201, reply.text
    made: Document = reply.json()
    return made


async def end_jobs(client: httpx.AsyncClient, count: int, **given: Any) -> None:
    """Have jobs end."""
    for _ in range(count):
        accepted = await client.post("/v1/jobs", json=asked(PROVIDER, **given))
        assert accepted.status_code == 202, accepted.text
        await client.post(f"/v1/jobs/{accepted.json()['id']}/cancel")


@asynccontextmanager
async def open_pits(running: RunningGateway, count: int) -> AsyncIterator[list[Document]]:
    """Endpoints of the first owner that never answer."""
    async with AsyncExitStack() as stack:
        pits = [await stack.enter_async_context(open_receiver(pause_s=3600)) for _ in range(count)]
        yield [await add_endpoint(running.client, one.url()) for one in pits]


async def test_all_an_owners_endpoints_that_never_answer_delay_no_other_owner(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway(settings=SETTINGS | {"WEBHOOKS__CONCURRENCY": "16"})
    async with (
        open_pits(running, 20),
        open_receiver() as good,
        running.another_client("victim") as victim,
    ):
        await add_endpoint(victim, good.url())
        await end_jobs(running.client, 5)
        await end_jobs(victim, 3)
        await good.received(3)


async def test_one_owners_dead_path_delays_no_other_owners_at_that_host(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=SETTINGS)
    told = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if b"/fine" in await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                told.set()
            await reader.read()
        finally:
            writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as server,
        running.another_client("victim") as victim,
    ):
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await end_jobs(running.client, 20, webhook={"url": f"{base}/dead", "events": EVENTS})
        await end_jobs(victim, 1, webhook={"url": f"{base}/fine", "events": EVENTS})
        async with asyncio.timeout(20):
            await told.wait()
        await running.gateway.stop_worker()  # whatever is under way hangs up


@pytest.fixture
def hanging_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names under `hangs.test` keep their thread until the end; `good.test` is this machine."""
    real, gate = socket.getaddrinfo, threading.Event()

    def look_up(host: object, *given: object, **named: object) -> object:
        if isinstance(host, str) and host.endswith("hangs.test"):
            gate.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1" if host == "good.test" else host, *given, **named)  # type: ignore[arg-type]  # as given

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    gate.set()


@pytest.mark.usefixtures("hanging_names")
async def test_names_that_are_never_found_cost_another_owner_no_try(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=SETTINGS)
    async with open_receiver() as good, running.another_client("victim") as victim:
        endpoint = await add_endpoint(victim, good.url("good.test"))
        for number in range(20):
            webhook = {"url": f"https://n{number}.hangs.test/", "events": EVENTS}
            await end_jobs(running.client, 1, webhook=webhook)
        await end_jobs(victim, 1)
        await good.received(1)
        path = f"{ENDPOINTS}/{endpoint['id']}/deliveries"

        async def delivered() -> bool:
            (shown,) = (await victim.get(path)).json()["deliveries"]
            return bool(shown["state"] == "delivered" and len(shown["attempts"]) == 1)

        await running.when(delivered)


async def test_tests_of_endpoints_take_no_places_from_deliveries(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=SETTINGS | {"WEBHOOKS__CONCURRENCY": "4"})
    async with (
        open_pits(running, 12) as pits,
        open_receiver() as good,
        running.another_client("victim") as victim,
    ):
        await add_endpoint(victim, good.url())
        path = f"{ENDPOINTS}/{pits[0]['id']}/test"
        testing = [asyncio.create_task(running.client.post(f"{ENDPOINTS}/{one['id']}/test")) for one in pits]

        async def under_way() -> bool:
            return len(running.gateway.parts.pings._under_way) == len(pits)

        await running.when(under_way)
        judged(await running.client.post(path), 409, "test-under-way")
        assert (await victim.post(f"{ENDPOINTS}/{pits[0]['id']}/test")).status_code == 404
        await end_jobs(victim, 2)
        await good.received(2)
        await running.gateway.parts.ping_sender.aclose()  # or they would go on for as long as a try may
        assert {(await test).json()["delivered"] for test in testing} == {False}
