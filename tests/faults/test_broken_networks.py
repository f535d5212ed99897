"""The network breaks, before the provider and before receivers: one submission each, and every webhook."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from fault_proxy import FaultProxy, open_proxy
from msgspec.structs import replace
from running_gateway import (
    ADAPTERS,
    ENDED,
    PROVIDERS,
    Document,
    JumpClock,
    RunningGateway,
    StartGateway,
    StartSimulator,
    stats_of,
)
from webhook_receiver import open_receiver

from gateway.registry import Registry
from gateway.simulator import SimulatorServer

HURRIED = Registry(
    [
        replace(one, spec=replace(one.spec, submit_timeout_s=2.0, poll_timeout_s=0.5))
        for one in ADAPTERS.values()
    ]
)
"""The installed adapters, but for their patience."""

HOOKED = {"WEBHOOKS__ALLOW_HTTP": "true", "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32"}

INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"
FLOOD_BYTES = 2**23
"""More than kernel and proxy take in before the gateway has looked at the first of it."""

Break = Callable[[FaultProxy], object]


def cut_answer(after: int) -> Break:
    return lambda proxy: setattr(proxy.down, "cut_after", after)


def reset_answer(after: int) -> Break:
    return lambda proxy: setattr(proxy.down, "reset_after", after)


#: The request went through; the answer did not, or not all of it.
ANSWER_LOST: dict[str, Break] = {
    "reset-before-the-answer": reset_answer(0),
    "reset-within-the-answer": reset_answer(40),
    "answer-swallowed": lambda proxy: setattr(proxy.down, "blackhole", True),
    "answer-late": lambda proxy: setattr(proxy.down, "latency_s", 2.0),
    "answer-dripping": lambda proxy: setattr(proxy.down, "bytes_per_s", 50.0),
    "answer-behind-interim-ones-without-end": lambda proxy: setattr(proxy.down, "flood", INTERIM * 2000),
    **{f"answer-cut-after-{size}": cut_answer(size) for size in (0, 1, 17, 100)},
}
#: A connection stood, and the request did not get through, which nobody on our side can know.
REQUEST_LOST: dict[str, Break] = {
    "request-swallowed": lambda proxy: setattr(proxy.up, "blackhole", True),
    "request-cut": lambda proxy: setattr(proxy.up, "cut_after", 30),
    "request-reset": lambda proxy: setattr(proxy.up, "reset_after", 0),
}
#: Slow and in pieces, and whole.
SLOW: dict[str, Break] = {
    "request-in-single-bytes": lambda proxy: setattr(proxy.up, "slice_bytes", 1),
    "answer-in-single-bytes": lambda proxy: setattr(proxy.down, "slice_bytes", 1),
    "latency": lambda proxy: setattr(proxy.up, "latency_s", 0.05),
    "jitter": lambda proxy: setattr(proxy.down, "jitter_s", 0.1),
}


@asynccontextmanager
async def before(simulator: SimulatorServer) -> AsyncIterator[FaultProxy]:
    address = urlsplit(simulator.url)
    assert address.hostname is not None
    assert address.port is not None
    async with open_proxy((address.hostname, address.port)) as proxy:
        yield proxy


def through(proxy: FaultProxy, provider: str) -> dict[str, str]:
    return {provider: f"http://127.0.0.1:{proxy.port}/{provider}"}


async def doubted(running: RunningGateway, job_id: str) -> None:
    """Wait until a submission's outcome was given up."""

    async def given_up() -> bool:
        return "attempt.unknown" in await running.events(job_id)

    await running.when(given_up)


async def settled(running: RunningGateway, job_id: str) -> Document:
    return await running.until(job_id, lambda job: job["held"] is not None or job["status"] in ENDED)


@pytest.mark.parametrize("broken", ANSWER_LOST)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_submission_whose_answer_was_lost_is_never_made_again(
    start_gateway: StartGateway, simulator_server: StartSimulator, provider: str, broken: str
) -> None:
    served = await simulator_server()
    async with before(served) as proxy:
        running = await start_gateway(registry=HURRIED, base_urls=through(proxy, provider))
        ANSWER_LOST[broken](proxy)
        job_id = await running.accept(provider)
        await doubted(running, job_id)
        proxy.clear()
        await running.sweep()
        job = await settled(running, job_id)
    assert (await stats_of(served))["accepted"][provider] == 1
    assert [attempt["state"] for attempt in job["attempts"]] in (["unknown"], ["accepted"], ["succeeded"])
    assert (await running.events(job_id)).count("attempt.submitting") == 1


async def test_a_flood_in_place_of_the_answer_is_cut_off_and_the_submission_is_in_doubt(
    start_gateway: StartGateway, simulator_server: StartSimulator
) -> None:
    served = await simulator_server()
    async with before(served) as proxy:
        running = await start_gateway(registry=HURRIED, base_urls=through(proxy, "runway"))
        ANSWER_LOST["answer-behind-interim-ones-without-end"](proxy)
        job_id = await running.accept("runway")
        job = await running.held(job_id)
        assert proxy.down.passed < FLOOD_BYTES
    assert (job["held"]["reason"], (await stats_of(served))["accepted"]["runway"]) == (
        "submission_unknown",
        1,
    )
    assert "more than 128 interim answers" in job["attempts"][0]["error"]["message"]


