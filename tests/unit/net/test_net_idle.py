"""How many idle connections are kept."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from net_servers import OK, Handler, RawServer, raw_server

from gateway.net import GuardedTransport, connector

KEPT = 3
HOSTS = 8
WAIT_S = 5.0


async def test_beyond_a_number_of_them_connections_are_closed_after_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connector, "IDLE_MAX", KEPT)
    ended = asyncio.Semaphore(0)

    def answering_all(server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await server.read_request(reader):
                writer.write(OK)
            ended.release()

        return serve

    async def lookup(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    transport = GuardedTransport(None, deadline_s=WAIT_S, lookup=lookup)
    async with (
        raw_server(answering_all) as server,
        httpx.AsyncClient(transport=transport, trust_env=False) as http,
    ):
        for number in [*range(HOSTS), *range(KEPT)]:  # the first are still there
            await http.get(f"http://h{number}.test:{server.port}/")
        async with asyncio.timeout(WAIT_S):
            for _ in range(HOSTS - KEPT):
                await ended.acquire()
        assert ended.locked()
        assert server.connections == HOSTS
