"""Marked secrets in every slot: after jobs that went well and badly they are nowhere to be read."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from running_gateway import (
    ADAPTERS,
    ENDED,
    PATIENCE_S,
    PROVIDER_KEY,
    PROVIDERS,
    Document,
    StartGateway,
    StartSimulator,
    asked,
    client_of,
    environment,
    fault,
)
from serve_process import ServeProcess, made_key
from webhook_receiver import open_receiver

from gateway.service.keys import Scope
from gateway.simulator import FaultScript

PROVIDER_KEYS = {name: f"marker-of-{name}-0123456789" for name in PROVIDERS}
SECRET_KEY = "marker-of-the-sealing-key-0123456789"
RAW_SECRET = b"marker-of-the-webhook-secret-xyz"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(RAW_SECRET).decode()
MEDIA_TOKEN = "marker-of-a-signed-media-url"


@asynccontextmanager
async def parrot(status: int) -> AsyncIterator[str]:
    """A provider that repeats the key it was given, as some do in their errors; yields its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        key = re.search(r"^authorization: (?:Bearer )?(.*)\r$", head, re.IGNORECASE | re.MULTILINE)
        assert key is not None
        said = f"the key {key[1]} is not good"
        body = json.dumps({"error": said, "message": said, "details": said}).encode()
        writer.write(b"HTTP/1.1 %d Odd\r\nContent-Type: application/json\r\nConnection: close\r\n" % status)
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


def marked(folder: Path, urls: dict[str, str]) -> dict[str, str]:
    """An environment with a marked secret in every slot, in which everything is logged."""
    environ = environment(
        folder,
        urls,
        SECRET_KEY=SECRET_KEY,
        LOGS__LEVEL="debug",
        LOGS__FORMAT="json",
        WEBHOOKS__ALLOW_HTTP="true",
        WEBHOOKS__ALLOWED_NETWORKS="127.0.0.1/32",
    )
    return environ | {ADAPTERS[name].spec.key_env: key for name, key in PROVIDER_KEYS.items()}


def files(folder: Path) -> dict[str, bytes]:
    """The database, with all that lies beside it but the serving log."""
    return {path.name: path.read_bytes() for path in folder.glob("gateway.db*")}


def found(places: dict[str, bytes], secrets: dict[str, bytes]) -> list[str]:
    """Which secret can be read where."""
    return [
        f"{name} in {place}"
        for place, text in places.items()
        for name, secret in secrets.items()
        if secret in text
    ]


