"""A process that is stopped for longer than its leases hold, and then goes on as if nothing had been.

The stop strikes while a paid call is under way: before its connection stands, or once its bytes went out.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psycopg
from audit import check_database, check_payments
from careful_client import CarefulClient, is_settled
from engines import postgres_settings, sqlite_settings
from fault_proxy import FaultProxy, open_proxy
from patience import WAIT_S
from ports import reserve_port
from postgres_server import fresh_database
from running_gateway import Document, client_of, environment, stats_of
from serve_process import GatewayProcess, ServeProcess, WorkProcess, made_key
from slow_providers import open_providers
from tls_front import HOST, TRUST, open_tls

from gateway.service.keys import Scope
from gateway.simulator import SimulatorServer
from gateway.worker.submit import DIED

PROVIDER = "runway"
LEASE_S = 1.0
HANDSHAKE_S = 2.0
"""How long the first words of a TLS handshake take to get through: time enough to stop the process."""
ANSWER_S = 1.5
"""How late the provider says that it has the job."""


class Scene:
    """Simulated providers behind TLS, a proxy before them, and the environment of gateways that use it."""

    def __init__(self, served: SimulatorServer, proxy: FaultProxy, environ: dict[str, str]) -> None:
        self.served, self.proxy, self.environ = served, proxy, environ

    async def submitting(self, client: CarefulClient, job_id: str) -> None:
        """Wait until its intent is noted; then its connection is being made."""
        await until_job(
            client, job_id, lambda job: [one["state"] for one in job["attempts"]] == ["submitting"]
        )

    async def bought(self, times: int) -> None:
        """Wait until the provider has taken that many jobs on; it says so later."""
        while (await stats_of(self.served))["accepted"][PROVIDER] < times:  # noqa: ASYNC110 - another's doing
            await asyncio.sleep(0.02)


@asynccontextmanager
async def open_scene(folder: Path, database: dict[str, str]) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        secure = reserve_port()
        proxy = await stack.enter_async_context(open_proxy((HOST, secure)))
        url = f"https://{HOST}:{proxy.port}"
        served = await stack.enter_async_context(open_providers(run_s=0.2, answer_s=ANSWER_S, public_url=url))
        plain = int(served.url.rpartition(":")[2])
        certificate = await stack.enter_async_context(open_tls(secure, plain, folder))
        environ = environment(folder, {PROVIDER: f"{url}/{PROVIDER}"}, **database)
        yield Scene(served, proxy, environ | {TRUST: str(certificate)})


async def until_job(client: CarefulClient, job_id: str, wanted: Callable[[Document], object]) -> Document:
    while True:
        job = await client.job(job_id)
        if wanted(job):
            return job
        await asyncio.sleep(0.02)


def holder(url: str, job_id: str) -> str | None:
    """The worker that has a job's submission."""
    with psycopg.connect(url) as connection:
        statement = "SELECT leased_by FROM tasks WHERE subject = %s AND kind = 'submit'"
        found = connection.execute(statement, [job_id]).fetchone()
    return None if found is None else found[0]


async def test_a_lone_process_that_slept_on_a_submission_goes_on_with_it_and_pays_once(
    tmp_path: Path,
) -> None:
    leases = {"WORKER__LEASE_S": str(LEASE_S), "WORKER__HEARTBEAT_S": str(LEASE_S / 4)}
    database = sqlite_settings(tmp_path)
    async with asyncio.timeout(WAIT_S), open_scene(tmp_path, database | leases) as scene:
        key = await made_key(scene.environ, tmp_path, Scope.JOBS)
        async with (
            ServeProcess(scene.environ, tmp_path / "serve.log") as victim,
            client_of(victim.url, key.key) as http,
        ):
            client = CarefulClient(http)

            async def sleeps() -> None:
                victim.send(signal.SIGSTOP)
                scene.proxy.clear()
                await asyncio.sleep(max(2 * LEASE_S, HANDSHAKE_S))  # what was on its way arrives meanwhile
                victim.send(signal.SIGCONT)

            scene.proxy.up.latency_s = HANDSHAKE_S
            connecting = await client.post(0, provider=PROVIDER)
            await scene.submitting(client, connecting)
            await sleeps()
            await until_job(client, connecting, is_settled)
            sent = await client.post(1, provider=PROVIDER)
            await scene.bought(2)
            await sleeps()
            jobs = await client.settled()
            assert [job["id"] for job in jobs] == [sent, connecting]
            assert [job["status"] for job in jobs] == ["succeeded", "succeeded"]
            assert await victim.end(signal.SIGTERM) == 0
        check_payments(await stats_of(scene.served), jobs)
    assert check_database(database["DATABASE"]) == 2


async def test_a_worker_whose_submission_another_took_over_submits_nothing_when_it_wakes(
    tmp_path: Path,
) -> None:
    with fresh_database() as url:
        async with (
            asyncio.timeout(WAIT_S),
            open_scene(tmp_path, postgres_settings(url, LEASE_S)) as scene,
            AsyncExitStack() as stack,
        ):
            key = await made_key(scene.environ, tmp_path, Scope.JOBS)
            api = ServeProcess(scene.environ, tmp_path / "serve.log", "--no-worker")
            workers = [WorkProcess(scene.environ, tmp_path / f"work-{one}.log") for one in range(2)]
            processes: list[GatewayProcess] = [api, *workers]
            for process in processes:
                stack.push_async_exit(process)
            await asyncio.gather(*(process.start() for process in processes))
            client = CarefulClient(await stack.enter_async_context(client_of(api.url, key.key)))

            async def sleeps_until_taken_over(job_id: str) -> Document:
                name = await asyncio.to_thread(holder, url, job_id)
                (victim,) = [worker for worker in workers if worker.worker_name() == name]
                victim.send(signal.SIGSTOP)
                scene.proxy.clear()
                await until_job(client, job_id, lambda job: job["held"] is not None)
                victim.send(signal.SIGCONT)
                return await until_job(client, job_id, lambda job: job["finished_at"] is not None)

            # Nothing had gone out: whoever slept says so, and then it is submitted for the first time.
            scene.proxy.up.latency_s = HANDSHAKE_S
            connecting = await client.post(0, provider=PROVIDER)
            await scene.submitting(client, connecting)
            job = await sleeps_until_taken_over(connecting)
            assert [attempt["state"] for attempt in job["attempts"]] == ["refused", "succeeded"]
            # It had been bought: whoever slept has the answer, and settles the doubt.
            sent = await client.post(1, provider=PROVIDER)
            await scene.bought(2)
            job = await sleeps_until_taken_over(sent)
            assert [attempt["state"] for attempt in job["attempts"]] == ["succeeded"]
            for job_id in (connecting, sent):
                doubts = [one for one in await client.events(job_id) if one["type"] == "attempt.unknown"]
                assert [one["data"]["note"]["reason"] for one in doubts] == [DIED]
            jobs = await client.settled()
            ends = await asyncio.gather(*(process.end(signal.SIGTERM) for process in processes))
            assert ends == [0, 0, 0]
            check_payments(await stats_of(scene.served), jobs)
        assert check_database(url) == 2
