"""Answers that leave a submission in doubt, what comes of that, and how a lease is lost meanwhile."""

from __future__ import annotations

import httpx
from store_stage import LEASE_S
from worker_bench import Answer, Bench, Reply

from gateway.jobs.job import AttemptState

DOUBTFUL: list[Answer] = [
    httpx.ReadError("reset"),
    httpx.ReadTimeout("silence"),
    httpx.RemoteProtocolError("hung up"),
    Reply(200, b"<html>"),
    Reply(200, {}),
    Reply(202, {"id": "../admin"}),
    Reply(302),
    Reply(408),
    *(Reply(status, {"id": "r-1"}) for status in (500, 502, 503, 504)),
]


async def held(bench: Bench, job_id: str) -> bool:
    """Whether the job stands still, in doubt, with nothing left to do."""
    job = await bench.stage.job(job_id)
    in_doubt = await bench.stage.states(job_id) == [AttemptState.UNKNOWN]
    return job.state.held is not None and in_doubt and await bench.stage.tasks() == []


async def lose_the_lease(bench: Bench) -> None:
    """Let another worker take the task over, which finds it submitting and holds the job."""
    bench.provider.meanwhile = None
    bench.stage.clock.advance(LEASE_S + 1)
    (task,) = await bench.stage.worker("second").dispatch.claim(10)
    await bench.submit(task)
