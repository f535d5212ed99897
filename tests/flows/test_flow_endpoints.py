"""Webhook endpoints over the API, with receivers that check by their own libraries, on both engines."""

from __future__ import annotations

import base64
from contextlib import AsyncExitStack
from typing import Any

import pytest
import svix.webhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from refusals import judged, pointers
from running_gateway import BOTH_ENGINES, PROVIDERS, Document, JumpClock, RunningGateway, StartGateway
from standardwebhooks import Webhook
from webhook_receiver import Message, answer, open_receiver

from gateway.service.keys import Scope

OPEN = {
    "WEBHOOKS__ALLOW_HTTP": "true",
    "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32",
    "WEBHOOKS__JITTER": "0",
}
ENDPOINTS = "/v1/webhook-endpoints"
PROVIDER = PROVIDERS[0]
NARROW = {"WEBHOOKS__TIMEOUT_S": "600", "WEBHOOKS__CONCURRENCY": "13", "WORKER__STOP_S": "0.1"}
"""No try ends, and three receivers that never answer leave one place for all the others."""
LONG = "x" * 201
NOBODYS = f"{ENDPOINTS}/we_{0:032x}"

pytestmark = BOTH_ENGINES


async def made(running: RunningGateway, url: str, **given: Any) -> Document:
    reply = await running.client.post(ENDPOINTS, json={"url": url, **given})
    assert reply.status_code == 201, reply.text
    assert reply.headers["location"] == f"{ENDPOINTS}/{reply.json()['id']}"
    found: Document = reply.json()
    return found


async def posted(running: RunningGateway, endpoint: Document, deed: str, **body: Any) -> Document:
    path = f"{ENDPOINTS}/{endpoint['id']}/{deed}"
    reply = await running.client.post(path, json=body or None)
    assert reply.status_code in {200, 202}, reply.text
    found: Document = reply.json()
    return found


async def logged(running: RunningGateway, endpoint: Document) -> list[Document]:
    reply = await running.client.get(f"{ENDPOINTS}/{endpoint['id']}/deliveries")
    assert reply.status_code == 200, reply.text
    found: list[Document] = reply.json()["deliveries"]
    return found


async def until_logged(running: RunningGateway, endpoint: Document, state: str, tries: int = 1) -> Document:
    """The latest delivery to an endpoint, once it stands like that."""
    found: list[Document] = []

    async def there() -> bool:
        found[:] = await logged(running, endpoint)
        return bool(found) and (found[0]["state"], len(found[0]["attempts"])) == (state, tries)

    await running.when(there)
    return found[0]


def verified(message: Message, secret: str) -> None:
    """Both libraries of receivers accept the signature."""
    Webhook(secret).verify(message.body, message.headers)
    svix.webhooks.Webhook(secret).verify(message.body, message.headers)


