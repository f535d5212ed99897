"""The API's description against what is served: every route, the replies of many flows, the file in Git."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from event_reader import logged, reading
from litestar import Litestar
from running_gateway import PROVIDERS, Document, RunningGateway, StartGateway, asked, fault
from schema_check import Misfit, Schemas
from webhook_receiver import open_receiver

from gateway.api.openapi import build_openapi
from gateway.api.replies import PROBLEM
from gateway.console.routes import PATHS as PAGES
from gateway.service.keys import Scope

DOCUMENT: Document = json.loads(build_openapi())
REPLIES = Schemas(DOCUMENT, closed=True)
BODIES = Schemas(DOCUMENT, closed=False)
COMMITTED = Path(__file__).parents[2] / "openapi" / "openapi.json"
EVERY_ROUTE = {"404": "not-found"}
OPEN = {"WEBHOOKS__ALLOW_HTTP": "true", "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32"}


def component(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def template_of(path: str) -> str:
    """The documented path that a path is of; literal ones first."""
    given = path.split("/")
    for template in sorted(DOCUMENT["paths"], key=lambda one: one.count("{")):
        steps = template.split("/")
        if len(steps) == len(given) and all(
            a.startswith("{") or a == b for a, b in zip(steps, given, strict=True)
        ):
            found: str = template
            return found
    raise AssertionError(f"{path} is not documented")


def check_reply(reply: httpx.Response) -> None:
    """A reply's status, type, headers and document are those that its operation is documented with."""
    template = template_of(reply.request.url.path)
    operation: Document = DOCUMENT["paths"][template][reply.request.method.lower()]
    documented = operation["responses"].get(str(reply.status_code))
    assert documented is not None, f"{reply.request.method} {template} may not answer {reply.status_code}"
    if reply.status_code == 204:
        assert "content" not in documented
        return
    media = reply.headers["content-type"].partition(";")[0]
    assert media in documented["content"], (template, reply.status_code, media)
    headers = documented.get("headers", {})
    assert {name.lower() for name, header in headers.items() if header.get("required")} <= set(reply.headers)
    if media.endswith("json"):
        REPLIES.check(reply.json(), documented["content"][media]["schema"], f"{template}")
    if media == PROBLEM:
        assert f"`{reply.json()['type'].rpartition('/')[2]}`" in documented["description"]


async def checked(client: httpx.AsyncClient, method: str, path: str, **request: Any) -> httpx.Response:
    reply = await client.request(method, path, **request)
    check_reply(reply)
    return reply


async def check_stream(running: RunningGateway, job_id: str) -> None:
    """What an ended job's stream carries is as described, and so is the answer to who has heard it."""
    async with reading(running.client, job_id) as stream:
        told = logged(await stream.rest())
        check_reply(stream.response)
    for one in told:
        REPLIES.check(one.data, component("JobEvent"), one.type)
    heard = {"Last-Event-ID": str(told[-1].id)}
    assert (
        await checked(running.client, "GET", f"/v1/jobs/{job_id}/events", headers=heard)
    ).status_code == 204


async def check_job(running: RunningGateway, job_id: str) -> Document:
    """Everything that can be read of a job is as described."""
    await checked(running.client, "GET", f"/v1/jobs/{job_id}/timeline")
    job: Document = (await checked(running.client, "GET", f"/v1/jobs/{job_id}")).json()
    return job


def test_the_file_in_git_is_what_the_code_says() -> None:
    assert COMMITTED.read_bytes() == build_openapi(), "run: motion-gateway openapi"


