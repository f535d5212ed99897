"""The network before PostgreSQL breaks, under load: what was acknowledged exists, and is paid once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from audit import check_database, check_payments
from careful_client import CarefulClient, held_of
from engines import postgres_settings
from fault_proxy import FaultProxy, open_proxy
from patience import WAIT_S
from postgres_server import NAMED, fresh_database, socket_of, through
from running_gateway import PROVIDERS, Document, client_of, environment, stats_of
from serve_process import ServeProcess, made_key
from slow_providers import open_providers
from steady_load import Load, open_load

from gateway.service.keys import Scope
from gateway.storage.postgres import DEADLINE_S

pytestmark = pytest.mark.skipif(NAMED in os.environ, reason="the server is not ours to put a proxy before")

ANSWERS = {(202, None), (503, "/problems/storage-unavailable")}


class Scene:
    """A gateway at work whose way to its database goes by a proxy."""

    def __init__(self, proxy: FaultProxy, http: httpx.AsyncClient, load: Load) -> None:
        self.proxy, self.http, self.load = proxy, http, load

    async def ready(self) -> bool:
        return (await self.http.get("/health/ready")).status_code == 200

    async def until_ready(self, wanted: bool) -> None:  # noqa: FBT001 - what readiness says
        while await self.ready() is not wanted:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.05)


@asynccontextmanager
async def open_scene(folder: Path) -> AsyncIterator[Scene]:
    """Yield it under load; at the end all must have come well."""
    async with asyncio.timeout(WAIT_S), AsyncExitStack() as stack:
        url = stack.enter_context(fresh_database())
        proxy = await stack.enter_async_context(open_proxy(socket_of(url)))
        providers = await stack.enter_async_context(open_providers(run_s=0.3, answer_s=0.05))
        urls = {name: f"{providers.url}/{name}" for name in PROVIDERS}
        key = await made_key(environment(folder, urls, **postgres_settings(url)), folder, Scope.JOBS)
        settings = postgres_settings(through(url, proxy.port)) | {"WORKER__IDLE_S": "0.2"}
        environ = environment(folder, urls, **settings)
        serve = await stack.enter_async_context(ServeProcess(environ, folder / "serve.log"))
        http = await stack.enter_async_context(client_of(serve.url, key.key))
        http.timeout = httpx.Timeout(WAIT_S)
        async with open_load(http) as load:
            await load.more(3)
            yield Scene(proxy, http, load)
        jobs = await CarefulClient(http).settled()
        check_acknowledged(load, jobs)
        assert await serve.end(signal.SIGTERM) == 0
        check_payments(await stats_of(providers), jobs)
        assert check_database(url) == len(load.ids)


def check_acknowledged(load: Load, jobs: list[Document]) -> None:
    """Every job that was answered is there, and no other; and since no process died, none is in doubt."""
    assert {job["id"] for job in jobs} == set(load.ids)
    assert set(load.answers) <= ANSWERS, load.answers
    assert held_of(jobs) == []


async def test_a_slow_network_to_the_database_is_no_fault(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        scene.proxy.up.jitter_s = scene.proxy.down.jitter_s = 0.02
        await scene.load.more(5)
        scene.proxy.clear()
        scene.proxy.up.slice_bytes = scene.proxy.down.slice_bytes = 1
        await scene.load.more(2)
        assert await scene.ready()
        scene.proxy.clear()
        assert set(scene.load.answers) == {(202, None)}


async def test_connections_to_the_database_that_break_lose_nothing(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        for _ in range(10):
            await scene.load.more(1)
            scene.proxy.reset()
        for size in (0, 1, 100, 1000, 5000):
            # The answer breaks off, in a handshake or in a transaction; those that stand break, too.
            scene.proxy.down.reset_after = size
            await asyncio.sleep(0.2)
            scene.proxy.clear()
            scene.proxy.reset()
            await scene.load.more(1)
        await scene.proxy.refuse()
        scene.proxy.reset()
        await scene.until_ready(False)
        await scene.proxy.listen()
        await scene.until_ready(True)
        await scene.load.more(3)


async def test_a_network_that_swallows_what_goes_to_the_database_is_given_up_in_time(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        scene.proxy.down.blackhole = True  # statements arrive, and commits: the answers do not
        await scene.until_ready(False)
        await asyncio.sleep(DEADLINE_S / 4)
        scene.proxy.clear()
        scene.proxy.reset()
        await scene.until_ready(True)
        await scene.load.more(3)
        assert (503, "/problems/storage-unavailable") in scene.load.answers
