"""Marked secrets in every slot: after jobs that went well and badly they are nowhere to be read."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import psycopg
import pytest
from invariants import open_database
from postgres_server import fresh_database, tools_path
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
from sqlalchemy import select
from sqlalchemy.engine import make_url
from webhook_receiver import open_receiver

from gateway.service.callbacks import CallbackKeys
from gateway.service.keys import Scope
from gateway.simulator import FaultScript
from gateway.storage import tables
from gateway.storage.sealing import Sealer

PROVIDER_KEYS = {name: f"marker-of-{name}-0123456789" for name in PROVIDERS}
SECRET_KEY = "marker-of-the-sealing-key-0123456789"
RAW_SECRET = b"marker-of-the-webhook-secret-xyz"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(RAW_SECRET).decode()
MEDIA_TOKEN = "marker-of-a-signed-media-url"
DATABASE_PASSWORD = "marker-of-the-database-password"
ENDPOINTS = "/v1/webhook-endpoints"


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


@asynccontextmanager
async def a_database(engine: str, folder: Path) -> AsyncIterator[str]:
    """A database of either engine; a server's URL has a marked password, which nobody asks for there."""
    if engine == "sqlite":
        yield f"sqlite:///{folder}/gateway.db"
        return
    with fresh_database() as url:
        yield make_url(url).set(password=DATABASE_PASSWORD).render_as_string(hide_password=False)


def stored(url: str, folder: Path) -> dict[str, bytes]:
    """All bytes of a database: its files, or a dump in plain SQL."""
    if url.startswith("sqlite"):
        return files(folder)
    plain = ("pg_dump", "--column-inserts", f"--dbname={url}")
    done = subprocess.run(plain, env={"PATH": tools_path()}, capture_output=True, check=True)
    return {"a dump": done.stdout}