@pytest.mark.parametrize("broken", REQUEST_LOST)
async def test_a_request_that_got_lost_is_in_doubt_too(
    start_gateway: StartGateway, simulator_server: StartSimulator, broken: str
) -> None:
    provider = "runway"
    served = await simulator_server()
    async with before(served) as proxy:
        running = await start_gateway(registry=HURRIED, base_urls=through(proxy, provider))
        REQUEST_LOST[broken](proxy)
        job_id = await running.accept(provider)
        job = await running.held(job_id)
        proxy.clear()
        await running.sweep()
        assert await running.job(job_id) == job
    assert (await stats_of(served))["accepted"][provider] == 0
    assert [attempt["state"] for attempt in job["attempts"]] == ["unknown"]


@pytest.mark.parametrize("slow", SLOW)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_slow_network_is_no_fault(
    start_gateway: StartGateway, simulator_server: StartSimulator, provider: str, slow: str
) -> None:
    served = await simulator_server()
    async with before(served) as proxy:
        SLOW[slow](proxy)
        running = await start_gateway(base_urls=through(proxy, provider))
        job = await running.ended(await running.accept(provider))
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
    assert (await stats_of(served))["accepted"][provider] == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_refused_connection_made_nothing_and_is_tried_again(
    start_gateway: StartGateway, simulator_server: StartSimulator, provider: str
) -> None:
    clock = JumpClock()
    served = await simulator_server()
    async with before(served) as proxy:
        await proxy.refuse()
        running = await start_gateway(clock=clock, base_urls=through(proxy, provider))
        job_id = await running.accept(provider)
        await running.until(job_id, lambda job: [one["state"] for one in job["attempts"]] == ["refused"])
        assert (proxy.connections, (await stats_of(served))["accepted"][provider]) == (0, 0)
        await proxy.listen()
        await running.sleep(clock, 60)
        job = await running.ended(job_id)
    assert (job["status"], len(job["attempts"])) == ("succeeded", 2)
    assert (await stats_of(served))["accepted"][provider] == 1


@pytest.mark.parametrize(
    "broken",
    [
        "reset-before-the-answer",
        "answer-swallowed",
        "answer-cut-after-100",
        "answer-dripping",
        "answer-behind-interim-ones-without-end",
    ],
)
async def test_polls_outlast_a_broken_network(
    start_gateway: StartGateway, simulator_server: StartSimulator, broken: str
) -> None:
    provider = "runway"
    served = await simulator_server()
    async with before(served) as proxy:
        running = await start_gateway(registry=HURRIED, base_urls=through(proxy, provider))
        job_id = await running.accept(provider)
        await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
        ANSWER_LOST[broken](proxy)
        proxy.reset()

        async def troubled() -> bool:
            tried = await running.timeline(job_id, "exchange")
            return any(one["operation"] == "poll" and one["status"] is None for one in tried)

        await running.when(troubled)
        proxy.clear()
        job = await running.ended(job_id)
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
    assert (await stats_of(served))["accepted"][provider] == 1


#: How a receiver's network breaks, and whether the receiver has the message all the same.
HOOKS: dict[str, tuple[Break, bool]] = {
    "reset-before-the-answer": (reset_answer(0), True),
    "answer-swallowed": (ANSWER_LOST["answer-swallowed"], True),
    "answer-cut": (cut_answer(5), True),
    "request-swallowed": (REQUEST_LOST["request-swallowed"], False),
    "request-reset": (REQUEST_LOST["request-reset"], False),
}


@pytest.mark.parametrize("broken", HOOKS)
async def test_a_webhook_is_sent_again_under_its_id_until_it_is_answered(
    start_gateway: StartGateway, broken: str
) -> None:
    breaks, arrives = HOOKS[broken]
    clock = JumpClock()
    async with open_receiver() as receiver, open_proxy(("127.0.0.1", receiver.port)) as proxy:
        settings = HOOKED | {"WEBHOOKS__TIMEOUT_S": "0.3", "WEBHOOKS__SCHEDULE_S": "0, 60, 60"}
        running = await start_gateway(clock=clock, settings=settings)
        breaks(proxy)
        url = f"http://127.0.0.1:{proxy.port}/hook"
        job_id = await running.accept("runway", webhook={"url": url, "events": ["job.succeeded"]})
        job = await running.ended(job_id)
        assert job["status"] == "succeeded"

        async def failed() -> bool:
            tries = await running.timeline(job_id, "delivery")
            return any(one["number"] > 0 and one["status"] is None for one in tries)

        await running.when(failed)
        proxy.clear()
        await running.sleep(clock, 100)

        async def delivered() -> bool:
            return any(one["state"] == "delivered" for one in await running.timeline(job_id, "delivery"))

        await running.when(delivered)
    assert len({(message.id, message.body) for message in receiver.messages}) == 1
    assert (len(receiver.messages) > 1) is arrives


async def test_a_receiver_that_refuses_is_tried_again(start_gateway: StartGateway) -> None:
    async with open_receiver() as receiver, open_proxy(("127.0.0.1", receiver.port)) as proxy:
        await proxy.refuse()
        running = await start_gateway(settings=HOOKED | {"WEBHOOKS__SCHEDULE_S": "0, 0.5, 0.5, 0.5"})
        url = f"http://127.0.0.1:{proxy.port}/hook"
        job_id = await running.accept("runway", webhook={"url": url, "events": ["job.succeeded"]})
        await running.ended(job_id)

        async def refused() -> bool:
            return any(one["number"] for one in await running.timeline(job_id, "delivery"))

        await running.when(refused)
        assert proxy.connections == 0
        await proxy.listen()
        (message,) = await receiver.received(1)
        assert message.event["data"]["id"] == job_id
