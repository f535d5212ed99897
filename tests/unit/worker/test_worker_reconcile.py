"""Looking for a lost submission: when, how often, what is adopted, and what the timeline is told of it."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

import httpx
import pytest
from invariants import check_invariants
from job_examples import DEADLINE_S, a_callback, a_request
from msgspec.structs import replace
from store_stage import Stage
from worker_bench import HOLD_S, MADE, RUNNING, SUCCEEDED, Answer, Bench, Killed, NobodyThere, Reply

from gateway.jobs.job import AttemptState
from gateway.routing.catalogue import Catalogue, Offer
from gateway.service.announce import settled
from gateway.storage import callbacks as callback_rows
from gateway.storage import tables
from gateway.storage.sqlite import SQLiteDatabase
from gateway.upstream.accounts import UpstreamAccount
from gateway.upstream.calls import Callback, Calls
from gateway.upstream.client import Client
from gateway.worker.reconcile import EVERY_S, LATE_ROWS_S, LOOKS_S, next_look_s
from providers.contract.adapter import MOST_LOOKS, CallContext, Reconcile, Sought
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.reading import list_at, read_object, ref_at, text_at, value_at
from providers.contract.report import Sighting
from providers.contract.status import JobStatus

LOST = httpx.ReadTimeout("silence")
NOTHING = Reply(200, {"runs": []})
UNKNOWN, ACCEPTED = AttemptState.UNKNOWN, AttemptState.ACCEPTED


def look(_context: CallContext, sought: Sought) -> Reconcile:
    """GET /runs/{ref} for what callbacks named, then GET /runs."""
    found: list[Sighting] = []
    for ref in sought.offered:
        answer = yield HttpRequest(method="GET", path=("runs", ref))
        if answer.successful:
            found.append(sighting(read_object(answer)))
    page = yield HttpRequest(method="GET", path=("runs",))
    return (*found, *(sighting(row) for row in list_at(read_object(page), "runs")))


def sighting(row: object) -> Sighting:
    inputs: Any = value_at(row, "inputs")
    return Sighting(ref=ref_at(row, "ref"), client_id=text_at(row, "client"), inputs=inputs)


class Searching(Bench):
    """A bench whose provider can be searched."""

    def __init__(self, stage: Stage, reconcile: Any = look, poll_scale: float = 1.0) -> None:
        super().__init__(stage, poll_scale=poll_scale)
        self.account = replace(self.account, adapter=replace(self.account.adapter, reconcile=reconcile))
        self.with_accounts(self.account)

    async def lost(self, **request: Any) -> str:
        """Bring a job to where its submission's outcome is unknown."""
        job_id = await self.stage.accept(a_request(**request))
        await self.work(LOST)
        assert await self.stage.states(job_id) == [UNKNOWN]
        return job_id

    async def ours(self, job_id: str, ref: str = "r-1") -> dict[str, object]:
        """How the provider shows the job's last attempt by its id."""
        return {"ref": ref, "client": (await self.stage.attempts(job_id))[-1].id}

    async def alike(self, ref: str = "r-1") -> dict[str, object]:
        """How it shows a run of the same inputs, and nobody's id."""
        sent = next(request for request in self.provider.asked if request.method == "POST")
        return {"ref": ref, "inputs": read_object(HttpResponse(status=200, body=await sent.aread()))}

    async def told(self, job_id: str) -> list[tuple[str, str]]:
        """The looks on the timeline: request and answer."""
        rows = await self.stage.rows(tables.exchanges)
        return [
            (str(row["request"]), str(row["response"]))
            for row in rows
            if row["job_id"] == job_id and row["operation"] == "reconcile"
        ]

    async def note(self, job_id: str, kind: str) -> str:
        """The data of the job's last event of a type."""
        rows = await self.stage.rows(tables.events)
        return [str(row["data"]) for row in rows if (row["job_id"], row["type"]) == (job_id, kind)][-1]

    @property
    def settled(self) -> list[str]:
        """How submissions in doubt were settled, as the metric counts it."""
        return [how for how in map(settled, self.stage.heard) if how is not None]

    def check(self) -> None:
        """Check the invariants, on either engine."""
        database: Any = self.stage.database
        if isinstance(database, SQLiteDatabase):
            check_invariants(database._path)
        else:
            check_invariants(database._engine.url.render_as_string(hide_password=False))


def page(*rows: dict[str, object]) -> Reply:
    return Reply(200, {"runs": list(rows)})


