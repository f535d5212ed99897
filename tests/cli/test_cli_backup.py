"""`backup` and `restore`: the database in a file and back, under load, and nothing paid twice."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli_command import Done, names, run, run_process
from invariants import check_invariants
from postgres_server import create_database, drop_database, shared_url, tools_path
from running_gateway import (
    BOTH_ENGINES,
    ENDED,
    PATIENCE_S,
    JumpClock,
    StartSimulator,
    asked,
    client_of,
    environment,
    stats_of,
)
from serve_process import ServeProcess, made_key

from gateway import crash_points
from gateway.crash_points import Point
from gateway.service.keys import Scope
from gateway.simulator import SimulatorServer

RUN_S = 600.0
SECRET = "MOTION_GATEWAY_SECRET_KEY"
ON_POSTGRES = pytest.mark.parametrize("engine", ["postgres"], indirect=True)


@pytest.fixture
def new_database_url(engine: str, tmp_path: Path) -> Iterator[str]:
    """Where a restored database goes: over the old file, or into a new database on the server."""
    if engine == "sqlite":
        yield f"sqlite:///{tmp_path}/gateway.db"
        return
    url = create_database(shared_url())
    yield url
    drop_database(url)


class Served:
    """A gateway process with a slot for one run; its provider's clock is moved by hand."""

    def __init__(
        self, environ: dict[str, str], folder: Path, clock: JumpClock, providers: SimulatorServer
    ) -> None:
        self.environ, self.folder, self.clock, self.providers = environ, folder, clock, providers
        self.posted: list[str] = []

    @asynccontextmanager
    async def serving(self, key: str) -> AsyncIterator[httpx.AsyncClient]:
        async with (
            ServeProcess(self.environ, self.folder / "serve.log") as process,
            client_of(process.url, key) as client,
        ):
            yield client
            await process.end(signal.SIGTERM)

    async def post(self, client: httpx.AsyncClient) -> str:
        reply = await client.post("/v1/jobs", json=asked("runway"))
        assert reply.status_code == 202, reply.text
        self.posted.append(reply.json()["id"])
        return self.posted[-1]

    async def command(self, *arguments: str) -> Done:
        return await asyncio.to_thread(run_process, self.folder, *arguments, **self.environ)

    async def command_here(self, *arguments: str) -> Done:
        """Run a command in this process, which is quicker."""
        return await asyncio.to_thread(run, self.folder, *arguments, **self.environ)

    async def bought(self) -> int:
        counted: int = (await stats_of(self.providers))["accepted"]["runway"]
        return counted


async def until(client: httpx.AsyncClient, job_id: str, wanted: Any) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            job: dict[str, Any] = (await client.get(f"/v1/jobs/{job_id}")).json()
            if wanted(job):
                return job
            assert job["status"] not in ENDED, job
            await asyncio.sleep(0.05)


def has_run(job: dict[str, Any]) -> bool:
    """Whether its provider has accepted it."""
    return bool(job["attempts"]) and job["attempts"][-1]["provider_ref"] is not None


@pytest.fixture
async def served(simulator_server: StartSimulator, database_url: str, tmp_path: Path) -> Served:
    clock = JumpClock()
    providers = await simulator_server(clock=clock, run_s=RUN_S)
    urls = {"runway": f"{providers.url}/runway"}
    environ = environment(
        tmp_path, urls, DATABASE=database_url, PROVIDERS__RUNWAY__MAX_IN_FLIGHT="1", JOBS__DEADLINE_S="3600"
    )
    environ["PATH"] = tools_path()
    return Served(environ, tmp_path, clock, providers)


