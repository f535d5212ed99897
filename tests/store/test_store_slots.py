"""Slots and turns together: who takes an opening, who holds one, and what was left in the midst of it."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from job_examples import NOW_MS, a_request, an_attempt
from msgspec.structs import replace
from sqlalchemy import Connection
from store_stage import LEASE_S, Stage

from gateway.jobs import transitions
from gateway.jobs.job import Attempt, AttemptState, Job
from gateway.jobs.transitions import Step
from gateway.routing.health import WELL, Health, Limits, Operation, Outcome
from gateway.service.dispatch import JobTask
from gateway.service.health import Healths, Terms
from gateway.storage import accounts as account_rows
from gateway.storage import postgres, tables
from gateway.storage.postgres import PostgresDatabase
from gateway.storage.tasks import Due
from providers.contract.errors import ErrorCode, UpstreamError

ACME, OTHER = ("acme", "default"), ("acme", "other")
AN_HOUR_MS = 3_600_000
ONE = Limits(max_in_flight=1)


def limited(stage: Stage, *, key: str = "", **limits: Limits) -> None:
    """Bound these accounts of acme."""
    terms = {
        ("acme", name): Terms(limits=limit, longest_run_ms=AN_HOUR_MS, key=key)
        for name, limit in limits.items()
    }
    stage.healths = Healths(stage.database, stage.clock, terms)
    stage.become("first")


async def begun(stage: Stage, task: JobTask) -> bool:
    """Whether a submit was let through to its intent."""

    def begin(job: Job, attempts: tuple[Attempt, ...]) -> Step:
        number = len(attempts) + 1
        return transitions.begin(job, an_attempt(number=number, job=job, id=f"att_{number}{job.id[-31:]}"))

    def admit(connection: Connection) -> Due | None:
        shut = stage.healths.admit(connection, ACME)
        return None if shut is None else task.claim.later(shut.until_ms or task.claim.due_at_ms)

    return await stage.record.intent(task.claim, begin, admit=admit) is not None


def failed(job: Job, attempts: tuple[Attempt, ...]) -> Step:
    error = UpstreamError(code=ErrorCode.INVALID_REQUEST, message="no")
    return transitions.refused(
        job, attempts[-1], error=error, now_ms=NOW_MS, again_at_ms=None, others=attempts
    )


async def start(stage: Stage, most: int = 64) -> list[JobTask]:
    """Claim and begin what may be, as a worker's lane does."""
    tasks = await stage.dispatch.claim(most)
    return [task for task in tasks if await begun(stage, task)]


@pytest.mark.parametrize("paused", [False, True])
async def test_what_was_left_behind_is_found_though_its_account_takes_nothing(
    stage: Stage,
    paused: bool,  # noqa: FBT001 - a column
) -> None:
    limited(stage, default=ONE)
    job_id = await stage.accept()
    await stage.accept(owner="bob")
    assert len(await start(stage)) == 1
    if paused:
        await stage.healths.note(ACME, Operation.SUBMIT, Outcome.THROTTLED, retry_after_s=3600)
    stage.clock.advance(LEASE_S + 1)
    (found,) = await stage.worker("second").dispatch.claim(64)
    assert (found.job.id, found.attempts[0].state) == (job_id, AttemptState.SUBMITTING)


async def test_who_was_claimed_takes_an_opening_before_it_shows(stage: Stage) -> None:
    limited(stage, default=Limits(max_in_flight=2))
    for _ in range(5):
        await stage.accept()
    first, second = await stage.dispatch.claim(64)
    assert await stage.dispatch.claim(64) == []
    assert await begun(stage, first)
    assert await stage.dispatch.claim(64) == []
    await stage.leases.release([second.claim])
    assert [task.job.id for task in await stage.dispatch.claim(64)] == [second.job.id]


async def test_who_was_not_let_in_is_next(stage: Stage) -> None:
    limited(stage, default=ONE)
    for _ in range(3):
        await stage.accept()
    (first,) = await stage.dispatch.claim(64)
    limited(stage, default=Limits(max_in_flight=2))
    (second,) = await stage.dispatch.claim(64)
    limited(stage, default=ONE)
    assert await begun(stage, second)
    assert not await begun(stage, first)
    await stage.record.transition(second.job.id, failed)
    assert [task.job.id for task in await stage.dispatch.claim(64)] == [first.job.id]


@pytest.mark.parametrize("slots", [1, 3])
async def test_y_starts_within_the_next_two_freed_slots_however_many_x_has_waiting(
    stage: Stage, slots: int
) -> None:
    limited(stage, default=Limits(max_in_flight=slots))
    await asyncio.gather(*(stage.accept(owner="x") for _ in range(1000)))
    running = [task.job.id for task in await start(stage)]
    for _ in range(20):
        freed, running = running[0], running[1:]
        await stage.record.transition(freed, failed)
        running += [task.job.id for task in await start(stage)]
    for _ in range(3):
        job_id = await stage.accept(owner="y")
        for _freed in range(2):
            freed, running = running[0], running[1:]
            await stage.record.transition(freed, failed)
            running += [task.job.id for task in await start(stage)]
        assert job_id in running or (await stage.states(job_id)) != []
    assert len(running) == slots


