"""The paid call: the intent first, sent once, and never again while there is doubt."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from invariants import check_invariants
from job_examples import DEADLINE_S, NOW_MS, a_job, a_spec, an_attempt
from msgspec.structs import replace
from store_stage import LEASE_S, Stage, StoppedClock
from worker_bench import HOLD_S, MADE, RUNNING, SUCCEEDED, Answer, Bench, Killed, NobodyThere, Reply

from gateway.errors import LeaseLost, StorageUnavailable
from gateway.jobs import transitions
from gateway.jobs.job import LIVE, AttemptState, Job
from gateway.jobs.transitions import Step, TaskKind
from gateway.net import FRESH
from gateway.routing.catalogue import Catalogue, Offer
from gateway.storage import accounts as account_rows
from gateway.storage import tables
from gateway.worker import submit as submit_module
from gateway.worker import tools as tools_module
from gateway.worker.submit import DIED
from providers.contract.exchange import HttpResponse
from providers.contract.report import Submitted
from providers.contract.status import JobStatus

AWAY = 200
"""Writes that fail before the store is back, where it stays away."""
DOUBTFUL: list[Answer] = [
    httpx.ReadError("reset"),
    httpx.ReadTimeout("silence"),
    httpx.RemoteProtocolError("hung up"),
    Reply(200, b"<html>"),
    Reply(200, {}),
    Reply(202, {"id": "../admin"}),
    Reply(302),
    Reply(408),
    *(Reply(status, {"id": "r-1"}) for status in (500, 502, 503, 504)),
]


async def held(bench: Bench, job_id: str) -> bool:
    """Whether the job stands still, in doubt, with nothing left to do."""
    job = await bench.stage.job(job_id)
    in_doubt = await bench.stage.states(job_id) == [AttemptState.UNKNOWN]
    return job.state.held is not None and in_doubt and await bench.stage.tasks() == []


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


async def lose_the_lease(bench: Bench) -> None:
    """Let another worker take the task over, which finds it submitting and holds the job."""
    bench.provider.meanwhile = None
    bench.stage.clock.advance(LEASE_S + 1)
    (task,) = await bench.stage.worker("second").claim_jobs(10)
    await bench.submit(task)


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
    assert await stage.worker("third").claim_jobs(9, [TaskKind.SUBMIT]) == []


async def test_what_was_accepted_late_is_not_given_up_by_who_finds_the_task(stage: Stage) -> None:
    """Three workers: one waits for an answer, one takes its task and dies, one comes after the answer."""
    bench = Bench(stage)
    job_id = await stage.accept()
    (task,) = await stage.dispatch.claim_jobs(9)

    async def taken_and_left() -> None:
        stage.clock.advance(LEASE_S + 1)
        assert len(await stage.worker("second").claim_jobs(9)) == 1

    bench.provider.meanwhile = taken_and_left
    bench.provider.says(MADE)
    await bench.submit(task)
    stage.clock.advance(LEASE_S + 1)
    bench.provider.meanwhile = None
    third = stage.worker("third")
    (left,) = [one for one in await third.claim_jobs(9) if one.claim.kind is TaskKind.SUBMIT]
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
    (task,) = await stage.dispatch.claim_jobs(9)
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
    await stage.worker("second").claim_jobs(10)
    with pytest.raises(LeaseLost):
        await bench.submit(zombie)
    assert bench.provider.asked == []


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
    (task,) = await stage.dispatch.claim_jobs(9)
    bench.with_accounts()
    with pytest.raises(LookupError):
        await bench.carry_out(task)
    stage.clock.advance(LEASE_S + 1)
    bench.with_accounts(bench.account)
    monkeypatch.setattr(bench.tools.calls, "build_submit", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        await bench.work()
    assert (await stage.states(job_id), bench.provider.asked) == ([], [])


async def test_the_store_is_asked_again_and_again_to_keep_what_was_paid_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    failures: list[int] = []
    result = stage.record.result

    async def flaky(*args: Any, **named: Any) -> object:
        if len(failures) < 2:
            failures.append(1)
            raise StorageUnavailable("locked")
        return await result(*args, **named)

    monkeypatch.setattr(stage.record, "result", flaky)
    await bench.work(MADE)
    assert await stage.states(job_id) == [AttemptState.ACCEPTED]
    assert len(failures) == 2


class SwiftPauses:
    """Stands in for asyncio where results are written: pauses take no time, and its loop counts them."""

    CancelledError = asyncio.CancelledError

    def __init__(self) -> None:
        self.paused_s = 0.0

    def get_running_loop(self) -> SwiftPauses:
        return self

    def time(self) -> float:
        return self.paused_s

    async def sleep(self, seconds: float) -> None:
        self.paused_s += seconds


@pytest.mark.parametrize("lost", [False, True], ids=["in time", "after the lease was lost"])
async def test_a_store_that_stays_away_for_long_is_told_the_ref_in_the_end(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    lost: bool,  # noqa: FBT001 - a column
) -> None:
    bench, pauses = Bench(stage), SwiftPauses()
    job_id = await stage.accept()
    writes = "transition" if lost else "result"
    write = getattr(stage.record, writes)
    failures: list[int] = []

    async def away(*args: Any, **named: Any) -> object:
        if len(failures) < AWAY:
            failures.append(1)
            raise StorageUnavailable("locked")
        return await write(*args, **named)

    async def go_away() -> None:
        if lost:
            await lose_the_lease(bench)
        monkeypatch.setattr(stage.record, writes, away)

    monkeypatch.setattr(tools_module, "asyncio", pauses)
    bench.provider.meanwhile = go_away
    await bench.work(MADE)
    (attempt,) = await stage.attempts(job_id)
    assert (attempt.state, attempt.ref) == (AttemptState.ACCEPTED, "r-1")
    assert len(failures) == AWAY
    assert pauses.paused_s > 10 * tools_module.KEEP_TRYING_S
    assert len(bench.provider.asked) == 1


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
