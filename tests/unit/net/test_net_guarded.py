"""The client behind the guard over real sockets, on both event loops."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from guarded_network import BOTH_LOOPS, Network, post
from net_certificates import make_certificate
from net_servers import OK, Handler, RawServer, answering, raw_server, reset

from gateway.net.limits import INTERIM_MAX

pytestmark = BOTH_LOOPS

INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"


async def test_an_address_that_was_given_up_as_it_connected_is_sent_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one is, once, and what becomes of the first is of no matter to it."""
    loop = asyncio.get_running_loop()
    connect, dials = loop.create_connection, 0

    async def late(*args: Any, **options: Any) -> Any:
        nonlocal dials
        dials += 1
        made = await connect(*args, **options)
        if dials == 1:
            await asyncio.Event().wait()
        return made

    monkeypatch.setattr(loop, "create_connection", late)
    network = Network(["127.0.0.1", "127.0.0.1"])
    async with raw_server(answering(OK)) as server, network.client(connect_s=0.05) as client:
        answer = await post(client, f"http://name.test:{server.port}/")
        assert (answer.status, dials, len(server.requests)) == (200, 2, 1)


async def test_over_tls_a_receiver_is_told_that_the_answer_has_come(tmp_path: Path) -> None:
    """Otherwise each try is an error in its log."""
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def keeping_open(server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_request(reader)
            writer.write(OK)
            try:
                ended.set_result(await reader.read())
            except OSError as error:
                ended.set_exception(error)

        return serve

    theirs, ours = make_certificate(tmp_path, "name.test")
    async with (
        raw_server(keeping_open, tls=theirs) as server,
        Network().client(ssl_context=ours) as client,
    ):
        assert (await post(client, f"https://name.test:{server.port}/")).status == 200
        assert await asyncio.wait_for(ended, 5) == b""


async def test_a_request_on_the_wire_is_whole_and_says_that_it_is_the_last() -> None:
    network = Network()
    async with raw_server(answering(OK)) as server, network.client() as client:
        answer = await post(client, f"http://u:p@name.test:{server.port}/a%20b?c=d#e")
    assert (answer.status, answer.body, answer.trouble) == (200, b"ok", None)
    assert server.requests == [
        b"POST /a%20b?c=d HTTP/1.1\r\n"
        + f"Host: name.test:{server.port}\r\n".encode()
        + b"Accept-Encoding: identity\r\nConnection: close\r\nX-A: b\r\nContent-Length: 2\r\n\r\n{}"
    ]


async def test_interim_answers_are_passed_over_as_many_as_are_allowed() -> None:
    async with (
        raw_server(answering(INTERIM * INTERIM_MAX + OK)) as server,
        Network().client() as client,
    ):
        assert (await post(client, server.url)).body == b"ok"


@pytest.mark.parametrize("behind", [OK * 40_000, INTERIM * 40_000], ids=["answers", "interim answers"])
async def test_what_floods_behind_an_answer_is_not_read(behind: bytes) -> None:
    left = asyncio.Event()

    def make(server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_request(reader)
            writer.write(OK + behind)
            try:
                await writer.drain()
                await reader.read()
            finally:
                left.set()

        return serve

    async with raw_server(make) as server, Network().client() as client:
        answer = await post(client, server.url)
        await asyncio.wait_for(left.wait(), 5)
    assert (answer.status, answer.body) == (200, b"ok")


async def test_a_connection_that_is_reset_is_told_in_the_systems_words() -> None:
    def resetting(server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_request(reader)
            reset(writer)

        return serve

    async with raw_server(resetting) as server, Network().client() as client:
        with pytest.raises(httpx.ReadError, match="ConnectionResetError"):
            await post(client, server.url)


@pytest.mark.parametrize("headers", [{"X-A": "a\r\nX-B: c"}, {"X-A": "\xff"}, {"X\r\nY": "a"}])
async def test_a_header_that_would_be_two_is_not_sent(headers: dict[str, str]) -> None:
    network = Network()
    async with raw_server(answering(OK)) as server, network.client() as client:
        with pytest.raises(httpx.LocalProtocolError):
            await client.post(server.url, headers=headers, body=b"", wanted=1)
    assert network.dialled == []


async def test_whoever_closes_the_client_breaks_off_what_is_under_way() -> None:
    came = asyncio.Event()

    def silent(server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await server.read_request(reader)
            came.set()
            await reader.read()

        return serve

    async with raw_server(silent) as server, Network().client() as client:
        posting = asyncio.create_task(post(client, server.url))
        await came.wait()
        await client.aclose()
        with pytest.raises(httpx.RemoteProtocolError):
            await posting
        with pytest.raises(httpx.ConnectError, match="the gateway stops"):
            await post(client, server.url)


async def test_a_try_that_is_cancelled_hangs_up() -> None:
    came, left = asyncio.Event(), asyncio.Event()

    def silent(server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await server.read_request(reader)
            came.set()
            await reader.read()
            left.set()

        return serve

    async with raw_server(silent) as server, Network().client() as client:
        posting = asyncio.create_task(post(client, server.url))
        await came.wait()
        posting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await posting
        await asyncio.wait_for(left.wait(), 5)
