"""Who is next, what settings that differ do to a fleet, and what a process that carries out nothing knows."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from postgres_server import fresh_database
from running_gateway import (
    BOTH_ENGINES,
    PROVIDERS,
    RunningGateway,
    StartGateway,
    StartSimulator,
    asked,
    open_gateway,
)
from store_stage import rows_of

from gateway.routing.health import Operation, Outcome
from gateway.storage import tables

SLOTS = {"PROVIDERS__EACHLABS__MAX_IN_FLIGHT": "1"}
X_JOBS = 30
ROUNDS = 3
EACHLABS = ("eachlabs", "default")


async def started(running: RunningGateway) -> list[str]:
    """The jobs that were submitted, of all owners, in the order of their starts."""
    attempts = await running.gateway.parts.store.database.read(lambda store: rows_of(store, tables.attempts))
    ordered = sorted((int(str(one["started_at_ms"])), str(one["id"]), str(one["job_id"])) for one in attempts)
    return [job_id for _, _, job_id in ordered]


@BOTH_ENGINES
async def test_one_job_of_y_starts_within_two_freed_slots_while_x_has_many_waiting(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway(settings=SLOTS)
    async with running.another_client("x") as x, running.another_client("y") as y:
        await asyncio.gather(*(x.post("/v1/jobs", json=asked("eachlabs")) for _ in range(X_JOBS)))
        for number in range(ROUNDS):
            await running.when(partial(at_least, running, 4 * number + 1))
            job_id = (await y.post("/v1/jobs", json=asked("eachlabs"))).json()["id"]
            before = len(await started(running))
            await running.when(partial(begun, running, job_id))
            # Two freed slots, and one that was free before: somebody may have been claimed for it already.
            assert (await started(running)).index(job_id) - before <= 2


async def at_least(running: RunningGateway, count: int) -> bool:
    return len(await started(running)) >= count


async def begun(running: RunningGateway, job_id: str) -> bool:
    return job_id in await started(running)


LONG = {"PROVIDERS__EACHLABS__POLL_SCALE": "1"}
"""Pauses as in life, which outlast a slow machine."""


async def test_a_worker_whose_settings_lack_an_account_leaves_its_jobs_alone(
    tmp_path: Path, simulator_server: StartSimulator
) -> None:
    simulator = await simulator_server()
    others = {name: f"{simulator.url}/{name}" for name in PROVIDERS if name != "eachlabs"}
    with fresh_database() as database:
        # Nobody else carries anything out.
        async with open_gateway(tmp_path, simulator, database=database, works=False) as running:
            ids = [await running.accept("eachlabs") for _ in range(5)]
            old = tmp_path / "old"
            old.mkdir()
            async with open_gateway(old, simulator, database=database, base_urls=others) as older:
                await older.sweep()
                jobs = [await running.job(job_id) for job_id in ids]
            assert {(job["status"], job["error"]) for job in jobs} == {("queued", None)}


async def test_a_process_that_carries_out_nothing_plans_by_what_others_found_out(
    tmp_path: Path, simulator_server: StartSimulator
) -> None:
    simulator = await simulator_server()
    with fresh_database() as database:
        async with (
            open_gateway(tmp_path, simulator, database=database, settings=LONG, works=False) as serving,
            open_gateway(tmp_path, simulator, database=database, settings=LONG) as working,
        ):
            await working.gateway.parts.healths.note(EACHLABS, Operation.SUBMIT, Outcome.UNFUNDED)

            async def told() -> bool:
                job_id = await serving.accept()
                (stored,) = await serving.timeline(job_id, "plan")
                shut = {one["provider"] for one in stored["plan"]["candidates"] if one["unavailable"]}
                return shut == {"eachlabs"}

            await serving.when(told)
