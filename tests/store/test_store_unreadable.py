"""What a newer version wrote, or damage made: it keeps nobody else from their work, and is not lost."""

from __future__ import annotations

import pytest
from job_examples import NOW_MS, a_job, an_attempt
from sqlalchemy import Connection, update
from store_stage import LEASE_S, Stage

from gateway.errors import Unreadable
from gateway.jobs.job import AttemptState, Held
from gateway.jobs.transitions import TaskKind
from gateway.service.holds import Holds
from gateway.storage import attempts as attempt_rows
from gateway.storage import jobs as job_rows
from gateway.storage import tables
from gateway.storage import tasks as task_rows
from gateway.storage.jobs import JobFilter
from gateway.storage.readable import load_readable
from gateway.storage.tasks import Memo
from gateway.upstream.accounts import Accounts
from providers.contract.errors import UNLISTED, ErrorCode

JOBS = [a_job(number, held=Held(reason="r", since_ms=0, until_ms=NOW_MS)) for number in (1, 2, 3)]
BROKEN, SOUND = JOBS[1], [JOBS[0], JOBS[2]]


async def stored(stage: Stage) -> None:
    """Three held jobs of alice's, each with an attempt in doubt and a poll that is due."""

    def operation(connection: Connection) -> None:
        rows = [job_rows.row_of(job, idempotency_key=None, fingerprint="f") for job in JOBS]
        job_rows.insert_many(connection, rows)
        for number, job in enumerate(JOBS, start=1):
            attempt = an_attempt(AttemptState.UNKNOWN, job=job, id=f"att_{number:032x}")
            attempt_rows.insert_one(connection, attempt)
        task_rows.insert_many(connection, [(TaskKind.POLL, job.id, NOW_MS) for job in JOBS])

    await stage.database.write(operation)


async def spoilt(stage: Stage, where: str) -> None:
    """Store the three, and spoil the second."""
    await stored(stage)
    spoil = {
        "state": update(tables.jobs).where(tables.jobs.c.id == BROKEN.id).values(state='{"status":"paused"}'),
        "request": update(tables.jobs).where(tables.jobs.c.id == BROKEN.id).values(request="{"),
        "attempt": update(tables.attempts)
        .where(tables.attempts.c.job_id == BROKEN.id)
        .values(document='{"id":1}'),
    }[where]
    await stage.database.write(lambda connection: connection.execute(spoil).rowcount)


EVERYWHERE = pytest.mark.parametrize("where", ["state", "request", "attempt"])


@EVERYWHERE
async def test_the_others_are_handed_out_and_it_stays_leased(stage: Stage, where: str) -> None:
    await spoilt(stage, where)
    tasks = await stage.dispatch.claim(10)
    assert sorted(task.job.id for task in tasks) == [job.id for job in SOUND]
    leased = {row["subject"]: row["leased_by"] for row in await stage.rows(tables.tasks)}
    assert leased[BROKEN.id] == "first"
    assert await stage.worker("second").dispatch.claim(10) == []
    stage.clock.advance(LEASE_S + 1)
    assert await stage.leases.heartbeat([task.claim for task in tasks]) == []
    leased = {row["subject"]: row["leased_by"] for row in await stage.rows(tables.tasks)}
    assert leased[BROKEN.id] is None, "it is free for whoever can read it"


@pytest.mark.parametrize("where", ["state", "attempt"])
async def test_the_others_are_listed_and_it_alone_is_refused(stage: Stage, where: str) -> None:
    await spoilt(stage, where)
    page = await stage.jobs.page(JobFilter(owner="alice"))
    assert [view.id for view in page] == [JOBS[2].id, JOBS[0].id]
    assert (await stage.jobs.show(JOBS[0].id, owner="alice")).id == JOBS[0].id
    for asked in (
        stage.jobs.show(BROKEN.id, owner="alice"),
        stage.jobs.timeline(BROKEN.id, owner="alice"),
        stage.jobs.cancel(BROKEN.id, owner="alice"),
    ):
        with pytest.raises(Unreadable, match=BROKEN.id):
            await asked


@EVERYWHERE
async def test_the_other_held_jobs_are_shown_to_an_operator(stage: Stage, where: str) -> None:
    await spoilt(stage, where)
    calls: object = None
    holds = Holds(stage.database, stage.record, stage.clock, accounts=Accounts(()), calls=calls)  # type: ignore[arg-type]  # nobody is asked
    assert [one.job.id for one in await holds.all()] == [job.id for job in SOUND]


async def test_a_memo_that_cannot_be_read_is_forgotten(stage: Stage) -> None:
    await stored(stage)
    memo = update(tables.tasks).where(tables.tasks.c.subject == BROKEN.id).values(memo='{"missing":"x"}')
    await stage.database.write(lambda connection: connection.execute(memo).rowcount)
    tasks = await stage.dispatch.claim(10)
    assert [task.claim.memo for task in tasks] == [Memo()] * 3


async def test_an_error_code_of_a_newer_version_is_kept_as_it_is(stage: Stage) -> None:
    await stored(stage)
    attempt = an_attempt(AttemptState.UNKNOWN, job=BROKEN, id=f"att_{2:032x}")
    document = '"error":{"code":"budget_exceeded","message":"m"}'

    ours = tables.attempts.c.id == attempt.id

    def spoil(connection: Connection) -> None:
        attempt_rows.save(connection, attempt)
        row = connection.execute(tables.attempts.select().where(ours)).one()
        newer = row.document.replace('"state":', f'{document},"state":')
        connection.execute(update(tables.attempts).where(ours).values(document=newer))

    await stage.database.write(spoil)
    view = await stage.jobs.show(BROKEN.id, owner="alice")
    error = view.attempts[0].error
    assert error is not None
    assert (error.code, error.retryable) == ("budget_exceeded", False)
    assert len(await stage.dispatch.claim(10)) == 3

    def rewritten(connection: Connection) -> str:
        ((_, (read,)),) = load_readable(connection, [BROKEN.id]).values()
        assert read.error is not None
        assert read.error.decision is UNLISTED
        attempt_rows.save(connection, read)
        return str(connection.execute(tables.attempts.select().where(ours)).one().document)

    assert '"code":"budget_exceeded"' in await stage.database.write(rewritten)


def test_the_codes_of_this_version_are_told_from_others() -> None:
    assert all(code.listed for code in ErrorCode)
    assert not ErrorCode("budget_exceeded").listed
    assert ErrorCode("timeout") is ErrorCode.TIMEOUT
