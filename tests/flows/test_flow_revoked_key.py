"""A key that its provider refuses stops that account, and ends no job."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from running_gateway import (
    EMULATIONS,
    PATIENCE_S,
    Document,
    JumpClock,
    RunningGateway,
    client_of,
    open_gateway,
)

from gateway.routing.health import UNAUTHORIZED_MS
from gateway.simulator import Simulator, serve_simulator

RUNNING = 3
MOST_CALLS = 3


class Revoking(Simulator):
    """Refuses every call of providers while `refusing`, and counts them."""

    refusing = False
    refused = 0

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        if not self.refusing or scope["type"] != "http" or scope["path"].startswith("/_"):
            await super().asgi(scope, receive, send)
            return
        self.refused += 1
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


async def brought(
    running: RunningGateway, clock: JumpClock, job_id: str, statuses: set[str], *, step_s: float
) -> Document:
    """Let time pass, step by step, until a job has one of these statuses."""
    async with asyncio.timeout(PATIENCE_S):
        while (job := await running.job(job_id))["status"] not in statuses:
            clock.jump(step_s)
            await running.sweep(1)
    return job


async def test_a_revoked_key_stops_its_account_after_three_calls_and_loses_nothing(tmp_path: Path) -> None:
    clock = JumpClock()
    simulator = Revoking(EMULATIONS, clock=clock, run_s=600.0, render=False)
    async with (
        await serve_simulator(simulator) as served,
        open_gateway(
            tmp_path, served, clock=clock, settings={"PROVIDERS__RUNWAY__POLL_SCALE": "1"}
        ) as running,
    ):
        ids = [await running.accept("runway") for _ in range(RUNNING)]
        for job_id in ids:
            await brought(running, clock, job_id, {"running"}, step_s=1)
        simulator.refusing = True
        while not simulator.refused:
            clock.jump(1)
            await running.sweep()
        waiting = [await running.accept("runway") for _ in range(RUNNING)]
        for _ in range(UNAUTHORIZED_MS // 2000):
            clock.jump(1)
            await running.sweep()
        assert simulator.refused <= MOST_CALLS
        async with client_of(running.url, None) as anyone:
            assert (await anyone.get("/health/ready")).status_code == 200, "the gateway itself is well"
        (account,) = [
            one["accounts"][0]
            for one in (await running.client.get("/v1/providers")).json()["providers"]
            if one["name"] == "runway"
        ]
        assert account["unavailable"]["code"] == "unauthorized"
        for job_id in waiting:
            job = await running.job(job_id)
            assert (job["status"], job["error"]) == ("queued", None)
        simulator.refusing = False
        for job_id in (*ids, *waiting):
            job = await brought(running, clock, job_id, {"succeeded", "failed"}, step_s=20)
            assert job["status"] == "succeeded", job
