"""What the steps make of how an account fares."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import httpx
import pytest
from job_examples import SOURCE, a_spec
from msgspec.structs import replace
from store_stage import Stage
from worker_bench import MADE, RUNNING, Bench, Reply

from gateway.errors import BudgetSpent, OutcomeUnknown
from gateway.jobs.job import AttemptState
from gateway.jobs.transitions import TaskKind
from gateway.routing.breaker import IN_A_ROW, OPEN_MS
from gateway.routing.health import UNAUTHORIZED_MS, UNFUNDED_MS, Limits, Operation, Outcome, Shut
from gateway.service.record import Decide
from gateway.storage.tasks import Claim
from gateway.worker.reconcile import EVERY_S, LOOKS_S
from providers.contract.adapter import CallContext, Sought
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.report import Sighting
from providers.contract.spec import CancelSpec, Spec
from providers.contract.status import JobStatus

ACME = ("acme", "default")
MANY = 9
REFUSED = Reply(401)


def pausing(stage: Stage, spec: Spec | None = None) -> Bench:
    """A bench whose account's pauses last as long as they do in production."""
    bench = Bench(stage, spec=spec)
    bench.limits = Limits()
    bench.with_accounts(bench.account)
    return bench


async def at_once(bench: Bench, answers: list[Any]) -> None:
    """Carry out all that is due, everything at the same time."""
    bench.provider.says(*answers)
    async with asyncio.TaskGroup() as group:
        for task in await bench.stage.dispatch.claim(2 * MANY):
            group.create_task(bench.carry_out(task))
    assert not bench.provider.answers, "more calls were expected"


async def dawdle() -> None:
    """Leave the others time to begin, had nothing kept them from it."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_after_a_silence_one_poll_finds_out_for_all_that_the_key_is_refused(stage: Stage) -> None:
    bench = pausing(stage)
    for _ in range(MANY):
        await bench.accepted()
    bench.provider.meanwhile = dawdle
    stage.clock.advance(60)
    await at_once(bench, [REFUSED])
    assert [kind for kind, _ in await stage.tasks()] == ["poll"] * MANY
    stage.clock.advance(UNAUTHORIZED_MS / 1000)
    await at_once(bench, [RUNNING])


async def test_one_submit_finds_out_for_all_that_the_key_is_refused(stage: Stage) -> None:
    bench = pausing(stage)
    ids = [await stage.accept() for _ in range(MANY)]
    bench.provider.meanwhile = dawdle
    await at_once(bench, [REFUSED])
    assert [await stage.states(job_id) for job_id in ids] == [[AttemptState.REFUSED]] + [[]] * (MANY - 1)
    assert [(await stage.job(job_id)).state.status for job_id in ids] == [JobStatus.QUEUED] * MANY


async def test_whoever_was_heard_a_moment_ago_is_asked_for_all_jobs_at_once(stage: Stage) -> None:
    bench = pausing(stage)
    for _ in range(MANY):
        await bench.accepted()
    stage.clock.advance(60)
    together = 0

    async def count() -> None:
        nonlocal together
        together = max(together, len(bench.provider.asked) - MANY)
        await dawdle()

    bench.healths.first_calls.heard(ACME)
    bench.provider.meanwhile = count
    await at_once(bench, [RUNNING] * MANY)
    assert together == MANY


async def test_a_cancel_that_waits_for_its_account_remembers_that_it_was_sent(stage: Stage) -> None:
    spec = a_spec(cancel=CancelSpec(stops=True, destroys_output=False, ref_gone=True, source=SOURCE))
    bench = pausing(stage, spec)
    job_id = await bench.accepted()
    await stage.jobs.cancel(job_id, owner="alice")
    await bench.work(RUNNING, Reply(500))  # the cancel may have got through
    for _ in range(IN_A_ROW):
        await bench.healths.note(ACME, Operation.CANCEL, Outcome.FAILED)
    stage.clock.advance(5)
    (task,) = [one for one in await stage.dispatch.claim(9) if one.claim.kind is TaskKind.CANCEL]
    await bench.cancel(task)
    stage.clock.advance(OPEN_MS / 1000)
    (task,) = [one for one in await stage.dispatch.claim(9) if one.claim.kind is TaskKind.CANCEL]
    bench.provider.says(Reply(404), Reply(404))
    await bench.cancel(task)
    state = (await stage.job(job_id)).state
    assert (state.status, state.provider_may_bill) == (JobStatus.CANCELLED, False)


async def test_nobody_looks_for_a_lost_submission_with_a_key_that_is_refused(stage: Stage) -> None:
    def look(_context: CallContext, _sought: Sought) -> Generator[HttpRequest, HttpResponse, list[Sighting]]:
        yield HttpRequest(method="GET", path=("runs",))
        return []

    bench = pausing(stage)
    bench.account = replace(bench.account, adapter=replace(bench.account.adapter, reconcile=look))
    bench.with_accounts(bench.account)
    job_id = await stage.accept()
    await bench.work(httpx.ReadTimeout("silence"))
    assert await stage.states(job_id) == [AttemptState.UNKNOWN]
    await bench.after(LOOKS_S[0], REFUSED)
    assert bench.healths.refused(ACME) is not None
    await bench.after(LOOKS_S[2])
    await bench.after(EVERY_S, Reply(200, {}))


@pytest.mark.parametrize("stored", [True, False])
async def test_a_probe_that_was_called_off_makes_room_for_another(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, stored: bool
) -> None:
    bench = pausing(stage)
    await bench.healths.note(ACME, Operation.SUBMIT, Outcome.UNFUNDED)
    stage.clock.advance(UNFUNDED_MS / 1000)
    await stage.accept()
    intent = stage.record.intent

    async def deafened(claim: Claim, decide: Decide, **options: Any) -> Any:
        if stored:
            await intent(claim, decide, **options)
        raise OutcomeUnknown("the connection broke in a commit")

    with monkeypatch.context() as patched:
        patched.setattr(stage.record, "intent", deafened)
        await bench.work()
    await bench.after(5, MADE)


async def test_what_was_rolled_back_is_not_remembered_of_an_account(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    bench.limits = Limits(submits_per_second=0.001)
    bench.with_accounts(bench.account)
    await stage.accept()
    admit = bench.healths.admit

    def spent(connection: Any, account: Any) -> Shut | None:
        assert admit(connection, account) is None
        raise BudgetSpent("the budget is spent")

    with monkeypatch.context() as patched:
        patched.setattr(bench.healths, "admit", spent)
        await bench.work()
    await stage.accept()
    await bench.work(MADE)
