"""Processes of two versions at one database, and two that start at once on an empty one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
from audit import check_database, check_payments
from careful_client import CarefulClient
from engines import postgres_settings
from patience import WAIT_S
from postgres_server import create_database, drop_database, fresh_database, shared_url
from running_gateway import PROVIDERS, client_of, environment, stats_of
from serve_process import GatewayProcess, ServeProcess, WorkProcess, made_key
from slow_providers import open_providers

from gateway.service.keys import Scope
from gateway.storage.postgres_schema import inspect_server

JOBS = 12
NEWER = "0999"
EXPANSION = """
    ALTER TABLE jobs ADD COLUMN shelf text;
    ALTER TABLE tasks ADD COLUMN drawer integer NOT NULL DEFAULT 0;
    CREATE TABLE shelves (name text PRIMARY KEY, job_id text);
    CREATE INDEX ix_jobs_shelf ON jobs (shelf);
    UPDATE alembic_version SET version_num = '0999';
"""
"""What a newer version may do beside older ones: it only adds, and names its own revision."""


@pytest.fixture
def empty_url() -> Iterator[str]:
    """A database without any table."""
    url = create_database(shared_url())
    yield url
    drop_database(url)


def expand(url: str) -> None:
    # A statement at a time: several at once would lock tables in another order than those who use them.
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in filter(None, map(str.strip, EXPANSION.split(";"))):
            connection.execute(statement.encode())


async def refusal(process: GatewayProcess) -> str:
    """What a process says that is refused its start; it ends with 78."""
    with pytest.raises(AssertionError) as told:
        await process.start()
    assert await process.died() == 78
    return str(told.value)


async def test_a_process_works_on_when_a_newer_one_has_migrated_and_starts_no_more(
    tmp_path: Path,
) -> None:
    with fresh_database() as url:
        async with (
            asyncio.timeout(WAIT_S),
            open_providers(run_s=0.5, answer_s=0.02) as providers,
            AsyncExitStack() as stack,
        ):
            urls = {name: f"{providers.url}/{name}" for name in PROVIDERS}
            environ = environment(tmp_path, urls, **postgres_settings(url))
            key = await made_key(environ, tmp_path, Scope.JOBS)
            api = ServeProcess(environ, tmp_path / "serve.log", "--no-worker")
            worker = WorkProcess(environ, tmp_path / "work.log")
            for process in (api, worker):
                stack.push_async_exit(process)
            await asyncio.gather(api.start(), worker.start())
            client = CarefulClient(await stack.enter_async_context(client_of(api.url, key.key)))
            # Statements have run often enough to be prepared, and jobs are under way, when the tables change.
            ids = [await client.post(number) for number in range(JOBS)]
            await asyncio.to_thread(expand, url)
            ids += [await client.post(number) for number in range(JOBS, 2 * JOBS)]
            jobs = await client.settled()
            assert {(job["id"], job["status"]) for job in jobs} == {(one, "succeeded") for one in ids}
            assert all(len(job["attempts"]) == 1 for job in jobs)
            said = await refusal(WorkProcess(environ, tmp_path / "late.log"))
            assert f"the database has schema {NEWER}, which this version" in said
            assert "run the newer version" in said
            await client.post(2 * JOBS)
            jobs = await client.settled()
            ends = await asyncio.gather(*(one.end(signal.SIGTERM) for one in (api, worker)))
            assert ends == [0, 0]
            check_payments(await stats_of(providers), jobs)
        assert check_database(url) == 2 * JOBS + 1


async def test_processes_that_start_at_once_on_an_empty_database_migrate_it_once_and_all_work(
    tmp_path: Path, empty_url: str
) -> None:
    async with (
        asyncio.timeout(WAIT_S),
        open_providers(run_s=0.3, answer_s=0.02) as providers,
        AsyncExitStack() as stack,
    ):
        urls = {name: f"{providers.url}/{name}" for name in PROVIDERS}
        environ = environment(tmp_path, urls, **postgres_settings(empty_url))
        worker = WorkProcess(environ, tmp_path / "work.log")
        assert "motion-gateway migrate" in await refusal(worker)
        replicas = [ServeProcess(environ, tmp_path / f"serve-{one}.log", "--migrate") for one in range(2)]
        processes = [*replicas, worker]
        for process in processes:
            stack.push_async_exit(process)
        await asyncio.gather(*(replica.start() for replica in replicas))
        await worker.start()
        assert inspect_server(empty_url).pending == ()
        key = await made_key(environ, tmp_path, Scope.JOBS)
        clients = [await stack.enter_async_context(client_of(replica.url, key.key)) for replica in replicas]
        client = CarefulClient(*clients)
        ids = await asyncio.gather(*(client.post(number) for number in range(JOBS)))
        jobs = await client.settled()
        assert {(job["id"], job["status"]) for job in jobs} == {(one, "succeeded") for one in ids}
        ends = await asyncio.gather(*(process.end(signal.SIGTERM) for process in processes))
        assert ends == [0, 0, 0]
        check_payments(await stats_of(providers), jobs)
    assert check_database(empty_url) == JOBS