@BOTH_ENGINES
async def test_what_was_backed_up_under_load_is_restored_and_nothing_is_paid_twice(
    served: Served, new_database_url: str, tmp_path: Path
) -> None:
    key = (await made_key(served.environ, tmp_path, Scope.JOBS)).key
    async with served.serving(key) as client:
        running = await served.post(client)
        await until(client, running, has_run)
        waiting = await served.post(client)
        before, stop = len(served.posted), asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                await served.post(client)

        loading = [asyncio.create_task(load()) for _ in range(2)]
        made = await served.command("backup", "it.backup")
        stop.set()
        await asyncio.gather(*loading)
        assert made.returncode == 0, made.stderr
        # What happens after it: a run ends, and the next job is bought, of which the backup knows nothing.
        served.clock.jump(RUN_S + 1)
        await until(client, waiting, has_run)
        assert len(served.posted) > before, "there was no load"
    bought = await served.bought()
    assert bought >= 2
    served.environ["MOTION_GATEWAY_DATABASE"] = new_database_url
    restored = await served.command("restore", "it.backup", "--fail-queued")
    assert restored.returncode == 0, restored.stderr
    jobs = check_invariants(new_database_url)
    assert before <= jobs <= len(served.posted)
    assert f"{jobs - 1} unfinished jobs failed, 1 go on with what they have" in restored.stderr
    async with served.serving(key) as client:
        await until(client, running, lambda job: job["status"] == "succeeded")
        job = (await client.get(f"/v1/jobs/{waiting}")).json()
        assert (job["status"], job["error"]["code"]) == ("failed", "submission_unknown")
        again = await served.post(client)
        await until(client, again, has_run)
    assert await served.bought() == bought + 1, "the new one alone"


@BOTH_ENGINES
async def test_restored_jobs_are_submitted_where_the_operator_asks_for_that(
    served: Served, new_database_url: str, tmp_path: Path
) -> None:
    key = (await made_key(served.environ, tmp_path, Scope.JOBS)).key
    async with served.serving(key) as client:
        first, second = await served.post(client), await served.post(client)
        await until(client, first, has_run)
        assert (await served.command("backup", "it.backup")).returncode == 0
    served.environ["MOTION_GATEWAY_DATABASE"] = new_database_url
    restored = await served.command("restore", "it.backup", "--requeue")
    assert "2 unfinished jobs go on as they were" in restored.stderr
    served.clock.jump(RUN_S + 1)
    async with served.serving(key) as client:
        await until(client, second, has_run)
    assert await served.bought() == 2


@pytest.fixture
async def spent(served: Served, new_database_url: str, tmp_path: Path) -> tuple[Served, list[str]]:
    """A backup of a job that runs and two that wait, of which one was bought since; about to be restored."""
    key = (await made_key(served.environ, tmp_path, Scope.JOBS)).key
    async with served.serving(key) as client:
        first, second = await served.post(client), await served.post(client)
        await served.post(client)
        await until(client, first, has_run)
        assert (await served.command_here("backup", "it.backup")).returncode == 0
        served.clock.jump(RUN_S + 1)
        await until(client, second, has_run)
    served.environ["MOTION_GATEWAY_DATABASE"] = new_database_url
    return served, [key, second]


async def check_nothing_is_bought(served: Served, key: str, waited: str) -> None:
    """Serve what was restored: a job that was submitted since fails, and the provider hears of none."""
    bought = await served.bought()
    async with served.serving(key) as client:
        job = (await client.get(f"/v1/jobs/{waited}")).json()
        assert (job["status"], job["error"]["code"]) == ("failed", "submission_unknown")
    assert await served.bought() == bought


@BOTH_ENGINES
async def test_a_restore_that_dies_while_it_settles_jobs_is_done_again(
    spent: tuple[Served, list[str]], engine: str, new_database_url: str, tmp_path: Path
) -> None:
    served, (key, waited) = spent
    served.environ[crash_points.VARIABLE] = f"{Point.RECORD_BEFORE_COMMIT}:2"  # one is settled, two are not
    old = tmp_path / "gateway.db"
    before = old.read_bytes() if engine == "sqlite" else b""
    assert (await served.command("restore", "it.backup", "--fail-queued")).returncode == -signal.SIGKILL
    del served.environ[crash_points.VARIABLE]
    if engine == "sqlite":
        assert old.read_bytes() == before
    else:
        await check_nobody_may_use_it(served)
    done = await served.command_here("restore", "it.backup", "--fail-queued")
    assert done.returncode == 0, done.stderr
    check_invariants(new_database_url)
    await check_nothing_is_bought(served, key, waited)