async def test_no_secret_is_read_anywhere(simulator_server: StartSimulator, tmp_path: Path) -> None:
    """A real `serve`, so that nothing escapes a logger that a test would have missed."""
    simulator = await simulator_server()
    log = tmp_path / "serve.log"
    environ = marked(tmp_path, {name: f"{simulator.url}/{name}" for name in PROVIDERS})
    key = await made_key(environ, tmp_path, Scope.JOBS, Scope.METRICS)
    assert key.webhook_secret is not None
    shown: list[bytes] = []
    async with (
        open_receiver() as receiver,
        ServeProcess(environ, log) as serving,
        client_of(serving.url, key.key) as client,
    ):
        for spoil in ("", "fail:provider_error", "accept_500", "html"):
            rules = (fault(spoil, "poll" if spoil == "html" else "create", times=3),) if spoil else ()
            simulator.simulator._faults.replace(FaultScript(rules=rules))
            for number, provider in enumerate(PROVIDERS):
                own = {"secret": WEBHOOK_SECRET} if number % 2 else {}
                body = asked(
                    provider,
                    character=f"{asked()['character']['url']}?token={MEDIA_TOKEN}",
                    webhook={
                        "url": receiver.url(),
                        **own,
                        "events": ["job.succeeded", "job.failed", "job.held"],
                    },
                )
                reply = await client.post("/v1/jobs", json=body)
                shown.append(await settled(client, reply.json()["id"]))
        refusals = [
            await client.post("/v1/jobs", json=asked(webhook={"url": receiver.url(), "secret": SECRET_KEY})),
            await client.get("/v1/jobs", headers={"Authorization": "Bearer mgk_marker-of-a-wrong-key"}),
            await client.get(f"/v1/jobs?cursor={key.key}"),
            await client.get(f"/v1/jobs/{key.key}"),
        ]
        assert [reply.status_code for reply in refusals] == [422, 401, 400, 404]
        await receiver.received(len(shown))
        metrics = (await client.get("/metrics")).content
        assert await serving.end(signal.SIGTERM) == 0
    said = await asyncio.to_thread(log.read_bytes)
    places = {
        "the log": said,
        "metrics": metrics,
        "problems": b"".join(reply.content for reply in refusals),
        "jobs and timelines": b"".join(shown),
        "webhooks": b"".join(message.body for message in receiver.messages),
        **files(tmp_path),
    }
    assert b"attempt.unknown" in said
    assert b"http.served" in said  # said at debug level only
    secrets = {
        **{f"the key of {name}": value.encode() for name, value in PROVIDER_KEYS.items()},
        "the sealing key": SECRET_KEY.encode(),
        "the job's webhook secret": WEBHOOK_SECRET[6:].encode(),
        "the same, decoded": RAW_SECRET,
        "the owner's webhook secret": key.webhook_secret[6:].encode(),
        "the same in bytes": base64.b64decode(key.webhook_secret[6:]),
        "the API key": key.key.encode(),
        "the API key without its mark": key.key[4:].encode(),
        "a wrong API key": b"marker-of-a-wrong-key",
    }
    assert found(places, secrets) == []
    # What a caller's own URLs hold is shown to the caller, but is no affair of logs and metrics.
    private = {"the log": said, "metrics": metrics}
    assert (
        found(private, {"a media URL's token": MEDIA_TOKEN.encode(), "an output's signature": b"sig="}) == []
    )


async def settled(client: httpx.AsyncClient, job_id: str) -> bytes:
    """A job and its timeline, once it has ended or is held."""
    job: Document = {}
    async with asyncio.timeout(PATIENCE_S):
        while job.get("status") not in ENDED and not job.get("held"):
            job = (await client.get(f"/v1/jobs/{job_id}")).json()
            await asyncio.sleep(0.02)
    return json.dumps(job).encode() + (await client.get(f"/v1/jobs/{job_id}/timeline")).content


@pytest.mark.parametrize("status", [400, 401, 422, 500])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_provider_that_repeats_the_key_does_not_make_it_known(
    start_gateway: StartGateway,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    provider: str,
    status: int,
) -> None:
    """The error is shown to callers, and the key is the operator's."""
    async with parrot(status) as url, open_receiver() as receiver:
        running = await start_gateway(
            base_urls={provider: url},
            settings={"WEBHOOKS__ALLOW_HTTP": "true", "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32"},
        )
        webhook = {"url": receiver.url(), "events": ["job.failed", "job.held", "job.cancelled"]}
        job_id = await running.accept(provider, webhook=webhook)
        job: Document = await running.until(
            job_id, lambda job: job["attempts"] and job["attempts"][0]["error"]
        )
        if status == 401:  # it waits for its account to be mended
            await running.client.post(f"/v1/jobs/{job_id}/cancel")
        (message,) = await receiver.received(1)
        timeline = await running.timeline(job_id)
        await running.gateway.stop_worker()  # before the provider is gone that it may be asking
    places = {
        "the job": json.dumps(job).encode(),
        "the timeline": json.dumps(timeline).encode(),
        "the webhook": message.body,
        "the log": capsys.readouterr().err.encode(),
        **files(tmp_path),
    }
    assert found(places, {"the key": PROVIDER_KEY.encode()}) == []
    assert b"is not good" in places["the timeline"]