async def test_what_fast_accounts_serve_puts_no_newcomer_behind_at_a_slow_one(stage: Stage) -> None:
    limited(stage, default=ONE, other=Limits())
    for _ in range(40):
        await stage.accept(owner="x")
    await start(stage)
    for _ in range(60):
        await stage.accept(owner="w")
    here = "acme/default"
    await stage.dispatch.rehouse(lambda job: "acme/other" if job.owner == "w" else here, alone=True)
    assert len(await stage.dispatch.claim(64)) == 60
    y = await stage.accept(owner="y")
    for task in await stage.dispatch.claim(64):
        assert task.job.owner != "x"
    running = [row["job_id"] for row in await stage.rows(tables.attempts)]
    started: list[str] = []
    for _ in range(2):
        await stage.record.transition(str(running[-1]), failed)
        started += [task.job.id for task in await start(stage)]
        running += started[-1:]
    assert y in started


async def test_the_most_urgent_takes_its_owners_turn_wherever_else_it_could_run(stage: Stage) -> None:
    limited(stage, default=ONE, other=ONE)
    await stage.healths.note(OTHER, Operation.SUBMIT, Outcome.THROTTLED, retry_after_s=3600)
    for _ in range(5):
        await stage.accept()
    urgent = await stage.accept(replace(a_request(), priority="high"))
    await stage.dispatch.rehouse(
        lambda job: "acme/default acme/other" if job.id == urgent else job.room, alone=True
    )
    assert [task.job.id for task in await stage.dispatch.claim(64)] == [urgent]


async def test_a_risk_that_was_accepted_is_none_of_a_run_too_many(stage: Stage) -> None:
    limited(stage, default=ONE)
    job_id = await stage.accept()
    (task,) = await start(stage)
    doubt = partial(transitions.unknown, reason="r", now_ms=NOW_MS, hold_until_ms=NOW_MS + AN_HOUR_MS)
    await stage.record.result(task.claim, lambda job, found: doubt(job, found[0]))
    write_off = partial(transitions.written_off, by="operator", now_ms=NOW_MS)
    await stage.record.transition(job_id, lambda job, found: write_off(job, found[0]))
    assert await start(stage) == []
    stage.clock.advance(AN_HOUR_MS / 1000)
    assert [task.job.id for task in await start(stage)] == [job_id]


async def test_what_a_key_was_refused_for_is_forgotten_with_the_key(stage: Stage) -> None:
    limited(stage, default=Limits(), key="old")
    await stage.healths.note(ACME, Operation.POLL, Outcome.UNAUTHORIZED)
    limited(stage, default=Limits(), key="old")
    await stage.healths.refresh()
    assert stage.healths.shut(ACME, Operation.POLL) is not None
    limited(stage, default=Limits(), key="new")
    await stage.healths.refresh()
    assert stage.healths.shut(ACME, Operation.POLL) is None
    await stage.accept()
    assert len(await start(stage)) == 1


async def test_submits_of_a_version_without_a_queue_are_claimed(stage: Stage) -> None:
    job_id = await stage.accept()
    nothing = {"owner": None, "room": None, "turn": None, "rank": None}
    await stage.database.write(lambda connection: connection.execute(tables.tasks.update().values(nothing)))
    limited(stage, default=ONE)
    assert [task.job.id for task in await stage.dispatch.claim(64)] == [job_id]


@pytest.mark.parametrize(("alone", "room"), [(False, "acme/default"), (True, "")])
async def test_what_these_settings_cannot_run_is_left_to_other_workers(
    stage: Stage,
    alone: bool,  # noqa: FBT001 - a column
    room: str,
) -> None:
    job_id = await stage.accept()
    await stage.dispatch.rehouse(lambda _job: "", alone=alone)
    assert (await stage.job(job_id)).room == room


async def test_results_that_tell_of_an_account_never_deadlock_with_intents(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_CONFLICTS", ())  # then one is no longer done again in silence
    if not isinstance(stage.database, PostgresDatabase):
        pytest.skip("SQLite has one writer")
    limited(stage, default=Limits(max_in_flight=500))

    def cut(connection: Connection) -> None:
        account_rows.lock(connection, ACME)
        account_rows.save(connection, ACME, Health(window=100.0))

    await stage.database.write(cut)
    await stage.healths.refresh()
    for _ in range(100):
        await stage.accept()
    tasks = await stage.dispatch.claim(100)
    first, second = tasks[:50], tasks[50:]
    for task in first:
        assert await begun(stage, task)

    async def refused(task: JobTask) -> None:
        # The ledger moves from the provider to no provider, and the account is told of a call that went well.
        also = stage.healths.noted(ACME, Operation.SUBMIT, Outcome.FINE)
        assert also is not None
        await stage.record.result(task.claim, failed, also=also)

    async with asyncio.TaskGroup() as group:
        for ends, begins in zip(first, second, strict=True):
            group.create_task(refused(ends))
            group.create_task(begun(stage, begins))
    assert (await stage.database.read(account_rows.load_all))[ACME] != WELL
