"""Answers to polls that say nothing: the job neither ends wrongly nor is asked about past its deadline."""

from __future__ import annotations

import pytest
from running_gateway import ADAPTERS, PROVIDERS, Document, JumpClock, RunningGateway, StartGateway, fault

from gateway.worker.cancel import MOST_TRIES
from gateway.worker.poll import DOUBTED_POLLS, LAST_LOOKS

PAGES = ("html", "html_502")
MUTE = (*PAGES, "accept_500", "accept_reset", "accept_truncated_json", "unknown_status")
FAST = {"run_s": 0.0}
DEADLINE_S = 120
LATE_LOOKS = 30


async def polls(running: RunningGateway, provider: str) -> int:
    counted: int = (await running.stats())["polls"][provider]
    return counted


async def polled(running: RunningGateway, provider: str, times: int) -> None:
    """Wait until a provider was asked that often."""

    async def often() -> bool:
        return await polls(running, provider) >= times

    await running.when(often)


async def poll_exchanges(running: RunningGateway, job_id: str) -> list[Document]:
    return [one for one in await running.timeline(job_id, "exchange") if one["operation"] == "poll"]


@pytest.mark.parametrize("spoilt", MUTE)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_cannot_be_read_changes_nothing_and_ends_at_the_deadline(
    start_gateway: StartGateway, provider: str, spoilt: str
) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock, simulator=FAST)
    running.break_(fault(spoilt, "poll", provider=provider))
    job_id = await running.accept(provider, deadline_s=DEADLINE_S)
    await polled(running, provider, 4)
    job = await running.job(job_id)
    assert (job["status"], job["outputs"], job["error"]) == ("queued", [], None)
    assert [attempt["state"] for attempt in job["attempts"]] == ["accepted"]
    await running.sleep(clock, DEADLINE_S)
    job = await running.ended(job_id)
    assert (job["status"], job["error"]["code"], job["outputs"]) == ("failed", "deadline_exceeded", [])
    await quiet_after_the_end(running, clock, provider, job_id)
    assert await running.accepted(provider) == 1


async def quiet_after_the_end(running: RunningGateway, clock: JumpClock, provider: str, job_id: str) -> None:
    """A look before each try to cancel, a few looks at what runs on, and then none at all."""
    before = await polls(running, provider)
    while (await running.job(job_id))["attempts"][0]["state"] == "accepted":
        await running.sleep(clock, 1800)
        await running.sweep(1)
    after = await polls(running, provider)
    assert after - before <= MOST_TRIES + 2 * LAST_LOOKS + LATE_LOOKS
    clock.jump(3600)
    await running.sweep(3)
    assert await polls(running, provider) == after