async def test_a_run_that_bears_our_id_is_adopted_and_goes_on(stage: Stage) -> None:
    bench = Searching(stage)
    job_id = await bench.lost()
    assert await stage.tasks() == [("reconcile", 5000)]
    await bench.after(5, page({"ref": "r-0", "client": "att_other"}, await bench.ours(job_id)))
    job, (attempt,) = await stage.job(job_id), await stage.attempts(job_id)
    assert (attempt.state, attempt.ref, job.state.held) == (ACCEPTED, "r-1", None)
    assert job.state.deadline_at_ms == job.created_at_ms + (DEADLINE_S + 5) * 1000
    assert (await stage.events(job_id))[-2:] == ["job.held", "attempt.adopted"]
    assert '"by":"client_id"' in await bench.note(job_id, "attempt.adopted")
    assert await stage.tasks() == [("poll", 5000)]
    bench.check()
    await bench.work(SUCCEEDED)
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED
    assert bench.provider.calls == ["POST /jobs", "GET /runs", "GET /jobs/r-1"]
    assert bench.settled == ["adopted"]


async def test_a_run_with_our_inputs_is_adopted_when_nothing_else_can_be_meant(stage: Stage) -> None:
    bench = Searching(stage)
    job_id = await bench.lost()
    await bench.after(5, page(await bench.alike()))
    assert await stage.states(job_id) == [ACCEPTED]
    assert '"by":"inputs"' in await bench.note(job_id, "attempt.adopted")


async def test_two_lost_submissions_of_one_time_wait_for_an_operator(stage: Stage) -> None:
    bench = Searching(stage)
    first, second = await stage.accept(), await stage.accept()
    await bench.work(LOST, LOST)
    run = await bench.alike()
    for seconds in LOOKS_S[:2]:
        await bench.after(seconds, page(run), page(run))
    for job_id in (first, second):
        assert await stage.states(job_id) == [UNKNOWN]
        assert (await stage.events(job_id)).count("hold.undecided") == 1
        assert "in doubt, too" in await bench.note(job_id, "hold.undecided")
        assert await bench.told(job_id) == []


async def test_a_submission_lost_at_another_account_may_be_whose_run_it_is(stage: Stage) -> None:
    """Both accounts may be one organization's, whose runs the provider lists together."""
    bench = Searching(stage)
    second = replace(bench.account, name="second")
    jobs: list[str] = []
    for account in (bench.account, second):
        spec = account.adapter.spec
        bench.catalogue = Catalogue(offers=(Offer(spec=spec, account=account.name),))
        bench.with_accounts(bench.account, second)
        jobs.append(await stage.accept())
        await bench.work(LOST)
    run = await bench.alike()
    for seconds in LOOKS_S[:2]:
        await bench.after(seconds, page(run), page(run))
    for job_id, name in zip(jobs, ("default", "second"), strict=True):
        (attempt,) = await stage.attempts(job_id)
        assert (attempt.account, attempt.state) == (name, UNKNOWN)
        assert "in doubt, too" in await bench.note(job_id, "hold.undecided")


async def test_what_another_attempt_has_is_not_adopted(stage: Stage) -> None:
    bench = Searching(stage)
    await bench.accepted()
    job_id = await stage.accept()
    await bench.work(LOST)
    await bench.after(4.9)
    await bench.after(0.1, RUNNING, page(await bench.alike("r-1")))
    assert await stage.states(job_id) == [UNKNOWN]
    assert bench.provider.calls[-1] == "GET /runs"


async def test_looks_come_less_and_less_often_until_no_run_can_be_under_way(stage: Stage) -> None:
    longest_s = 3600
    bench = Searching(stage)
    job_id = await bench.lost()
    due = [int(at * 1000) for at in LOOKS_S]
    now_s = 0.0
    for at in due:
        assert await stage.tasks() == [("reconcile", at)]
        await bench.after(at / 1000 - now_s, NOTHING)
        now_s = at / 1000
    while now_s + EVERY_S < longest_s + LATE_ROWS_S:
        now_s += EVERY_S
        assert await stage.tasks() == [("reconcile", int(now_s * 1000))]
        await bench.after(EVERY_S, NOTHING)
    await bench.after(EVERY_S, NOTHING)
    await bench.after(EVERY_S)
    assert await stage.tasks() == []
    assert (await stage.job(job_id)).state.held is not None
    assert await bench.told(job_id) == []
    assert await stage.events(job_id) == ["job.accepted", "attempt.submitting", "attempt.unknown", "job.held"]