async def check_nobody_may_use_it(served: Served) -> None:
    """Every command that would change or serve a database half restored says how to finish that."""
    for asked_for in ("serve", "work", "migrate", "keys list", "backup other.backup"):
        here = served.command if asked_for in {"serve", "work"} else served.command_here
        refused = await here(*asked_for.split())
        assert refused.returncode == 78, (asked_for, refused.stderr)
        told = f"motion-gateway restore {served.folder / 'it.backup'} --fail-queued"
        assert told in refused.stderr, (asked_for, refused.stderr)


@pytest.fixture
def dying(tmp_path: Path) -> dict[str, str]:
    """A PATH on which pg_restore, asked to load, kills whoever asked it and then goes on, or does not."""
    return {
        name: f"{_tool(tmp_path / name, then)}{os.pathsep}{tools_path()}"
        for name, then in {"before": "exit 1", "during": ""}.items()
    }


def _tool(folder: Path, then: str) -> Path:
    folder.mkdir()
    real = shutil.which("pg_restore", path=tools_path())
    tool = folder / "pg_restore"
    die = f'case "$*" in *--single-transaction*) kill -KILL $PPID; {then or ":"};; esac'
    tool.write_text(f'#!/bin/sh\n{die}\nexec {real} "$@"\n')
    tool.chmod(0o700)
    return folder


@ON_POSTGRES
@pytest.mark.parametrize("when", ["before", "during"])
async def test_a_restore_that_dies_while_pg_restore_loads_is_done_again(
    spent: tuple[Served, list[str]], dying: dict[str, str], when: str, new_database_url: str
) -> None:
    served, (key, waited) = spent
    served.environ["PATH"] = dying[when]
    died = await served.command("restore", "it.backup", "--fail-queued")
    assert died.returncode == -signal.SIGKILL
    served.environ["PATH"] = tools_path()
    await check_nobody_may_use_it(served)
    while (done := await served.command_here("restore", "it.backup", "--fail-queued")).returncode:
        assert "still runs" in done.stderr, done.stderr  # pg_restore outlives its parent
    check_invariants(new_database_url)
    await check_nothing_is_bought(served, key, waited)


@ON_POSTGRES
async def test_what_was_loaded_is_not_taken_for_another_backup(spent: tuple[Served, list[str]]) -> None:
    served, _ = spent
    served.environ[SECRET], right = "another key", served.environ[SECRET]
    refused = await served.command_here("restore", "it.backup", "--fail-queued")
    assert refused.returncode == 78
    assert "is not the key" in refused.stderr
    served.environ[SECRET] = right
    with (served.folder / "it.backup").open("ab") as backup:
        backup.write(b"\0")
    refused = await served.command_here("restore", "it.backup", "--fail-queued")
    assert refused.returncode == 1
    assert "was loaded into this database" in refused.stderr
    await check_nobody_may_use_it(served)


@ON_POSTGRES
async def test_a_dump_that_cannot_be_loaded_leaves_the_database_empty_and_free(
    served: Served, new_database_url: str, tmp_path: Path
) -> None:
    await made_key(served.environ, tmp_path, Scope.JOBS)
    assert (await served.command_here("backup", "it.backup")).returncode == 0
    served.environ["MOTION_GATEWAY_DATABASE"] = new_database_url
    backup = tmp_path / "it.backup"
    whole = backup.read_bytes()
    backup.write_bytes(whole[:-200])
    refused = await served.command_here("restore", "it.backup", "--fail-queued")
    assert (refused.returncode, "pg_restore failed" in refused.stderr) == (1, True), refused.stderr
    backup.write_bytes(whole)
    assert (await served.command_here("migrate", "--show")).returncode == 0
    assert (await served.command_here("restore", "it.backup", "--fail-queued")).returncode == 0


async def test_a_database_that_is_served_is_not_restored_over(served: Served, tmp_path: Path) -> None:
    key = (await made_key(served.environ, tmp_path, Scope.JOBS)).key
    assert (await served.command("backup", "it.backup")).returncode == 0
    async with served.serving(key):
        refused = await served.command("restore", "it.backup", "--fail-queued")
    assert refused.returncode == 78
    assert "another process serves this database" in refused.stderr
    assert not [name for name in names(tmp_path) if "replaced" in name]
