"""The paid call: the intent first, sent once, and never again while there is doubt."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from doubtful_submissions import DOUBTFUL, held
from invariants import check_invariants
from job_examples import DEADLINE_S, NOW_MS, a_job, a_spec, an_attempt
from msgspec.structs import replace
from store_stage import LEASE_S, Stage, StoppedClock
from worker_bench import HOLD_S, MADE, RUNNING, Answer, Bench, Killed, NobodyThere, Reply

from gateway.errors import LeaseLost
from gateway.jobs.job import LIVE, AttemptState, Job
from gateway.jobs.transitions import Step
from gateway.net import FRESH
from gateway.routing.catalogue import Catalogue, Offer
from gateway.storage import tables
from gateway.worker import submit as submit_module
from gateway.worker.submit import DIED
from providers.contract.exchange import HttpResponse
from providers.contract.report import Submitted
from providers.contract.status import JobStatus


async def test_the_intent_is_durable_before_anything_is_sent(stage: Stage, database_path: Path) -> None:
    bench = Bench(stage)
    seen: list[tuple[str, str]] = []

    async def look() -> None:
        with closing(sqlite3.connect(database_path)) as outside:
            seen.extend(outside.execute("SELECT state, id FROM attempts"))
            assert outside.execute("SELECT count(*) FROM tasks WHERE kind = 'submit'").fetchone() == (1,)

    bench.provider.meanwhile = look
    job_id = await bench.accepted()
    (attempt,) = await stage.attempts(job_id)
    assert seen == [("submitting", attempt.id)]
    (request,) = bench.provider.asked
    assert request.headers["x-client-id"] == attempt.id
    assert request.extensions[FRESH] is True
    assert msgspec.json.decode(await request.aread())["ratio"] == "1280:720"
    assert (attempt.state, attempt.ref) == (AttemptState.ACCEPTED, "r-1")
    assert await stage.tasks() == [("poll", 5000)]
    (said,) = await stage.rows(tables.exchanges)
    assert (said["operation"], said["outcome"], said["status"]) == ("submit", "made", 201)


@pytest.mark.parametrize("answer", DOUBTFUL, ids=repr)
async def test_a_doubtful_answer_holds_the_job_and_is_never_repeated(stage: Stage, answer: Answer) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    await bench.work(answer)
    assert await held(bench, job_id)
    for _ in range(5):
        await bench.after(DEADLINE_S)
        await bench.sweep()
        assert await held(bench, job_id)
    await bench.after(HOLD_S)
    await bench.sweep()
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.FAILED, True)
    await bench.after(DEADLINE_S)
    assert len(bench.provider.asked) == 1
    assert (await stage.rows(tables.exchanges))[0]["outcome"] == "unknown"


@pytest.mark.parametrize("ends", [Killed(), asyncio.CancelledError(), ZeroDivisionError()], ids=repr)
async def test_death_after_the_intent_holds_the_job_and_is_never_repeated(
    stage: Stage, database_path: Path, ends: BaseException
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    with pytest.raises(type(ends)):
        await bench.work(ends)
    assert await stage.states(job_id) == [AttemptState.SUBMITTING]
    check_invariants(database_path)
    await bench.after(LEASE_S + 1)
    assert await held(bench, job_id)
    (attempt,) = await stage.attempts(job_id)
    assert attempt.error is not None
    assert attempt.error.message == DIED
    await bench.after(DEADLINE_S)
    assert len(bench.provider.asked) == 1
    check_invariants(database_path)


async def test_death_between_the_answer_and_its_record_holds_the_job(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()

    async def die(*_args: object, **_named: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(stage.record, "result", die)
        with pytest.raises(Killed):
            await bench.work(MADE)
    await bench.after(LEASE_S + 1)
    assert await held(bench, job_id)
    assert len(bench.provider.asked) == 1


async def test_death_before_the_intent_sends_nothing_and_loses_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()

    async def die(*_args: object, **_named: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(stage.record, "intent", die)
        with pytest.raises(Killed):
            await bench.work()
    assert bench.provider.asked == []
    await bench.after(LEASE_S + 1, MADE)
    assert await stage.states(job_id) == [AttemptState.ACCEPTED]


async def test_what_was_certainly_not_made_is_tried_again_until_it_is(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    await bench.work(NobodyThere())
    assert await stage.tasks() == [("submit", 1000)]
    await bench.after(1, Reply(429))
    assert await stage.tasks() == [("submit", 3000)]
    await bench.after(2, MADE)
    refused = AttemptState.REFUSED
    assert await stage.states(job_id) == [refused, refused, AttemptState.ACCEPTED]
    ids = {request.headers["x-client-id"] for request in bench.provider.asked}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("field", "due_ms"),
    [
        ("120", 120_000),
        ("0", 1000),
        ("-1", 1000),
        ("abc", 1000),
        ("1e9", 1000),
        ("9999999", 3_600_000),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 1000),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30_000),
    ],
)
async def test_a_busy_provider_is_given_the_time_it_asks_for_within_reason(
    stage: Stage, field: str, due_ms: int
) -> None:
    bench = Bench(stage)
    await stage.accept()
    await bench.work(Reply(429, retry_after=field))
    assert await stage.tasks() == [("submit", due_ms)]


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "invalid_request"), (422, "invalid_request")],
)
async def test_a_definite_refusal_fails_the_job(stage: Stage, status: int, code: str) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    await bench.work(Reply(status, {"code": "E.1", "message": "no"}))
    error = (await stage.job(job_id)).state.error
    assert error is not None
    assert (error.code, error.message, error.provider_code) == (code, "no", "E.1")
    assert await stage.tasks() == []


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (402, "insufficient_funds")])
async def test_what_is_the_accounts_failing_is_waited_for(stage: Stage, status: int, code: str) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    await bench.work(Reply(status, {"code": "E.1", "message": "no"}))
    (attempt,) = await stage.attempts(job_id)
    assert attempt.error is not None
    assert (attempt.state, attempt.error.code) == (AttemptState.REFUSED, code)
    assert await stage.tasks() == [("submit", 1000)]


async def test_a_job_cancelled_before_its_intent_is_not_sent(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    task = await stage.claim()
    await stage.jobs.cancel(job_id, owner="alice")
    with pytest.raises(LeaseLost):
        await bench.submit(task)
    assert bench.provider.asked == []


async def test_a_job_cancelled_during_the_call_is_cancelled_once_it_has_a_ref(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    bench.provider.meanwhile = lambda: stage.jobs.cancel(job_id, owner="alice")
    await bench.work(MADE)
    bench.provider.meanwhile = None
    assert await stage.tasks() == [("cancel", 0)]
    await bench.work(RUNNING, Reply(204))
    assert bench.provider.calls == ["POST /jobs", "GET /jobs/r-1", "DELETE /jobs/r-1"]
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, False)


async def test_a_job_cancelled_during_a_call_that_ends_in_doubt_is_cancelled(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    bench.provider.meanwhile = lambda: stage.jobs.cancel(job_id, owner="alice")
    await bench.work(Reply(502))
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.CANCELLED, True)
    assert await stage.tasks() == []


async def test_nothing_is_bought_after_the_deadline(stage: Stage) -> None:
    """A gateway that starts again after hours may claim the task before its sweep has looked."""
    bench = Bench(stage)
    job_id = await stage.accept()
    await bench.after(DEADLINE_S)
    assert bench.provider.asked == []
    error = (await stage.job(job_id)).state.error
    assert error is not None
    assert error.code == "deadline_exceeded"
    assert await stage.tasks() == []


async def test_an_adapter_that_breaks_on_the_answer_leaves_a_job_in_doubt_and_the_answer_on_record(
    stage: Stage,
) -> None:
    bench = Bench(stage)

    def breaks(_reply: HttpResponse) -> Submitted:
        raise KeyError("a bug of the adapter")

    adapter = replace(bench.account.adapter, parse_submit=breaks)
    bench.with_accounts(replace(bench.account, adapter=adapter))
    job_id = await stage.accept()
    await bench.work(MADE)
    assert await held(bench, job_id)
    (said,) = await stage.rows(tables.exchanges)
    assert (said["outcome"], said["status"], said["response"]) == ("unknown", 201, '{"id":"r-1"}')


async def test_a_job_that_no_provider_takes_any_more_fails_with_the_reasons(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    bench.catalogue = Catalogue(offers=(), idle=(a_spec(),))
    bench.with_accounts()
    await stage.dispatch.rehouse(lambda _job: "", alone=True)
    await bench.work()
    error = (await stage.job(job_id)).state.error
    assert error is not None
    assert error.code == "no_provider"
    assert "ACME_API_KEY" in error.message


@pytest.mark.parametrize("simulated", [True, False], ids=["then a real one", "then a simulated one"])
async def test_a_job_is_never_sent_to_a_provider_of_the_other_kind_than_it_was_accepted_for(
    stage: Stage,
    simulated: bool,  # noqa: FBT001 - a column
) -> None:
    """The gateway was started again with a key, or without, while the job was queued."""
    bench = Bench(stage)

    def offers(*kinds: bool) -> Catalogue:
        return Catalogue(
            offers=tuple(Offer(spec=a_spec(), account="default", simulated=kind) for kind in kinds)
        )

    stage.intake = stage.taking(offers(simulated))
    job_id = await stage.accept()
    bench.catalogue = offers(not simulated)
    bench.with_accounts(bench.account)
    await bench.work()
    state = (await stage.job(job_id)).state
    assert state.error is not None
    assert (state.status, state.error.code) == (JobStatus.FAILED, "no_provider")
    assert f"accepted for {'the simulator' if simulated else 'a real provider'}" in state.error.message
    assert (bench.provider.calls, await stage.tasks()) == ([], [])

    other = await stage.accept()
    bench.catalogue = offers(not simulated, simulated)
    bench.with_accounts(bench.account)
    await bench.work(MADE)
    assert (await stage.states(other), (await stage.job(other)).simulated) == (
        [AttemptState.ACCEPTED],
        simulated,
    )


async def test_what_cannot_be_built_or_has_no_account_is_not_begun(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    (task,) = await stage.dispatch.claim(9)
    bench.with_accounts()
    with pytest.raises(LookupError):
        await bench.carry_out(task)
    stage.clock.advance(LEASE_S + 1)
    bench.with_accounts(bench.account)
    monkeypatch.setattr(bench.tools.calls, "build_submit", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        await bench.work()
    assert (await stage.states(job_id), bench.provider.asked) == ([], [])


@pytest.mark.parametrize("state", list(AttemptState))
@pytest.mark.parametrize("number", [1, 2])
def test_no_attempt_begins_while_another_may_be_alive(state: AttemptState, number: int) -> None:
    earlier = tuple(an_attempt(AttemptState.REFUSED, one) for one in range(1, number))
    decide = submit_module._begin(an_attempt(number=number + 1), StoppedClock())
    step = decide(a_job(), (*earlier, an_attempt(state, number)))
    assert bool(step.events) == (state not in LIVE)


@pytest.mark.parametrize(
    "job",
    [a_job(cancel_requested_at_ms=NOW_MS), *(a_job(status=one) for one in JobStatus if one.terminal)],
)
def test_no_attempt_begins_for_a_job_that_is_over(job: Job) -> None:
    decide: Callable[..., Step] = submit_module._begin(an_attempt(), StoppedClock())
    assert decide(job, ()) == Step(job=job)
