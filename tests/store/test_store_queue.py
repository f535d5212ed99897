"""Waiting jobs take turns by owner, over the store and both engines."""

from __future__ import annotations

import asyncio

import pytest
from job_examples import NOW_MS, an_attempt
from sqlalchemy import Connection
from store_stage import Stage

from gateway.jobs import transitions
from gateway.jobs.job import Attempt, Job
from gateway.jobs.transitions import Step, TaskKind
from gateway.routing.health import WELL, Limits, Operation, Outcome
from gateway.service.dispatch import JobTask
from gateway.service.health import Healths, Terms
from gateway.storage import accounts as account_rows
from gateway.storage import queue as queue_rows
from gateway.storage import tables
from gateway.storage.tasks import Due

ACME = ("acme", "default")


def limited(stage: Stage, limits: Limits) -> None:
    """Bound the one account there is."""
    terms = {ACME: Terms(limits=limits, longest_run_ms=3_600_000)}
    stage.healths = stage.dispatch._healths = Healths(stage.database, stage.clock, terms)


async def started(stage: Stage, limit: int) -> list[str]:
    """Whose jobs are claimed now, in their order."""
    return [task.job.owner for task in await stage.dispatch.claim(limit)]


async def test_owners_take_turns_however_many_one_has_waiting(stage: Stage) -> None:
    for _ in range(30):
        await stage.accept(owner="x")
    assert await started(stage, 3) == ["x", "x", "x"]
    await stage.accept(owner="y")
    assert "y" in await started(stage, 2)


async def test_a_single_job_is_claimed_in_the_next_round_though_another_owner_has_a_thousand_waiting(
    stage: Stage,
) -> None:
    await asyncio.gather(*(stage.accept(owner="x") for _ in range(1000)))
    assert await started(stage, 64) == ["x"] * 64
    await stage.accept(owner="y")
    assert "y" in await started(stage, 2)
    assert await started(stage, 1000) == ["x"] * (1000 - 64 - 1)


async def test_who_never_waited_before_is_not_ahead_of_those_who_do(stage: Stage) -> None:
    for _ in range(20):
        await stage.accept(owner="x")
    await started(stage, 20)
    for _ in range(20):
        await stage.accept(owner="new")
    await stage.accept(owner="x")
    assert "x" in await started(stage, 2)


async def test_within_an_owner_the_order_is_that_of_acceptance(stage: Stage) -> None:
    ids = [await stage.accept() for _ in range(5)]
    assert [task.job.id for task in await stage.dispatch.claim(5)] == ids


async def test_the_more_urgent_takes_its_owners_earlier_turn_and_no_one_elses(stage: Stage) -> None:
    slow = await stage.accept(owner="x")
    other = await stage.accept(owner="y")
    urgent = await stage.accept(owner="x")
    await stage.database.write(
        lambda connection: connection.execute(
            tables.tasks.update().where(tables.tasks.c.subject == urgent).values(rank=1)
        )
    )
    claimed = [task.job.id for task in await stage.dispatch.claim(1)]
    claimed += [task.job.id for task in await stage.dispatch.claim(1)]
    assert set(claimed) == {urgent, other}
    assert [task.job.id for task in await stage.dispatch.claim(9)] == [slow]


async def test_only_as_many_start_as_there_are_slots(stage: Stage) -> None:
    limited(stage, Limits(max_in_flight=2))
    for _ in range(5):
        await stage.accept()
    assert len(await stage.dispatch.claim(9)) == 2


async def test_a_shut_account_starts_nothing_and_says_when(stage: Stage) -> None:
    await stage.accept()
    await stage.healths.note(ACME, Operation.SUBMIT, Outcome.THROTTLED, retry_after_s=30)
    assert await stage.dispatch.claim(9) == []
    assert await stage.dispatch.next_due_ms([TaskKind.SUBMIT]) == stage.clock.now_ms() + 30_000
    stage.clock.advance(30)
    assert len(await stage.dispatch.claim(9)) == 1


async def test_another_process_hears_of_a_pause_with_its_next_claim(stage: Stage) -> None:
    await stage.accept()
    elsewhere = Healths(stage.database, stage.clock, {ACME: Terms(longest_run_ms=1)})
    await elsewhere.note(ACME, Operation.SUBMIT, Outcome.UNAUTHORIZED)
    assert await stage.dispatch.claim(9) == []
    shut = stage.healths.shut(ACME, Operation.POLL)
    assert shut is not None
    assert shut.code == "unauthorized"


