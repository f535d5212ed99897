"""What the README prints works as printed."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from running_gateway import StartGateway
from webhook_receiver import open_receiver

from gateway.webhooks.signing import decode_secret, sign

README = Path(__file__).parents[2] / "README.md"
COMMAND = Path(sys.executable).with_name("motion-gateway")
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PRINTED_URL = "http://127.0.0.1:8080"

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")


@contextmanager
def started(folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command of ours in an empty folder, with nothing else of ours in its environment."""
    ours = ("MOTION_GATEWAY_", "RUNWAYML_", "AIMLAPI_", "EACHLABS_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    process = subprocess.Popen(
        [str(COMMAND), *arguments],
        cwd=folder,
        env={**clean, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def find(process: subprocess.Popen[str], *patterns: str) -> list[str]:
    """Read the command's output until each pattern was seen; return what their groups matched."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    for line in process.stdout:
        for pattern in patterns:
            match = re.search(pattern, line)
            if match is not None:
                found.setdefault(pattern, match[1])
        if len(found) == len(patterns):
            return [found[pattern] for pattern in patterns]
    raise AssertionError(f"the command ended without printing {set(patterns) - set(found)}")


def curl_lines() -> str:
    """Return the block of the README that posts a job."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    return str(next(block for block in blocks if "curl" in block))


def run_script(script: str, url: str, key: str) -> list[dict[str, object]]:
    """Run the block with this server and key; return the documents it prints."""
    assert PRINTED_URL in script
    assert "mgk_..." in script
    script = script.replace(PRINTED_URL, url).replace("mgk_...", key)
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True, timeout=30)
    decoder, text, documents = json.JSONDecoder(), done.stdout.strip(), []
    while text:
        document, end = decoder.raw_decode(text)
        documents.append(document)
        text = text[end:].strip()
    return documents


def wait_until_finished(script: str, url: str, key: str) -> dict[str, object]:
    """Run the block again and again, as a person would: the same key replays the same job."""
    for _ in range(200):
        posted, listed = run_script(script, url, key)
        jobs = listed["jobs"]
        assert isinstance(jobs, list)
        assert len(jobs) == 1
        if jobs[0]["finished_at"] is not None:
            assert posted["id"] == jobs[0]["id"]
            finished: dict[str, object] = jobs[0]
            return finished
        subprocess.run(["sleep", "0.2"], check=True)
    raise AssertionError("the job did not finish")


def test_nothing_is_left_to_be_filled_in() -> None:
    assert re.findall(r"@[A-Z]+@|TODO|TBD", README.read_text()) == []


@needs_curl
def test_the_lines_of_curl_work_against_a_serve_with_nothing_configured(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0") as serve:
        url, key = find(serve, r"URL\s+(http://\S+)", r"(mgk_\S+)")
        job = wait_until_finished(curl_lines(), url, key)
    assert job["status"] == "succeeded"
    assert job["simulated"] is True
    assert job["outputs"]


@needs_curl
def test_a_key_and_a_base_url_are_all_that_a_provider_needs(tmp_path: Path) -> None:
    with started(tmp_path, "simulate", "--port", "0", "--run-s", "1") as simulate:
        (base,) = find(simulate, r"RUNWAYML_BASE_URL=(http://\S+)")
        environment = {"RUNWAYML_API_SECRET": "key_" + "5" * 128, "RUNWAYML_BASE_URL": base}
        with started(tmp_path, "serve", "--port", "0", **environment) as serve:
            url, key = find(serve, r"URL\s+(http://\S+)", r"(mgk_\S+)")
            job = wait_until_finished(curl_lines(), url, key)
    assert job["status"] == "succeeded"
    assert job["provider"] == "runway"
    assert job["simulated"] is False


def receiver() -> dict[str, Any]:
    """Run the block of the README that receives webhooks, with a secret and somewhere to remember."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "standardwebhooks" in block]
    space: dict[str, Any] = {"SECRET": SECRET, "seen": set(), "latest": {}}
    exec(compile(block, str(README), "exec"), space)  # noqa: S102 - what is printed there is what is tested
    return space


def message(
    sequence: int, status: str, *, message_id: str, at_s: float | None = None
) -> tuple[dict[str, str], bytes]:
    """A webhook as our gateway sends it."""
    body = json.dumps(
        {"type": f"job.{status}", "sequence": sequence, "data": {"id": "job_1", "status": status}}
    )
    at_s = time.time() if at_s is None else at_s
    headers = sign([decode_secret(SECRET)], message_id=message_id, timestamp_s=int(at_s), body=body.encode())
    return headers, body.encode()


def test_the_receiver_believes_what_is_genuine_and_nothing_else() -> None:
    space = receiver()
    receive, latest = space["receive"], space["latest"]
    headers, body = message(3, "running", message_id="msg_3")
    malformed = [
        {},
        headers | {"webhook-signature": "v1"},
        headers | {"webhook-signature": "v1,a,b"},
        headers | {"webhook-timestamp": "soon"},
        headers | {"webhook-id": "msg_4"},
        message(3, "running", message_id="msg_3", at_s=time.time() - 400)[0],
    ]
    for wrong in malformed:
        assert receive(wrong, body) == 401
    assert receive(headers, body + b" ") == 401
    assert receive(headers, b"\xff") == 401
    assert (latest, space["seen"]) == ({}, set())
    assert receive(headers, body) == 204
    assert latest == {"job_1": (3, "running")}


def test_the_receiver_acts_once_and_keeps_the_order() -> None:
    space = receiver()
    receive, latest = space["receive"], space["latest"]
    for sequence, status in ((5, "succeeded"), (3, "running"), (5, "succeeded")):
        assert receive(*message(sequence, status, message_id=f"msg_{sequence}")) == 204
        assert latest == {"job_1": (5, "succeeded")}
    assert space["seen"] == {"msg_5", "msg_3"}


async def test_the_receiver_takes_a_test_of_an_endpoint(start_gateway: StartGateway) -> None:
    opened = {"WEBHOOKS__ALLOW_HTTP": "true", "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32"}
    running, space = await start_gateway(settings=opened), receiver()
    async with open_receiver() as listening:
        made = await running.client.post("/v1/webhook-endpoints", json={"url": listening.url()})
        space["SECRET"] = made.json()["secret"]
        await running.client.post(f"/v1/webhook-endpoints/{made.json()['id']}/test")
        (ping,) = await listening.received(1)
    assert space["receive"](ping.headers, ping.body) == 204
    assert (space["latest"], space["seen"]) == ({}, set()), "it is about no job"


async def test_the_receiver_takes_what_a_gateway_delivers(start_gateway: StartGateway) -> None:
    opened = {"WEBHOOKS__ALLOW_HTTP": "true", "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32"}
    running, space = await start_gateway(settings=opened), receiver()
    async with open_receiver() as listening:
        job_id = await running.accept(webhook={"url": listening.url(), "secret": SECRET})
        (arrived,) = await listening.received(1)
    assert space["receive"](arrived.headers, arrived.body) == 204
    assert space["latest"] == {job_id: (arrived.event["sequence"], "succeeded")}
