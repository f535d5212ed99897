"""Fills a database with finished jobs, through the statements that the gateway itself uses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from gateway.clock import SystemClock
from gateway.ids import ATTEMPT, JOB, Ids
from gateway.jobs.job import Attempt, AttemptState, Job, JobRequest, JobState, Output
from gateway.service.keys import Keys, Scope
from gateway.settings import Settings
from gateway.storage import attempts as attempt_rows
from gateway.storage import events as event_rows
from gateway.storage import jobs as job_rows
from gateway.storage.store import open_store
from providers.contract.motion import Character, CharacterType, Reference
from providers.contract.status import JobStatus

BATCH = 2000


async def seed(path: Path, count: int, told: Callable[[int], None]) -> tuple[str, list[str]]:
    """Store that many succeeded jobs; return an API key and the jobs' ids."""
    store = open_store(Settings(database=f"sqlite:///{path}"))
    clock = SystemClock()
    ids = Ids(clock)
    keys = Keys(store.database, clock, ids, store.sealer)
    created = await keys.create(name="bench", owner="bench", scopes=[Scope.JOBS])
    made: list[str] = []
    for start in range(0, count, BATCH):
        jobs = [_job(ids.new(JOB), clock.now_ms()) for _ in range(min(BATCH, count - start))]
        attempts = [_attempt(ids.new(ATTEMPT), job) for job in jobs]
        await store.database.write(partial(insert, jobs=jobs, attempts=attempts))
        made += [job.id for job in jobs]
        told(len(made))
    await store.database.close()
    return created.key, made


def _job(job_id: str, now_ms: int) -> Job:
    url = "https://media.example.com/"
    return Job(
        id=job_id,
        owner="bench",
        created_at_ms=now_ms,
        request=JobRequest(
            character=Character(type=CharacterType.IMAGE, url=url + "hero.png"),
            reference=Reference(url=url + "act.mp4", duration_s=8.5),
            deadline_s=1800,
        ),
        metadata={"order": "8812", "tenant": "north"},
        state=JobState(
            status=JobStatus.SUCCEEDED,
            deadline_at_ms=now_ms + 1_800_000,
            provider="runway",
            started_at_ms=now_ms,
            finished_at_ms=now_ms + 60_000,
            outputs=(
                Output(
                    url=url + f"out/{job_id}.mp4",
                    content_type="video/mp4",
                    expires_at_ms=now_ms + 86_400_000,
                ),
            ),
        ),
        progress=1.0,
        sequence=1,
        estimated_micro_usd=425_000,
    )


def _attempt(attempt_id: str, job: Job) -> Attempt:
    return Attempt(
        id=attempt_id,
        job_id=job.id,
        number=1,
        provider="runway",
        account="default",
        state=AttemptState.SUCCEEDED,
        ref=attempt_id,
        provider_status="SUCCEEDED",
        started_at_ms=job.created_at_ms,
        finished_at_ms=job.created_at_ms + 60_000,
        credits=43.0,
        micro_usd=430_000,
    )


def insert(connection: Connection, jobs: list[Job], attempts: list[Attempt]) -> None:
    """Store jobs as if they had been accepted, each under a key of its own, with their attempts."""
    rows = [job_rows.row_of(job, idempotency_key=f"seed-{job.id}", fingerprint="0" * 64) for job in jobs]
    events = [
        {"job_id": job.id, "sequence": 1, "at_ms": job.created_at_ms, "type": "job.accepted", "data": "{}"}
        for job in jobs
    ]
    job_rows.insert_many(connection, rows)
    event_rows.insert_many(connection, events)
    for attempt in attempts:
        attempt_rows.insert_one(connection, attempt)
