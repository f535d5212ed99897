"""One request and its answer on a connection that serves for nothing else.

Everything but the status is of no consequence here, and nothing comes after the answer, so that what is
sloppily written is read all the same (`_LENIENT`): a request cannot be smuggled where there is but one.

An answer is read only as far as it is kept, and what comes before, between and after what is kept is limited,
down to the bytes: they are parsed a few kilobytes at a time, and some of it (a folded trailer) takes a parser
time that grows with the square of its length. Without that one receiver could stop everybody's event loop.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
import httpx

from gateway.net.failures import EncodingRefused, in_words
from gateway.net.fields import check_unencoded
from gateway.net.limits import INTERIM_MAX, PIECE_BYTES

HEADS_BYTES = 16_384
"""All heads of one answer together, interim ones included; Node.js allows as many."""
TIMES_WANTED = 8
"""Bytes on the wire for each that is wanted of a body: in chunks of one byte each it is six."""
_LENIENT = dict.fromkeys(
    (
        "lenient_chunked_length",
        "lenient_data_after_close",
        "lenient_headers",
        "lenient_keep_alive",  # or nothing would be read behind an interim answer that says `close`
        "lenient_optional_cr_before_lf",
        "lenient_optional_crlf_after_chunk",
        "lenient_optional_lf_after_cr",
        "lenient_spaces_after_chunk_size",
        "lenient_transfer_encoding",
        "lenient_version",
    ),
    True,
)


class Exchange(asyncio.Protocol):
    """Sends a request once it is connected, and reads what is wanted of the answer.

    Attributes:
        status: None until the answer's head has come.
        retry_after: its Retry-After field, as it came.
        body: of its body as much as is wanted.
        ended: whether nothing more will be read.
        trouble: why it ended before all that is wanted had come; None when it has.
    """

    def __init__(self, *, wanted: int) -> None:
        """Connect nothing yet.

        Args:
            wanted: bytes of the answer's body.
        """
        self._wanted = wanted
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(**_LENIENT)
        self._fields: dict[bytes, bytes] = {}
        self._interim = 0
        self._came = 0  # bytes
        self._news: asyncio.Future[None] | None = None
        self.status: int | None = None
        self.retry_after: str | None = None
        self.body = b""
        self.ended = False
        self.trouble: httpx.HTTPError | None = None

    def send(self, request: bytes) -> None:
        """Send head and body; to be called once, when the connection stands.

        They are a few kilobytes, which the system takes at once: whoever answers before having read all that
        does not want the rest.
        """
        if self._transport is not None:
            self._transport.write(request)

    async def answered(self) -> int:
        """Wait for the answer's head; its status.

        Raises:
            httpx.RemoteProtocolError: what came is no answer, or none came.
            httpx.ReadError: the connection broke.
        """
        while self.status is None and not self.ended:
            await self._more()
        if self.status is None:
            raise self.trouble or httpx.RemoteProtocolError("hung up without an answer")
        return self.status

    async def read(self) -> None:
        """Wait until what is wanted of the body has come, or no more will."""
        while not self.ended:
            await self._more()

    def leave(self) -> None:
        """Hang up. May be called again."""
        self.ended = True
        # Each refers to this object: together they would be left to the garbage collector.
        self._parser = self.trouble = None
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if self.status is None:
            transport.abort()
        else:
            transport.close()  # over TLS it says so, and would wait for the other side to say it, too
            asyncio.get_running_loop().call_soon(transport.abort)
        self._tell()

    async def _more(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it, unless it comes too late: whoever gave up while it was dialled has left."""
        connected = cast("asyncio.Transport", transport)  # uvloop's is none by type
        if self.ended:
            connected.abort()
        else:
            self._transport = connected

    def data_received(self, data: bytes) -> None:
        """Parse what came, piece by piece, until there is enough."""
        for start in range(0, len(data), PIECE_BYTES):
            if self.ended:
                break
            self._parse(data[start : start + PIECE_BYTES])
        self._tell()

    def eof_received(self) -> None:
        """Nothing more will come."""
        self._end_of_stream(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Neither will it now."""
        self._transport = None
        self._end_of_stream(exc)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """An answer or an interim one begins."""
        if self.status is None:
            self._fields.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field; of those of one name the last counts."""
        if self.status is None:
            self._fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Tell an interim answer from the answer (RFC 9110 15.2; after a 101 nothing more would come)."""
        if self.ended or self.status is not None:
            return
        code: int = self._parser.get_status_code()
        if 100 <= code < 200 and code != 101:
            self._interim += 1
            if self._interim > INTERIM_MAX:
                self._fail(httpx.RemoteProtocolError(f"more than {INTERIM_MAX} interim answers"))
            return
        self.status = code
        retry_after = self._fields.get(b"retry-after")
        self.retry_after = None if retry_after is None else retry_after.decode("latin-1")
        try:
            check_unencoded(self._fields.get(b"content-encoding", b"").decode("latin-1"))
        except EncodingRefused as error:
            self._fail(error)

    def on_body(self, body: bytes) -> None:
        """Keep what is wanted."""
        if self.ended or self.status is None:
            return
        self.body += body[: self._wanted - len(self.body)]
        self.ended = len(self.body) >= self._wanted

    def on_message_complete(self) -> None:
        """The answer is whole, or one before it is."""
        if self.status is not None:
            self.ended = True

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # Behind the answer's end it is of no consequence, and said of an upgrade that we asked for none.
            self._fail(httpx.RemoteProtocolError(f"no HTTP: {error}"))
        self._came += len(piece)
        if self.status is None and self._came > HEADS_BYTES:
            self._fail(httpx.RemoteProtocolError(f"an answer's heads have more than {HEADS_BYTES} bytes"))
        if self._came > HEADS_BYTES + TIMES_WANTED * self._wanted:
            self._fail(
                httpx.RemoteProtocolError("it is drowned in trailers, or in what stands around chunks")
            )

    def _end_of_stream(self, error: Exception | None) -> None:
        if error is not None:
            failure = httpx.ReadError(in_words(error))
            failure.__cause__ = error  # a refused certificate may be told only now (TLS 1.3)
            self._fail(failure)
        elif self.status is None:
            self._fail(httpx.RemoteProtocolError("hung up without an answer"))
        elif self._is_sized():
            self._fail(httpx.RemoteProtocolError("hung up in the middle of it"))
        self.ended = True
        self._tell()

    def _is_sized(self) -> bool:
        """Whether the body says where it ends; otherwise that is where the stream does (RFC 9112 6.3)."""
        coding = self._fields.get(b"transfer-encoding")
        if coding is None:
            return b"content-length" in self._fields
        return coding.lower().split(b",")[-1].strip() == b"chunked"

    def _fail(self, error: httpx.HTTPError) -> None:
        if not self.ended:
            self.trouble = error
            self.ended = True

    def _tell(self) -> None:
        if self._news is not None and not self._news.done() and (self.ended or self.status is not None):
            self._news.set_result(None)