def break_(url: str) -> None:
    """Let every accept fail in a way that nobody foresaw."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=PATIENCE_S)) as connection:
            connection.execute("UPDATE owners SET max_in_flight = 'many'")
            connection.commit()
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE events RENAME TO gone")


async def endpoints_made(client: httpx.AsyncClient, url: str) -> dict[str, bytes]:
    """Make an endpoint of each kind of signature, the first with a rotated secret; what must stay secret."""
    secrets: dict[str, bytes] = {}
    for signing in ("hmac", "ed25519"):
        made = (await client.post(ENDPOINTS, json={"url": url, "signing": signing})).json()
        rotated = (await client.post(f"{ENDPOINTS}/{made['id']}/rotate")).json()
        tried = await client.post(f"{ENDPOINTS}/{made['id']}/test")
        assert tried.status_code == 200, tried.text
        for name, document in (("first", made), ("second", rotated)):
            if document["secret"] is not None:
                secrets[f"an endpoint's {name} secret"] = document["secret"].removeprefix("whsec_").encode()
    assert len(secrets) == 2
    return secrets


def private_keys(url: str) -> dict[str, bytes]:
    """What endpoints sign with that nobody is ever told, as it is stored once it is opened."""
    sealer = Sealer(SECRET_KEY)
    with closing(open_database(url).connect()) as connection, connection.begin():
        rows = connection.execute(select(tables.webhook_endpoints)).mappings().all()
    found = {
        f"the private key of {row['id']}": sealer.open(row["sealed_secret"], bound_to=row["id"])
        for row in rows
        if row["signing"] == "ed25519"
    }
    assert found
    return {name: key.removeprefix("whsk_").encode() for name, key in found.items()}


def callback_secrets(jobs: list[Document], public_url: str) -> dict[str, bytes]:
    """What providers were told, and by which anybody could speak in their place."""
    keys = CallbackKeys(public_url, SECRET_KEY)
    found: dict[str, bytes] = {}
    for job in jobs:
        for attempt in job["attempts"]:
            called = keys.callback_of(ADAPTERS[attempt["provider"]], attempt["id"])
            if called is not None:
                found[f"the callback secret of {attempt['id']}"] = called.secret.encode()
                found[f"the callback token of {attempt['id']}"] = called.url.rpartition(".")[2].encode()
    assert found
    return found


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_no_secret_is_read_anywhere(
    simulator_server: StartSimulator, tmp_path: Path, engine: str
) -> None:
    """A real `serve`, so that nothing escapes a logger that a test would have missed."""
    simulator = await simulator_server()
    log = tmp_path / "serve.log"
    urls = {name: f"{simulator.url}/{name}" for name in PROVIDERS}
    jobs: list[Document] = []
    shown: list[bytes] = []
    async with a_database(engine, tmp_path) as database, open_receiver() as receiver:
        environ = marked(tmp_path, urls) | {"MOTION_GATEWAY_DATABASE": database}
        key = await made_key(environ, tmp_path, Scope.JOBS, Scope.METRICS)
        assert key.webhook_secret is not None
        serving = ServeProcess(environ, log)
        public = {"MOTION_GATEWAY_SERVER__PUBLIC_URL": serving.url}
        serving._environ = {**serving._environ, **public}
        async with serving, client_of(serving.url, key.key) as client:
            endpoint_secrets = await endpoints_made(client, receiver.url())
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
                    job, timeline = await settled(client, reply.json()["id"])
                    jobs.append(job)
                    shown += [json.dumps(job).encode(), timeline]
            refusals = [
                await client.post(
                    "/v1/jobs", json=asked(webhook={"url": receiver.url(), "secret": SECRET_KEY})
                ),
                await client.get("/v1/jobs", headers={"Authorization": "Bearer mgk_marker-of-a-wrong-key"}),
                await client.get(f"/v1/jobs?cursor={key.key}"),
                await client.get(f"/v1/jobs/{key.key}"),
                await client.post("/v1/callbacks/eachlabs/marker-of-a-wrong-token", json={}),
            ]
            assert [reply.status_code for reply in refusals] == [422, 401, 400, 404, 401]
            await receiver.received(len(jobs))
            metrics = (await client.get("/metrics")).content
            private = await asyncio.to_thread(private_keys, database)
            places = await asyncio.to_thread(stored, database, tmp_path)
            await asyncio.to_thread(break_, database)
            refusals.append(await client.post("/v1/jobs", json=asked(webhook={"url": receiver.url()})))
            assert refusals[-1].status_code == 500
            assert await serving.end(signal.SIGTERM) == 0
    said = await asyncio.to_thread(log.read_bytes)
    places |= {
        "the log": said,
        "metrics": metrics,
        "problems": b"".join(reply.content for reply in refusals),
        "jobs and timelines": b"".join(shown),
        "webhooks": b"".join(message.body for message in receiver.messages),
    }
    for event in (
        b"attempt.unknown",
        b"provider.called",
        b"http.served",
        b"Traceback (most recent call last)",
    ):
        assert event in said, "something was not tried, or is not logged"
    secrets = {
        **{f"the key of {name}": value.encode() for name, value in PROVIDER_KEYS.items()},
        **endpoint_secrets,
        **private,
        **callback_secrets(jobs, serving.url),
        "the sealing key": SECRET_KEY.encode(),
        "the database's password": DATABASE_PASSWORD.encode(),
        "the job's webhook secret": WEBHOOK_SECRET[6:].encode(),
        "the same, decoded": RAW_SECRET,
        "the owner's webhook secret": key.webhook_secret[6:].encode(),
        "the same in bytes": base64.b64decode(key.webhook_secret[6:]),
        "the API key": key.key.encode(),
        "the API key without its mark": key.key[4:].encode(),
        "a wrong API key": b"marker-of-a-wrong-key",
        "a wrong callback token": b"marker-of-a-wrong-token",
    }
    assert found(places, secrets) == []
    # What a caller's own URLs hold is shown to the caller, but is no affair of logs and metrics.
    private_places = {"the log": said, "metrics": metrics}
    theirs = {"a media URL's token": MEDIA_TOKEN.encode(), "an output's signature": b"sig="}
    assert found(private_places, theirs) == []
    check_bound(said)


def check_bound(said: bytes) -> None:
    """Each line names what it is about: the request, the job, and the attempt."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith(b"{")]
    wanted = {
        "http.served": {"request_id"},
        "http.failed": {"request_id"},
        "job.accepted": {"request_id", "job_id"},
        "provider.called": {"job_id", "attempt_id", "operation", "outcome", "request", "response"},
        "attempt.": {"job_id", "attempt_id"},
        "job.": {"job_id"},
    }
    for start, names in wanted.items():
        about = [line for line in lines if line["event"].startswith(start)]
        assert about, start
        for line in about:
            assert names <= line.keys(), line


async def settled(client: httpx.AsyncClient, job_id: str) -> tuple[Document, bytes]:
    """A job and its timeline, once it has ended or is held."""
    job: Document = {}
    async with asyncio.timeout(PATIENCE_S):
        while job.get("status") not in ENDED and not job.get("held"):
            job = (await client.get(f"/v1/jobs/{job_id}")).json()
            await asyncio.sleep(0.02)
    return job, (await client.get(f"/v1/jobs/{job_id}/timeline")).content


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
