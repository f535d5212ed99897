"""The simulator on a port: what only a real connection can show."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from simulator_fleet import CANCELLABLE, NAMES, RUN_S, Caller, FakeClock, fast_simulator, script, settled

from gateway.simulator import SimulatorServer, serve_simulator

LOOPS = [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})]


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The event loop: asyncio's own unless a test asks for both."""
    chosen: tuple[str, dict[str, bool]] = getattr(request, "param", LOOPS[0])
    return chosen


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[SimulatorServer, httpx.AsyncClient]]:
    clock = options.pop("clock", None) or FakeClock()
    async with (
        await serve_simulator(fast_simulator(clock, **options)) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as http,
    ):
        yield server, http


def raw(request: httpx.Request) -> bytes:
    """The request as bytes for a socket."""
    target = request.url.raw_path
    head = b"".join(b"%s: %s\r\n" % pair for pair in request.headers.raw)
    return b"%s %s HTTP/1.1\r\n%s\r\n%s" % (request.method.encode(), target, head, request.read())


async def ask_raw(request: httpx.Request) -> bytes:
    """Send a request on a connection of its own and read to the connection's end."""
    reader, writer = await asyncio.open_connection(request.url.host, request.url.port)
    try:
        writer.write(raw(request))
        return await asyncio.wait_for(reader.read(), timeout=5)
    finally:
        writer.close()


async def accepted(http: httpx.AsyncClient, name: str) -> int:
    count: int = (await http.get("/_stats")).json()["accepted"][name]
    return count


async def until_accepted(http: httpx.AsyncClient, name: str) -> None:
    """Wait until the job exists; its client hears nothing of it."""
    async with asyncio.timeout(5):
        while not await accepted(http, name):
            pass  # asking again takes its time


@pytest.mark.parametrize("anyio_backend", LOOPS, indirect=True, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_reset_is_a_real_one_and_comes_after_acceptance(name: str) -> None:
    async with serving(faults=script("accept_reset", times=1)) as (_, http):
        with pytest.raises(ConnectionResetError) as caught:
            await ask_raw(Caller(name, http).submission())
        assert caught.value.errno == errno.ECONNRESET
        assert await accepted(http, name) == 1
        assert (await Caller(name, http).submit()).is_success


@pytest.mark.parametrize("anyio_backend", LOOPS, indirect=True, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_truncated_answer_announces_more_than_it_holds(name: str) -> None:
    async with serving(faults=script("accept_truncated")) as (_, http):
        head, _, body = (await ask_raw(Caller(name, http).submission())).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        assert 0 < len(body) < int(length.split(b":")[1])
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
        with pytest.raises(httpx.RemoteProtocolError):
            await Caller(name, http).submit()
        assert await accepted(http, name) == 2


@pytest.mark.parametrize("name", NAMES)
async def test_silence_lasts_until_the_client_leaves(name: str) -> None:
    async with serving(faults=script("accept_silence")) as (server, http):
        waiting = asyncio.create_task(Caller(name, http).submit())
        await until_accepted(http, name)
        assert not waiting.done()
        waiting.cancel()
        async with asyncio.timeout(5):
            while server._server.server_state.tasks:
                await accepted(http, name)


@pytest.mark.parametrize("anyio_backend", LOOPS, indirect=True, ids=["asyncio", "uvloop"])
async def test_stopping_ends_a_silence_with_a_reset() -> None:
    async with serving(faults=script("accept_silence")) as (server, http):
        waiting = asyncio.create_task(ask_raw(Caller("runway", http).submission()))
        await until_accepted(http, "runway")
        assert not waiting.done()
        await asyncio.wait_for(server.stop(), timeout=5)
        with pytest.raises(ConnectionResetError):
            await waiting


@pytest.mark.parametrize("fault", ["accept_reset", "accept_silence", "accept_truncated", "html_502"])
@pytest.mark.parametrize("operation", ["poll", "cancel"])
async def test_polls_and_cancels_can_be_spoilt_too(operation: str, fault: str) -> None:
    async with serving(faults=script(fault, operation)) as (_, http):
        caller = Caller(CANCELLABLE[0], http)
        ref = await caller.submitted()
        ask = caller.poll if operation == "poll" else caller.cancel
        http.timeout = httpx.Timeout(0.3 if fault == "accept_silence" else 5)
        try:
            answer = await ask(ref)
        except httpx.TransportError:
            assert fault != "html_502"
        else:
            assert answer.status_code == 502


@pytest.mark.parametrize("anyio_backend", LOOPS, indirect=True, ids=["asyncio", "uvloop"])
async def test_no_fault_leaves_a_complaint_in_the_servers_log(caplog: pytest.LogCaptureFixture) -> None:
    for fault in ("accept_reset", "accept_truncated", "accept_silence"):
        async with serving(faults=script(fault)) as (_, http):
            http.timeout = httpx.Timeout(0.5)
            with pytest.raises(httpx.TransportError):
                await Caller("runway", http).submit()
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


async def test_output_urls_begin_with_where_it_listens() -> None:
    clock = FakeClock()
    async with serving(clock=clock) as (server, http):
        caller = Caller("runway", http)
        ref = await caller.submitted()
        await settled(server.simulator)
        clock.now_s += RUN_S
        (url,) = (await caller.seen(ref)).outputs
        assert url.startswith(f"{server.url}/media/runway/")
        assert (await http.get(url)).headers["content-type"] == "video/mp4"
        assert (await http.head(url)).status_code == 200


async def test_an_address_of_our_own_choice_is_kept() -> None:
    simulator = fast_simulator(FakeClock(), public_url="https://films.test")
    async with await serve_simulator(simulator):
        assert simulator.public_url == "https://films.test"


async def test_it_listens_on_ipv6_too() -> None:
    try:
        server = await serve_simulator(fast_simulator(FakeClock()), host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with server, httpx.AsyncClient(trust_env=False) as http:
        assert server.url.startswith("http://[::1]:")
        assert (await http.get(f"{server.url}/_stats")).status_code == 200


async def test_a_taken_port_is_an_error_to_the_caller() -> None:
    simulator = fast_simulator(FakeClock())
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await serve_simulator(simulator, port=taken.getsockname()[1])
    await simulator.stop()


async def test_signal_handlers_are_left_alone() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    async with serving():
        assert {number: signal.getsignal(number) for number in before} == before


async def test_stopping_twice_is_once() -> None:
    async with serving() as (server, _):
        await server.stop()
        await server.stop()


@pytest.mark.parametrize(
    "text",
    [
        b"garbage\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"POST /runway/v1/character_performance HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"GET /runway HTTP/1.1\r\nhost: x\r\nauthorization: \xff\r\nconnection: close\r\n\r\n",
        b"GET http://[::1/runway HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    ],
)
async def test_raw_garbage_gets_a_4xx(text: bytes) -> None:
    async with serving() as (server, _):
        url = httpx.URL(server.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(text)
        answer = await asyncio.wait_for(reader.read(), timeout=5)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 4")
