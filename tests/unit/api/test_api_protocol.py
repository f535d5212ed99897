"""Raw sockets against a real uvicorn server on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from gateway.api.body import ClientGone, read_body
from gateway.api.problems import problem_body, problem_type
from gateway.api.protocol import limited_protocol
from gateway.errors import Refusal

HEAD_TIMEOUT_S = 0.2
PATIENCE_S = 5  # how long a test waits for what must happen; never reached when it does


class App:
    """Shows a request back as JSON; `/early` answers before the body, `/wait` when told to."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.called = asyncio.Event()
        self.gone = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.called.set()
        headers = dict(scope["headers"])
        if scope["path"] == "/wait":
            await self.go_on.wait()
        length = headers.get(b"content-length", None if b"transfer-encoding" in headers else b"0")
        extra: list[tuple[bytes, bytes]] = []
        try:
            body = b""
            if scope["path"] != "/early":
                text = None if length is None else length.decode()
                body = await read_body(receive, limit=1000, timeout_s=HEAD_TIMEOUT_S, content_length=text)
            status, answer = 200, json.dumps({"path": scope["path"], "body": body.decode()}).encode()
        except ClientGone:
            self.gone.set()
            return
        except Refusal as refusal:
            status, answer = problem_type(refusal.slug).status, problem_body(refusal, "req_app")
            extra = [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
        head = [(b"content-length", b"%d" % len(answer)), *extra]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": answer})


class Client:
    """One connection, spoken to in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            headers = dict(entry.split(": ", 1) for entry in lines)
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(line.split()[1]), headers, body

    async def end(self) -> bytes:
        """Everything else until the server ends the connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read()

    async def trickle(self, data: bytes) -> bytes:
        """Send the same bytes again and again until the server ends the connection; what it said."""
        said = asyncio.create_task(self.end())
        while not said.done():
            self.writer.write(data)
            await asyncio.wait([said], timeout=0.01)
        try:
            return await said
        except ConnectionResetError:
            return b""  # it closed with some of our bytes unread


class Edge:
    """A running server, its application, and connections to it."""

    def __init__(self, app: App, port: int) -> None:
        self.app = app
        self.port = port
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def say(self, data: bytes) -> Client:
        client = await self.connect()
        await client.send(data)
        return client


@asynccontextmanager
async def running(
    head_timeout_s: float = HEAD_TIMEOUT_S, keep_alive_s: float = PATIENCE_S
) -> AsyncIterator[Edge]:
    app = App()
    protocol = limited_protocol(
        head_timeout_s=head_timeout_s,
        headers_max=100,
        header_max_bytes=32 * 1024,
        target_max=4096,
        new_request_id=lambda: "req_edge",
    )
    config = uvicorn.Config(
        app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, interface="asgi3"
    )
    config.timeout_keep_alive = keep_alive_s  # type: ignore[assignment]  # a float does as well, only tests want one
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        edge = Edge(app, listener.getsockname()[1])
        try:
            yield edge
        finally:
            app.go_on.set()
            for client in edge.clients:
                client.writer.close()
            server.should_exit = True
            await serving


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    async with running() as server:
        yield server


@pytest.fixture
async def patient_edge() -> AsyncIterator[Edge]:
    """A server whose head timer has no part in the test."""
    async with running(head_timeout_s=PATIENCE_S * 2) as server:
        yield server


def headers_of(count: int, size: int) -> bytes:
    """That many headers, `size` bytes each on the wire."""
    return b"".join(b"h%04d: %s\r\n" % (n, b"x" * (size - 9)) for n in range(count))


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "101 headers": (b"GET / HTTP/1.1\r\n" + headers_of(101, 20) + b"\r\n", 431, "headers-too-large"),
    "headers of 32 KiB and 1 byte": (
        b"GET / HTTP/1.1\r\n" + headers_of(1, 1025) + headers_of(31, 1024) + b"\r\n",
        431,
        "headers-too-large",
    ),
    "one endless value": (b"GET / HTTP/1.1\r\na: " + b"x" * 1_000_000, 431, "headers-too-large"),
    "one endless name": (b"GET / HTTP/1.1\r\n" + b"x" * 1_000_000, 431, "headers-too-large"),
    "5,000 headers": (b"GET / HTTP/1.1\r\n" + headers_of(5_000, 20) + b"\r\n", 431, "headers-too-large"),
    "endless empty lines": (b"\r\n" * 100_000, 431, "headers-too-large"),
    "a target of 4 KiB and 1 byte": (b"GET /" + b"x" * 4096 + b" HTTP/1.1\r\n\r\n", 414, "uri-too-long"),
    "an endless target": (b"GET /?" + b"x" * 1_000_000, 414, "uri-too-long"),
    "both lengths": (
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad-request",
    ),
    "both lengths, turned round": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
        "bad-request",
    ),
    "two lengths": (
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        400,
        "bad-request",
    ),
    "a negative length": (b"POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\nabc", 400, "bad-request"),
    "a signed length": (b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc", 400, "bad-request"),
    "a huge length": (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400, "bad-request"),
    "another coding": (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "bad-request"),
    "stacked codings": (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400, "bad-request"),
    "identity": (b"POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", 400, "bad-request"),
    "a proxy's method": (b"CONNECT example:443 HTTP/1.1\r\n\r\n", 400, "bad-request"),
    "another encoding": (b"GET /\xff?\xfe HTTP/1.1\r\n\r\n", 400, "bad-request"),
    "a folded header": (b"GET / HTTP/1.1\r\na: x\r\n y\r\n\r\n", 400, "bad-request"),
    "a space before a colon": (b"GET / HTTP/1.1\r\na : x\r\n\r\n", 400, "bad-request"),
    "a NUL": (b"GET / HTTP/1.1\r\na: x\x00\r\n\r\n", 400, "bad-request"),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: x\n\n", 400, "bad-request"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad-request"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad-request"),
    "noise": (b"hello\r\n\r\n", 400, "bad-request"),
    "a chunk without size": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        400,
        "bad-request",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_request_gets_a_problem_document_and_the_end(patient_edge: Edge, case: str) -> None:
    data, status, slug = REFUSED[case]
    client = await patient_edge.connect()
    client.writer.write(data)
    got, headers, body = await client.answer()
    problem = json.loads(body)
    assert (got, problem["type"], problem["status"]) == (status, f"/problems/{slug}", status)
    assert headers["content-type"] == "application/problem+json"
    assert (headers["connection"], headers["x-request-id"]) == ("close", "req_edge")
    assert problem["instance"] == "req_edge"
    assert await client.end() == b""
    assert not patient_edge.app.scopes or case == "a chunk without size"


async def test_requests_at_the_limits_are_served_on_one_connection(edge: Edge) -> None:
    client = await edge.say(b"GET /" + b"x" * 4095 + b" HTTP/1.1\r\n" + headers_of(32, 1024) + b"\r\n")
    assert (await client.answer())[0] == 200
    await client.send(b"GET / HTTP/1.1\r\n" + headers_of(100, 20) + b"\r\n")
    assert (await client.answer())[0] == 200
    await client.send(b"POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
    assert json.loads((await client.answer())[2]) == {"path": "/b", "body": "abc"}


async def test_a_head_in_single_bytes_is_served(patient_edge: Edge) -> None:
    client = await patient_edge.connect()
    for byte in b"\r\nPOST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
        await client.send(bytes([byte]))
    assert json.loads((await client.answer())[2]) == {"path": "/x", "body": "abc"}


async def test_a_head_that_never_ends_is_given_up(edge: Edge) -> None:
    client = await edge.say(b"GET / HTTP/1.1\r\nHost")
    status, _, body = await client.answer()
    assert (status, json.loads(body)["type"]) == (408, "/problems/request-timeout")
    assert await client.end() == b""


@pytest.mark.parametrize("begin", [b"", b"GET / HTTP/1.1\r\n"])
async def test_a_byte_now_and_then_does_not_keep_a_head_open(edge: Edge, begin: bytes) -> None:
    client = await edge.say(begin)
    said = await client.trickle(b"G" if not begin else b"a: b\r\n")
    assert b" 408 " in said or b" 400 " in said


async def test_a_silent_connection_is_closed_without_a_word(edge: Edge) -> None:
    assert await (await edge.connect()).end() == b""


async def test_a_later_head_on_the_same_connection_has_its_own_time(edge: Edge) -> None:
    client = await edge.say(b"GET / HTTP/1.1\r\n\r\n")
    assert (await client.answer())[0] == 200
    await asyncio.sleep(HEAD_TIMEOUT_S * 1.5)  # idle, which the head's time does not bound
    await client.send(b"GET / HTTP/1.1\r\n")
    assert (await client.answer())[0] == 408


async def test_a_head_that_starts_behind_a_request_is_timed_too(edge: Edge) -> None:
    client = await edge.say(b"GET / HTTP/1.1\r\n\r\nGET /second HTTP/1.1\r\n")
    assert (await client.answer())[0] == 200
    assert (await client.answer())[0] == 408


@pytest.mark.parametrize(
    ("begin", "data"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"\r\n"),
        (b"POST /early HTTP/1.1\r\nContent-Length: 100000\r\n\r\n", b"x"),
    ],
)
async def test_odd_bytes_do_not_keep_an_idle_connection_open(begin: bytes, data: bytes) -> None:
    async with running(head_timeout_s=PATIENCE_S * 2, keep_alive_s=0.1) as edge:
        client = await edge.say(begin)
        assert (await client.answer())[0] == 200
        assert await client.trickle(data) == b""


@pytest.mark.parametrize("behind", [True, False])
async def test_a_head_under_way_is_not_cut_off_by_the_keep_alive_timer(*, behind: bool) -> None:
    async with running(head_timeout_s=PATIENCE_S * 2, keep_alive_s=0.1) as edge:
        client = await edge.say(b"GET /wait HTTP/1.1\r\n\r\n" + b"GET /next HTTP" * behind)
        edge.app.go_on.set()
        assert (await client.answer())[0] == 200
        await client.send(b"/1.1\r\nHost: a" if behind else b"GET /next HTTP/1.1\r\nHost: a")
        await asyncio.sleep(0.3)  # longer than the keep-alive time
        await client.send(b"\r\n\r\n")
        assert json.loads((await client.answer())[2])["path"] == "/next"


async def test_a_head_is_not_late_while_the_server_itself_does_not_read(edge: Edge) -> None:
    client = await edge.say(b"GET /wait HTTP/1.1\r\n\r\nGET /second HTTP/1.1\r\n\r\nGET /third HTTP/1.1\r\n")
    await asyncio.sleep(HEAD_TIMEOUT_S * 1.5)
    await client.send(b"\r\n")
    edge.app.go_on.set()
    paths = [json.loads((await client.answer())[2])["path"] for _ in range(3)]
    assert paths == ["/wait", "/second", "/third"]


async def test_others_are_served_while_slow_heads_are_held_open(patient_edge: Edge) -> None:
    for _ in range(100):
        await patient_edge.say(b"GET / HTTP/1.1\r\na:")
    client = await patient_edge.say(b"GET / HTTP/1.1\r\n\r\n")
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    "bad", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n" + headers_of(101, 20), b"GET /late"]
)
async def test_an_answer_that_is_owed_comes_before_a_later_requests_refusal(edge: Edge, bad: bytes) -> None:
    client = await edge.say(b"GET /wait HTTP/1.1\r\n\r\n")
    await asyncio.wait_for(edge.app.called.wait(), PATIENCE_S)
    await client.send(bad)
    await asyncio.sleep(HEAD_TIMEOUT_S * 1.5)  # until the late one is late
    edge.app.go_on.set()
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert await client.end() == b""
    assert len(edge.app.scopes) == 1


