"""Fills a database with jobs that run at a provider, through the statements that the gateway itself uses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from seed import insert
from sqlalchemy import Connection

from gateway.clock import SystemClock
from gateway.ids import ATTEMPT, JOB, Ids
from gateway.jobs.job import Attempt, AttemptState, Job, JobRequest, JobState
from gateway.jobs.transitions import TaskKind
from gateway.settings import Settings
from gateway.storage import tasks as task_rows
from gateway.storage.store import open_store
from providers.contract.motion import Character, CharacterType, Reference
from providers.contract.status import JobStatus

BATCH = 2000
DEADLINE_S = 86_400
AGE_MS = 600_000
"""How long ago they were accepted: their provider is asked at its later, slower pace."""


async def store_running(
    settings: Settings, provider: str, count: int, *, ref_of: Callable[[int], str], due_s: tuple[float, float]
) -> None:
    """Store running jobs.

    Args:
        settings: name the database.
        provider: where they run.
        count: how many.
        ref_of: the provider's name for each, by number.
        due_s: when their polls are due, spread evenly from the first to the second, seconds from now.
    """
    store = open_store(settings)
    clock = SystemClock()
    ids = Ids(clock)
    now_ms = clock.now_ms()
    first_ms, last_ms = (now_ms + round(seconds * 1000) for seconds in due_s)
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        jobs = [_job(ids.new(JOB), provider, now_ms - AGE_MS) for _ in numbers]
        attempts = [
            _attempt(ids.new(ATTEMPT), job, ref_of(number)) for job, number in zip(jobs, numbers, strict=True)
        ]
        due = [
            (TaskKind.POLL, job.id, first_ms + (last_ms - first_ms) * number // count)
            for job, number in zip(jobs, numbers, strict=True)
        ]
        await store.database.write(partial(_insert, jobs=jobs, attempts=attempts, due=due))
    await store.database.close()


def _job(job_id: str, provider: str, at_ms: int) -> Job:
    url = "https://media.example.com/"
    return Job(
        id=job_id,
        owner="bench",
        created_at_ms=at_ms,
        request=JobRequest(
            character=Character(type=CharacterType.IMAGE, url=url + "hero.png"),
            reference=Reference(url=url + "act.mp4", duration_s=8.5),
            deadline_s=DEADLINE_S,
        ),
        metadata={"order": "8812", "tenant": "north"},
        state=JobState(
            status=JobStatus.RUNNING,
            deadline_at_ms=at_ms + DEADLINE_S * 1000,
            provider=provider,
            started_at_ms=at_ms,
        ),
        progress=0.1,
        sequence=1,
    )


def _attempt(attempt_id: str, job: Job, ref: str) -> Attempt:
    return Attempt(
        id=attempt_id,
        job_id=job.id,
        number=1,
        provider=job.state.provider or "",
        account="default",
        state=AttemptState.ACCEPTED,
        ref=ref,
        provider_status="RUNNING",
        started_at_ms=job.created_at_ms,
        accepted_at_ms=job.created_at_ms,
    )


def _insert(
    connection: Connection, jobs: list[Job], attempts: list[Attempt], due: list[tuple[TaskKind, str, int]]
) -> None:
    insert(connection, jobs, attempts)
    task_rows.insert_many(connection, due)
