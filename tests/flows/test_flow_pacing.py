"""A gateway learns how long runs last, and from then on asks when they end."""

from __future__ import annotations

from running_gateway import BOTH_ENGINES, JumpClock, RunningGateway, StartGateway
from sqlalchemy import Connection, func, select

from gateway.routing.run_times import ENOUGH
from gateway.storage.tables import tasks

RUN_S = 60.0
STEP_S = 2.0
JOBS = ENOUGH + 2
SETTINGS = {"PROVIDERS__EACHLABS__POLL_SCALE": "1", "PROVIDERS__EACHLABS__POLLS_PER_JOB": "3"}


async def one_step(running: RunningGateway, clock: JumpClock) -> None:
    """Let a moment pass, for gateway and provider, and wait until all that is due then is done."""
    clock.jump(STEP_S)
    now_ms = clock.now_ms()

    def count_due(connection: Connection) -> int:
        return connection.execute(
            select(func.count()).select_from(tasks).where(tasks.c.due_at_ms <= now_ms)
        ).scalar_one()

    async def nothing_due() -> bool:
        return not await running.gateway.parts.store.database.read(count_due)

    await running.when(nothing_due)


async def polls_of(running: RunningGateway, clock: JumpClock) -> int:
    """How many polls some jobs took that ran at once."""
    before = (await running.stats())["polls"]["eachlabs"]
    ids = [await running.accept("eachlabs") for _ in range(JOBS)]
    for _ in range(round(1.5 * RUN_S / STEP_S)):
        await one_step(running, clock)
    assert {(await running.job(job_id))["status"] for job_id in ids} == {"succeeded"}
    polls: int = (await running.stats())["polls"]["eachlabs"] - before
    return polls


@BOTH_ENGINES
async def test_a_gateway_that_knows_how_long_runs_last_asks_less_often(start_gateway: StartGateway) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock, simulator={"clock": clock, "run_s": RUN_S}, settings=SETTINGS)
    times = running.gateway.parts.run_times
    before = await polls_of(running, clock)
    await times.renew()
    median_s = times.median_s("eachlabs", "act-two")
    assert median_s is not None
    assert 0.8 * RUN_S < median_s < 1.2 * RUN_S
    assert await polls_of(running, clock) < 0.7 * before


async def test_a_gateway_that_stops_keeps_what_it_learned(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    for job_id in [await running.accept("eachlabs") for _ in range(JOBS)]:
        await running.ended(job_id)
    await running.gateway.stop_worker()
    assert running.gateway.parts.run_times.median_s("eachlabs", "act-two") is not None
