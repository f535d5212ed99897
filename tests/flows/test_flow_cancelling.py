"""Cancels, at every provider installed: as far as each allows, and no result destroyed."""

from __future__ import annotations

import pytest
from running_gateway import ADAPTERS, PROVIDERS, JumpClock, RunningGateway, StartGateway, fault

CANCELLING = [name for name in PROVIDERS if ADAPTERS[name].spec.cancel is not None]


async def half_done(start_gateway: StartGateway, provider: str) -> tuple[RunningGateway, str]:
    """A job that the provider works on, and will never finish."""
    clock = JumpClock()
    running = await start_gateway(simulator={"clock": clock, "run_s": 1000.0})
    job_id = await running.accept(provider)
    await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["state"] == "accepted")
    clock.jump(500)
    await running.until(job_id, lambda job: job["status"] == "running")
    return running, job_id


async def test_a_job_that_was_not_submitted_is_cancelled_at_once(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    job_id = await running.accept(PROVIDERS[0])
    reply = await running.client.post(f"/v1/jobs/{job_id}/cancel")
    job = reply.json()
    assert (reply.status_code, job["status"], job["provider_may_bill"]) == (200, "cancelled", False)
    assert job["cancel_requested_at"] == job["finished_at"]
    await running.gateway.start_worker()
    await running.sweep()
    assert await running.accepted(PROVIDERS[0]) == 0
    assert await running.events(job_id) == ["job.accepted", "cancel.requested", "job.cancelled"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_running_job_is_cancelled_as_its_provider_allows(
    start_gateway: StartGateway, provider: str
) -> None:
    running, job_id = await half_done(start_gateway, provider)
    reply = await running.client.post(f"/v1/jobs/{job_id}/cancel")
    assert reply.status_code == 200
    assert reply.json()["cancel_requested_at"] is not None
    job = await running.ended(job_id)
    cancel = ADAPTERS[provider].spec.cancel
    assert job["status"] == "cancelled"
    stopped = cancel is not None and cancel.stops
    assert job["attempts"][0]["state"] == ("cancelled" if stopped else "accepted")
    assert job["provider_may_bill"] is not stopped
    assert (await running.stats())["cancels"][provider] == (0 if cancel is None else 1)
    again = await running.client.post(f"/v1/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/job-already-finished")


@pytest.mark.parametrize("provider", CANCELLING)
async def test_a_cancel_that_fails_is_tried_again(start_gateway: StartGateway, provider: str) -> None:
    unpolled = {f"PROVIDERS__{provider.upper()}__POLL_SCALE": "100"}
    running = await start_gateway(simulator={"run_s": 1000.0}, settings=unpolled)
    running.break_(fault("accept_502", "cancel", provider=provider, times=1))
    job_id = await running.accept(provider)
    await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
    first = await running.client.post(f"/v1/jobs/{job_id}/cancel")
    repeated = await running.client.post(f"/v1/jobs/{job_id}/cancel")
    asked_at = first.json()["cancel_requested_at"]
    assert (repeated.status_code, repeated.json()["cancel_requested_at"]) == (200, asked_at)
    job = await running.ended(job_id)
    assert job["status"] == "cancelled"
    cancel = ADAPTERS[provider].spec.cancel
    assert cancel is not None
    # The first one worked: its job is gone, which only asking again tells, or is shown as cancelled.
    assert (await running.stats())["cancels"][provider] == (2 if cancel.ref_gone else 1)
    assert job["provider_may_bill"] is not cancel.stops


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_finished_output_is_not_destroyed_by_a_late_cancel(
    start_gateway: StartGateway, provider: str
) -> None:
    slow = {f"PROVIDERS__{provider.upper()}__POLL_SCALE": "100"}
    running = await start_gateway(simulator={"run_s": 0.0}, settings=slow)
    job_id = await running.accept(provider)
    shown = await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
    theirs = running.simulator.simulator._mounts[provider].jobs
    ref = theirs.find(shown["attempts"][0]["provider_ref"])
    assert ref is not None

    async def finished() -> bool:
        return theirs.finished(ref)

    await running.when(finished)
    await running.client.post(f"/v1/jobs/{job_id}/cancel")
    job = await running.ended(job_id)
    assert (job["status"], len(job["outputs"])) == ("succeeded", 1)
    assert (await running.stats())["cancels"][provider] == 0


@pytest.mark.parametrize("provider", CANCELLING)
async def test_a_cancel_by_somebody_at_the_provider_ends_the_job(
    start_gateway: StartGateway, provider: str
) -> None:
    running, job_id = await half_done(start_gateway, provider)
    mount = running.simulator.simulator._mounts[provider]
    theirs = mount.jobs.find((await running.job(job_id))["attempts"][0]["provider_ref"])
    assert theirs is not None
    theirs.cancelled = True
    assert (await running.ended(job_id))["status"] == "cancelled"
