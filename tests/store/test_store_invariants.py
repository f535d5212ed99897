"""The checker itself: a sound database passes, and each kind of damage is told."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from invariants import check_invariants
from job_examples import NOW_MS, OUTPUT_URL, a_request, a_spec, a_webhook, an_attempt
from store_stage import Stage

from gateway.jobs import transitions
from gateway.jobs.transitions import TaskKind
from gateway.storage.sqlite import open_engine
from providers.contract.normalize import Update
from providers.contract.status import JobStatus


async def lives(stage: Stage) -> None:
    """A job that has ended, with a receiver, and one that is polled."""
    done = Update(provider_status="SUCCEEDED", status=JobStatus.SUCCEEDED, outputs=(OUTPUT_URL,))
    for number in (1, 2):
        await stage.accept(a_request(webhook=a_webhook()))
        task = await stage.claim(TaskKind.SUBMIT)
        attempt = an_attempt(job=task.job, id=f"att_{number}")
        await stage.record.intent(task.claim, lambda job, _, one=attempt: transitions.begin(job, one))  # type: ignore[misc]  # mypy cannot type a default here
        recorded = await stage.record.result(
            task.claim,
            lambda job, found: transitions.accepted(job, found[0], ref="r", now_ms=NOW_MS, poll_at_ms=NOW_MS),
        )
        poll = await stage.claim(TaskKind.POLL)
        if number == 1:
            await stage.record.result(
                poll.claim,
                lambda job, found: transitions.observed(
                    job, found[0], update=done, spec=a_spec(), now_ms=NOW_MS
                ),
            )
        assert recorded.after.sequence == 3


async def test_a_sound_database_passes(stage: Stage, database_path: Path) -> None:
    assert check_invariants(database_path) == 0
    await lives(stage)
    assert check_invariants(database_path) == 2


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("DELETE FROM events WHERE sequence = 2", "gaps in its sequence"),
        ("UPDATE jobs SET sequence = sequence + 1", "gaps in its sequence"),
        ("UPDATE jobs SET state = replace(state, 'acme', 'bolt')", "its log replays to"),
        ("UPDATE attempts SET document = replace(document, '\"r\"', '\"s\"')", "its log replays to"),
        ("UPDATE attempts SET ref = 's'", "columns of att_"),
        ("UPDATE jobs SET deadline_at_ms = 1", "do not match its state"),
        ("UPDATE jobs SET status = 'failed'", "do not match its state"),
        ("DELETE FROM tasks WHERE kind = 'poll'", "is lost"),
        ("DELETE FROM tasks WHERE kind = 'deliver'", "has it a task"),
        ("UPDATE deliveries SET state = 'delivered'", "has it a task"),
        ("DELETE FROM deliveries", "is to hear of"),
        ("UPDATE deliveries SET sequence = sequence + 1", "is to hear of"),
        ("UPDATE events SET type = 'job.failed' WHERE type = 'attempt.accepted'", "after ["),
        ("DELETE FROM jobs WHERE status = 'queued'", "which does not exist"),
    ],
)
async def test_damage_is_told(stage: Stage, database_path: Path, damage: str, told: str) -> None:
    await lives(stage)
    with closing(open_engine(database_path).connect()) as connection, connection.begin():
        assert connection.exec_driver_sql(damage).rowcount > 0
    with pytest.raises(AssertionError) as caught:
        check_invariants(database_path)
    assert told in str(caught.value)