async def test_a_body_that_breaks_ends_its_request(patient_edge: Edge) -> None:
    client = await patient_edge.say(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await asyncio.wait_for(patient_edge.app.called.wait(), PATIENCE_S)
    await client.send(b"zz\r\n")
    assert (await client.answer())[0] == 400
    await asyncio.wait_for(patient_edge.app.gone.wait(), PATIENCE_S)
    assert await client.end() == b""


async def test_nothing_is_written_into_an_answer_that_has_begun(patient_edge: Edge) -> None:
    client = await patient_edge.say(b"POST /early HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    assert (await client.answer())[0] == 200
    await client.send(b"zz\r\n")
    assert await client.end() == b""


async def test_a_trailer_is_not_taken_for_a_header(edge: Edge) -> None:
    client = await edge.say(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    )
    assert json.loads((await client.answer())[2])["body"] == "a"
    assert [name for name, _ in edge.app.scopes[0]["headers"]] == [b"transfer-encoding"]


@pytest.mark.parametrize("flood", [b"0\r\nx: " + b"y" * 1_000_000, b"1;" + b"x" * 1_000_000])
async def test_endless_framing_is_refused(patient_edge: Edge, flood: bytes) -> None:
    client = await patient_edge.say(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.writer.write(flood)
    assert (await client.answer())[0] == 400
    assert await client.end() == b""


async def test_a_body_in_one_byte_chunks_is_read(edge: Edge) -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = await edge.say(head + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n")
    assert json.loads((await client.answer())[2])["body"] == "x" * 1000


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0"])
@pytest.mark.parametrize("cut", [None, 70, 135])
async def test_an_offered_upgrade_is_ignored_and_costs_neither_body_nor_connection(
    edge: Edge, upgrade: bytes, cut: int | None
) -> None:
    offer = (
        b"POST /up?q=1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\n"
        b"HTTP2-Settings: AAEAAEAAAAIAAAAB\r\nContent-Length: 3\r\n\r\nabc" % upgrade
    )
    client = await edge.say(offer[:cut])
    if cut is not None:
        await asyncio.sleep(0.01)  # so that the two parts arrive apart; either way the test holds
        await client.send(offer[cut:])
    assert json.loads((await client.answer())[2]) == {"path": "/up", "body": "abc"}
    await client.send(offer * 2)
    for _ in range(2):
        assert json.loads((await client.answer())[2]) == {"path": "/up", "body": "abc"}
    assert edge.app.scopes[0]["query_string"] == b"q=1"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 408),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab", 408),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n", 413),
    ],
)
async def test_a_body_out_of_bounds_is_refused_and_the_connection_closed(
    edge: Edge, data: bytes, status: int
) -> None:
    client = await edge.say(data)
    got, headers, _ = await client.answer()
    assert (got, headers["connection"]) == (status, "close")
    assert await client.end() == b""


async def test_a_client_that_sends_on_regardless_still_reads_its_refusal(edge: Edge) -> None:
    for _ in range(5):
        client = await edge.connect()
        client.writer.write(b"POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)
        assert (await client.answer())[0] == 413


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_gone(edge: Edge) -> None:
    client = await edge.say(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab")
    client.writer.close()
    await asyncio.wait_for(edge.app.gone.wait(), PATIENCE_S)


def test_ids_are_made_by_the_gateways_own_rule_unless_given() -> None:
    make: Callable[[], str] = limited_protocol(
        head_timeout_s=1, headers_max=1, header_max_bytes=1, target_max=1
    ).limits.new_request_id
    assert make().startswith("req_")
    assert make() != make()
