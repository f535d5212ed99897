"""One client POST is at most one paid submission, whatever the provider does after it took the job."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from running_gateway import (
    ADAPTERS,
    BOTH_ENGINES,
    EMULATIONS,
    PROVIDERS,
    Document,
    JumpClock,
    RunningGateway,
    StartGateway,
    StartSimulator,
    fault,
    stats_of,
)
from webhook_receiver import answer, open_receiver

from gateway.registry import Registry
from gateway.simulator.faults import SPOILS
from providers.contract.errors import DECISIONS, ErrorCode

BLIND = Registry([replace(one, reconcile=None) for one in ADAPTERS.values()])
"""The installed adapters, but for their ways to find a lost submission: what nobody can find stays held."""
HURRIED = Registry(
    [replace(one, spec=replace(one.spec, submit_timeout_s=2.0)) for one in BLIND.adapters.values()]
)
"""The same, with little patience for a create call; yet enough for the last check before it."""

HOUR_S, DAY_S = 3600, 86_400

REFUSALS = [(name, code) for name in PROVIDERS for code in EMULATIONS[name].refusals]
DEFINITE = [
    (name, code)
    for name, code in REFUSALS
    if 400 <= EMULATIONS[name].refusals[code].status < 500 and not DECISIONS[ErrorCode(code)].retry
]
VAGUE = [(name, code) for name, code in REFUSALS if EMULATIONS[name].refusals[code].status >= 500]
LIMITED = [name for name in PROVIDERS if "rate_limited" in EMULATIONS[name].refusals]

pytestmark = BOTH_ENGINES


async def stays_held(running: RunningGateway, clock: JumpClock, job_id: str) -> Document:
    """The deadline passes, the worker is replaced, and the job is still held; then it is given up."""
    held = await running.held(job_id)
    assert held["held"]["reason"] == "submission_unknown"
    assert (held["status"], [attempt["state"] for attempt in held["attempts"]]) == ("queued", ["unknown"])
    assert held["attempts"][0]["error"]["code"] == "submission_unknown"
    clock.jump(HOUR_S)
    await running.sweep()
    await running.gateway.stop_worker()
    await running.gateway.start_worker()
    await running.sweep()
    assert await running.job(job_id) == held
    clock.jump(DAY_S)
    job = await running.ended(job_id)
    assert (job["status"], job["error"]["code"], job["held"]) == ("failed", "submission_unknown", None)
    assert job["provider_may_bill"]
    assert [attempt["state"] for attempt in job["attempts"]] == ["unknown"]
    await running.sweep()
    (submit,) = [one for one in await running.timeline(job_id, "exchange") if one["operation"] == "submit"]
    assert submit["outcome"] == "unknown"
    return job


@pytest.mark.parametrize("spoilt", sorted(SPOILS))
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_may_have_been_made_is_held_and_never_repeated(
    start_gateway: StartGateway, provider: str, spoilt: str
) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock, registry=HURRIED if spoilt == "accept_silence" else BLIND)
    running.break_(fault(spoilt, provider=provider))
    job_id = await running.accept(provider)
    await stays_held(running, clock, job_id)
    assert await running.accepted(provider) == 1
    assert await running.metric("submissions_unknown_total", provider=provider) == 1
    assert (await running.events(job_id)).count("attempt.submitting") == 1


@pytest.mark.parametrize(("provider", "code"), VAGUE)
async def test_a_server_error_says_nothing_even_where_nothing_was_made(
    start_gateway: StartGateway, provider: str, code: str
) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock, registry=BLIND)
    running.break_(fault(f"refuse:{code}", provider=provider))
    await stays_held(running, clock, await running.accept(provider))
    stats = await running.stats()
    assert (stats["accepted"][provider], stats["refused"][provider]) == (0, 1)


@pytest.mark.parametrize(("provider", "code"), DEFINITE)
async def test_a_definite_refusal_ends_the_job(start_gateway: StartGateway, provider: str, code: str) -> None:
    running = await start_gateway(registry=BLIND)
    running.break_(fault(f"refuse:{code}", provider=provider))
    job = await running.ended(await running.accept(provider))
    assert (job["status"], job["error"]["code"], job["held"]) == ("failed", code, None)
    assert [attempt["state"] for attempt in job["attempts"]] == ["refused"]
    assert job["attempts"][0]["error"] == job["error"]
    assert not job["provider_may_bill"]
    await running.sweep()
    stats = await running.stats()
    assert (stats["accepted"][provider], stats["refused"][provider]) == (0, 1)


@pytest.mark.parametrize("provider", LIMITED)
async def test_a_rate_limit_is_waited_for(start_gateway: StartGateway, provider: str) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock, registry=BLIND)
    running.break_(fault("refuse:rate_limited", provider=provider, times=2))
    job_id = await running.accept(provider)
    await running.until(job_id, refused_often(1))
    await running.sleep(clock, 60)
    job = await running.ended(job_id)
    assert (job["status"], states(job)) == ("succeeded", ["refused", "refused", "succeeded"])
    assert {attempt["error"]["code"] for attempt in job["attempts"][:2]} == {"rate_limited"}
    assert await running.accepted(provider) == 1


@pytest.mark.parametrize("provider", LIMITED)
async def test_a_rate_limit_that_never_ends_is_bounded_by_the_deadline(
    start_gateway: StartGateway, provider: str
) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock, registry=BLIND)
    running.break_(fault("refuse:rate_limited", provider=provider))
    job_id = await running.accept(provider, deadline_s=60)
    await running.until(job_id, refused_often(1))
    await running.sleep(clock, 61)
    job = await running.ended(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "deadline_exceeded")
    asked = (await running.stats())["refused"][provider]
    clock.jump(HOUR_S)
    await running.sweep()
    assert (await running.stats())["refused"][provider] == asked
    assert await running.accepted(provider) == 0


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_refused_connection_is_tried_until_it_stands(
    start_gateway: StartGateway, simulator_server: StartSimulator, provider: str
) -> None:
    clock = JumpClock()
    with contextlib.closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))  # and not listening
        port = reserved.getsockname()[1]
        running = await start_gateway(
            clock=clock, base_urls={provider: f"http://127.0.0.1:{port}/{provider}"}
        )
        job_id = await running.accept(provider)
        for number in (1, 2, 3):
            await running.until(job_id, refused_often(number))
            await running.sleep(clock, 60 if number < 3 else 0)
    later = await simulator_server(port=port)
    await running.sleep(clock, 60)
    job = await running.ended(job_id)
    *refused, last = job["attempts"]
    assert (job["status"], last["state"]) == ("succeeded", "succeeded")
    assert {attempt["state"] for attempt in refused} == {"refused"}
    assert {attempt["error"]["code"] for attempt in refused} == {"provider_unavailable"}
    assert (await stats_of(later))["accepted"][provider] == 1


# --- answers that no provider of ours gives, from a server that says whatever it is told ---


def json_answer(document: str | bytes, *headers: str) -> bytes:
    body = document.encode() if isinstance(document, str) else document
    lines = [
        "HTTP/1.1 200 OK",
        "Content-Type: application/json",
        *headers,
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


NO_REF = {
    "moved": answer("302 Found", "Location: http://127.0.0.1:9/"),
    "timed-out": answer("408 Request Timeout"),
    "unavailable": answer("503 Service Unavailable"),
    "empty": json_answer(""),
    "no-object": json_answer("[]"),
    "no-id": json_answer('{"status": "success"}'),
    "id-of-another-type": json_answer('{"id": {"a": 1}, "predictionID": ["x"]}'),
    "id-too-long": json_answer(json.dumps({"id": "x" * 10_000, "predictionID": "x" * 10_000})),
    "nan": json_answer('{"id": NaN, "predictionID": NaN}'),
    "deep": json_answer("[" * 5000 + "]" * 5000),
    "not-utf-8": json_answer(b'{"id": "\xff\xfe"}'),
    "compressed": json_answer(b"\x1f\x8b\x08", "Content-Encoding: gzip"),
    "two-megabytes": json_answer(b'{"id": "' + b"x" * 2_000_000 + b'"}'),
    "cut-short": json_answer('{"id": "1"}')[:-3],
    "no-http": b"\x16\x03\x01 what?\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("said", sorted(NO_REF))
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_answer_without_a_ref_leaves_the_submission_in_doubt(
    start_gateway: StartGateway, provider: str, said: str
) -> None:
    clock = JumpClock()
    async with open_receiver(NO_REF[said]) as odd:
        running = await start_gateway(clock=clock, registry=BLIND, base_urls={provider: odd.url()})
        job_id = await running.accept(provider)
        held = await running.held(job_id)
        assert [attempt["state"] for attempt in held["attempts"]] == ["unknown"]
        clock.jump(HOUR_S)
        await running.sweep()
        assert len(odd.messages) == odd.connections == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_redirect_takes_the_key_nowhere(start_gateway: StartGateway, provider: str) -> None:
    async with open_receiver() as trap, open_receiver(answer("307 Away", f"Location: {trap.url()}")) as odd:
        running = await start_gateway(registry=BLIND, base_urls={provider: odd.url()})
        await running.held(await running.accept(provider))
        assert trap.connections == 0


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_connection_that_breaks_before_a_byte_is_answered_is_in_doubt(
    start_gateway: StartGateway, provider: str
) -> None:
    """It stood, so the request may have been read."""
    connections = 0

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.transport.abort()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        running = await start_gateway(registry=BLIND, base_urls={provider: f"http://127.0.0.1:{port}"})
        await running.held(await running.accept(provider))
        await running.sweep()
        assert connections == 1


async def test_a_held_job_can_be_cancelled_and_may_be_billed(start_gateway: StartGateway) -> None:
    running = await start_gateway(registry=BLIND)
    provider = PROVIDERS[0]
    running.break_(fault("accept_502"))
    job_id = await running.accept(provider)
    await running.held(job_id)
    job = (await running.client.post(f"/v1/jobs/{job_id}/cancel")).json()
    assert (job["status"], job["provider_may_bill"], job["held"]) == ("cancelled", True, None)
    assert await running.accepted(provider) == 1


async def test_a_replay_of_a_held_job_pays_nothing(start_gateway: StartGateway) -> None:
    running = await start_gateway(registry=BLIND)
    provider = PROVIDERS[0]
    running.break_(fault("accept_502"))
    job_id = await running.accept(provider, key="paid-once")
    await running.held(job_id)
    assert await running.accept(provider, key="paid-once") == job_id
    await running.sweep()
    assert await running.accepted(provider) == 1


def refused_often(times: int) -> Callable[[Document], bool]:
    """Whether a job was refused at least that often, and is not being submitted at the moment."""
    return lambda job: len(job["attempts"]) >= times and set(states(job)) == {"refused"}


def states(job: Document) -> list[str]:
    return [attempt["state"] for attempt in job["attempts"]]
