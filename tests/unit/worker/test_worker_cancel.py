"""Asking a provider to stop, as far as its cancel goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from job_examples import DEADLINE_S, NOW_MS, SOURCE, a_spec
from store_stage import LEASE_S, Stage
from worker_bench import RUNNING, SUCCEEDED, Answer, Bench, NobodyThere, Reply

from gateway.errors import LeaseLost
from gateway.jobs.job import AttemptState
from gateway.jobs.transitions import TaskKind
from gateway.storage import tables
from gateway.worker.cancel import FRESH_LOOK_S, MOST_TRIES
from providers.contract.spec import CancelSpec
from providers.contract.status import JobStatus

POST, GET, DELETE = "POST /jobs", "GET /jobs/r-1", "DELETE /jobs/r-1"


def cancel(*, stops: bool = True, destroys: bool = False, gone: bool = False) -> CancelSpec:
    return CancelSpec(stops=stops, destroys_output=destroys, ref_gone=gone, source=SOURCE)


async def asked(stage: Stage, spec: CancelSpec | None) -> tuple[Bench, str]:
    """A job that runs and is to be cancelled."""
    bench = Bench(stage, spec=a_spec(cancel=spec))
    job_id = await bench.accepted()
    await stage.jobs.cancel(job_id, owner="alice")
    return bench, job_id


@pytest.mark.parametrize(
    ("spec", "answers", "calls", "ends"),
    [
        (None, [RUNNING], [GET], (JobStatus.CANCELLED, True)),
        (None, [SUCCEEDED], [GET], (JobStatus.SUCCEEDED, False)),
        (cancel(), [RUNNING, Reply(204)], [GET, DELETE], (JobStatus.CANCELLED, False)),
        (cancel(), [SUCCEEDED], [GET], (JobStatus.SUCCEEDED, False)),
        (cancel(stops=False), [RUNNING, Reply(200)], [GET, DELETE], (JobStatus.CANCELLED, True)),
        (cancel(stops=False), [SUCCEEDED], [GET], (JobStatus.SUCCEEDED, False)),
        (cancel(destroys=True), [RUNNING, Reply(204)], [GET, DELETE], (JobStatus.CANCELLED, False)),
        (cancel(destroys=True), [SUCCEEDED], [GET], (JobStatus.SUCCEEDED, False)),
        (cancel(destroys=True), [Reply(200, {"status": "FAILED"})], [GET], (JobStatus.FAILED, False)),
        (cancel(destroys=True), [Reply(200, {"status": "CANCELLED"})], [GET], (JobStatus.CANCELLED, False)),
        (
            cancel(destroys=True),
            [Reply(200, {"status": "WEIRD"}), Reply(204)],
            [GET, DELETE],
            (JobStatus.CANCELLED, False),
        ),
        (
            cancel(destroys=True),
            [Reply(200, {"status": "SUCCEEDED"}), Reply(204)],
            [GET, DELETE],
            (JobStatus.CANCELLED, False),
        ),
    ],
    ids=[
        "no cancel, runs",
        "no cancel, has succeeded",
        "stops, runs",
        "stops, has succeeded",
        "only detaches, runs",
        "only detaches, has succeeded",
        "destroys, runs",
        "destroys, has succeeded",
        "destroys, has failed",
        "destroys, was cancelled",
        "destroys, says what nobody knows",
        "destroys, has succeeded without output",
    ],
)
async def test_a_cancel_ends_the_job_as_its_provider_allows(
    stage: Stage,
    spec: CancelSpec | None,
    answers: list[Answer],
    calls: list[str],
    ends: tuple[JobStatus, bool],
) -> None:
    bench, job_id = await asked(stage, spec)
    await bench.work(*answers)
    job = await stage.job(job_id)
    assert bench.provider.calls == [POST, *calls]
    assert (job.state.status, job.state.provider_may_bill) == ends
    # What could not be stopped is followed for what it costs.
    runs_on = job.state.provider_may_bill
    assert [kind for kind, _ in await stage.tasks()] == (["poll"] if runs_on else [])
    assert ((await stage.attempts(job_id))[0].finished_at_ms is None) is runs_on


async def tried(bench: Bench, job_id: str, tries: Sequence[tuple[Answer, ...]]) -> list[int]:
    """Carry the cancel out so often, each time to these answers; return the seconds it waited between."""
    stage = bench.stage
    waits: list[int] = []
    for number, answers in enumerate(tries, 1):
        bench.provider.says(*answers)
        for task in await stage.dispatch.claim(10):
            if task.claim.kind is TaskKind.CANCEL:
                await bench.cancel(task)
        assert not bench.provider.answers
        if number == len(tries):
            break
        assert not (await stage.job(job_id)).state.status.terminal
        ((_, due_ms),) = [one for one in await stage.tasks() if one[0] == "cancel"]
        wait_ms = due_ms - (stage.clock.now_ms() - NOW_MS)
        waits.append(wait_ms // 1000)
        stage.clock.advance(wait_ms / 1000)
    return waits


@pytest.mark.parametrize("answer", [NobodyThere(), Reply(500), Reply(429)], ids=repr)
async def test_a_look_that_fails_counts_as_a_try(stage: Stage, answer: Answer) -> None:
    bench, job_id = await asked(stage, cancel())
    tries: list[tuple[Answer, ...]] = [(answer,), (RUNNING, Reply(500))] * (MOST_TRIES // 2)
    assert await tried(bench, job_id, tries) == [1, 2, 4, 8, 16, 32, 60]
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, True)
    assert bench.provider.calls.count(DELETE) == MOST_TRIES // 2


@pytest.mark.parametrize("answer", [NobodyThere(), Reply(500), Reply(429), Reply(409)], ids=repr)
async def test_a_cancel_that_fails_is_tried_again_and_given_up_in_the_end(
    stage: Stage, answer: Answer
) -> None:
    bench, job_id = await asked(stage, cancel())
    assert await tried(bench, job_id, [(RUNNING, answer)] * MOST_TRIES) == [1, 2, 4, 8, 16, 32, 60]
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, True)
    assert bench.provider.calls.count(DELETE) == MOST_TRIES
    assert len([one for one in await stage.rows(tables.exchanges) if one["operation"] == "cancel"]) == 8


async def test_a_cancel_that_fails_once_then_works(stage: Stage) -> None:
    bench, job_id = await asked(stage, cancel())
    await bench.work(RUNNING, Reply(503, retry_after="3"))
    assert ("cancel", 3000) in await stage.tasks()
    await bench.after(3, RUNNING, Reply(204))
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, False)


MISSING = (Reply(404), Reply(404))


@pytest.mark.parametrize("spec", [cancel(), cancel(destroys=True, gone=True)], ids=["stays", "goes"])
async def test_a_ref_missing_right_after_its_creation_proves_no_cancel(
    stage: Stage, spec: CancelSpec
) -> None:
    """The provider may only not know it yet; none of our cancels got through."""
    bench, job_id = await asked(stage, spec)
    assert await tried(bench, job_id, [MISSING] * 6) == [1, 2, 4, 8, 16]
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, True)
    assert await stage.states(job_id) == [AttemptState.ACCEPTED]
    assert [kind for kind, _ in await stage.tasks()] == ["poll"]


async def test_a_ref_that_is_known_a_moment_later_is_cancelled(stage: Stage) -> None:
    bench, job_id = await asked(stage, cancel(gone=True))
    assert await tried(bench, job_id, [MISSING, (RUNNING, Reply(204))]) == [1]
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, False)


@pytest.mark.parametrize(
    ("first", "through"),
    [
        (httpx.ReadTimeout("silence"), True),
        (Reply(500), True),
        (Reply(302), True),
        (NobodyThere(), False),
        (Reply(429), False),
        (Reply(409), False),
    ],
    ids=repr,
)
@pytest.mark.parametrize("gone", [True, False], ids=["goes", "stays"])
async def test_a_ref_that_is_missing_was_cancelled_if_a_cancel_may_have_got_through(
    stage: Stage,
    first: Answer,
    through: bool,  # noqa: FBT001 - a column
    gone: bool,  # noqa: FBT001 - a column
) -> None:
    bench, job_id = await asked(stage, cancel(gone=gone))
    tries: list[tuple[Answer, ...]] = [(RUNNING, first), MISSING]
    await tried(bench, job_id, tries if through else [*tries, *[MISSING] * 4])
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, not (through and gone))


async def succeeds_meanwhile(bench: Bench, *, seconds: float) -> None:
    """Time passes; then, where another worker may take the poll over, it sees the run succeed."""
    stage, script = bench.stage, bench.provider
    script.meanwhile = script.before_send = None
    stage.clock.advance(seconds)
    for task in await stage.worker("second").dispatch.claim(10):
        if task.claim.kind is TaskKind.POLL:
            waiting = list(script.answers)
            script.answers.clear()
            script.says(SUCCEEDED)
            await bench.poll(task)
            script.says(*waiting)


@pytest.mark.parametrize("where", ["after the look", "with the connection in hand"])
@pytest.mark.parametrize("destroys", [True, False], ids=["destroys", "spares"])
async def test_a_run_that_was_seen_to_succeed_is_never_cancelled(
    stage: Stage,
    where: str,
    destroys: bool,  # noqa: FBT001 - a column
) -> None:
    """A process is stopped between its look and its cancel; another one takes the poll over."""
    bench, job_id = await asked(stage, cancel(destroys=destroys, gone=True))
    (task,) = await stage.dispatch.claim(10)

    async def stopped() -> None:
        await succeeds_meanwhile(bench, seconds=LEASE_S + 1)

    if where == "after the look":
        bench.provider.meanwhile = stopped  # it is called while the look is answered
    else:
        bench.provider.before_send = stopped
    bench.provider.says(RUNNING, Reply(204))
    with pytest.raises(LeaseLost):
        await bench.cancel(task)
    assert [request.method for request in bench.provider.withheld] == ["DELETE"]
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED
    assert await stage.tasks() == []


@pytest.mark.parametrize("where", ["while it is answered", "with the connection in hand"])
async def test_output_is_not_destroyed_on_an_old_look(stage: Stage, where: str) -> None:
    """The lease still stands, since nobody else works; but the run may have ended while we were stopped."""
    spec = a_spec(cancel=cancel(destroys=True, gone=True))
    bench = Bench(stage, spec=spec)
    job_id = await bench.accepted()
    await stage.jobs.cancel(job_id, owner="alice")

    async def stopped() -> None:
        bench.provider.meanwhile = bench.provider.before_send = None
        answered = where == "while it is answered"
        stage.clock.advance(FRESH_LOOK_S + 1 + (spec.poll_timeout_s if answered else 0))

    if where == "while it is answered":
        bench.provider.meanwhile = stopped
    else:
        bench.provider.before_send = stopped
    assert await tried(bench, job_id, [(RUNNING, Reply(204)), (SUCCEEDED,)]) == [1]
    assert [request.method for request in bench.provider.withheld] == ["DELETE"]
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED


async def test_what_destroys_nothing_may_be_sent_on_an_old_look(stage: Stage) -> None:
    bench, job_id = await asked(stage, cancel())

    async def stopped() -> None:
        bench.provider.before_send = None
        stage.clock.advance(FRESH_LOOK_S + 1)

    bench.provider.before_send = stopped
    await bench.work(RUNNING, Reply(204))
    assert (await stage.job(job_id)).state.status is JobStatus.CANCELLED


@pytest.mark.parametrize(
    "spec",
    [None, cancel(), cancel(stops=False), cancel(destroys=True), cancel(gone=True)],
    ids=["no cancel", "stops", "only detaches", "destroys", "goes"],
)
async def test_nothing_is_cancelled_before_it_was_looked_at(stage: Stage, spec: CancelSpec | None) -> None:
    bench, job_id = await asked(stage, spec)
    await bench.work(Reply(500))
    assert bench.provider.calls == [POST, GET]
    assert not (await stage.job(job_id)).state.status.terminal
    await bench.after(1, SUCCEEDED)
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED
    assert DELETE not in bench.provider.calls


@pytest.mark.parametrize(("stops", "may_bill"), [(True, False), (False, True)])
async def test_a_run_past_its_deadline_is_cancelled_and_the_job_keeps_its_end(
    stage: Stage,
    stops: bool,  # noqa: FBT001 - a column
    may_bill: bool,  # noqa: FBT001 - a column
) -> None:
    bench = Bench(stage, spec=a_spec(cancel=cancel(stops=stops)))
    job_id = await bench.accepted()
    await bench.after(DEADLINE_S, RUNNING)
    ended = await stage.job(job_id)
    await bench.work(RUNNING, Reply(204))
    job = await stage.job(job_id)
    assert (job.state.status, job.state.error) == (JobStatus.FAILED, ended.state.error)
    assert (job.state.provider_may_bill, job.state.finished_at_ms) == (may_bill, ended.state.finished_at_ms)
    assert await stage.states(job_id) == [AttemptState.CANCELLED if stops else AttemptState.ACCEPTED]
    assert [kind for kind, _ in await stage.tasks()] == ([] if stops else ["poll"])


async def test_a_success_found_after_the_deadline_is_recorded_with_its_attempt_alone(stage: Stage) -> None:
    bench = Bench(stage, spec=a_spec(cancel=cancel(destroys=True)))
    job_id = await bench.accepted()
    await bench.after(DEADLINE_S, RUNNING)
    await bench.work(SUCCEEDED)
    job = await stage.job(job_id)
    assert (job.state.status, await stage.states(job_id)) == (JobStatus.FAILED, [AttemptState.SUCCEEDED])
    assert (await stage.events(job_id))[-1] == "attempt.late"
    assert DELETE not in bench.provider.calls


async def test_without_an_account_the_job_ends_and_may_bill(stage: Stage) -> None:
    bench, job_id = await asked(stage, cancel())
    bench.with_accounts()
    await bench.work()
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, True)


async def test_a_poll_that_wins_leaves_the_cancel_nothing_to_do(stage: Stage) -> None:
    bench, job_id = await asked(stage, cancel(destroys=True))
    stage.clock.advance(5)
    tasks = {task.claim.kind: task for task in await stage.dispatch.claim(10)}
    bench.provider.says(SUCCEEDED)
    await bench.poll(tasks[TaskKind.POLL])
    assert await stage.tasks() == []
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED


async def test_a_success_that_was_seen_but_not_stored_is_not_told_once_its_output_is_being_destroyed(
    stage: Stage,
) -> None:
    bench, job_id = await asked(stage, cancel(destroys=True, gone=True))
    stage.clock.advance(5)
    tasks = {task.claim.kind: task for task in await stage.dispatch.claim(10)}
    slow = asyncio.Event()
    polling: list[asyncio.Task[None]] = []

    async def seen() -> None:
        bench.provider.before_send = None
        bench.provider.meanwhile = slow.wait  # the answer is on its way for as long as the cancel takes
        bench.provider.says(SUCCEEDED)
        polling.append(asyncio.create_task(bench.poll(tasks[TaskKind.POLL])))
        await asyncio.sleep(0)
        bench.provider.meanwhile = None

    bench.provider.before_send = seen
    bench.provider.says(RUNNING, Reply(204))
    await bench.cancel(tasks[TaskKind.CANCEL])
    slow.set()
    with pytest.raises(LeaseLost):
        await polling[0]
    assert (await stage.job(job_id)).state.status is JobStatus.CANCELLED
    assert await stage.tasks() == []


async def test_a_poll_put_off_for_a_cancel_that_fails_is_made_later(stage: Stage) -> None:
    bench, job_id = await asked(stage, cancel(destroys=True, gone=True))
    await bench.work(RUNNING, Reply(409))
    assert dict(await stage.tasks()) == {"cancel": 1000, "poll": LEASE_S * 1000}
    await bench.after(1, SUCCEEDED)
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED


async def test_whichever_of_poll_and_cancel_comes_first_what_is_told_to_have_succeeded_was_not_destroyed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty times, a poll that saw a success and a cancel that may destroy it reach the store together."""
    for turn in range(20):
        bench, job_id = await asked(stage, cancel(destroys=True, gone=True))
        stage.clock.advance(5)
        tasks = {task.claim.kind: task for task in await stage.dispatch.claim(10)}
        barrier, write, about_to_send = asyncio.Barrier(2), stage.database.write, asyncio.Event()

        async def met(ahead: int, barrier: asyncio.Barrier = barrier) -> None:
            await barrier.wait()
            for _ in range(ahead):
                await asyncio.sleep(0)

        async def confirms(turn: int = turn, about: asyncio.Event = about_to_send, meet: Any = met) -> None:
            about.set()
            await meet(3 - turn % 4)

        async def stores(
            *args: Any, turn: int = turn, write: Any = write, meet: Any = met, **named: Any
        ) -> Any:
            monkeypatch.setattr(stage.database, "write", write)
            await meet(turn % 4)
            return await write(*args, **named)

        bench.provider.before_send = confirms
        bench.provider.says(RUNNING, Reply(204), SUCCEEDED)
        cancelling = asyncio.create_task(bench.cancel(tasks[TaskKind.CANCEL]))
        await about_to_send.wait()
        monkeypatch.setattr(stage.database, "write", stores)
        await asyncio.gather(cancelling, bench.poll(tasks[TaskKind.POLL]), return_exceptions=True)
        status = (await stage.job(job_id)).state.status
        sent = len(bench.provider.withheld) == 0
        assert status is (JobStatus.CANCELLED if sent else JobStatus.SUCCEEDED)
        assert sum(kind in {"job.succeeded", "job.cancelled"} for kind in await stage.events(job_id)) == 1
        assert await stage.tasks() == []
