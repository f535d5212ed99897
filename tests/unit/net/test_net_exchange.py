"""One request and its answer: read as far as is wanted, however sloppily it is written or cut up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import httpx
import pytest
from guarded_network import Network, post
from hypothesis import given
from hypothesis import strategies as st
from net_servers import OK, Handler, RawServer, answering, raw_server, reset

from gateway.net.exchange import HEADS_BYTES, INTERIM_MAX, Exchange

INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nRetry-After: 9\r\n\r\n"
LENGTH = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\nhello"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
TO_THE_END = b"HTTP/1.0 200 OK\r\n\r\nhello"
Read = tuple[int | None, str | None, bytes, str | None]


class Wire:
    """The event loop's side of a connection."""

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


def read(pieces: Sequence[bytes], *, wanted: int = 100, lost: Exception | None = None) -> Read:
    """What an exchange makes of these pieces, after which the other side hangs up."""
    exchange = Exchange(b"request", wanted=wanted)
    exchange.connection_made(Wire())  # type: ignore[arg-type]  # what is used of it
    for piece in pieces:
        exchange.data_received(piece)
    if lost is None:
        exchange.eof_received()
    exchange.connection_lost(lost)
    assert exchange.ended
    trouble = None if exchange.trouble is None else str(exchange.trouble)
    return exchange.status, exchange.retry_after, exchange.body, trouble


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (LENGTH, (503, "7", b"hello", None)),
        (CHUNKS, (200, None, b"hello", None)),
        (TO_THE_END, (200, None, b"hello", None)),
        (INTERIM + LENGTH, (503, "7", b"hello", None)),
        (INTERIM + CHUNKS, (200, None, b"hello", None)),
        (LENGTH + LENGTH, (503, "7", b"hello", None)),
        (LENGTH + b"rubbish", (503, "7", b"hello", None)),
        (b"HTTP/1.1 204 None\r\n\r\nrubbish", (204, None, b"", None)),
        (b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\0\1", (101, None, b"", None)),
        (b"HTTP/1.1 101 Switch\r\n\r\n", (101, None, b"", None)),
        (b"HTTP/1.1 200\nContent-Length: 5\n\nhello", (200, None, b"hello", None)),
        (b"HTTP/1.1 200 OK\r\nX: \xff\x01\r\nContent-Length: 5\r\n\r\nhello", (200, None, b"hello", None)),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: IDENTITY\r\n\r\nhello", (200, None, b"hello", None)),
    ],
)
@given(cuts=st.sets(st.integers(1, 120)))
def test_an_answer_is_the_same_however_it_is_cut_up(answer: bytes, found: Read, cuts: set[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(answer)), len(answer)]
    pieces = [answer[start:end] for start, end in pairwise(places)]
    assert read(pieces) == found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhe", (200, b"he", "hung up in the middle of it")),
        (CHUNKS[:-5], (200, b"hello", "hung up in the middle of it")),
        (CHUNKS[:-15] + b"zz\r\n", (200, b"he", "no HTTP: Invalid character in chunk size")),
    ],
)
def test_of_a_body_that_breaks_off_what_came_is_kept_with_the_reason(
    answer: bytes, found: tuple[int, bytes, str]
) -> None:
    status, _, body, trouble = read([answer])
    assert (status, body, trouble) == found


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "hung up without an answer"),
        (b"HTTP/1.1 20", "hung up without an answer"),
        (INTERIM, "hung up without an answer"),
        (b"rubbish\r\n\r\n", "no HTTP: "),
        (INTERIM * (INTERIM_MAX + 1), f"more than {INTERIM_MAX} interim answers"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEADS_BYTES * 2, f"more than {HEADS_BYTES} bytes"),
    ],
)
def test_what_is_no_answer_has_no_status_and_a_reason(answer: bytes, words: str) -> None:
    status, _, body, trouble = read([answer])
    assert (status, body) == (None, b"")
    assert words in (trouble or "")


def test_nothing_is_read_beyond_what_is_wanted() -> None:
    assert read([b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 20_000, b"y" * 20_000], wanted=5) == (
        200,
        None,
        b"xxxxx",
        None,
    )


def test_a_connection_that_was_left_while_it_was_dialled_carries_nothing() -> None:
    exchange, wire = Exchange(b"request", wanted=1), Wire()
    exchange.leave()
    exchange.connection_made(wire)  # type: ignore[arg-type]  # what is used of it
    assert (wire.written, wire.aborted) == (b"", True)


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
    flood = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    async with (
        raw_server(answering(flood * INTERIM_MAX + OK)) as server,
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