@pytest.mark.parametrize("died", [True, False], ids=["before the doubt", "after it"])
async def test_after_a_stop_longer_than_any_run_it_is_looked_for_all_the_same(
    stage: Stage,
    died: bool,  # noqa: FBT001 - a column
) -> None:
    """The gateway was down overnight."""
    bench = Searching(stage)
    stop_s = bench.account.adapter.spec.longest_run_s + LATE_ROWS_S + 1
    job_id = await stage.accept()
    if died:
        with pytest.raises(Killed):
            await bench.work(Killed())
        await bench.after(stop_s)
        await bench.after(5, NobodyThere())
    else:
        await bench.work(LOST)
        await bench.after(stop_s, NobodyThere())
    assert [kind for kind, _ in await stage.tasks()] == ["reconcile"]
    await bench.after(EVERY_S, page(await bench.ours(job_id)))
    assert await stage.states(job_id) == [ACCEPTED]


@pytest.mark.parametrize(
    ("since_s", "scale", "next_s"),
    [
        (0, 1, 5),
        (5, 1, 10),
        (14.9, 1, pytest.approx(0.1)),
        (120, 1, 300),
        (9999, 1, 300),
        (0.05, 0.01, pytest.approx(0.1)),
    ],
)
def test_the_next_look(since_s: float, scale: float, next_s: Any) -> None:
    assert next_look_s(since_s, scale=scale) == next_s


@pytest.mark.parametrize(
    "trouble",
    [
        NobodyThere(),
        LOST,
        Reply(500),
        Reply(401),
        Reply(429),
        Reply(200, b"<html>"),
        Reply(200, {"runs": [{}]}),
    ],
    ids=repr,
)
async def test_a_look_that_fails_says_nothing_and_is_tried_again(stage: Stage, trouble: Answer) -> None:
    bench = Searching(stage)
    job_id = await bench.lost()
    await bench.after(5, trouble)
    assert await stage.states(job_id) == [UNKNOWN]
    ((kind, due_ms),) = await stage.tasks()
    assert (kind, due_ms) == ("reconcile", 15_000)
    await bench.after(10, trouble)
    assert len(await bench.told(job_id)) == 1
    await bench.after(300, page(await bench.ours(job_id)))
    assert await stage.states(job_id) == [ACCEPTED]


async def test_a_provider_that_is_busy_is_given_the_time_it_asks_for(stage: Stage) -> None:
    bench = Searching(stage)
    await bench.lost()
    await bench.after(5, Reply(429, retry_after="600"))
    assert await stage.tasks() == [("reconcile", 605_000)]


async def test_the_answers_that_tell_of_others_are_not_kept(stage: Stage) -> None:
    bench = Searching(stage)
    job_id = await bench.lost()
    (attempt,) = await stage.attempts(job_id)
    await offer(stage, attempt.id, "gone", "r-1")
    ours = await bench.alike("r-1")
    stranger: dict[str, object] = {"ref": "r-9", "inputs": {"secret": "of another"}}
    await bench.after(5, Reply(404), Reply(200, ours), page(stranger, ours))
    assert '"by":"callback"' in await bench.note(job_id, "attempt.adopted")
    (asked, answer), (listed, withheld) = await bench.told(job_id)
    assert asked == "GET /runs/r-1"
    assert '"r-1"' in answer
    assert (listed, "of another" in withheld) == ("GET /runs", False)


async def offer(stage: Stage, attempt_id: str, *refs: str) -> None:
    """Store callbacks."""
    for ref in refs:
        await stage.database.write(
            partial(callback_rows.insert_one, row=a_callback(attempt_id, ref, at_ms=stage.clock.now_ms()))
        )


async def test_a_callback_that_comes_during_a_look_is_looked_into_at_once(stage: Stage) -> None:
    bench = Searching(stage)
    job_id = await bench.lost()
    (attempt,) = await stage.attempts(job_id)
    bench.provider.meanwhile = lambda: offer(stage, attempt.id, "r-1")
    await bench.after(5, NOTHING)
    bench.provider.meanwhile = None
    assert await stage.tasks() == [("reconcile", 5000)]
    ours = await bench.alike("r-1")
    await bench.work(Reply(200, ours), NOTHING)
    assert await stage.states(job_id) == [ACCEPTED]


