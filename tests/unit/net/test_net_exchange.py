"""One request and its answer: read as far as is wanted, however sloppily it is written or cut up."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.net.exchange import HEADS_BYTES, Exchange
from gateway.net.limits import INTERIM_MAX

INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nRetry-After: 9\r\n\r\n"
LENGTH = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\nhello"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
TO_THE_END = b"HTTP/1.0 200 OK\r\n\r\nhello"
Read = tuple[int | None, str | None, bytes, str | None]


class Wire:
    """The event loop's side of a connection."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def connected(*, wanted: int = 100) -> Exchange:
    exchange = Exchange(wanted=wanted)
    exchange.connection_made(Wire())  # type: ignore[arg-type]  # what is used of it
    return exchange


def read(pieces: Sequence[bytes], *, wanted: int = 100, lost: Exception | None = None) -> Read:
    """What an exchange makes of these pieces, after which the other side hangs up."""
    exchange = connected(wanted=wanted)
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
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello", (200, None, b"hello", None)),
        (b"HTTP/1.1 100 Go on\r\nConnection: close\r\n\r\n" + LENGTH, (503, "7", b"hello", None)),
        (b"HTTP/1.0 100 Go on\r\n\r\n" + LENGTH, (503, "7", b"hello", None)),
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


def test_a_body_in_chunks_of_one_byte_is_not_too_much() -> None:
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 8192
    assert read([chunks], wanted=8192) == (200, None, b"x" * 8192, None)


@pytest.mark.parametrize(
    "flood",
    [
        b"1;" + b"x" * 2**20,
        b"0" * 2**20,
        b"0\r\nX: a\r\n" + b" b\r\n" * 2**18,
        b"0\r\n" + b"X: y\r\n" * 2**18,
    ],
    ids=["chunk extension", "chunk size", "folded trailer", "trailers"],
)
def test_what_stands_around_a_body_is_read_no_further_than_the_body_might_be(flood: bytes) -> None:
    exchange = connected(wanted=1000)
    exchange.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + flood)
    assert (exchange.status, exchange.ended) == (200, True)
    assert "drowned" in str(exchange.trouble)
    assert exchange._came < 2 * HEADS_BYTES


def test_a_certificate_that_is_refused_after_the_handshake_is_told_as_the_cause() -> None:
    exchange, alert = connected(), ssl.SSLError(1, "tlsv13 alert certificate required")
    exchange.connection_lost(alert)
    assert exchange.trouble is not None
    assert exchange.trouble.__cause__ is alert


def test_a_connection_that_was_left_while_it_was_dialled_is_closed() -> None:
    exchange, wire = Exchange(wanted=1), Wire()
    exchange.leave()
    exchange.connection_made(wire)  # type: ignore[arg-type]  # what is used of it
    assert wire.aborted