async def test_an_endpoint_hears_of_all_its_owners_jobs_beside_their_own_receivers(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver() as every, open_receiver() as own:
        endpoint = await made(running, every.url(), description="all of them")
        first = await running.accept(PROVIDER)
        second = await running.accept(PROVIDER, webhook={"url": own.url()})
        async with running.another_client("somebody else") as strangers:
            await strangers.post("/v1/jobs", json={"nothing": True})
        messages = await every.received(2)
        (beside,) = await own.received(1)
        assert {one.event["data"]["id"] for one in messages} == {first, second}
        for message in messages:
            verified(message, endpoint["secret"])
        same = next(one for one in messages if one.event["data"]["id"] == second)
        assert (same.body, same.id) == (beside.body, beside.id)
        assert "secret" not in (await running.client.get(f"{ENDPOINTS}/{endpoint['id']}")).json()


async def test_while_a_rotation_overlaps_either_secret_verifies_what_waited(
    start_gateway: StartGateway,
) -> None:
    clock = JumpClock()
    running = await start_gateway(settings=OPEN | {"WEBHOOKS__SCHEDULE_S": "0, 100"}, clock=clock)
    async with open_receiver(answer("500 No"), answer()) as receiver:
        endpoint = await made(running, receiver.url())
        await running.accept(PROVIDER)
        await until_logged(running, endpoint, "pending")
        rotated = await posted(running, endpoint, "rotate")
        clock.jump(100)
        before, after = await receiver.received(2)
        verified(before, endpoint["secret"])
        for secret in (endpoint["secret"], rotated["secret"]):
            verified(after, secret)
        assert (before.body, before.id) == (after.body, after.id)
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(rotated["secret"]).verify(before.body, before.headers)


async def test_an_ed25519_endpoint_shows_its_public_key_and_no_secret(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver() as receiver:
        endpoint = await made(running, receiver.url(), signing="ed25519")
        assert endpoint["secret"] is None
        await running.accept(PROVIDER)
        (message,) = await receiver.received(1)
        scheme, _, signature = message.headers["webhook-signature"].partition(",")
        assert scheme == "v1a"
        shown = (await running.client.get(f"{ENDPOINTS}/{endpoint['id']}")).json()["public_key"]
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(shown.removeprefix("whpk_")))
        signed = f"{message.id}.{message.headers['webhook-timestamp']}.".encode() + message.body
        key.verify(base64.b64decode(signature), signed)


async def test_one_that_is_gone_is_disabled_and_gets_all_it_missed_when_it_is_back(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver(answer("410 Gone")) as receiver:
        endpoint = await made(running, receiver.url())
        refused = await running.accept(PROVIDER)
        await until_logged(running, endpoint, "given_up")
        shown = (await running.client.get(f"{ENDPOINTS}/{endpoint['id']}")).json()
        assert (shown["state"], shown["disabled_reason"]) == ("disabled", "gone")
        assert await running.metric("webhook_endpoints_disabled_total", reason="gone") == 1
        missed = await running.accept(PROVIDER)
        await running.ended(missed)
        assert [
            (one["job_id"], one["state"], len(one["attempts"])) for one in await logged(running, endpoint)
        ] == [
            (missed, "given_up", 0),
            (refused, "given_up", 1),
        ]
        assert receiver.connections == 1
        receiver.answers = [answer()]
        assert (await posted(running, endpoint, "test"))["delivered"]
        judged(
            await running.client.post(
                f"{ENDPOINTS}/{endpoint['id']}/recover", json={"since": shown["created_at"]}
            ),
            409,
            "endpoint-disabled",
        )
        assert (await posted(running, endpoint, "enable"))["state"] == "enabled"
        assert await posted(running, endpoint, "recover", since=shown["created_at"]) == {
            "requeued": 2,
            "complete": True,
        }
        messages = await receiver.received(4)
        ping, *jobs = messages[1:]
        verified(ping, endpoint["secret"])
        assert ping.event["type"] == "ping"
        assert {one.event["data"]["id"] for one in jobs} == {refused, missed}
        for message in jobs:
            verified(message, endpoint["secret"])
        assert messages[0].id in {one.id for one in jobs}, "the same event keeps its id"


async def test_five_days_of_failure_disable_an_endpoint(start_gateway: StartGateway) -> None:
    clock = JumpClock()
    running = await start_gateway(
        settings=OPEN | {"WEBHOOKS__SCHEDULE_S": "0, 1, 86400, 432000"}, clock=clock
    )
    async with open_receiver(answer("500 No")) as receiver:
        endpoint = await made(running, receiver.url())
        await running.accept(PROVIDER)
        await until_logged(running, endpoint, "pending", 2)
        await running.sleep(clock, 86_401)
        await until_logged(running, endpoint, "pending", 3)
        await running.sleep(clock, 432_001)
        await until_logged(running, endpoint, "given_up", 4)
        shown = (await running.client.get(f"{ENDPOINTS}/{endpoint['id']}")).json()
        assert (shown["state"], shown["disabled_reason"]) == ("disabled", "failing")


async def test_a_delivery_is_sent_again_with_the_same_bytes_and_id(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver() as receiver:
        await made(running, receiver.url())
        job_id = await running.accept(PROVIDER)
        await receiver.received(1)
        path = f"/v1/jobs/{job_id}/deliveries"

        async def delivered() -> bool:
            found = (await running.client.get(path)).json()["deliveries"]
            return bool(found[0]["state"] == "delivered")

        await running.when(delivered)
        (delivery,) = (await running.client.get(path)).json()["deliveries"]
        again = await running.client.post(f"/v1/deliveries/{delivery['id']}/redeliver")
        assert (again.status_code, again.json()["state"]) == (202, "delivered")
        first, second = await receiver.received(2)
        assert (first.body, first.id) == (second.body, second.id)
        await running.when(delivered)
        (shown,) = (await running.client.get(path)).json()["deliveries"]
        assert [one["number"] for one in shown["attempts"]] == [1, 2]


async def test_what_is_wrong_is_told_with_its_place_and_changes_nothing(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings={})
    client, url = running.client, "https://receiver.example/hook"
    endpoint = await made(running, url)
    at = f"{ENDPOINTS}/{endpoint['id']}"
    shown = (await client.get(at)).json()
    wrong: list[tuple[str, str, Any, int, str, list[str]]] = [
        ("POST", ENDPOINTS, {}, 422, "validation-failed", ["/url"]),
        ("POST", ENDPOINTS, {"url": url, "events": []}, 422, "validation-failed", ["/events"]),
        ("POST", ENDPOINTS, {"url": url, "events": ["ping"]}, 422, "validation-failed", ["/events/0"]),
        ("POST", ENDPOINTS, {"url": url, "secret": "whsec_x"}, 422, "validation-failed", ["/secret"]),
        ("POST", ENDPOINTS, {"url": url, "signing": "rsa"}, 422, "validation-failed", ["/signing"]),
        (
            "POST",
            ENDPOINTS,
            {"url": url, "description": LONG},
            422,
            "validation-failed",
            ["/description"],
        ),
        ("POST", ENDPOINTS, {"url": "http://receiver.example"}, 422, "insecure-callback", ["/url"]),
        ("POST", ENDPOINTS, {"url": "https://10.0.0.1"}, 422, "forbidden-target", ["/url"]),
        ("PATCH", at, {"url": "https://169.254.169.254"}, 422, "forbidden-target", ["/url"]),
        ("PATCH", at, {"state": "disabled"}, 422, "validation-failed", ["/state"]),
        ("PATCH", at, {"url": None}, 422, "validation-failed", ["/url"]),
        ("POST", f"{at}/recover", {"since": "yesterday"}, 422, "validation-failed", ["/since"]),
        ("POST", f"{at}/recover", {}, 422, "validation-failed", ["/since"]),
    ]
    for method, path, body, status, slug, places in wrong:
        problem = judged(await client.request(method, path, json=body), status, slug)
        assert pointers(problem) == places, (path, body)
    for path in (f"{ENDPOINTS}?limit=0", f"{at}/deliveries?status=pending"):
        judged(await client.get(path), 422, "validation-failed")
    for path in (f"{ENDPOINTS}?cursor=x", f"{at}/deliveries?cursor=x"):
        judged(await client.get(path), 400, "invalid-cursor")
    judged(await client.put(at, json={}), 405, "method-not-allowed")
    assert (await client.get(at)).json() == shown
    assert (await client.delete(at)).json() == {"id": endpoint["id"], "deleted": True}
    judged(await client.get(at), 404, "not-found")


async def test_another_owners_endpoint_answers_as_one_that_does_not_exist(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    endpoint = await made(running, "https://receiver.example/hook")
    theirs = f"{ENDPOINTS}/{endpoint['id']}"
    since = {"since": "2026-01-31T08:00:00Z"}
    calls: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("PATCH", "", {"events": ["job.failed"]}),
        ("DELETE", "", None),
        ("GET", "/deliveries", None),
        *(("POST", f"/{deed}", None) for deed in ("rotate", "enable", "disable", "test")),
        ("POST", "/recover", since),
    ]
    async with (
        running.another_client("stranger") as stranger,
        running.another_client("meter", Scope.METRICS) as meter,
        running.another_client("ops", Scope.OPERATOR) as operator,
    ):
        for method, deed, body in calls:
            details = set()
            for path in (theirs, NOBODYS, f"{ENDPOINTS}/nonsense"):
                reply = await stranger.request(method, path + deed, json=body)
                details.add(judged(reply, 404, "not-found")["detail"])
            assert len(details) == 1
            judged(await meter.request(method, theirs + deed, json=body), 403, "forbidden")
        assert (await stranger.get(ENDPOINTS)).json() == {"endpoints": [], "next_cursor": None}
        judged(await stranger.post(f"/v1/deliveries/dlv_{0:032x}/redeliver"), 404, "not-found")
        listed = (await operator.get(ENDPOINTS)).json()["endpoints"]
        assert [(one["id"], one["owner"]) for one in listed] == [(endpoint["id"], "tester")]


async def test_lists_come_in_pages(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    wanted = [(await made(running, f"https://receiver.example/{n}"))["id"] for n in range(3)]
    for _ in range(3):
        job_id = await running.accept(PROVIDER)
        await running.client.post(f"/v1/jobs/{job_id}/cancel")
    for path, name in (
        (ENDPOINTS, "endpoints"),
        (f"{ENDPOINTS}/{wanted[0]}/deliveries", "deliveries"),
        (f"/v1/jobs/{job_id}/deliveries", "deliveries"),
    ):
        first = (await running.client.get(f"{path}?limit=2")).json()
        rest = (await running.client.get(path, params={"limit": "2", "cursor": first["next_cursor"]})).json()
        found = [one["id"] for one in (*first[name], *rest[name])]
        assert (len(set(found)), rest["next_cursor"]) == (3, None)
        assert found == sorted(found, reverse=True)


async def test_receivers_that_never_answer_delay_nobody_else(start_gateway: StartGateway) -> None:
    """21 endpoints, three of which swallow what they get: the others hear of every job while those hang."""
    running = await start_gateway(settings=OPEN | NARROW)
    async with AsyncExitStack() as stack:
        pits = [await stack.enter_async_context(open_receiver(pause_s=3600)) for _ in range(3)]
        good = [await stack.enter_async_context(open_receiver()) for _ in range(18)]
        for one in (*pits, *good):
            await made(running, one.url(), events=["job.cancelled"])
        # What is in hand stays there: that others go on must not rest on its being put back.
        running.gateway.parts.sender._queue_s = 3600.0
        await running.gateway.stop_worker()
        jobs = [await running.accept(PROVIDER) for _ in range(20)]
        for job_id in jobs:
            await running.client.post(f"/v1/jobs/{job_id}/cancel")
        await running.gateway.start_worker()
        for receiver in good:
            messages = await receiver.received(len(jobs))
            assert {one.event["data"]["id"] for one in messages} == set(jobs)
        most = running.gateway.settings.webhooks.per_host_concurrency
        for pit in pits:
            assert 1 <= pit.connections <= most