async def test_a_job_that_accepted_the_risk_is_looked_for_once_and_submitted_again_once(stage: Stage) -> None:
    bench = Searching(stage)
    job_id = await bench.lost(on_unknown_submission="resubmit")
    assert await stage.tasks() == [("reconcile", 2000)]
    await bench.after(2, NOTHING)
    first = (await stage.attempts(job_id))[0]
    assert (first.state, first.written_off) == (UNKNOWN, True)
    assert (await stage.job(job_id)).state.provider_may_bill
    assert await stage.tasks() == [("submit", 2000)]
    bench.check()
    await bench.work(LOST)
    assert await stage.states(job_id) == [UNKNOWN, UNKNOWN]
    assert (await stage.job(job_id)).state.held is not None
    assert await stage.tasks() == [("reconcile", 7000)]
    bench.check()
    await bench.after(5, NOTHING)
    await bench.after(10, page(await bench.ours(job_id, "r-2")))
    assert await stage.states(job_id) == [UNKNOWN, ACCEPTED]
    await bench.work(SUCCEEDED)
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.SUCCEEDED, True)
    assert bench.settled == ["resubmitted", "adopted"]
    bench.check()


async def test_the_first_run_is_adopted_when_the_one_look_finds_it(stage: Stage) -> None:
    bench = Searching(stage)
    job_id = await bench.lost(on_unknown_submission="resubmit")
    await bench.after(2, page(await bench.ours(job_id)))
    assert await stage.states(job_id) == [ACCEPTED]
    assert bench.provider.calls.count("POST /jobs") == 1


async def test_a_provider_that_cannot_be_looked_at_is_tried_three_times_before_that(stage: Stage) -> None:
    bench = Searching(stage)
    job_id = await bench.lost(on_unknown_submission="resubmit")
    for due_ms in (2000, 4000, 6000):
        assert await stage.tasks() == [("reconcile", due_ms)]
        await bench.after(2, Reply(500))
    assert await stage.tasks() == [("submit", 6000)]
    await bench.work(MADE)
    assert await stage.states(job_id) == [UNKNOWN, ACCEPTED]


async def test_where_nobody_can_look_it_is_submitted_again_at_once(stage: Stage) -> None:
    bench = Searching(stage, reconcile=None)
    job_id = await bench.lost(on_unknown_submission="resubmit")
    assert await stage.tasks() == [("submit", 0)]
    await bench.work(LOST)
    assert await stage.states(job_id) == [UNKNOWN, UNKNOWN]
    assert (await stage.job(job_id)).state.held is not None
    await bench.after(HOLD_S + 1)
    await bench.sweep()
    assert bench.provider.calls == ["POST /jobs", "POST /jobs"]
    assert (await stage.job(job_id)).state.status is JobStatus.FAILED


async def test_a_job_that_is_to_fail_in_doubt_is_not_looked_for(stage: Stage) -> None:
    bench = Searching(stage)
    job_id = await bench.lost(on_unknown_submission="fail")
    job = await stage.job(job_id)
    assert (job.state.status, job.state.provider_may_bill) == (JobStatus.FAILED, True)
    assert bench.settled == ["failed"]
    assert await stage.tasks() == []
    bench.check()


@pytest.mark.parametrize("end", ["cancel", "hold"])
async def test_nobody_looks_any_more_once_the_job_has_ended(stage: Stage, end: str) -> None:
    bench = Searching(stage)
    job_id = await bench.lost()
    if end == "cancel":
        await stage.jobs.cancel(job_id, owner=None)
    else:
        stage.clock.advance(HOLD_S)
        await bench.sweep()
    assert (await stage.job(job_id)).state.status.terminal
    assert bench.settled == ["cancelled" if end == "cancel" else "expired"]
    assert await stage.tasks() == []


async def test_an_account_that_is_gone_is_waited_for(stage: Stage) -> None:
    bench = Searching(stage)
    job_id = await bench.lost()
    account = bench.account
    bench.with_accounts()
    await bench.after(5)
    assert await stage.tasks() == [("reconcile", 65_000)]
    bench.with_accounts(account)
    await bench.after(60, page(await bench.ours(job_id)))
    assert await stage.states(job_id) == [ACCEPTED]


