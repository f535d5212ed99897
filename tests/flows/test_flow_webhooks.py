"""Webhooks from a job's change to its receiver, checked with the receiver's own library."""

from __future__ import annotations

import base64
import socket

import pytest
from running_gateway import PROVIDERS, Document, JumpClock, RunningGateway, StartGateway, asked, fault
from standardwebhooks import Webhook
from webhook_receiver import Message, answer, open_receiver

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OPEN = {
    "WEBHOOKS__ALLOW_HTTP": "true",
    "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32",
    "WEBHOOKS__JITTER": "0",
    "WEBHOOKS__SCHEDULE_S": "0, 0.01, 0.01",
}
PROVIDER = PROVIDERS[0]


def verified(message: Message, secret: str) -> Document:
    """The event of a message whose signature the library accepts."""
    event: Document = Webhook(secret).verify(message.body, message.headers)
    return event


async def tries(running: RunningGateway, job_id: str, count: int) -> list[Document]:
    """The tries of a job's only delivery, once that many are recorded."""
    found: list[Document] = []

    async def recorded() -> bool:
        entries = await running.timeline(job_id, "delivery")
        found[:] = [entry for entry in entries if entry["number"]]
        return len(found) >= count

    await running.when(recorded)
    return found


async def test_the_jobs_own_secret_signs(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver() as receiver:
        job_id = await running.accept(
            PROVIDER, webhook={"url": receiver.url(), "secret": SECRET}, metadata={"order": "4711"}
        )
        job = await running.ended(job_id)
        (message,) = await receiver.received(1)
        event = verified(message, SECRET)
        assert event["type"] == "job.succeeded"
        assert event["data"] == job
        assert event["data"]["metadata"] == {"order": "4711"}
        assert event["sequence"] == len(await running.events(job_id))
        assert event["timestamp"] >= job["finished_at"]
        assert message.headers["content-type"] == "application/json"
        assert message.headers["user-agent"].startswith("motion-gateway/")
        assert message.id.startswith("msg_")
        with pytest.raises(Exception, match="No matching signature"):
            verified(message, str(running.key.webhook_secret))


async def test_the_owners_secret_signs_where_the_job_has_none(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver() as receiver:
        await running.accept(PROVIDER, webhook={"url": receiver.url()})
        (message,) = await receiver.received(1)
        assert running.key.webhook_secret is not None
        assert verified(message, running.key.webhook_secret)["type"] == "job.succeeded"


async def test_every_try_sends_the_same_bytes_at_a_time_of_its_own(start_gateway: StartGateway) -> None:
    clock = JumpClock()
    running = await start_gateway(settings=OPEN | {"WEBHOOKS__SCHEDULE_S": "0, 100, 100"}, clock=clock)
    async with open_receiver(answer("500 No"), answer("404 No"), answer()) as receiver:
        job_id = await running.accept(PROVIDER, webhook={"url": receiver.url(), "secret": SECRET})
        for number in (1, 2):
            await tries(running, job_id, number)
            clock.jump(100)
        made = await tries(running, job_id, 3)
        messages = receiver.messages
        assert len(messages) == 3
        assert len({message.body for message in messages}) == 1
        assert len({message.id for message in messages}) == 1
        stamps = [int(message.headers["webhook-timestamp"]) for message in messages]
        assert stamps == sorted(set(stamps))
        assert stamps[1] - stamps[0] >= 100
        for message in messages:
            verified(message, SECRET)
        assert [(entry["number"], entry["outcome"], entry["status"]) for entry in made] == [
            (1, "http_error", 500),
            (2, "http_error", 404),
            (3, "delivered", 200),
        ]
        assert {entry["state"] for entry in made} == {"delivered"}
        assert {entry["webhook_id"] for entry in made} == {messages[0].id}
        assert await running.metric("webhook_attempts_total", outcome="http_error") == 2
        assert await running.metric("webhook_attempts_total", outcome="delivered") == 1


async def test_a_receiver_that_never_agrees_is_given_up(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver(answer("500 No")) as receiver:
        job_id = await running.accept(PROVIDER, webhook={"url": receiver.url()})
        made = await tries(running, job_id, 3)
        await running.sweep()
        assert [entry["state"] for entry in made] == ["given_up"] * 3
        assert len(receiver.messages) == 3
        assert (await running.job(job_id))["status"] == "succeeded"


async def test_a_receiver_that_is_away_is_tried_again(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    job_id = await running.accept(PROVIDER, webhook={"url": f"http://127.0.0.1:{port}/hook"})
    made = await tries(running, job_id, 3)
    assert {entry["outcome"] for entry in made} == {"connection"}
    assert (await running.job(job_id))["status"] == "succeeded"


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
async def test_a_redirect_is_a_failure_and_not_followed(start_gateway: StartGateway, status: str) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver() as trap, open_receiver(answer(status, f"Location: {trap.url()}")) as receiver:
        job_id = await running.accept(PROVIDER, webhook={"url": receiver.url()})
        made = await tries(running, job_id, 3)
        assert {entry["outcome"] for entry in made} == {"redirected"}
        assert trap.connections == 0


async def test_gone_is_taken_at_its_word(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver(answer("410 Gone")) as receiver:
        job_id = await running.accept(PROVIDER, webhook={"url": receiver.url()})
        (entry,) = await tries(running, job_id, 1)
        await running.sweep()
        assert (entry["outcome"], entry["state"]) == ("gone", "given_up")
        assert receiver.connections == 1


async def test_an_overloaded_receiver_is_left_alone_for_a_minute(start_gateway: StartGateway) -> None:
    clock = JumpClock()
    running = await start_gateway(settings=OPEN, clock=clock)
    async with open_receiver(answer("503 Busy", "Retry-After: 1000000000"), answer()) as receiver:
        job_id = await running.accept(PROVIDER, webhook={"url": receiver.url()})
        await tries(running, job_id, 1)
        clock.jump(55)
        await running.sweep()
        assert receiver.connections == 1
        clock.jump(65)
        (first, second) = await tries(running, job_id, 2)
        assert (first["outcome"], second["outcome"]) == ("throttled", "delivered")


async def test_only_what_was_asked_for_is_told(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver() as receiver:
        job_id = await running.accept(PROVIDER, webhook={"url": receiver.url(), "events": ["job.failed"]})
        assert (await running.ended(job_id))["status"] == "succeeded"
        assert await running.timeline(job_id, "delivery") == []
        running.break_(fault("fail:content_rejected"))
        failed = await running.accept(PROVIDER, webhook={"url": receiver.url(), "events": ["job.failed"]})
        (message,) = await receiver.received(1)
        assert message.event["type"] == "job.failed"
        assert message.event["data"]["id"] == failed
        assert message.event["data"]["error"]["code"] == "content_rejected"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_way_of_a_job_is_told_to_those_who_ask(start_gateway: StartGateway, provider: str) -> None:
    clock = JumpClock()
    running = await start_gateway(settings=OPEN, simulator={"clock": clock, "run_s": 1000.0})
    events = ["job.running", "job.progress", "job.succeeded"]
    async with open_receiver() as receiver:
        job_id = await running.accept(provider, webhook={"url": receiver.url(), "events": events})
        await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
        clock.jump(500)
        shown = await running.until(job_id, lambda job: job["status"] == "running")
        if shown["progress"] is not None:  # this provider shows it
            clock.jump(300)
            await running.until(job_id, lambda job: job["progress"] > shown["progress"])
        clock.jump(1000)
        await running.ended(job_id)
        expected = {"job.running", "job.succeeded"} | (
            {"job.progress"} if shown["progress"] is not None else set()
        )
        messages = await receiver.received(
            lambda seen: {message.event["type"] for message in seen} == expected
        )
        told = sorted((message.event for message in messages), key=lambda event: int(event["sequence"]))
        assert told[0]["type"] == "job.running"
        assert told[0]["data"]["status"] == "running"
        assert told[-1]["type"] == "job.succeeded"
        assert len({event["sequence"] for event in told}) == len(told)
        assert len({message.id for message in messages}) == len(messages)
        progress = [event["data"]["progress"] for event in told if event["type"] == "job.progress"]
        assert progress == sorted(progress)


async def test_a_held_job_is_told_to_those_who_ask(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    running.break_(fault("accept_500"))
    async with open_receiver() as receiver:
        webhook = {"url": receiver.url(), "events": ["job.held", "job.cancelled"]}
        job_id = await running.accept("runway", webhook=webhook)  # no list to find its run in
        (message,) = await receiver.received(1)
        assert message.event["type"] == "job.held"
        assert message.event["data"]["held"]["reason"] == "submission_unknown"
        await running.client.post(f"/v1/jobs/{job_id}/cancel")
        assert (await receiver.received(2))[1].event["type"] == "job.cancelled"


async def test_a_job_cancelled_before_it_began_is_told(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    await running.gateway.stop_worker()
    async with open_receiver() as receiver:
        job_id = await running.accept(PROVIDER, webhook={"url": receiver.url()})
        await running.client.post(f"/v1/jobs/{job_id}/cancel")
        await running.gateway.start_worker()
        (message,) = await receiver.received(1)
        assert (message.event["type"], message.event["data"]["id"]) == ("job.cancelled", job_id)


# --- receivers that must not be dialled ---


@pytest.mark.parametrize(
    ("url", "slug"),
    [
        ("http://receiver.example/hook", "insecure-callback"),
        ("https://127.0.0.1/hook", "forbidden-target"),
        ("http://127.0.0.1/hook", "forbidden-target"),
        ("https://localhost/hook", "forbidden-target"),
    ],
)
async def test_by_default_a_private_or_plain_receiver_is_refused_at_once(
    start_gateway: StartGateway, url: str, slug: str
) -> None:
    running = await start_gateway()
    reply = await running.client.post("/v1/jobs", json=asked(webhook={"url": url}))
    assert (reply.status_code, reply.json()["type"]) == (422, f"/problems/{slug}")
    assert [error["pointer"] for error in reply.json()["errors"]] == ["/webhook/url"]


async def test_an_allowed_network_is_dialled(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver() as receiver:
        await running.accept(PROVIDER, webhook={"url": receiver.url()})
        assert await receiver.received(1)
