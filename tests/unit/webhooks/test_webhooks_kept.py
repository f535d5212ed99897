"""Connections to receivers are kept for a moment, and one gone stale fails no try."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from webhook_receivers import OK, Network, Receiver, answering, receiver, sender

from gateway.webhooks import sending
from gateway.webhooks.outcome import Outcome
from gateway.webhooks.sending import STALE_S

BODY = b"{}"


async def answering_all(here: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers whatever comes over one connection."""
    while True:
        await here.read_request(reader)
        writer.write(OK)


async def answering_once(here: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers one request, and hangs up over the next."""
    await here.read_request(reader)
    writer.write(OK)
    await here.read_request(reader)


async def answering_never(
    here: Receiver, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
) -> None:
    """Hangs up over every request."""
    await here.read_request(reader)


async def test_what_follows_at_once_needs_neither_a_lookup_nor_a_handshake() -> None:
    network = Network()
    async with receiver(answering_all) as there, sender(network) as webhooks:
        for _ in range(3):
            sent = await webhooks.send(url=there.url("hooks.test"), headers={}, body=BODY)
            assert sent.outcome is Outcome.DELIVERED
        assert (there.connections, len(there.requests)) == (1, 3)
        assert network.dialled == ["127.0.0.1"]


async def test_another_host_at_the_same_address_gets_a_connection_of_its_own() -> None:
    async with receiver(answering_all) as there, sender() as webhooks:
        for host in ("a.test", "b.test"):
            assert (await webhooks.send(url=there.url(host), headers={}, body=BODY)).status == 200
        assert there.connections == 2


async def test_a_connection_that_is_closed_after_its_answer_is_not_used_again() -> None:
    async with receiver(answering(OK)) as there, sender() as webhooks:
        for _ in range(3):
            assert (await webhooks.send(url=there.url(), headers={}, body=BODY)).status == 200
        assert there.connections == len(there.requests) == 3


async def test_over_a_connection_gone_stale_it_is_sent_once_more_with_the_same_bytes() -> None:
    headers = {"webhook-id": "msg_1", "webhook-signature": "v1,x"}
    async with receiver(answering_once) as there, sender() as webhooks:
        await webhooks.send(url=there.url(), headers={}, body=BODY)
        sent = await webhooks.send(url=there.url(), headers=headers, body=BODY)
        assert sent.outcome is Outcome.DELIVERED
        assert there.connections == 2
        first, stale, fresh = (one.partition(b"\r\n\r\n") for one in there.requests)
    assert (stale[2], b"msg_1" in stale[0], b"msg_1" in first[0]) == (BODY, True, False)
    assert fresh[0] == stale[0] + b"\r\nConnection: close"
    assert fresh[2] == BODY


async def test_what_comes_instead_is_checked_anew() -> None:
    network = Network("127.0.0.1", "169.254.169.254")
    async with receiver(answering_once) as there, sender(network) as webhooks:
        await webhooks.send(url=there.url("hooks.test"), headers={}, body=BODY)
        sent = await webhooks.send(url=there.url("hooks.test"), headers={}, body=BODY)
    assert sent.outcome is Outcome.BLOCKED
    assert network.dialled == ["127.0.0.1"]


async def test_a_new_connection_that_breaks_is_a_failure_and_nothing_is_sent_again() -> None:
    async with receiver(answering_never) as there, sender() as webhooks:
        sent = await webhooks.send(url=there.url(), headers={}, body=BODY)
        assert sent.outcome is Outcome.CONNECTION
        assert len(there.requests) == 1


async def test_a_kept_connection_that_breaks_late_broke_over_this_webhook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with receiver(answering_once) as there, sender() as webhooks:
        await webhooks.send(url=there.url(), headers={}, body=BODY)
        ticks = itertools.count(step=2 * STALE_S)
        monkeypatch.setattr(webhooks, "_timer", lambda: next(ticks))
        sent = await webhooks.send(url=there.url(), headers={}, body=BODY)
        assert sent.outcome is Outcome.CONNECTION
        assert len(there.requests) == 2


async def test_an_idle_connection_is_closed_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "KEPT_S", 0.05)
    ended = asyncio.Event()

    async def watched(here: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await here.read_request(reader)
        writer.write(OK)
        await reader.read()
        ended.set()

    async with receiver(watched) as there, sender() as webhooks:
        await webhooks.send(url=there.url(), headers={}, body=BODY)
        await asyncio.wait_for(ended.wait(), 10)