async def test_what_cannot_be_built_any_more_is_not_looked_for(stage: Stage) -> None:
    bench = Searching(stage)
    job_id = await bench.lost()

    def refuse(*_args: object) -> HttpRequest:
        raise ValueError("cannot be conveyed")

    bench.with_accounts(replace(bench.account, adapter=replace(bench.account.adapter, build_submit=refuse)))
    await bench.after(5)
    assert await stage.tasks() == []
    assert await stage.states(job_id) == [UNKNOWN]


def endless(_context: CallContext, _sought: Sought) -> Generator[HttpRequest, HttpResponse, Any]:
    while True:
        yield HttpRequest(method="GET", path=("runs",))


def paying(_context: CallContext, _sought: Sought) -> Generator[HttpRequest, HttpResponse, Any]:
    yield HttpRequest(method="POST", path=("jobs",), paid=True)


@pytest.mark.parametrize(("reconcile", "asked"), [(endless, MOST_LOOKS), (paying, 0)])
async def test_an_adapter_may_neither_ask_for_ever_nor_pay(stage: Stage, reconcile: Any, asked: int) -> None:
    bench = Searching(stage, reconcile)
    job_id = await bench.lost()
    await bench.after(5, *[NOTHING] * asked)
    assert await stage.states(job_id) == [UNKNOWN]
    assert len(bench.provider.asked) == 1 + asked
    assert [kind for kind, _ in await stage.tasks()] == ["reconcile"]


async def test_a_late_answer_beats_a_look_under_way(stage: Stage) -> None:
    bench = Searching(stage)
    job_id = await bench.lost()
    (attempt,) = await stage.attempts(job_id)

    async def answered() -> None:
        await stage.record.transition(
            job_id, bench.submit._accepted(attempt.id, bench.account, "r-late", model="act-two")
        )

    bench.provider.meanwhile = answered
    bench.provider.says(page(await bench.ours(job_id)))
    stage.clock.advance(5)
    (task,) = await stage.dispatch.claim(10)
    with pytest.raises(Exception, match="no longer held"):
        await bench.carry_out(task)
    assert [one.ref for one in await stage.attempts(job_id)] == ["r-late"]
    assert bench.settled == ["late"]


async def test_a_late_answer_to_what_was_written_off_is_kept_and_changes_nothing(stage: Stage) -> None:
    bench = Searching(stage, reconcile=None)
    job_id = await bench.lost(on_unknown_submission="resubmit")
    (first,) = await stage.attempts(job_id)
    await bench.work(Reply(201, {"id": "r-2"}))
    before, tasks = await stage.job(job_id), await stage.tasks()
    await stage.record.transition(
        job_id, bench.submit._accepted(first.id, bench.account, "r-1", model="act-two")
    )
    first, second = await stage.attempts(job_id)
    assert (first.state, first.ref, second.state, second.ref) == (UNKNOWN, "r-1", ACCEPTED, "r-2")
    assert (await stage.job(job_id)).state == before.state
    assert await stage.tasks() == tasks
    assert (await stage.events(job_id))[-1] == "attempt.late"
    assert bench.settled == ["resubmitted", "late"]
    bench.check()


async def test_callback_secrets_are_not_shown_to_the_jobs_owner(stage: Stage) -> None:
    bench = Searching(stage)
    token, secret = "att_1.token-of-the-callback", "secret-of-the-callback"

    def build(request: Any, context: CallContext) -> HttpRequest:
        wire = plain.adapter.build_submit(request, context)
        hook = {"hook": context.callback_url, "word": context.callback_secret}
        return replace(wire, json={**(wire.json or {}), **hook})

    plain: UpstreamAccount = bench.account
    account = replace(plain, adapter=replace(plain.adapter, build_submit=build))
    bench.with_accounts(account)
    calls = Calls(
        Client(bench.provider),
        stage.clock,
        str,
        bench.metrics.provider_request,
        callback_of=lambda _adapter, _id: Callback(
            f"https://gateway.example/v1/callbacks/acme/{token}", secret
        ),
    )
    bench.tools = replace(bench.tools, calls=calls)
    bench.submit._tools = bench.tools
    await stage.accept()
    await bench.work(Reply(400, {"message": f"{token} {secret}"}))
    sent = bench.provider.asked[0].content
    assert token.encode() in sent
    assert secret.encode() in sent
    (row,) = await stage.rows(tables.exchanges)
    shown = f"{row['request']}{row['response']}"
    assert "https://gateway.example" in shown
    assert token not in shown
    assert secret not in shown