async def test_what_is_served_is_described_and_nothing_else(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    app: Any = running.gateway.asgi._app
    assert isinstance(app, Litestar)
    served = {
        (route.path_format, method.lower())
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS" and route.path_format not in PAGES
    }
    described = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert served == described


async def test_the_description_is_served_and_can_be_read(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    assert (await checked(running.client, "GET", "/openapi.json")).json() == DOCUMENT
    page = (await checked(running.client, "GET", "/docs")).text
    for path in DOCUMENT["paths"]:
        assert path in page
    for address in ("http://", "https://", "src=", "@import"):
        assert address not in page.replace("https URL", ""), "the page loads something from elsewhere"


def test_every_reference_leads_somewhere_and_every_id_is_its_own() -> None:
    text = json.dumps(DOCUMENT)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in DOCUMENT["components"]["schemas"]
    ids = [op["operationId"] for methods in DOCUMENT["paths"].values() for op in methods.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_replies_about_a_job_are_as_described(start_gateway: StartGateway, provider: str) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver() as receiver:
        created = await checked(
            running.client,
            "POST",
            "/v1/jobs",
            json=asked(provider, webhook={"url": receiver.url()}, metadata={"a": "b"}, seed=1),
            headers={"Idempotency-Key": "k"},
        )
        job_id = created.json()["id"]
        await check_job(running, job_id)
        await running.ended(job_id)
        (message,) = await receiver.received(1)
        REPLIES.check(message.event["data"], component("JobView"))
        await running.sweep(1)
        assert (await check_job(running, job_id))["status"] == "succeeded"
        await check_stream(running, job_id)
        waited = {"Idempotency-Key": "w", "Prefer": "wait=60"}
        reply = await checked(running.client, "POST", "/v1/jobs", json=asked(provider), headers=waited)
        assert reply.status_code == 200
    running.break_(fault("fail:content_rejected"))
    failed = await running.accept(provider)
    await running.ended(failed)
    assert (await check_job(running, failed))["error"]
    running.break_(fault("accept_reset"), fault("no_rows", "list"))
    held = await running.accept(provider)
    await running.held(held)
    assert (await check_job(running, held))["held"]
    async with running.another_client("ops", Scope.OPERATOR) as operator:
        path, adopt = f"/v1/jobs/{held}/resolve", {"action": "adopt"}
        unknown = adopt | {"provider_ref": "unknown-to-it"}
        assert (await checked(operator, "POST", path, json=unknown)).status_code == 422
        running.break_(fault("html_502", "poll"), fault("no_rows", "list"))
        *_, run = running.simulator.simulator._mounts[provider].jobs._jobs
        assert (await checked(operator, "POST", path, json=adopt | {"provider_ref": run})).status_code == 503
        assert (await checked(operator, "POST", path, json={"action": "fail"})).status_code == 200
    await check_job(running, held)
    await checked(running.client, "GET", "/v1/jobs", params={"limit": "2"})


async def test_the_replies_about_endpoints_are_as_described(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    client, base = running.client, "/v1/webhook-endpoints"
    async with open_receiver() as receiver:
        created = await checked(client, "POST", base, json={"url": receiver.url(), "description": "d"})
        one = f"{base}/{created.json()['id']}"
        job_id = await running.accept()
        await running.ended(job_id)
        await receiver.received(1)
        (told,) = (await checked(client, "GET", f"{one}/deliveries")).json()["deliveries"]
        await checked(client, "GET", f"/v1/jobs/{job_id}/deliveries")
        again = f"/v1/deliveries/{told['id']}/redeliver"
        since = {"since": created.json()["created_at"]}
        calls: list[tuple[str, str, int, Document]] = [
            ("POST", again, 202, {}),
            ("GET", base, 200, {}),
            ("GET", one, 200, {}),
            ("PATCH", one, 200, {"json": {"events": ["job.held"]}}),
            ("PATCH", one, 422, {"json": {"url": "http://10.0.0.1"}}),
            ("POST", f"{one}/test", 200, {}),
            ("POST", f"{one}/rotate", 200, {}),
            ("POST", f"{one}/recover", 202, {"json": since}),
            ("POST", f"{one}/disable", 200, {}),
            ("POST", f"{one}/recover", 409, {"json": since}),
            ("POST", again, 409, {}),
            ("POST", f"{one}/enable", 200, {}),
            ("DELETE", one, 200, {}),
            ("GET", one, 404, {}),
            ("POST", base, 201, {"json": {"url": receiver.url(), "signing": "ed25519"}}),
        ]
        for method, path, status, request in calls:
            assert (await checked(client, method, path, **request)).status_code == status, path


async def test_the_other_replies_are_as_described(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    for path in (
        "/v1/providers",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/problems/not-found",
        "/v1/jobs",
    ):
        assert (await checked(running.client, "GET", path)).status_code == 200
    await running.gateway.stop_worker()
    assert (await checked(running.client, "GET", "/health/ready")).status_code == 503


async def test_the_refusals_are_as_described(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    job_id = await running.accept(key="taken")
    await running.client.post(f"/v1/jobs/{job_id}/cancel")
    unknown = "/v1/jobs/job_" + "0" * 32
    typed = {"Content-Type": "application/json"}
    requests: list[tuple[str, str, int, Document]] = [
        ("POST", "/v1/jobs", 400, {"content": b"{", "headers": typed}),
        ("POST", "/v1/jobs", 400, {"content": b"[" * 99, "headers": typed}),
        ("POST", "/v1/jobs", 400, {"content": b'{"a":1,"a":1}', "headers": typed}),
        ("POST", "/v1/jobs", 400, {"json": asked(), "headers": {"Idempotency-Key": ""}}),
        ("POST", "/v1/jobs", 413, {"content": b" " * 300_000, "headers": typed}),
        ("POST", "/v1/jobs", 415, {"content": b"{}"}),
        ("POST", "/v1/jobs", 415, {"content": b"{}", "headers": typed | {"Content-Encoding": "gzip"}}),
        ("POST", "/v1/jobs", 422, {"json": {}}),
        ("POST", "/v1/jobs", 422, {"json": asked(model="other")}),
        ("POST", "/v1/jobs", 422, {"json": asked(priority="urgent")}),
        ("POST", "/v1/plan", 200, {"json": asked(routing={"exclude": list(PROVIDERS)})}),
        ("POST", "/v1/plan", 422, {"json": asked(model="other")}),
        ("POST", "/v1/jobs", 422, {"json": asked(character="ftp://a")}),
        ("POST", "/v1/jobs", 422, {"json": asked(webhook={"url": "https://127.0.0.1"})}),
        ("POST", "/v1/jobs", 422, {"json": asked(webhook={"url": "http://a.example"})}),
        ("POST", "/v1/jobs", 422, {"json": asked(seed=2), "headers": {"Idempotency-Key": "taken"}}),
        ("POST", "/v1/jobs", 422, {"json": asked(routing={"exclude": list(PROVIDERS)})}),
        ("GET", "/v1/jobs?limit=0", 422, {}),
        ("GET", "/v1/jobs?cursor=x", 400, {}),
        ("GET", unknown, 404, {}),
        ("GET", f"{unknown}/timeline", 404, {}),
        ("POST", f"{unknown}/cancel", 404, {}),
        ("POST", f"/v1/jobs/{job_id}/cancel", 409, {}),
        ("POST", f"/v1/jobs/{job_id}/resolve", 403, {"json": {"action": "fail"}}),
        ("POST", "/v1/callbacks/eachlabs/token", 401, {"content": b"{}"}),
        ("GET", "/problems/nothing", 404, {}),
    ]
    for method, path, status, request in requests:
        assert (await checked(running.client, method, path, **request)).status_code == status
    async with running.another_client("meter", Scope.METRICS) as meter:
        assert (await checked(meter, "GET", "/v1/jobs")).status_code == 403
    for path in ("/v1/jobs", "/v1/providers", "/metrics", unknown):
        nobody = {"headers": {"Authorization": ""}}
        assert (await checked(running.client, "GET", path, **nobody)).status_code == 401


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"seed": 0, "ratio": "9:16", "routing": {"providers": list(PROVIDERS), "policy": "cheapest"}}, True),
        ({"metadata": {"k": "v"}, "webhook": {"url": "https://a.example", "events": ["job.held"]}}, True),
        ({"unknown": 1}, False),
        ({"routing": {"unknown": 1}}, False),
        ({"seed": 2**32}, False),
        ({"seed": "1"}, False),
        ({"body_control": 1}, False),
        ({"ratio": "16:10"}, False),
        ({"metadata": {"k" * 65: ""}}, False),
        ({"metadata": {"k": 1}}, False),
        ({"webhook": {"url": "https://a.example", "events": []}}, False),
        ({"reference": asked()["reference"] | {"duration_s": 31}}, False),
    ],
)
async def test_the_schema_of_a_body_takes_what_the_api_takes(
    start_gateway: StartGateway, change: Document, *, fits: bool
) -> None:
    """A body that does not fit is refused; one that fits may still be refused for what it means."""
    running = await start_gateway()
    await running.gateway.stop_worker()
    body = asked() | change
    reply = await running.client.post("/v1/jobs", json=body)
    assert BODIES.fits(body, component("CreateJob")) is fits
    assert (reply.status_code == 422 and reply.json()["type"] == "/problems/validation-failed") is not fits


def test_a_reply_that_is_not_as_described_would_be_noticed() -> None:
    health = {"status": "ok", "reason": None}
    REPLIES.check(health, component("HealthView"))
    misfits: list[object] = [
        {"status": "ok"},
        health | {"more": "1"},
        health | {"status": "fine"},
        health | {"reason": 1},
        [],
    ]
    for wrong in misfits:
        with pytest.raises(Misfit):
            REPLIES.check(wrong, component("HealthView"))
