"""Servers that send heads nobody asked for, as fast as they can: cut off early, and nobody else waits."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from net_servers import OK, Handler, RawServer, answering, raw_server

from gateway.net import DIAL, FRESH, Dial, PooledTransport
from gateway.net.limits import INTERIM_MAX
from gateway.net.protocol import HEADS_BYTES, LimitedAnswers

INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
FAT = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 8000 + b"\r\n\r\n"
SENT_MAX = 2**21
"""Bytes: what the kernel takes off a server's hands before the client has looked at the first of it."""
WAIT_S = 5.0


class Flood:
    """Answers one request with `first`, then writes `blob` until it is cut off."""

    def __init__(self, blob: bytes, first: bytes = b"") -> None:
        self._blob, self._first = blob, first
        self._cut = asyncio.Event()
        self.sent = 0

    def __call__(self, server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            here: socket.socket = writer.get_extra_info("socket")
            here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
            await server.read_request(reader)
            try:
                writer.write(self._first)
                while True:
                    writer.write(self._blob)
                    await writer.drain()
                    self.sent += len(self._blob)
            finally:
                self._cut.set()

        return serve

    async def cut(self) -> int:
        """Wait until it is cut off; the bytes that could be written until then."""
        await asyncio.wait_for(self._cut.wait(), WAIT_S)
        return self.sent


@asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = PooledTransport(deadline_s=1.0)
    async with httpx.AsyncClient(transport=transport, trust_env=False) as opened:
        yield opened


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "kept"])
@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (INTERIM * 2000, f"more than {INTERIM_MAX} interim answers"),
        (CONTINUE * 2000, f"more than {INTERIM_MAX} interim answers"),
        (FAT * 40, f"heads have more than {HEADS_BYTES} bytes"),
    ],
    ids=["103", "100", "fat"],
)
async def test_a_flood_of_interim_answers_is_cut_off_after_the_request_was_made(
    blob: bytes, words: str, *, fresh: bool
) -> None:
    flood, dial = Flood(blob), Dial()
    async with raw_server(flood) as server, client() as http:
        with pytest.raises(httpx.RemoteProtocolError, match=words):
            await http.post(server.url, content=b"{}", extensions={DIAL: dial, FRESH: fresh})
        assert await flood.cut() < SENT_MAX
        assert len(server.requests) == 1
    assert (dial.connected, dial.withheld) == (True, False)


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "kept"])
@pytest.mark.parametrize("blob", [OK * 2000, INTERIM * 2000], ids=["answers", "interim answers"])
async def test_what_floods_behind_an_answer_is_cut_off_and_the_answer_counts(
    blob: bytes, *, fresh: bool
) -> None:
    flood = Flood(blob, first=OK)
    async with raw_server(flood) as server, client() as http:
        response = await http.post(server.url, content=b"{}", extensions={FRESH: fresh})
        assert (response.status_code, response.content) == (200, b"ok")
        assert await flood.cut() < SENT_MAX


@pytest.mark.parametrize("late", [OK, INTERIM], ids=["answer", "interim answer"])
async def test_what_nobody_asked_for_ends_a_kept_connection_and_answers_no_later_request(
    late: bytes,
) -> None:
    answered, gone = asyncio.Event(), asyncio.Event()

    def make(server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_request(reader)
            if server.connections > 1:
                writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
                return
            writer.write(OK)
            await answered.wait()
            writer.write(late)
            await server.read_request(reader)
            gone.set()

        return serve

    async with raw_server(make) as server, client() as http:
        assert (await http.post(server.url)).status_code == 200
        answered.set()
        await asyncio.wait_for(gone.wait(), WAIT_S)
        assert (await http.post(server.url)).status_code == 201


async def test_as_many_interim_answers_as_allowed_are_passed_over_for_each_request() -> None:
    def make(server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await server.read_request(reader):
                writer.write(INTERIM * INTERIM_MAX + OK)

        return serve

    async with raw_server(make) as server, client() as http:
        for _ in range(3):
            assert (await http.post(server.url)).content == b"ok"
        assert server.connections == 1


async def test_aiohttp_makes_each_connection_with_our_protocol_and_calls_what_it_overrides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its internals are relied on (`gateway/net/protocol.py` says which): without them no limit holds."""
    called: list[str] = []

    class Noting(LimitedAnswers):
        def set_response_params(self, **params: Any) -> None:
            called.append("set_response_params")
            super().set_response_params(**params)

        def data_received(self, data: bytes) -> None:
            called.extend(["data_received"] if data else [])  # without any it parses what was held back
            super().data_received(data)

        def feed_data(self, data: Any, size: int = 0) -> None:
            called.append("feed_data")
            super().feed_data(data, size)

    monkeypatch.setattr("gateway.net.connector.LimitedAnswers", Noting)
    async with raw_server(answering(OK)) as server, client() as http:
        await http.post(server.url, extensions={FRESH: True})
        await http.post(server.url)
    assert called == ["set_response_params", "data_received", "feed_data"] * 2
