"""Receivers that misbehave: every try ends, in time, with an outcome."""

from __future__ import annotations

import asyncio
import gzip
import socket
from pathlib import Path

import pytest
from guarded_network import BOTH_LOOPS
from net_certificates import make_certificate
from webhook_receivers import OK, Network, Receiver, answering, receiver, sender, status, tar_pit

from gateway.settings.model import Webhooks
from gateway.webhooks.outcome import Outcome, Sent
from gateway.webhooks.retry import next_try
from gateway.webhooks.sending import Sender

pytestmark = BOTH_LOOPS

FLOOD_BYTES = 2**21
"""What the kernel takes off a receiver's hands before the sender has looked at the first of it."""


async def post(webhooks: Sender, url: str) -> Sent:
    return await webhooks.send(url=url, headers={"webhook-id": "msg_1"}, body=b"{}")


async def test_a_tar_pit_is_left_at_the_deadline() -> None:
    async with receiver(tar_pit) as there, sender(timeout_s=0.1) as webhooks:
        sent = await post(webhooks, there.url())
    assert (sent.outcome, sent.status) == (Outcome.TIMEOUT, None)
    assert 0.05 < sent.duration_s < 5
    assert "no complete answer in time" in sent.detail


@pytest.mark.parametrize(
    "drip",
    [
        pytest.param((b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), id="head"),
        pytest.param((b"HTTP/1.1 100 Continue\r\n\r\n",), id="interim answers"),
    ],
)
async def test_an_answer_that_drips_before_its_status_is_left_at_the_deadline(
    drip: tuple[bytes, ...],
) -> None:
    dripping = answering(*drip, for_ever=True, pause_s=0.02)
    async with receiver(dripping) as there, sender(timeout_s=0.2) as webhooks:
        sent = await post(webhooks, there.url())
    assert sent.outcome is Outcome.TIMEOUT


