"""The paid call of a worker that lost its lease, and answers that come late: proof counts, doubt does not."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from doubtful_submissions import DOUBTFUL, held, lose_the_lease
from invariants import check_invariants
from job_examples import NOW_MS, a_spec, an_attempt
from msgspec.structs import replace
from store_stage import LEASE_S, Stage
from worker_bench import MADE, RUNNING, SUCCEEDED, Answer, Bench, NobodyThere, Reply

from gateway.errors import LeaseLost
from gateway.jobs import transitions
from gateway.jobs.job import AttemptState
from gateway.jobs.transitions import TaskKind
from gateway.routing.catalogue import Catalogue
from gateway.storage import accounts as account_rows
from providers.contract.status import JobStatus


async def test_proof_that_comes_after_the_lease_was_lost_settles_the_doubt(
    stage: Stage, database_path: Path
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    bench.provider.meanwhile = lambda: lose_the_lease(bench)
    await bench.work(MADE)
    job = await stage.job(job_id)
    assert (job.state.held, await stage.states(job_id)) == (None, [AttemptState.ACCEPTED])
    assert (await stage.events(job_id))[-3:] == ["attempt.unknown", "job.held", "attempt.accepted"]
    check_invariants(database_path)
    await bench.after(6, SUCCEEDED)
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED
    assert bench.provider.calls == ["POST /jobs", "GET /jobs/r-1"]


@pytest.mark.parametrize("answer", DOUBTFUL, ids=repr)
async def test_doubt_changes_nothing_after_the_lease_was_lost(stage: Stage, answer: Answer) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    bench.provider.meanwhile = lambda: lose_the_lease(bench)
    with pytest.raises(LeaseLost):
        await bench.work(answer)
    assert await held(bench, job_id)


async def test_a_pause_that_is_asked_for_after_the_lease_was_lost_holds_for_everybody(stage: Stage) -> None:
    bench = Bench(stage)
    await stage.accept()
    bench.provider.meanwhile = lambda: lose_the_lease(bench)
    await bench.work(Reply(429, {}, retry_after="600"))
    (health,) = (await stage.database.read(account_rows.load_all)).values()
    assert health.throttled.until_ms == stage.clock.now_ms() + 600_000
    await stage.accept()
    assert await stage.worker("third").dispatch.claim(9, [TaskKind.SUBMIT]) == []


async def test_what_was_accepted_late_is_not_given_up_by_who_finds_the_task(stage: Stage) -> None:
    """Three workers: one waits for an answer, one takes its task and dies, one comes after the answer."""
    bench = Bench(stage)
    job_id = await stage.accept()
    (task,) = await stage.dispatch.claim(9)

    async def taken_and_left() -> None:
        stage.clock.advance(LEASE_S + 1)
        assert len(await stage.worker("second").dispatch.claim(9)) == 1

    bench.provider.meanwhile = taken_and_left
    bench.provider.says(MADE)
    await bench.submit(task)
    stage.clock.advance(LEASE_S + 1)
    bench.provider.meanwhile = None
    third = stage.worker("third").dispatch
    (left,) = [one for one in await third.claim(9) if one.claim.kind is TaskKind.SUBMIT]
    await bench.submit(left)
    state = (await stage.job(job_id)).state
    assert (state.status, state.error) == (JobStatus.QUEUED, None)
    assert await stage.states(job_id) == [AttemptState.ACCEPTED]
    assert {kind for kind, _ in await stage.tasks()} == {"poll"}


async def test_nothing_is_given_up_that_is_accepted_while_that_is_decided(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    (task,) = await stage.dispatch.claim(9)
    bench.catalogue = Catalogue(offers=(), idle=(a_spec(),))
    bench.with_accounts(bench.account)
    result = stage.record.result

    async def late(*arguments: Any, **options: Any) -> Any:
        begun = an_attempt(job=await stage.job(job_id))
        await stage.record.transition(job_id, lambda job, _: transitions.begin(job, begun))
        made = partial(transitions.accepted, ref="r-1", now_ms=NOW_MS, poll_at_ms=NOW_MS)
        await stage.record.transition(job_id, lambda job, found: made(job, found[0]))
        return await result(*arguments, **options)

    monkeypatch.setattr(stage.record, "result", late)
    await bench.submit(task)
    assert not (await stage.job(job_id)).state.status.terminal


@pytest.mark.parametrize("answer", [Reply(429), NobodyThere()], ids=repr)
async def test_what_was_not_made_is_tried_again_even_after_the_lease_was_lost(
    stage: Stage, answer: Answer, monkeypatch: pytest.MonkeyPatch, database_path: Path
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    submit = bench.tools.calls.submit

    async def slow(*args: Any, **named: Any) -> object:
        called = await submit(*args, **named)
        await lose_the_lease(bench)
        return called

    with monkeypatch.context() as patched:
        patched.setattr(bench.tools.calls, "submit", slow)
        await bench.work(answer)
    job = await stage.job(job_id)
    assert (job.state.status, job.state.held) == (JobStatus.QUEUED, None)
    assert await stage.states(job_id) == [AttemptState.REFUSED]
    assert await stage.tasks() == [("submit", stage.clock.now_ms() - NOW_MS + 1000)]
    check_invariants(database_path)
    await bench.after(1, MADE)
    assert await stage.states(job_id) == [AttemptState.REFUSED, AttemptState.ACCEPTED]


async def test_a_definite_refusal_fails_the_job_even_after_the_lease_was_lost(
    stage: Stage, database_path: Path
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    bench.provider.meanwhile = lambda: lose_the_lease(bench)
    await bench.work(Reply(400, {"code": "E.1", "message": "no"}))
    job = await stage.job(job_id)
    assert job.state.error is not None
    assert (job.state.error.code, job.state.error.provider_code) == ("invalid_request", "E.1")
    assert (job.state.held, job.state.provider_may_bill) == (None, False)
    assert (await stage.states(job_id), await stage.tasks()) == ([AttemptState.REFUSED], [])
    check_invariants(database_path)


async def test_a_worker_that_lost_its_lease_before_the_intent_sends_nothing(stage: Stage) -> None:
    bench = Bench(stage)
    await stage.accept()
    zombie = await stage.claim()
    stage.clock.advance(LEASE_S + 1)
    await stage.worker("second").dispatch.claim(10)
    with pytest.raises(LeaseLost):
        await bench.submit(zombie)
    assert bench.provider.asked == []


async def test_what_was_accepted_after_the_job_was_given_up_is_cancelled(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()

    async def give_up() -> None:
        await lose_the_lease(bench)
        await stage.jobs.cancel(job_id, owner="alice")

    bench.provider.meanwhile = give_up
    await bench.work(MADE)
    job = await stage.job(job_id)
    assert (job.state.status, await stage.states(job_id)) == (JobStatus.CANCELLED, [AttemptState.ACCEPTED])
    await bench.work(RUNNING, Reply(204))
    assert await stage.states(job_id) == [AttemptState.CANCELLED]
    assert await stage.job(job_id) == replace(job, sequence=job.sequence + 1)
