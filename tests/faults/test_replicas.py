"""Several processes at one PostgreSQL database do what one would: a job for a key, a worker for a task."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from audit import check_database
from engines import postgres_settings
from job_examples import NOW_MS
from patience import WAIT_S
from postgres_server import fresh_database
from running_gateway import asked, client_of, environment
from serve_process import ServeProcess, made_key
from sqlalchemy import Connection

from gateway.clock import SystemClock
from gateway.jobs.transitions import TaskKind
from gateway.service.keys import Scope
from gateway.storage import tasks as task_rows
from gateway.storage.postgres import PostgresDatabase

POSTS = 200
TASKS, CLAIMERS, AT_ONCE = 2000, 8, 16


async def test_posts_of_one_key_to_two_replicas_at_once_make_one_job_and_equal_answers(
    tmp_path: Path,
) -> None:
    with fresh_database() as url:
        # Nobody works: the job stays as it is, so that every answer can be the same.
        environ = environment(tmp_path, {"runway": "http://127.0.0.1:9"}, **postgres_settings(url))
        async with asyncio.timeout(WAIT_S), AsyncExitStack() as stack:
            key = await made_key(environ, tmp_path, Scope.JOBS)
            replicas = [
                ServeProcess(environ, tmp_path / f"serve-{one}.log", "--no-worker") for one in range(2)
            ]
            for replica in replicas:
                stack.push_async_exit(replica)
            await asyncio.gather(*(replica.start() for replica in replicas))
            clients = [
                await stack.enter_async_context(client_of(replica.url, key.key)) for replica in replicas
            ]
            await asyncio.gather(*(client.get("/v1/jobs") for client in clients))
            body, once = asked("runway"), {"Idempotency-Key": "two-hundred"}
            replies = await asyncio.gather(
                *(clients[one % 2].post("/v1/jobs", json=body, headers=once) for one in range(POSTS))
            )
            assert {reply.status_code for reply in replies} == {202}
            assert len({reply.content for reply in replies}) == 1
            assert len({reply.headers["location"] for reply in replies}) == 1
            told = Counter(reply.headers["idempotency-replayed"] for reply in replies)
            assert told == {"false": 1, "true": POSTS - 1}
        assert check_database(url) == 1


async def test_claimers_of_several_processes_get_every_task_once() -> None:
    with fresh_database() as url:
        async with AsyncExitStack() as stack:
            # Each with the threads and connections of a process.
            databases = [PostgresDatabase(url, local=SystemClock()) for _ in range(CLAIMERS // 4)]
            for database in databases:
                stack.push_async_callback(database.close)
            names = [f"job-{number}" for number in range(TASKS)]
            due = [(TaskKind.POLL, name, NOW_MS) for name in names]
            await databases[0].write(lambda connection: task_rows.insert_many(connection, due))
            claimed: list[tuple[str, str]] = []

            async def claim_all(database: PostgresDatabase, holder: str) -> None:
                def claim(connection: Connection) -> list[task_rows.Claim]:
                    return task_rows.claim(
                        connection,
                        kinds=[TaskKind.POLL],
                        limit=AT_ONCE,
                        now_ms=NOW_MS,
                        until_ms=NOW_MS + 60_000,
                        holder=holder,
                    )

                while found := await database.write(claim):
                    claimed.extend((holder, one.subject) for one in found)

            await asyncio.gather(
                *(claim_all(databases[one % len(databases)], f"worker-{one}") for one in range(CLAIMERS))
            )
            assert sorted(subject for _, subject in claimed) == sorted(names)
            assert len({holder for holder, _ in claimed}) == CLAIMERS