@pytest.mark.parametrize("blob", [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_flood_of_interim_answers_is_cut_off_and_is_a_broken_connection(blob: bytes) -> None:
    sent_bytes, cut = 0, asyncio.Event()

    async def flooding(here: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent_bytes
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        await here.read_request(reader)
        try:
            while True:
                writer.write(blob * 2000)
                await writer.drain()
                sent_bytes += len(blob) * 2000
        finally:
            cut.set()

    async with receiver(flooding) as there, sender(timeout_s=1.0) as webhooks:
        sent = await post(webhooks, there.url())
        await asyncio.wait_for(cut.wait(), 5)
    assert (sent.outcome, sent.status) == (Outcome.CONNECTION, None)
    assert sent.detail.endswith("more than 128 interim answers")
    assert sent_bytes < FLOOD_BYTES


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_to_the_inside_is_not_followed(code: int) -> None:
    async with receiver(answering(OK)) as trap:
        answer = status(f"{code} Moved", f"Location: {trap.url()}")
        async with receiver(answering(answer)) as there, sender() as webhooks:
            sent = await post(webhooks, there.url())
        assert (sent.outcome, sent.status) == (Outcome.REDIRECTED, code)
        assert trap.connections == 0


@pytest.mark.parametrize(
    "location", ["http://xn--a/", "mailto:a", "http://[::1", "http://a:99999/", "//", "\xff://\xc0\x80/"]
)
async def test_a_redirect_to_nowhere_is_a_redirect(location: str) -> None:
    answer = status("302 Found", f"Location: {location}")
    async with receiver(answering(answer)) as there, sender() as webhooks:
        sent = await post(webhooks, there.url())
    assert (sent.outcome, sent.status) == (Outcome.REDIRECTED, 302)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"]
)
async def test_of_an_endless_body_the_beginning_is_kept_and_the_status_counts(head: bytes) -> None:
    async with receiver(answering(head, b"x" * 65_536, for_ever=True)) as there, sender() as webhooks:
        sent = await post(webhooks, there.url())
    assert (sent.outcome, sent.detail) == (Outcome.DELIVERED, "x" * 1024)


async def test_a_body_that_drips_costs_a_moment_and_the_status_counts() -> None:
    dripping = answering(b"HTTP/1.1 204 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x")
    slow = answering(b"HTTP/1.1 200 OK\r\n\r\n", b"x", for_ever=True, pause_s=0.02)
    async with (
        receiver(slow) as there,
        receiver(dripping) as empty,
        sender(timeout_s=600.0, body_s=0.1) as webhooks,
    ):
        sent = await post(webhooks, there.url())
        assert sent.outcome is Outcome.DELIVERED
        assert sent.detail == "the answer's body was not read: it took more than 0.1 s"
        assert (await post(webhooks, empty.url())).detail == ""


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, gzip", b"br"])
async def test_a_gzip_bomb_is_not_opened_and_the_status_counts(coding: bytes) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(bomb))
    async with receiver(answering(head, bomb)) as there, sender() as webhooks:
        sent = await post(webhooks, there.url())
    assert sent.outcome is Outcome.DELIVERED
    assert "compressed" in sent.detail


async def test_a_body_that_breaks_off_does_not_undo_the_status() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"
    async with receiver(answering(answer)) as there, sender() as webhooks:
        assert (await post(webhooks, there.url())).outcome is Outcome.DELIVERED


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 20",
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_a_broken_connection(answer: bytes) -> None:
    async with receiver(answering(answer)) as there, sender() as webhooks:
        sent = await post(webhooks, there.url())
    assert (sent.outcome, sent.status) == (Outcome.CONNECTION, None)
    assert sent.detail


async def test_nobody_there_is_a_broken_connection() -> None:
    async with receiver(tar_pit) as there:
        url = there.url()
    async with sender() as webhooks:
        sent = await post(webhooks, url)
    assert (sent.outcome, sent.status) == (Outcome.CONNECTION, None)


async def test_a_name_without_addresses_is_a_broken_connection() -> None:
    class Gone(Network):
        async def lookup(self, _host: str, _port: int, _owner: str) -> list[str]:
            raise OSError(-2, "Name or service not known")

    network = Gone()
    async with sender(network) as webhooks:
        sent = await post(webhooks, "https://hooks.test/x?token=hunter2")
    assert sent.outcome is Outcome.CONNECTION
    assert sent.detail == "hooks.test cannot be looked up: Name or service not known"
    assert network.dialled == []


async def test_a_name_server_that_never_answers_is_left_in_time() -> None:
    class Mute(Network):
        async def lookup(self, _host: str, _port: int, _owner: str) -> list[str]:
            await asyncio.Event().wait()
            return []

    async with sender(Mute(), connect_timeout_s=0.05) as webhooks:
        assert (await post(webhooks, "https://hooks.test/")).outcome is Outcome.TIMEOUT


async def test_a_certificate_of_nobodys_is_a_tls_error_and_nothing_is_sent(tmp_path: Path) -> None:
    async with (
        receiver(answering(OK), tls=make_certificate(tmp_path, "hooks.test")[0]) as there,
        sender() as webhooks,
    ):
        sent = await post(webhooks, f"https://hooks.test:{there.port}/?token=hunter2")
    assert (sent.outcome, sent.status) == (Outcome.TLS, None)
    assert "certificate verify failed" in sent.detail
    assert "hunter2" not in sent.detail
    assert there.requests == []


async def test_a_receiver_that_does_not_speak_tls_is_a_tls_error() -> None:
    async def plain(_here: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with receiver(plain) as there, sender() as webhooks:
        assert (await post(webhooks, f"https://hooks.test:{there.port}/")).outcome is Outcome.TLS


async def test_a_handshake_that_hangs_is_left_at_the_deadline() -> None:
    async def mute(_here: Receiver, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass

    async with receiver(mute) as there, sender(timeout_s=0.1) as webhooks:
        sent = await post(webhooks, f"https://hooks.test:{there.port}/")
    assert sent.outcome is Outcome.TIMEOUT


async def test_a_name_that_moves_to_loopback_is_blocked_and_not_dialled() -> None:
    network = Network("8.8.8.8", "127.0.0.1")
    async with receiver(answering(OK)) as trap, sender(network, allowed_networks=()) as webhooks:
        first = await post(webhooks, trap.url("hooks.test"))
        second = await post(webhooks, trap.url("hooks.test"))
        assert first.outcome is Outcome.CONNECTION
        assert (second.outcome, second.status) == (Outcome.BLOCKED, None)
        assert second.detail.startswith("ssrf-blocked: hooks.test must not be dialled")
        assert trap.connections == 0
    assert network.dialled == ["8.8.8.8"]


async def test_a_receiver_that_was_reached_before_is_looked_up_again() -> None:
    network = Network("127.0.0.1", "127.0.0.2")
    async with receiver(answering(OK)) as there, sender(network) as webhooks:
        outcomes = [(await post(webhooks, there.url("hooks.test"))).outcome for _ in range(2)]
    assert outcomes == [Outcome.DELIVERED, Outcome.BLOCKED]
    assert network.dialled == ["127.0.0.1"]


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.test/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://[::1]/",
        "https://169.254.169.254/",
        "ftp://hooks.test/",
        "https://[::1/",
        "https://xn--a/",
        "/hook",
        "",
    ],
)
async def test_a_url_that_must_not_be_dialled_is_blocked_whatever_it_looks_like(url: str) -> None:
    network = Network()
    async with sender(network, allowed_networks=(), allow_http=False) as webhooks:
        sent = await post(webhooks, url)
    assert sent.outcome is Outcome.BLOCKED
    assert sent.detail
    assert network.dialled == []


async def test_a_port_that_is_none_is_not_dialled_and_raises_nothing() -> None:
    network = Network()
    async with sender(network) as webhooks:
        assert (await post(webhooks, "https://hooks.test:99999/")).outcome is Outcome.CONNECTION
    assert network.dialled == []


async def test_a_receiver_cannot_postpone_for_ever() -> None:
    answer = status("429 Too Many Requests", "Retry-After: 1000000000")
    async with receiver(answering(answer)) as there, sender() as webhooks:
        sent = await post(webhooks, there.url())
    wait_s = next_try(
        tries=1,
        outcome=sent.outcome,
        retry_after=sent.retry_after,
        schedule_s=Webhooks().schedule_s,
        jitter=0.0,
        spread=0.5,
        now_ms=1_795_000_000_000,
    )
    assert wait_s is not None
    assert 60 <= wait_s <= 120
