"""An endpoint that is told of jobs, and a worker that sends to it."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
from store_stage import Stage
from worker_bench import Answer, Bench, Reply

from gateway.jobs.job import Job
from gateway.jobs.transitions import Event, Step
from gateway.service.deliveries import DeliveryView
from gateway.storage import tables
from gateway.storage.endpoints import Endpoint

OK = Reply(200)
URL = "https://receiver.example/all"
DAY_S = 86_400


class Told:
    """An endpoint of alice's that hears of cancelled jobs."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.bench = Bench(stage)
        self.id = ""
        self.secret = ""
        self.public_key = ""

    async def made(self, *, signing: Any = "hmac") -> Told:
        made = await self.stage.endpoints.create(
            owner="alice", url=URL, events=["job.cancelled"], signing=signing
        )
        self.id, self.secret, self.public_key = made.id, made.secret or "", made.public_key or ""
        return self

    async def ends(self) -> None:
        """End a job."""
        await self.stage.jobs.cancel(await self.stage.accept(), owner="alice")

    async def tries(self, *answers: Answer) -> list[httpx.Request]:
        """Carry out what is due, to these answers; what was asked."""
        before = len(self.bench.receiver.asked)
        self.bench.receiver.says(*answers)
        for task in await self.bench.deliver.claim(64):
            await self.bench.deliver.carry_out(task)
        if (await self.stands()).enabled:
            assert not self.bench.receiver.answers
        self.bench.receiver.answers.clear()  # what was claimed with the one that disabled it is not sent
        return self.bench.receiver.asked[before:]

    async def stands(self) -> Endpoint:
        return await self.stage.endpoints.load(self.id, owner="alice")

    async def delivery(self) -> DeliveryView:
        """The latest."""
        found = await self.stage.deliveries.of_endpoint(self.id, owner="alice", before=None, limit=9)
        return found[0]

    async def redelivered(self) -> DeliveryView:
        """Ask for the latest once more."""
        return await self.stage.deliveries.redeliver((await self.delivery()).id, owner="alice")

    async def states(self) -> list[str]:
        return [str(row["state"]) for row in await self.stage.rows(tables.deliveries)]


async def advanced(stage: Stage, job_id: str, *parts: float) -> None:
    """Have a job tell of its progress."""
    for part in parts:
        event = Event(type="job.progress", note={"progress": part})
        await stage.record.transition(job_id, partial(_tells, event))
        stage.clock.advance(1)


def _tells(event: Event, job: Job, _attempts: object) -> Step:
    return Step(job=job, events=(event,))