async def test_waiting_jobs_move_to_where_the_settings_let_them_run(stage: Stage) -> None:
    first, second = await stage.accept(), await stage.accept()
    assert (
        await stage.dispatch.rehouse(lambda job: "acme/new" if job.id == first else job.room, alone=False)
        == 1
    )
    assert [task.job.id for task in await stage.dispatch.claim(9)] == [second]
    assert (await stage.job(first)).room == "acme/new"


async def test_a_job_that_nobody_can_run_is_claimed_to_be_told_so(stage: Stage) -> None:
    await stage.accept()
    await stage.dispatch.rehouse(lambda _job: "", alone=True)
    assert len(await stage.dispatch.claim(9)) == 1


async def test_who_is_tried_again_is_next(stage: Stage) -> None:
    job_id = await stage.accept(owner="x")
    (task,) = await stage.dispatch.claim(1)
    for _ in range(9):
        await stage.accept(owner="x")
    job = task.job

    def enter(connection: object) -> None:
        entry = queue_rows.entry_of(job, stage.clock.now_ms())
        queue_rows.enter_first(connection, entry)  # type: ignore[arg-type]  # the stage's own

    await stage.database.write(
        lambda connection: connection.execute(tables.tasks.delete().where(tables.tasks.c.subject == job_id))
    )
    await stage.database.write(enter)
    assert [one.job.id for one in await stage.dispatch.claim(1)] == [job_id]


async def test_calls_that_go_well_write_nothing(stage: Stage) -> None:
    for operation in Operation:
        assert stage.healths.noted(ACME, operation, Outcome.FINE) is None
    assert await stage.rows(tables.accounts) == []


async def test_a_breaker_that_opens_is_written_down_once(stage: Stage) -> None:
    for _ in range(9):
        await stage.healths.note(ACME, Operation.POLL, Outcome.FAILED)
    found = await stage.database.read(account_rows.load_all)
    assert found[ACME].poll.openings == 1
    assert found[ACME].submit == WELL.submit


async def test_a_probe_that_goes_well_is_written_down(stage: Stage) -> None:
    for _ in range(5):
        await stage.healths.note(ACME, Operation.POLL, Outcome.FAILED)
    stage.clock.advance(60)
    assert stage.healths.shut(ACME, Operation.POLL) is None
    assert stage.healths.shut(ACME, Operation.POLL) is not None, "one probe at a time"
    await stage.healths.note(ACME, Operation.POLL, Outcome.FINE)
    assert (await stage.database.read(account_rows.load_all))[ACME] == WELL
    assert stage.healths.shut(ACME, Operation.POLL) is None


async def begun(stage: Stage, task: JobTask, healths: Healths) -> bool:
    """Whether a submit was let through to its intent."""

    def begin(job: Job, _attempts: tuple[Attempt, ...]) -> Step:
        return transitions.begin(job, an_attempt(number=1, job=job, id=f"att_{job.id[-32:]}"))

    def admit(connection: Connection) -> Due | None:
        shut = healths.admit(connection, ACME)
        return None if shut is None else Due(claim=task.claim, due_at_ms=NOW_MS, tries=0)

    return await stage.record.intent(task.claim, begin, admit=admit) is not None


@pytest.mark.parametrize("limits", [Limits(max_in_flight=1), Limits(submits_per_second=1)])
async def test_two_processes_never_take_the_last_opening_both(stage: Stage, limits: Limits) -> None:
    ids = {await stage.accept(), await stage.accept()}
    first, second = await stage.dispatch.claim(2)
    ours, theirs = (
        Healths(stage.database, stage.clock, {ACME: Terms(limits=limits, longest_run_ms=3_600_000)})
        for _ in range(2)
    )
    taken = await asyncio.gather(begun(stage, first, ours), begun(stage, second, theirs))
    assert sorted(taken) == [False, True]
    waiting = {task.job.id for task in await stage.dispatch.claim(9)}
    assert len(waiting & ids) == 1, "who was not admitted waits for its turn again"


async def test_a_slot_is_held_until_the_run_ends_and_while_nobody_knows(stage: Stage) -> None:
    limits = Limits(max_in_flight=1)
    limited(stage, limits)
    await stage.accept()
    await stage.accept()
    (task,) = await stage.dispatch.claim(9)
    assert await begun(stage, task, stage.healths)

    def doubt(job: Job, attempts: tuple[Attempt, ...]) -> Step:
        return transitions.unknown(job, attempts[0], reason="r", now_ms=NOW_MS, hold_until_ms=NOW_MS + 10**9)

    await stage.record.result(task.claim, doubt)
    assert await stage.dispatch.claim(9) == []
    stage.clock.advance(3600)
    assert len(await stage.dispatch.claim(9)) == 1, "no run lasts longer than an hour there"