@pytest.mark.parametrize("spoilt", MUTE)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_once_the_fault_is_gone_the_job_succeeds(
    start_gateway: StartGateway, provider: str, spoilt: str
) -> None:
    running = await start_gateway(simulator=FAST)
    running.break_(fault(spoilt, "poll", provider=provider, times=3))
    job_id = await running.accept(provider)
    job = await running.ended(job_id)
    assert (job["status"], len(job["outputs"])) == ("succeeded", 1)
    assert await polls(running, provider) >= 4
    assert await running.accepted(provider) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_unknown_word_is_shown_and_counted(start_gateway: StartGateway, provider: str) -> None:
    running = await start_gateway(simulator=FAST)
    running.break_(fault("unknown_status", "poll", provider=provider, times=2))
    job_id = await running.accept(provider)
    await running.ended(job_id)
    assert await running.metric("unmapped_status_total", provider=provider) == 2
    observed = [
        entry["data"]["note"]["provider_status"]
        for entry in await running.timeline(job_id, "event")
        if entry["type"] == "attempt.observed"
    ]
    assert "PERCOLATING" in observed
    assert "PERCOLATING" not in (await running.client.get("/metrics")).text


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_page_for_people_is_kept_for_the_timeline(start_gateway: StartGateway, provider: str) -> None:
    running = await start_gateway(simulator=FAST)
    running.break_(*(fault(page, "poll", provider=provider, times=1) for page in PAGES))
    job_id = await running.accept(provider)
    assert (await running.ended(job_id))["status"] == "succeeded"
    first, second, *_ = await poll_exchanges(running, job_id)
    assert (first["status"], first["outcome"]) == (200, "provider_contract")
    assert "<h1>Welcome</h1>" in first["response"]
    assert second["status"] == 502
    assert second["outcome"] != "seen"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_success_without_its_output_is_asked_again(
    start_gateway: StartGateway, provider: str
) -> None:
    running = await start_gateway(simulator=FAST)
    running.break_(fault("success_without_url", "poll", provider=provider, times=DOUBTED_POLLS - 1))
    job = await running.ended(await running.accept(provider))
    assert (job["status"], len(job["outputs"])) == ("succeeded", 1)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_success_that_never_has_an_output_is_no_success(
    start_gateway: StartGateway, provider: str
) -> None:
    running = await start_gateway(simulator=FAST)
    running.break_(fault("success_without_url", "poll", provider=provider))
    job_id = await running.accept(provider)
    job = await running.ended(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "provider_contract")
    assert job["outputs"] == []
    assert len(await poll_exchanges(running, job_id)) >= DOUBTED_POLLS
    asked = await polls(running, provider)
    await running.sweep()
    assert await polls(running, provider) == asked


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_ref_that_is_not_known_yet_is_asked_again(start_gateway: StartGateway, provider: str) -> None:
    """Right after a create a 404 may be replication lag."""
    running = await start_gateway(simulator=FAST)
    jobs = running.simulator.simulator._mounts[provider].jobs
    before, answers = jobs.find, 0

    def find(ref: str) -> object:
        nonlocal answers
        answers += 1
        return None if answers <= 2 else before(ref)

    jobs.find = find  # type: ignore[assignment,method-assign]  # a provider that lags behind itself
    job = await running.ended(await running.accept(provider))
    assert job["status"] == "succeeded"
    assert answers > 2


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_job_that_its_provider_forgot_is_lost_and_not_submitted_again(
    start_gateway: StartGateway, provider: str
) -> None:
    clock = JumpClock()
    running = await start_gateway(simulator={"clock": clock, "run_s": 1000.0})
    job_id = await running.accept(provider)
    shown = await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
    theirs = running.simulator.simulator._mounts[provider].jobs
    known = theirs.find(shown["attempts"][0]["provider_ref"])
    assert known is not None
    theirs.forget(known)
    job = await running.ended(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "provider_lost")
    assert job["attempts"][0]["state"] == "failed"
    await running.sweep()
    assert await running.accepted(provider) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_job_past_its_deadline_ends_once_and_its_run_is_asked_to_stop(
    start_gateway: StartGateway, provider: str
) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock, simulator={"run_s": 1000.0})
    job_id = await running.accept(provider, deadline_s=60)
    await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
    await running.sleep(clock, 60)
    job = await running.ended(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "deadline_exceeded")
    await running.sweep()
    ends = {"job.succeeded", "job.failed", "job.cancelled"}
    assert sum(event in ends for event in await running.events(job_id)) == 1
    # The run is asked to stop where that is possible; where not, it may be billed.
    cancel = ADAPTERS[provider].spec.cancel
    assert (await running.stats())["cancels"][provider] == (0 if cancel is None else 1)
    last = await running.job(job_id)
    assert last["status"] == "failed"
    assert last["provider_may_bill"] is not (cancel is not None and cancel.stops)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_run_that_ended_in_time_is_a_success_however_late_we_ask(
    start_gateway: StartGateway, provider: str
) -> None:
    clock = JumpClock()
    unpolled = {f"PROVIDERS__{provider.upper()}__POLL_SCALE": "5"}
    running = await start_gateway(clock=clock, simulator=FAST, settings=unpolled)
    job_id = await running.accept(provider, deadline_s=60)
    shown = await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
    theirs = running.simulator.simulator._mounts[provider].jobs
    ours = theirs.find(shown["attempts"][0]["provider_ref"])
    assert ours is not None

    async def finished() -> bool:
        return theirs.finished(ours)

    await running.when(finished)
    assert await polls(running, provider) == 0
    await running.sleep(clock, 3600)
    job = await running.ended(job_id)
    assert (job["status"], len(job["outputs"])) == ("succeeded", 1)
