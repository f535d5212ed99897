"""Whether a request was made: `Dial.connected` against every way a call can break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from net_certificates import make_certificate
from net_servers import OK, Handler, RawServer, answering, raw_server, reset, unused_port

from gateway.errors import StorageUnavailable
from gateway.net import (
    BEFORE_SEND,
    DEADLINE_S,
    DIAL,
    FRESH,
    BeforeSend,
    Dial,
    PooledTransport,
    RequestWithheld,
)


@asynccontextmanager
async def client(**options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = PooledTransport(**{"deadline_s": 5.0, **options})
    async with httpx.AsyncClient(transport=transport, trust_env=False) as opened:
        yield opened


async def never(_host: str, _port: int, _owner: str) -> list[str]:
    await asyncio.Event().wait()
    return []


async def unknown(_host: str, _port: int, _owner: str) -> list[str]:
    raise OSError(-2, "Name or service not known")


async def loopback(_host: str, _port: int, _owner: str) -> list[str]:
    return ["127.0.0.1"]


def resetting(server: RawServer) -> Handler:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        reset(writer)

    return serve


def resetting_in_body(server: RawServer) -> Handler:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await writer.drain()
        reset(writer)

    return serve


def not_tls(_server: RawServer) -> Handler:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    return serve


def hanging_up_on_hello(_server: RawServer) -> Handler:
    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(64)

    return serve


async def outcome(http: httpx.AsyncClient, url: str, **extensions: Any) -> tuple[Dial, httpx.RequestError]:
    """Submit, as money does: a POST on a fresh connection that is expected to fail."""
    dial = Dial()
    with pytest.raises(httpx.RequestError) as caught:
        await http.post(url, content=b"{}", extensions={DIAL: dial, FRESH: True, **extensions})
    assert caught.value.request.url == url
    return dial, caught.value


async def test_success_is_connected() -> None:
    dial = Dial()
    async with raw_server(answering(OK)) as server, client(lookup=loopback) as http:
        await http.post(f"http://name.test:{server.port}/", extensions={DIAL: dial})
    assert dial == Dial(started=True, connected=True, reused=False)


def counting_bytes(seen: bytearray, gone: asyncio.Event) -> Callable[[RawServer], Handler]:
    def make(_server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            while chunk := await reader.read(1024):
                seen.extend(chunk)
            gone.set()

        return serve

    return make


async def raises() -> None:
    raise StorageUnavailable("the database is gone")


async def hangs() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("check", "words"),
    [(raises, "the database is gone"), (hangs, "the last check before sending did not end in time")],
    ids=["says no", "says nothing"],
)
async def test_a_withheld_request_is_not_made_not_one_byte_of_it(check: BeforeSend, words: str) -> None:
    seen, gone = bytearray(), asyncio.Event()
    async with raw_server(counting_bytes(seen, gone)) as server, client() as http:
        dial, error = await outcome(http, server.url, **{BEFORE_SEND: check, DEADLINE_S: 0.2})
        await asyncio.wait_for(gone.wait(), 5)  # and its connection is closed at once
        assert (server.connections, bytes(seen)) == (1, b"")
    assert isinstance(error, RequestWithheld)
    assert str(error) == words
    assert (dial.connected, dial.withheld) == (True, True)


async def test_the_last_check_comes_when_the_connection_stands_and_before_the_request() -> None:
    dial, found = Dial(), []

    async def check() -> None:
        found.append((dial.connected, dial.withheld, len(server.requests)))

    async with raw_server(answering(OK)) as server, client() as http:
        extensions = {DIAL: dial, FRESH: True, BEFORE_SEND: check}
        await http.post(server.url, content=b"{}", extensions=extensions)
    assert found == [(True, True, 0)]
    assert (dial.withheld, len(server.requests)) == (False, 1)


async def test_a_request_that_found_no_connection_is_not_checked() -> None:
    async def check() -> None:
        raise AssertionError

    async with client() as http:
        dial, error = await outcome(http, f"http://127.0.0.1:{unused_port()}/", **{BEFORE_SEND: check})
    assert isinstance(error, httpx.ConnectError)
    assert not dial.connected


async def test_a_refused_connection_was_not_made() -> None:
    async with client() as http:
        dial, error = await outcome(http, f"http://127.0.0.1:{unused_port()}/")
    assert isinstance(error, httpx.ConnectError)
    assert not dial.connected


async def test_an_unknown_name_was_not_made() -> None:
    async with client(lookup=unknown) as http:
        dial, error = await outcome(http, "https://name.test/")
    assert isinstance(error, httpx.ConnectError)
    assert not dial.connected


@pytest.mark.parametrize(
    ("options", "extensions", "words"),
    [
        ({"lookup_s": 0.05}, {}, "looking name.test up took more than 0.05 s"),
        ({"deadline_s": 0.05}, {}, "no connection in time"),
        ({}, {DEADLINE_S: 0.05}, "no connection in time"),
    ],
)
async def test_a_lookup_without_an_answer_was_not_made(
    options: dict[str, float], extensions: dict[str, float], words: str
) -> None:
    async with client(lookup=never, **options) as http:
        dial, error = await outcome(http, "https://name.test/", **extensions)
    assert isinstance(error, httpx.ConnectTimeout)
    assert words in str(error)
    assert not dial.connected


@pytest.mark.parametrize("server_is", [not_tls, hanging_up_on_hello])
async def test_a_failed_tls_handshake_was_not_made(server_is: Any) -> None:
    async with raw_server(server_is) as server, client() as http:
        dial, error = await outcome(http, f"https://127.0.0.1:{server.port}/")
        assert server.connections == 1
    assert isinstance(error, httpx.ConnectError)
    assert not dial.connected


async def test_a_handshake_that_hangs_was_not_made() -> None:
    def mute(_server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            while await reader.read(1024):
                pass

        return serve

    async with raw_server(mute) as server, client(connect_s=0.1) as http:
        dial, error = await outcome(http, f"https://127.0.0.1:{server.port}/")
    assert isinstance(error, httpx.ConnectTimeout)
    assert not dial.connected


@pytest.mark.parametrize(
    ("server_is", "kind"),
    [
        (resetting, httpx.ReadError),
        (resetting_in_body, httpx.TransportError),
        (answering(b"", then_close=True), httpx.RemoteProtocolError),
        (answering(b"HTTP/1.1 20", then_close=True), httpx.RemoteProtocolError),
        (answering(b"rubbish\r\n\r\n"), httpx.RemoteProtocolError),
        (answering(b"HTTP/1.1 abc OK\r\n\r\n"), httpx.RemoteProtocolError),
        (answering(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"), httpx.RemoteProtocolError),
        (answering(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5_000 + b"\r\n"), httpx.RemoteProtocolError),
        (
            answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", then_close=True),
            httpx.RemoteProtocolError,
        ),
        (
            answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", then_close=True),
            httpx.RemoteProtocolError,
        ),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_whatever_breaks_after_the_request_was_made_once(
    server_is: Any, kind: type[httpx.RequestError], method: str
) -> None:
    dial = Dial()
    async with raw_server(server_is) as server, client() as http:
        with pytest.raises(httpx.RequestError) as caught:
            await http.request(method, server.url + "/?token=hunter2", extensions={DIAL: dial})
        assert len(server.requests) == 1
    assert isinstance(caught.value, kind)
    assert dial.connected
    assert "hunter2" not in str(caught.value)


async def test_a_hundred_continues_are_passed_over() -> None:
    async with raw_server(answering(b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + OK)) as server, client() as http:
        assert (await http.get(server.url)).status_code == 200


async def test_a_stale_connection_raises_doubt_unless_the_request_is_fresh() -> None:
    def one_each(server: RawServer) -> Handler:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_request(reader)
            writer.write(OK)
            await server.read_request(reader)

        return serve

    async with raw_server(one_each) as server, client() as http:
        await http.post(server.url)
        doubtful = Dial()
        with pytest.raises(httpx.RequestError):
            await http.post(server.url, extensions={DIAL: doubtful})
        assert doubtful.connected
        assert doubtful.reused
        await http.post(server.url)
        fresh = Dial()
        assert (await http.post(server.url, extensions={DIAL: fresh, FRESH: True})).status_code == 200
        assert not fresh.reused


async def test_a_certificate_of_nobodys_was_not_made(tmp_path: Path) -> None:
    tls, _ = make_certificate(tmp_path, "name.test")
    async with raw_server(answering(OK), tls=tls) as server, client(lookup=loopback) as http:
        dial, error = await outcome(http, f"https://name.test:{server.port}/?token=hunter2")
        assert not server.requests
    assert isinstance(error, httpx.ConnectError)
    assert "certificate verify failed" in str(error)
    assert not dial.connected


async def test_the_host_header_and_the_tls_name_stay_the_name(tmp_path: Path) -> None:
    tls, trusting = make_certificate(tmp_path, "name.test")
    asked: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with (
        raw_server(answering(OK), tls=tls) as server,
        client(lookup=loopback, ssl_context=trusting) as http,
    ):
        response = await http.get(f"https://name.test:{server.port}/")
        assert response.status_code == 200
        assert f"Host: name.test:{server.port}\r\n".encode() in server.requests[0]
    assert asked == ["name.test"]
