"""The machine's wall clock is set an hour forward or back, under a gateway on SQLite that works on."""

from __future__ import annotations

import asyncio

import pytest
from running_gateway import PROVIDERS, JumpClock, RunningGateway, StartGateway

HOUR_S = 3600


async def polls(running: RunningGateway) -> int:
    counted: dict[str, int] = (await running.stats())["polls"]
    return sum(counted.values())


async def running_jobs(
    start_gateway: StartGateway, ours: JumpClock, theirs: JumpClock, *, poll_scale: str, deadline_s: int
) -> tuple[RunningGateway, list[str]]:
    """One accepted job at each provider."""
    scales = {f"PROVIDERS__{name.upper()}__POLL_SCALE": poll_scale for name in PROVIDERS}
    running = await start_gateway(clock=ours, simulator={"clock": theirs, "run_s": 1000.0}, settings=scales)
    ids = [await running.accept(name, deadline_s=deadline_s) for name in PROVIDERS]
    for job_id in ids:
        await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["state"] == "accepted")
    return running, ids


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S], ids=["forward", "back"])
async def test_jobs_go_on_as_if_nothing_had_happened(start_gateway: StartGateway, seconds: int) -> None:
    ours, theirs = JumpClock(), JumpClock()
    running, ids = await running_jobs(start_gateway, ours, theirs, poll_scale="0.05", deadline_s=4 * HOUR_S)
    ours.set_wall(seconds)
    theirs.jump(1000)
    for job_id in ids:
        assert (await running.ended(job_id))["status"] == "succeeded"
    assert sum((await running.stats())["accepted"].values()) == len(ids)
    after = await running.accept(PROVIDERS[0])
    await running.until(after, lambda job: job["attempts"] and job["attempts"][0]["state"] == "accepted")
    theirs.jump(1000)
    assert (await running.ended(after))["status"] == "succeeded"


async def test_a_clock_set_forward_does_not_let_all_polls_come_at_once(start_gateway: StartGateway) -> None:
    ours = JumpClock()
    running, ids = await running_jobs(
        start_gateway, ours, JumpClock(), poll_scale="100", deadline_s=4 * HOUR_S
    )
    before = await polls(running)
    ours.set_wall(HOUR_S)
    await running.sweep(3)
    await asyncio.sleep(0.2)
    assert await polls(running) == before
    assert [(await running.job(job_id))["status"] for job_id in ids] == ["queued"] * len(ids)


async def test_a_deadline_is_an_instant_and_passes_with_the_clock(start_gateway: StartGateway) -> None:
    """But not before the provider had its last word."""
    ours, theirs = JumpClock(), JumpClock()
    running, ids = await running_jobs(start_gateway, ours, theirs, poll_scale="0.05", deadline_s=600)
    await running.idle()  # or what was asked before the jump, and heard after it, would be the last word
    theirs.jump(1000)
    ours.set_wall(HOUR_S)
    for job_id in ids:
        job = await running.ended(job_id)
        assert (job["status"], job["error"]) == ("succeeded", None)
