"""`motion-gateway endpoints`: a receiver's life from the command line."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_command import run
from standardwebhooks import Webhook
from webhook_receiver import Receiver, answer, open_receiver

URL = "https://receiver.example/hook"
OPEN = {
    "MOTION_GATEWAY_WEBHOOKS__ALLOW_HTTP": "true",
    "MOTION_GATEWAY_WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a database, and two owners."""
    for name in ("shop", "other"):
        run(tmp_path, "keys", "create", "--name", name)
    return tmp_path


def listed(folder: Path, *options: str) -> list[dict[str, Any]]:
    done = run(folder, "endpoints", "list", "--json", *options)
    found: list[dict[str, Any]] = json.loads(done.stdout)["endpoints"]
    return found


@contextmanager
def receiving(*answers: bytes) -> Iterator[Receiver]:
    """A receiver in a thread of its own, since the command blocks this one."""
    ready, over = threading.Event(), threading.Event()
    found: list[Receiver] = []

    async def receive() -> None:
        async with open_receiver(*answers) as receiver:
            found.append(receiver)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(receive()))
    thread.start()
    ready.wait()
    try:
        yield found[0]
    finally:
        over.set()
        thread.join()


def test_an_endpoint_is_made_listed_changed_and_deleted(folder: Path) -> None:
    create = ("endpoints", "create", "--owner", "shop", "--url", URL)
    made = run(folder, *create, "--event", "job.held", "--description", "[bold]ours")
    assert made.returncode == 0
    secret = made.stdout.strip()
    assert secret.startswith("whsec_")
    pair = run(folder, *create, "--signing", "ed25519")
    assert pair.stdout.startswith("whpk_")
    run(folder, "endpoints", "create", "--owner", "other", "--url", URL)
    *_, first = listed(folder, "--owner", "shop")
    assert (len(listed(folder)), len(listed(folder, "--owner", "shop"))) == (3, 2)
    assert (first["events"], first["description"], first["state"]) == (["job.held"], "[bold]ours", "enabled")
    one = first["id"]
    rotated = run(folder, "endpoints", "rotate", one).stdout.strip()
    assert rotated.startswith("whsec_")
    assert rotated != secret
    assert run(folder, "endpoints", "disable", one).returncode == 0
    assert listed(folder, "--owner", "shop")[-1]["disabled_reason"] == "requested"
    refused = run(folder, "endpoints", "recover", one, "--since", "2026-01-31T08:00:00Z")
    assert (refused.returncode, "disabled" in refused.stderr) == (1, True)
    assert run(folder, "endpoints", "enable", one).returncode == 0
    recovered = run(folder, "endpoints", "recover", one, "--since", "2026-01-31T08:00:00Z")
    assert "0 deliveries" in recovered.stderr
    table = run(folder, "endpoints", "list").stdout
    assert all(found["id"] in table for found in listed(folder)), "an id is there to be copied"
    assert "enabled" in table
    assert secret not in table
    assert run(folder, "endpoints", "delete", one).returncode == 0
    assert run(folder, "endpoints", "delete", one).returncode == 1
    assert len(listed(folder)) == 2


def test_a_test_shows_what_the_receiver_says(folder: Path) -> None:
    with receiving(answer(), answer("500 No")) as receiver:
        made = run(folder, "endpoints", "create", "--owner", "shop", "--url", receiver.url(), **OPEN)
        (one,) = listed(folder)
        good = run(folder, "endpoints", "test", one["id"], **OPEN)
        bad = run(folder, "endpoints", "test", one["id"], **OPEN)
        assert (good.returncode, "delivered (status 200" in good.stdout) == (0, True)
        assert (bad.returncode, "http_error (status 500" in bad.stderr) == (1, True)
        message = receiver.messages[0]
        Webhook(made.stdout.strip()).verify(message.body, message.headers)
    closed = run(folder, "endpoints", "test", one["id"])
    assert (closed.returncode, "blocked" in closed.stderr) == (1, True), "the guard is the gateway's own"
    assert "webhooks.allow_http" in closed.stderr
    assert "by the settings of this command" in closed.stderr


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("create", "--owner", "o", "--url", URL), 1, "there is no owner 'o'; there is 'other', 'shop'"),
        (("create", "--owner", "shop", "--url", "https://10.0.0.1"), 1, "webhooks.allowed_networks"),
        (("create", "--owner", "shop", "--url", "http://receiver.example"), 1, "webhooks.allow_http"),
        (("create", "--owner", "shop", "--url", URL, "--event", "ping"), 2, "job.held"),
        (("create", "--owner", "shop", "--url", URL, "--description", "x" * 201), 2, "200"),
        (("rotate", "we_nobody"), 1, "no such endpoint"),
        (("recover", "we_nobody", "--since", "yesterday"), 2, "RFC 3339"),
    ],
)
def test_what_cannot_be_is_told(folder: Path, options: tuple[str, ...], code: int, told: str) -> None:
    done = run(folder, "endpoints", *options)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr


def test_a_mistyped_database_is_no_empty_list(tmp_path: Path) -> None:
    assert run(tmp_path, "endpoints", "list").returncode == 1
