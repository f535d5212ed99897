"""The transport: what reaches the wire, what comes back, and nothing done on its own."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from net_servers import OK, Handler, RawServer, answering, raw_server, silent

from gateway.net import (
    DEADLINE_S,
    DIAL,
    FRESH,
    Dial,
    EncodingRefused,
    PooledTransport,
    ResponseTooLarge,
    read_whole,
)


@asynccontextmanager
async def client(**options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = PooledTransport(**{"deadline_s": 5.0, **options})
    async with httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False) as opened:
        yield opened


def head_of(request: bytes) -> list[bytes]:
    return request.split(b"\r\n\r\n", 1)[0].lower().split(b"\r\n")


async def test_a_request_reaches_the_wire_as_it_was_built() -> None:
    async with raw_server(answering(OK)) as server, client() as http:
        response = await http.post(
            f"{server.url}/a%2Fb/%C3%A9?x=%20y&z=%7B",
            content=b'{"a":1}',
            headers={"Authorization": "Bearer k"},
        )
        assert (response.status_code, response.content) == (200, b"ok")
        head = head_of(server.requests[0])
        assert head[0] == b"post /a%2fb/%c3%a9?x=%20y&z=%7b http/1.1"
        assert sorted(head[1:]) == sorted(
            [
                f"host: 127.0.0.1:{server.port}".encode(),
                b"accept: */*",
                b"accept-encoding: identity",
                b"authorization: bearer k",
                b"content-length: 7",
                b"user-agent: python-httpx/" + httpx.__version__.encode(),
            ]
        )
        assert server.requests[0].endswith(b'\r\n\r\n{"a":1}')


async def test_a_post_without_a_body_says_so() -> None:
    async with raw_server(answering(OK)) as server, client() as http:
        await http.post(server.url)
        assert b"content-length: 0" in head_of(server.requests[0])


async def test_status_reason_and_repeated_headers_come_back() -> None:
    reply = b"HTTP/1.1 418 Short And Stout\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(answering(reply)) as server, client() as http:
        response = await http.get(server.url)
        assert response.status_code == 418
        assert response.reason_phrase == "Short And Stout"
        assert response.headers.get_list("x-a") == ["1", "2"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with raw_server(answering(OK)) as trap:
        reply = f"HTTP/1.1 {status} Moved\r\nLocation: {trap.url}/\r\nContent-Length: 0\r\n\r\n".encode()
        async with raw_server(answering(reply)) as server, client() as http:
            response = await http.post(server.url, content=b"x")
            assert response.status_code == status
            assert len(server.requests) == 1
        assert trap.connections == 0


async def test_cookies_are_neither_kept_nor_sent() -> None:
    reply = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(answering(reply)) as server, client() as http:
        response = await http.get(server.url)
        assert "set-cookie" not in response.headers
        assert not http.cookies
        await http.get(server.url, headers={"Cookie": "c=d"})
        assert not any(line.startswith(b"cookie") for request in server.requests for line in head_of(request))


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(answering(OK)) as proxy, raw_server(answering(OK)) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with client() as http:
            await http.get(server.url)
        assert proxy.connections == 0
        assert len(server.requests) == 1


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip", "gzip, gzip", "unheard-of"])
async def test_a_compressed_body_is_refused_but_its_status_is_seen(coding: str) -> None:
    body = gzip.compress(b"0" * 100_000)
    reply = b"HTTP/1.1 400 Bad\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b"
    async with (
        raw_server(answering(reply % (coding.encode(), len(body), body))) as server,
        client() as http,
        http.stream("GET", server.url) as response,
    ):
        assert response.status_code == 400
        with pytest.raises(EncodingRefused):
            await read_whole(response, 1_000_000)


async def test_identity_is_no_encoding() -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\nok"
    async with raw_server(answering(reply)) as server, client() as http:
        assert (await http.get(server.url)).content == b"ok"


def endless(server: RawServer) -> Handler:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    return serve


async def test_an_endless_body_is_capped_by_each_reader_and_by_the_transport() -> None:
    async with raw_server(endless) as server, client(body_limit=200_000) as http:
        async with http.stream("GET", server.url) as response:
            with pytest.raises(ResponseTooLarge, match="more than 100000 bytes"):
                await read_whole(response, 100_000)
        with pytest.raises(ResponseTooLarge, match="more than 200000 bytes"):
            await http.get(server.url)


async def test_a_body_as_large_as_the_limit_is_read_and_one_byte_more_is_not() -> None:
    async with raw_server(answering(OK)) as server, client() as http:
        async with http.stream("GET", server.url) as response:
            assert await read_whole(response, 2) == b"ok"
        async with http.stream("GET", server.url) as response:
            with pytest.raises(ResponseTooLarge, match="announces"):
                await read_whole(response, 1)


async def test_a_drip_is_ended_by_the_deadline() -> None:
    def dripping(server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)

        return serve

    loop = asyncio.get_running_loop()
    async with raw_server(dripping) as server, client() as http:
        began = loop.time()
        with pytest.raises(httpx.ReadTimeout):
            await http.get(server.url, extensions={DEADLINE_S: 0.2})
        assert 0.15 < loop.time() - began < 2


async def test_silence_is_ended_by_the_deadline() -> None:
    dial = Dial()
    async with raw_server(silent) as server, client(deadline_s=0.1) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post(server.url, content=b"x", extensions={DIAL: dial})
    assert dial.connected


async def test_waiting_for_a_connection_counts_towards_the_deadline() -> None:
    dial = Dial()
    async with raw_server(silent) as server, client(limit=1) as http:
        holder = asyncio.create_task(http.get(server.url))
        await server.received(1)
        with pytest.raises(httpx.PoolTimeout):
            await http.get(server.url, extensions={DEADLINE_S: 0.05, DIAL: dial})
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)
    assert not dial.started
    assert not dial.connected


async def test_a_read_body_returns_its_connection_and_an_unread_one_closes_it() -> None:
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
    async with raw_server(answering(large)) as server, client() as http:
        await http.get(server.url)
        dial = Dial()
        async with http.stream("GET", server.url, extensions={DIAL: dial}):
            pass
        assert dial.reused
        assert server.connections == 1
        again = Dial()
        await http.get(server.url, extensions={DIAL: again})
        assert not again.reused
        assert server.connections == 2


async def test_a_fresh_request_neither_takes_nor_leaves_a_kept_connection() -> None:
    async with raw_server(answering(OK)) as server, client() as http:
        await http.get(server.url)
        for connections in (2, 3):
            dial = Dial()
            await http.post(server.url, extensions={DIAL: dial, FRESH: True})
            assert dial.connected
            assert not dial.reused
            assert server.connections == connections
        assert b"connection: close" in head_of(server.requests[-1])
        await http.get(server.url)
        assert server.connections == 3


async def test_two_hundred_cancelled_requests_leave_the_pool_whole() -> None:
    hold = asyncio.Event()

    def holding(server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await server.read_request(reader):
                await hold.wait()
                writer.write(OK)

        return serve

    async with raw_server(holding) as server, client(limit=4) as http:
        tasks = [asyncio.create_task(http.get(server.url)) for _ in range(200)]
        await server.received(4)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        hold.set()
        answers = await asyncio.gather(*(http.get(server.url) for _ in range(40)))
        assert [answer.status_code for answer in answers] == [200] * 40


async def test_cancelling_while_a_body_is_read_frees_the_connection() -> None:
    async def read(http: httpx.AsyncClient, url: str, began: asyncio.Event) -> None:
        async with http.stream("GET", url) as response:
            async for _ in response.aiter_raw():
                began.set()

    async with raw_server(endless) as server, client(limit=1, body_limit=10**15) as http:
        for _ in range(3):
            began = asyncio.Event()
            task = asyncio.create_task(read(http, server.url, began))
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert server.connections == 3


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("ftp://127.0.0.1/", {}),
        ("http://127.1/", {}),
        ("http://127.0.0.1:1/", {"X-A": "a\r\nX-B: c"}),
        ("http://127.0.0.1:1/", {"X-A": b"\xff"}),
    ],
)
async def test_what_cannot_be_sent_is_an_httpx_error_and_not_dialled(
    url: str, headers: dict[str, str]
) -> None:
    dial = Dial()
    async with client() as http:
        with pytest.raises((httpx.LocalProtocolError, httpx.UnsupportedProtocol)):
            await http.get(url, headers=headers, extensions={DIAL: dial})
    assert not dial.connected


async def test_userinfo_in_a_url_is_sent_as_a_header_only() -> None:
    async with raw_server(answering(OK)) as server, client() as http:
        await http.get(f"http://u:p@127.0.0.1:{server.port}/x")
        head = head_of(server.requests[0])
        assert head[0] == b"get /x http/1.1"
        assert f"host: 127.0.0.1:{server.port}".encode() in head
