"""Submitting within a budget, and where another worker may have what this one lacks."""

from __future__ import annotations

import pytest
from job_examples import NOW_MS, a_request, a_spec
from msgspec.structs import replace
from store_stage import Stage
from worker_bench import MADE, Bench

from gateway.jobs.job import AttemptState, RoutingWish
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.conditions import Condition
from providers.contract.status import JobStatus

CHEAP, DEAR = ("acme", "default"), ("dear", "default")
COST = 1_500_000
BUSY = Condition(unavailable="no_slot", reason="all its slots are in use")


def two_prices(stage: Stage) -> Bench:
    """The provider acme, and one that asks twice as much."""
    bench = Bench(stage)
    cheap = a_spec()
    (model,) = cheap.models
    price = replace(model.price, micro_usd_per_s=2 * model.price.micro_usd_per_s)
    dear = a_spec("dear", models=(replace(model, price=price),))
    bench.catalogue = Catalogue(offers=tuple(Offer(spec=spec, account="default") for spec in (cheap, dear)))
    other = replace(bench.account, adapter=replace(bench.account.adapter, spec=dear))
    bench.with_accounts(bench.account, other)
    stage.intake = stage.taking(bench.catalogue, accounts=bench.tools.accounts)
    return bench


async def accepted(stage: Stage, budget_micro_usd: int) -> str:
    await stage.keys.create(name="n", owner="alice", scopes=[], limits={"budget_micro_usd": budget_micro_usd})
    return await stage.accept(a_request(routing=RoutingWish(policy="cheapest")))


async def test_a_job_within_its_budget_waits_for_the_account_that_it_can_pay(stage: Stage) -> None:
    bench = two_prices(stage)
    job_id = await accepted(stage, COST)
    bench.conditions = {CHEAP: BUSY}
    bench.with_accounts(*bench.tools.accounts.all())
    await bench.work()
    assert (await stage.job(job_id)).state.status is JobStatus.QUEUED
    assert await stage.states(job_id) == []
    bench.conditions = {}
    bench.with_accounts(*bench.tools.accounts.all())
    await bench.after(1, MADE)
    assert [(one.provider, one.state) for one in await stage.attempts(job_id)] == [
        ("acme", AttemptState.ACCEPTED)
    ]


async def test_a_job_goes_to_a_dearer_account_that_its_budget_allows(stage: Stage) -> None:
    bench = two_prices(stage)
    job_id = await accepted(stage, 2 * COST)
    bench.conditions = {CHEAP: BUSY}
    bench.with_accounts(*bench.tools.accounts.all())
    await bench.work(MADE)
    assert [one.provider for one in await stage.attempts(job_id)] == ["dear"]


async def test_a_job_that_nobody_left_can_run_within_the_budget_fails_for_that(stage: Stage) -> None:
    bench = two_prices(stage)
    job_id = await accepted(stage, COST)
    bench.catalogue = Catalogue(offers=bench.catalogue.offers[1:])
    bench.with_accounts(*bench.tools.accounts.all())
    await bench.work()
    error = (await stage.job(job_id)).state.error
    assert error is not None
    assert (error.code, "alice's budget of $1.50" in error.message) == ("insufficient_funds", True)


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_job_that_another_workers_settings_may_run_waits_for_it(
    stage: Stage,
    elsewhere: bool,  # noqa: FBT001 - a column
) -> None:
    bench = two_prices(stage)
    job_id = await accepted(stage, 9 * COST)
    (task,) = await stage.dispatch.claim(9)
    bench.catalogue = Catalogue(offers=(), idle=(a_spec(),))
    accounts = bench.tools.accounts.all()
    bench.with_accounts(*(accounts[:1] if elsewhere else accounts))
    await bench.carry_out(task)
    state = (await stage.job(job_id)).state
    assert (state.status, await stage.tasks()) == (
        (JobStatus.QUEUED, [("submit", 30_000)]) if elsewhere else (JobStatus.FAILED, [])
    )
    assert state.deadline_at_ms > NOW_MS + 30_000
