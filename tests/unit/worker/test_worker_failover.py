"""On to the next candidate: when nothing was made, or a run failed for certain; and never else."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest
from job_examples import NOW_MS, SOURCE, a_request, a_spec, a_webhook
from msgspec.structs import replace
from store_stage import Stage
from worker_bench import MADE, RUNNING, SUCCEEDED, Answer, Bench, NobodyThere, Reply

from gateway.jobs.job import JobRequest, RoutingWish
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.conditions import Condition
from gateway.service.restoring import settle_restored
from providers.contract.errors import ErrorCode
from providers.contract.spec import BillingSpec, FailureRule

FREE = BillingSpec(failures_free=True, source=SOURCE)
REJECTED = FailureRule(code=ErrorCode.CONTENT_REJECTED, provider_code="no", source=SOURCE)
BROKE = Reply(200, {"status": "FAILED"})
LIMITED = Reply(429)
ESTIMATE_USD = 1.5


def two_accounts(stage: Stage, *, free: bool = True) -> Bench:
    """A provider with the accounts `default` and `second`."""
    spec = a_spec(billing=FREE if free else None)
    bench = Bench(stage, spec=spec)
    second = replace(bench.account, name="second", base_url="https://second.acme.example")
    names = ("default", "second")
    bench.catalogue = Catalogue(offers=tuple(Offer(spec=spec, account=name) for name in names))
    bench.with_accounts(bench.account, second)
    return bench


def asking(**wish: Any) -> JobRequest:
    return a_request(routing=RoutingWish(**{"failover": True, **wish}), webhook=a_webhook())


async def tried(bench: Bench, job_id: str) -> list[tuple[str, str]]:
    return [(one.account, one.state) for one in await bench.stage.attempts(job_id)]


@pytest.mark.parametrize("refusal", [LIMITED, NobodyThere(), Reply(401), Reply(402)])
async def test_where_nothing_was_made_the_next_has_it_at_once(stage: Stage, refusal: Answer) -> None:
    bench = two_accounts(stage)
    job_id = await stage.accept(asking())
    await bench.work(refusal)
    await bench.work(MADE)
    assert await tried(bench, job_id) == [("default", "refused"), ("second", "accepted")]
    await bench.after(5, SUCCEEDED)
    assert (await stage.job(job_id)).state.status == "succeeded"


async def test_after_all_had_their_turn_the_first_has_it_again_later(stage: Stage) -> None:
    bench = two_accounts(stage)
    job_id = await stage.accept(asking())
    await bench.work(LIMITED)
    await bench.work(Reply(429, retry_after="600"))
    await bench.work()
    assert len(bench.provider.asked) == 2, "there is a pause between two rounds"
    await bench.after(1, MADE)
    accounts = [account for account, _ in await tried(bench, job_id)]
    assert accounts == ["default", "second", "default"]


@pytest.mark.parametrize("refusal", [Reply(422, {"code": "bad"}), Reply(400)])
async def test_a_wrong_request_is_tried_nowhere_else(stage: Stage, refusal: Answer) -> None:
    bench = two_accounts(stage)
    job_id = await stage.accept(asking())
    await bench.work(refusal)
    assert (await stage.job(job_id)).state.status == "failed"
    assert len(bench.provider.asked) == 1


@pytest.mark.parametrize("doubt", [Reply(500), Reply(200, b"<html>"), httpx.ReadError("reset")])
async def test_a_doubt_is_held_and_tried_nowhere_else(stage: Stage, doubt: Answer) -> None:
    bench = two_accounts(stage)
    job_id = await stage.accept(asking())
    await bench.work(doubt)
    await bench.after(600)
    assert (await stage.job(job_id)).state.held is not None
    assert await tried(bench, job_id) == [("default", "unknown")]


async def test_a_run_that_failed_goes_elsewhere_and_its_job_stays_running(stage: Stage) -> None:
    bench = two_accounts(stage)
    job_id = await stage.accept(asking())
    await bench.work(MADE)
    await bench.after(5, Reply(200, {"status": "RUNNING"}))
    await bench.after(10, BROKE)
    job = await stage.job(job_id)
    assert (job.state.status, job.state.error, job.progress) == ("running", None, None)
    await bench.work(Reply(201, {"id": "r-2"}))
    await bench.after(5, SUCCEEDED)
    job = await stage.job(job_id)
    assert (job.state.status, job.state.error, job.state.started_at_ms) == ("succeeded", None, NOW_MS + 5000)
    assert await tried(bench, job_id) == [("default", "failed"), ("second", "succeeded")]
    told = await stage.events(job_id)
    assert [word for word in told if word.startswith("job.")] == [
        "job.accepted",
        "job.running",
        "job.succeeded",
    ]
    assert told.count("attempt.failed") == 1


async def test_a_run_of_a_restored_job_that_failed_goes_nowhere_else(stage: Stage) -> None:
    """It may have gone there since the backup was made, and that run may be paid for."""
    bench = two_accounts(stage)
    job_id = await stage.accept(asking())
    await bench.work(MADE)
    await settle_restored(stage.database, stage.record, stage.clock, on_settled=lambda *_: None)
    await bench.after(5, BROKE)
    await bench.work()
    job = await stage.job(job_id)
    assert job.state.error is not None
    assert (job.state.status, job.state.error.code) == ("failed", ErrorCode.SUBMISSION_UNKNOWN)
    assert await tried(bench, job_id) == [("default", "failed")]


async def test_nobody_has_a_run_twice(stage: Stage) -> None:
    bench = two_accounts(stage)
    job_id = await stage.accept(asking())
    await bench.work(MADE)
    await bench.after(5, BROKE)
    await bench.work(Reply(201, {"id": "r-2"}))
    await bench.after(5, BROKE)
    job = await stage.job(job_id)
    assert job.state.error is not None
    assert (job.state.status, job.state.error.code) == ("failed", "provider_error")
    assert [state for _, state in await tried(bench, job_id)] == ["failed", "failed"]
    assert await stage.tasks() == [("deliver", 10_000)]


@pytest.mark.parametrize(
    ("free", "wish", "failure", "moves"),
    [
        (True, {}, {}, True),
        (True, {"failover": False}, {}, False),
        (False, {}, {}, False),
        (False, {}, {"micro_usd": 0}, True),
        (False, {}, {"micro_usd": 1}, False),
        (True, {}, {"micro_usd": 1}, False),
        (False, {"max_cost_usd": 2 * ESTIMATE_USD}, {}, True),
        (False, {"max_cost_usd": 2 * ESTIMATE_USD - 0.01}, {}, False),
        (False, {"max_cost_usd": ESTIMATE_USD + 0.1}, {"micro_usd": 100_000}, True),
        (False, {"max_cost_usd": ESTIMATE_USD + 0.1}, {"micro_usd": 100_001}, False),
    ],
)
async def test_a_second_run_is_begun_only_where_it_may_be_paid(
    stage: Stage, *, free: bool, wish: dict[str, Any], failure: dict[str, Any], moves: bool
) -> None:
    bench = two_accounts(stage, free=free)
    job_id = await stage.accept(asking(**wish))
    await bench.work(MADE)
    await bench.after(5, Reply(200, {"status": "FAILED", **failure}))
    status = (await stage.job(job_id)).state.status
    assert status == ("queued" if moves else "failed")


async def test_a_job_that_is_to_end_is_tried_nowhere_else(stage: Stage) -> None:
    bench = two_accounts(stage)
    cancelled, overdue = await stage.accept(asking()), await stage.accept(asking())
    await bench.work(MADE, Reply(201, {"id": "r-2"}))
    await stage.jobs.cancel(cancelled, owner=None)
    await bench.work(BROKE)
    assert (await stage.job(cancelled)).state.status == "failed"
    await bench.after(600, BROKE)
    assert (await stage.job(overdue)).state.status == "failed"
    assert len(await stage.attempts(overdue)) == 1


async def test_settings_decide_before_the_table(stage: Stage) -> None:
    bench = two_accounts(stage)
    bench.rules = {("acme", ErrorCode.RATE_LIMITED): "give_up"}
    bench.with_accounts(*bench.tools.accounts.all())
    job_id = await stage.accept(asking())
    await bench.work(LIMITED)
    assert (await stage.job(job_id)).state.status == "failed"


async def test_who_can_take_nothing_just_now_is_passed_over_or_waited_for(stage: Stage) -> None:
    bench = two_accounts(stage)
    paused = Condition(unavailable="paused", reason="it asked for that", until_ms=NOW_MS + 7000)
    bench.conditions = {("acme", "default"): paused}
    first = await stage.accept(asking())
    await bench.work(MADE)
    assert await tried(bench, first) == [("second", "accepted")]
    bench.conditions = {("acme", "default"): paused, ("acme", "second"): paused}
    second = await stage.accept(asking())
    await bench.work()
    assert ("submit", 7000) in await stage.tasks()
    bench.conditions = {}
    await bench.after(7, Reply(201, {"id": "r-2"}), RUNNING)
    assert await tried(bench, second) == [("default", "accepted")]


async def test_the_timeline_says_what_followed(stage: Stage) -> None:
    bench = two_accounts(stage)
    job_id = await stage.accept(asking())
    await bench.work(LIMITED)
    shown = msgspec.json.encode(await stage.jobs.timeline(job_id, owner=None))
    assert b'"then":"next"' in shown
