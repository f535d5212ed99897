"""Submissions whose outcome nobody knows: what each policy does, what is found, what an operator can say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from lost_runs import UNSEEN, accept_both, note, runs_at
from msgspec.structs import replace
from running_gateway import (
    ADAPTERS,
    BOTH_ENGINES,
    PROVIDERS,
    Document,
    RunningGateway,
    StartGateway,
    fault,
)
from webhook_receiver import open_receiver

from gateway.registry import Registry
from gateway.service.keys import Scope

HURRIED = Registry([replace(one, spec=replace(one.spec, submit_timeout_s=2.0)) for one in ADAPTERS.values()])
"""The installed adapters, but for their patience with a create call."""
FOUND = [name for name in PROVIDERS if ADAPTERS[name].reconcile is not None]
LOSSES = ["accept_silence", "accept_reset", "accept_502"]
BY = {"aimlapi": "client_id", "eachlabs": "inputs"}
OPEN = {"WEBHOOKS__ALLOW_HTTP": "true", "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32"}
EVENTS = ["job.held", "job.running", "job.succeeded", "job.failed"]


def states(job: Document) -> list[str]:
    return [attempt["state"] for attempt in job["attempts"]]


def held_again(tries: int) -> Callable[[Document], bool]:
    """Whether a job is held for its so manyth attempt."""
    return lambda job: len(job["attempts"]) == tries and job["held"] is not None


async def settled(running: RunningGateway, provider: str, how: str) -> float:
    return await running.metric("submissions_settled_total", provider=provider, how=how)


def ref_at(running: RunningGateway, provider: str, place: int = 0) -> str:
    """The ref of a run as the provider knows it."""
    return runs_at(running, provider)[place].ref


async def resolve(client: httpx.AsyncClient, job_id: str, **body: Any) -> httpx.Response:
    return await client.post(f"/v1/jobs/{job_id}/resolve", json=body)


# --- found again ---


@BOTH_ENGINES
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("provider", FOUND)
async def test_a_lost_submission_is_found_and_goes_on(
    start_gateway: StartGateway, provider: str, loss: str
) -> None:
    async with open_receiver() as receiver:
        running = await start_gateway(registry=HURRIED, settings=OPEN)
        running.break_(fault(loss, provider=provider, times=1))
        job_id = await running.accept(provider, webhook={"url": receiver.url(), "events": EVENTS})
        job = await running.ended(job_id)
        assert (job["status"], states(job), job["provider_may_bill"]) == ("succeeded", ["succeeded"], False)
        assert job["attempts"][0]["provider_ref"] == ref_at(running, provider)
        assert await running.accepted(provider) == 1
        adopted = await note(running, job_id, "attempt.adopted")
        assert adopted == {"provider_ref": job["attempts"][0]["provider_ref"], "by": BY[provider]}
        types = await running.events(job_id)
        assert types.index("attempt.unknown") < types.index("job.held") < types.index("attempt.adopted")
        looks = [one for one in await running.timeline(job_id, "exchange") if one["operation"] == "reconcile"]
        assert looks
        told = await receiver.received(lambda all_: any(one.event["type"] == "job.succeeded" for one in all_))
        assert {one.event["type"] for one in told} >= {"job.held", "job.succeeded"}
    assert await running.metric("submissions_unknown_total", provider=provider) == 1
    assert await settled(running, provider, "adopted") == 1


@pytest.mark.parametrize("provider", FOUND)
async def test_rows_that_come_late_are_waited_for(start_gateway: StartGateway, provider: str) -> None:
    running = await start_gateway(simulator={"rows_late_s": 0.4})
    running.break_(fault("accept_reset", provider=provider, times=1))
    job_id = await running.accept(provider)
    job = await running.ended(job_id)
    assert (job["status"], await running.accepted(provider)) == ("succeeded", 1)
    assert (await running.stats())["lists"][provider] > 1
    looks = [one for one in await running.timeline(job_id, "exchange") if one["operation"] == "reconcile"]
    assert len(looks) <= 2  # none of the empty ones


@BOTH_ENGINES
async def test_two_equal_lost_submissions_cannot_be_told_apart_where_no_id_is_shown(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway()
    running.break_(fault("accept_reset", provider="eachlabs", times=2))
    jobs = await accept_both(running, "eachlabs")

    async def reasons(job_id: str) -> list[str]:
        told = [one for one in await running.timeline(job_id, "event") if one["type"] == "hold.undecided"]
        return [one["data"]["note"]["reason"] for one in told]

    async def undecided() -> bool:
        return all(["2 runs fit, and none bears our id" in await reasons(job_id) for job_id in jobs])

    await running.when(undecided)
    for job_id in jobs:
        job = await running.job(job_id)
        assert (states(job), job["held"]["reason"]) == (["unknown"], "submission_unknown")
        told = await reasons(job_id)  # the first may have been looked for before the second was lost
        assert len(told) == len(set(told))
    assert await running.accepted("eachlabs") == 2


@BOTH_ENGINES
async def test_two_equal_lost_submissions_are_told_apart_by_our_id(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    running.break_(fault("accept_reset", provider="aimlapi", times=2))
    ended = [await running.ended(job_id) for job_id in await accept_both(running, "aimlapi")]
    assert [job["status"] for job in ended] == ["succeeded"] * 2
    assert len({job["attempts"][0]["provider_ref"] for job in ended}) == 2


@pytest.mark.parametrize("provider", FOUND)
async def test_a_provider_that_cannot_be_searched_just_now_is_asked_again(
    start_gateway: StartGateway, provider: str
) -> None:
    running = await start_gateway()
    running.break_(
        fault("accept_reset", provider=provider, times=1),
        fault("html_502", "list", provider=provider, times=2),
    )
    job_id = await running.accept(provider)
    assert (await running.ended(job_id))["status"] == "succeeded"
    outcomes = [
        one["outcome"]
        for one in await running.timeline(job_id, "exchange")
        if one["operation"] == "reconcile"
    ]
    assert outcomes.count("provider_unavailable") == 1


# --- policies ---


@BOTH_ENGINES
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_job_that_is_to_fail_in_doubt_fails_at_once(
    start_gateway: StartGateway, provider: str
) -> None:
    running = await start_gateway()
    running.break_(fault("accept_reset", provider=provider))
    job = await running.ended(await running.accept(provider, on_unknown_submission="fail"))
    assert (job["status"], job["error"]["code"], states(job)) == ("failed", "submission_unknown", ["unknown"])
    assert job["provider_may_bill"]
    assert await settled(running, provider, "failed") == 1
    assert await running.accepted(provider) == 1


@BOTH_ENGINES
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_job_that_accepts_the_risk_is_submitted_again_once(
    start_gateway: StartGateway, provider: str
) -> None:
    running = await start_gateway()
    running.break_(fault("accept_reset", provider=provider, times=1), UNSEEN)
    job = await running.ended(await running.accept(provider, on_unknown_submission="resubmit"))
    assert (job["status"], states(job)) == ("succeeded", ["unknown", "succeeded"])
    assert [attempt["written_off"] for attempt in job["attempts"]] == [True, False]
    assert job["provider_may_bill"]
    assert await running.accepted(provider) == 2
    assert await settled(running, provider, "resubmitted") == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_broken_provider_is_not_submitted_to_without_end(
    start_gateway: StartGateway, provider: str
) -> None:
    running = await start_gateway()
    running.break_(fault("accept_reset", provider=provider), UNSEEN)
    job_id = await running.accept(provider, on_unknown_submission="resubmit")
    job = await running.until(job_id, lambda job: len(job["attempts"]) == 2 and job["held"])
    assert states(job) == ["unknown", "unknown"]
    await running.sweep(5)
    assert await running.job(job_id) == job
    assert await running.accepted(provider) == 2


async def test_the_settings_say_what_holds_for_jobs_that_do_not(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings={"JOBS__ON_UNKNOWN_SUBMISSION": "fail"})
    running.break_(fault("accept_reset"))
    job = await running.ended(await running.accept("runway"))
    assert (job["status"], job["request"]["on_unknown_submission"]) == ("failed", "fail")
    held = await running.held(await running.accept("runway", on_unknown_submission="hold"))
    assert held["request"]["on_unknown_submission"] == "hold"


# --- an operator's word ---


@asynccontextmanager
async def held_job(
    start_gateway: StartGateway, provider: str, **options: Any
) -> AsyncIterator[tuple[RunningGateway, str, httpx.AsyncClient]]:
    """A job that is held, with a run of it at the provider, and an operator."""
    running = await start_gateway(**options)
    running.break_(fault("accept_reset", provider=provider, times=1), UNSEEN)
    job_id = await running.accept(provider)
    await running.held(job_id)
    async with running.another_client("ops", Scope.OPERATOR) as operator:
        yield running, job_id, operator


@BOTH_ENGINES
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_operator_names_the_run(start_gateway: StartGateway, provider: str) -> None:
    async with held_job(start_gateway, provider) as (running, job_id, operator):
        ref = ref_at(running, provider)
        reply = await resolve(operator, job_id, action="adopt", provider_ref=ref)
        assert reply.status_code == 200, reply.text
        adopted = reply.json()
        assert (states(adopted), adopted["held"]) == (["accepted"], None)
        assert adopted["attempts"][0]["provider_ref"] == ref
        job = await running.ended(job_id)
        assert (job["status"], await running.accepted(provider)) == ("succeeded", 1)
        types = await running.events(job_id)
        assert types[types.index("hold.resolved") + 1] == "attempt.adopted"
        said = await note(running, job_id, "hold.resolved")
        assert said["action"] == "adopt"
        assert said["by"].startswith("key_")
        assert (await note(running, job_id, "attempt.adopted"))["by"] == "operator"
        assert await settled(running, provider, "adopted") == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_operator_has_it_submitted_again(start_gateway: StartGateway, provider: str) -> None:
    async with held_job(start_gateway, provider) as (running, job_id, operator):
        assert (await resolve(operator, job_id, action="resubmit")).status_code == 200
        job = await running.ended(job_id)
        assert (job["status"], states(job)) == ("succeeded", ["unknown", "succeeded"])
        assert [attempt["written_off"] for attempt in job["attempts"]] == [True, False]
        assert (await running.accepted(provider), job["provider_may_bill"]) == (2, True)
        assert (await note(running, job_id, "attempt.written_off")) == {"by": "operator"}


async def test_an_operator_gives_it_up(start_gateway: StartGateway) -> None:
    async with held_job(start_gateway, "runway") as (running, job_id, operator):
        job = (await resolve(operator, job_id, action="fail")).json()
        assert (job["status"], job["error"]["code"]) == ("failed", "submission_unknown")
        assert (states(job), job["provider_may_bill"]) == (["unknown"], True)
        assert (await running.events(job_id))[-2:] == ["hold.resolved", "job.failed"]
        again = await resolve(operator, job_id, action="resubmit")
        assert (again.status_code, again.json()["type"]) == (409, "/problems/job-not-held")
        assert await running.accepted("runway") == 1


async def test_an_operator_may_submit_again_more_than_once(start_gateway: StartGateway) -> None:
    async with held_job(start_gateway, "runway") as (running, job_id, operator):
        for tries in (2, 3):
            running.break_(fault("accept_reset", times=1), UNSEEN)
            assert (await resolve(operator, job_id, action="resubmit")).status_code == 200
            await running.until(job_id, held_again(tries))
        assert (await resolve(operator, job_id, action="resubmit")).status_code == 200
        job = await running.ended(job_id)
        assert states(job) == ["unknown", "unknown", "unknown", "succeeded"]


@BOTH_ENGINES
@pytest.mark.parametrize("action", ["adopt", "resubmit", "fail"])
async def test_a_word_about_another_attempt_than_the_one_in_doubt_changes_nothing(
    start_gateway: StartGateway, action: str
) -> None:
    """Two operators read of attempt 1; the second answers after the first had it submitted again."""
    async with held_job(start_gateway, "runway") as (running, job_id, operator):
        (first,) = (await running.job(job_id))["attempts"]
        body: Document = {"action": action, "attempt": first["id"]}
        if action == "adopt":
            body["provider_ref"] = ref_at(running, "runway")
        running.break_(fault("accept_reset", times=1), UNSEEN)
        again = await resolve(operator, job_id, action="resubmit", attempt=first["id"])
        assert again.status_code == 200, again.text
        held = await running.until(job_id, held_again(2))
        reply = await resolve(operator, job_id, **body)
        assert (reply.status_code, reply.json()["type"]) == (409, "/problems/job-not-held")
        assert held["attempts"][1]["id"] in reply.json()["detail"]
        assert await running.job(job_id) == held
        assert await running.accepted("runway") == 2
        ended = await resolve(operator, job_id, action="fail", attempt=held["attempts"][1]["id"])
        assert ended.status_code == 200


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_only_a_run_that_the_provider_knows_and_nobody_has_is_adopted(
    start_gateway: StartGateway, provider: str
) -> None:
    async with held_job(start_gateway, provider) as (running, job_id, operator):
        taken = (await running.ended(await running.accept(provider)))["attempts"][0]["provider_ref"]
        held = await running.job(job_id)
        for ref in (taken, "11111111-2222-4333-8444-555555555555", "../x", "a b", "x" * 513, ""):
            reply = await resolve(operator, job_id, action="adopt", provider_ref=ref)
            assert reply.status_code == 422, (ref, reply.text)
            assert [error["pointer"] for error in reply.json()["errors"]] == ["/provider_ref"]
        assert await running.job(job_id) == held


async def test_a_provider_that_does_not_answer_leaves_the_job_held(start_gateway: StartGateway) -> None:
    async with held_job(start_gateway, "runway") as (running, job_id, operator):
        ref = ref_at(running, "runway")
        running.break_(fault("html_502", "poll"), UNSEEN)
        reply = await resolve(operator, job_id, action="adopt", provider_ref=ref)
        assert (reply.status_code, reply.json()["type"]) == (503, "/problems/provider-unreachable")
        assert int(reply.headers["retry-after"]) >= 1
        assert (await running.job(job_id))["held"]


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({}, 422, "/action"),
        ({"action": "forget"}, 422, "/action"),
        ({"action": "adopt"}, 422, "/provider_ref"),
        ({"action": "adopt", "provider_ref": 1}, 422, "/provider_ref"),
        ({"action": "fail", "provider_ref": "r"}, 422, "/provider_ref"),
        ({"action": "fail", "attempt": 1}, 422, "/attempt"),
        ({"action": "fail", "more": 1}, 422, "/more"),
        ([], 422, ""),
    ],
)
async def test_a_word_that_is_none_is_refused(
    start_gateway: StartGateway, body: Any, status: int, pointer: str
) -> None:
    running = await start_gateway()
    async with running.another_client("ops", Scope.OPERATOR) as operator:
        reply = await operator.post("/v1/jobs/job_" + "0" * 32 + "/resolve", json=body)
        assert reply.status_code == status
        assert reply.json()["errors"][0]["pointer"] == pointer


async def test_who_may_say_it_and_of_which_jobs(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    job_id = await running.accept("runway")
    assert (await resolve(running.client, job_id, action="fail")).status_code == 403
    nobody = await running.client.post(f"/v1/jobs/{job_id}/resolve", headers={"Authorization": ""})
    assert nobody.status_code == 401
    async with running.another_client("ops", Scope.OPERATOR) as operator:
        for unknown in ("job_" + "0" * 32, "x"):
            assert (await resolve(operator, unknown, action="fail")).status_code == 404
        untyped = await operator.post(f"/v1/jobs/{job_id}/resolve", content=b"{}")
        assert untyped.status_code == 415
        await running.ended(job_id)
        ended = await resolve(operator, job_id, action="fail")
        assert (ended.status_code, ended.json()["type"]) == (409, "/problems/job-not-held")


@BOTH_ENGINES
@pytest.mark.parametrize("action", ["adopt", "resubmit", "fail"])
async def test_two_words_at_once_are_one(start_gateway: StartGateway, action: str) -> None:
    async with held_job(start_gateway, "runway") as (running, job_id, operator):
        body: Document = {"action": action}
        if action == "adopt":
            body["provider_ref"] = ref_at(running, "runway")
        replies = await asyncio.gather(*(resolve(operator, job_id, **body) for _ in range(6)))
        assert sorted(reply.status_code for reply in replies) == [200] + [409] * 5
        assert (await running.events(job_id)).count("hold.resolved") == 1
