"""What a run costs that outlives its job, at every provider: it is recorded with its attempt."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from running_gateway import (
    ADAPTERS,
    PROVIDERS,
    Document,
    JumpClock,
    RunningGateway,
    StartGateway,
)

from gateway.registry import Registry

RUN_S = 1000.0
DEADLINE_S = 120
WITHOUT_CANCELS = Registry(
    replace(one, spec=replace(one.spec, cancel=None), build_cancel=None) for one in ADAPTERS.values()
)
"""Every provider as if it could not stop a run."""


async def begun(
    start_gateway: StartGateway, provider: str, registry: Registry | None = None
) -> tuple[RunningGateway, JumpClock, str]:
    """A job that its provider works on until the provider's own clock is moved."""
    theirs = JumpClock()
    options = {} if registry is None else {"registry": registry}
    running = await start_gateway(simulator={"clock": theirs, "run_s": RUN_S}, **options)
    job_id = await running.accept(provider)
    await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["state"] == "accepted")
    return running, theirs, job_id


async def told_late(running: RunningGateway, job_id: str, ended: Document) -> Document:
    """The job once its run is known to have ended; the job itself stays as it ended."""

    async def settled() -> bool:
        return bool((await running.job(job_id))["attempts"][0]["finished_at"])

    await running.when(settled)
    job = await running.job(job_id)
    same = ("status", "finished_at", "error", "outputs", "provider_may_bill")
    assert {name: job[name] for name in same} == {name: ended[name] for name in same}
    return job


def costs(job: Document) -> None:
    """The provider's bill is shown with the attempt; in dollars, since each says so or prices its credit."""
    (attempt,) = job["attempts"]
    assert attempt["state"] == "succeeded"
    assert attempt["cost"]["usd"] > 0
    assert job["cost"]["charged_usd"] == attempt["cost"]["usd"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_run_that_no_cancel_could_stop_is_charged_when_it_succeeds(
    start_gateway: StartGateway, provider: str
) -> None:
    running, theirs, job_id = await begun(start_gateway, provider, WITHOUT_CANCELS)
    await running.client.post(f"/v1/jobs/{job_id}/cancel")
    ended = await running.ended(job_id)
    assert (ended["status"], ended["provider_may_bill"]) == ("cancelled", True)
    assert ended["cost"]["charged_usd"] is None
    theirs.jump(RUN_S)
    costs(await told_late(running, job_id, ended))
    assert (await running.events(job_id))[-1] == "attempt.late"
    assert await running.accepted(provider) == 1


@pytest.mark.parametrize(
    "provider",
    [name for name, one in ADAPTERS.items() if one.spec.cancel is not None and not one.spec.cancel.stops],
)
async def test_a_success_after_a_cancel_that_only_detached_is_charged(
    start_gateway: StartGateway, provider: str
) -> None:
    running, theirs, job_id = await begun(start_gateway, provider)
    await running.client.post(f"/v1/jobs/{job_id}/cancel")
    ended = await running.ended(job_id)
    assert (ended["status"], ended["provider_may_bill"]) == ("cancelled", True)
    assert (await running.stats())["cancels"][provider] == 1
    asked = (await running.stats())["polls"][provider]

    async def asked_again() -> bool:
        return bool((await running.stats())["polls"][provider] > asked + 1)

    await running.when(asked_again)
    run = running.simulator.simulator._mounts[provider].jobs.find(ended["attempts"][0]["provider_ref"])
    assert run is not None
    run.cancelled = False  # the record was closed, and the run behind it went on
    theirs.jump(RUN_S)
    costs(await told_late(running, job_id, ended))


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_run_beyond_its_jobs_deadline_is_charged(start_gateway: StartGateway, provider: str) -> None:
    ours, theirs = JumpClock(), JumpClock()
    running = await start_gateway(
        clock=ours, simulator={"clock": theirs, "run_s": RUN_S}, registry=WITHOUT_CANCELS
    )
    job_id = await running.accept(provider, deadline_s=DEADLINE_S)
    await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["state"] == "accepted")
    await running.sleep(ours, DEADLINE_S)
    await running.ended(job_id)

    async def left() -> bool:
        return "attempt.runs_on" in await running.events(job_id)

    await running.when(left)
    ended = await running.job(job_id)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "deadline_exceeded")
    assert ended["provider_may_bill"]
    theirs.jump(RUN_S)
    # The next look is a tenth of the run's age away.
    await running.sleep(ours, DEADLINE_S)
    costs(await told_late(running, job_id, ended))
