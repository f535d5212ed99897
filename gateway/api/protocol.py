"""uvicorn's HTTP/1.1 protocol with limits on what comes before a handler can act: the request head.

uvicorn on httptools reads a head of any size for any time, answers in plain text, passes trailers on as
headers, loses the body of a request that offers an upgrade, and lets any byte stop its keep-alive timer. Here
every refusal is a problem document, followed by the end of the connection. A slow or large body is
`read_body`'s affair, in `gateway/api/body.py`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NoReturn

import httptools
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.api.problems import CONTENT_TYPE, problem_body, problem_type
from gateway.clock import SystemClock
from gateway.errors import Refusal
from gateway.ids import REQUEST, Ids

ABORT = "motion_gateway.abort"
"""In the scope of a request: breaks its connection, whatever is still to be sent on it."""
_LINGER_S = 2.0
_REQUEST_LINE_REST = 256  # method, version and line ends, generously
_FRAMING_RATIO = 8  # one-byte chunks have five bytes of framing for each byte of body


class Limits(Struct, frozen=True):
    """What a request head may be, and how a request refused for it is named."""

    head_timeout_s: float
    """From the connection, or from the first byte of a later request, to the end of the head."""
    headers_max: int
    header_max_bytes: int
    """All headers together, as they stand on the wire."""
    target_max: int
    """Bytes of the request target: path and query."""
    new_request_id: Callable[[], str]


class _Parting(asyncio.Transport):
    """A transport whose `close` lets the client read its answer even while it is still sending.

    Closing with unread bytes resets the connection, and the reset may overtake the answer: half of the large
    uploads tried saw no 413. So our half is ended at once, the other read on for a moment without looking
    (RFC 9112, section 9.6).
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, sending: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._sending = sending
        self._parted = False

    def close(self) -> None:
        if self._parted:
            return
        self._parted = True
        if self._transport.is_closing() or not self._sending() or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self._loop.call_later(_LINGER_S, self._transport.close)

    def abort(self) -> None:
        """Reset the connection, so that the kernel, too, forgets what the client does not read."""
        self._parted = True
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._parted or self._transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. `limited_protocol` makes the class that uvicorn is given."""

    limits: ClassVar[Limits]

    _timer: asyncio.TimerHandle | None = None
    _refused: bool = False
    _why: Refusal | None = None
    _in_head: bool = True
    """No head is complete since the last message ended."""
    _begun: bool = False
    """The parser has seen the first byte of a message that is not complete."""
    _receiving: bool = False
    """The body of `self.cycle` is not complete."""
    _heads: int = 0
    _head_bytes: int = 0
    _header_bytes: int = 0
    _hosts: int = 0
    _body_bytes: int = 0
    _framing_bytes: int = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Start the time of the first head."""
        super().connection_made(_Parting(transport, self.loop, lambda: self._receiving or self._refused))
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer with the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse what breaks HTTP or a limit."""
        if self._refused or self.transport.is_closing():
            return
        heads, was_in_head, body_bytes = self._heads, self._in_head, self._body_bytes
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(self._why or Refusal("bad-request", "The request is not valid HTTP/1.1."))
            return
        if self._heads == heads and self._in_head == was_in_head:
            self._count(len(data), self._body_bytes - body_bytes)
        if self._in_head and self._timer is None and (self._begun or self._head_bytes):
            self._start_timer()

    def _feed(self, data: bytes) -> None:
        rest = memoryview(data)
        while True:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                # The parser stops for good here and has dropped the body. An upgrade may be ignored
                # (RFC 9110, section 7.8): a new parser gets the same request without the offer.
                rest = rest[upgrade.args[0] :]
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
                self.parser.feed_data(head)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        line = b"%s %s HTTP/1.1\r\n" % (self.parser.get_method(), self.url)
        kept = (b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade")
        return b"".join([line, *kept, b"\r\n"])

    def _count(self, received: int, body: int) -> None:
        """Bound what the parser collects without telling: an unfinished head, chunk framing, trailers."""
        limits = self.limits
        if self._in_head:
            self._head_bytes += received
            if self._head_bytes > limits.header_max_bytes + limits.target_max + _REQUEST_LINE_REST:
                self._refuse(self._too_large())
        else:
            self._framing_bytes += received - body
            if self._framing_bytes > limits.header_max_bytes + _FRAMING_RATIO * self._body_bytes:
                self._refuse(Refusal("bad-request", "The body is nearly all chunk framing or trailers."))

    # --- called by the parser; what is raised here arrives in data_received as HttpParserError ---

    def on_message_begin(self) -> None:
        """Start counting a head; until it begins, the keep-alive timer runs on, whatever bytes come."""
        self._unset_keepalive_if_required()
        self._begun = True
        self._header_bytes = self._hosts = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target."""
        super().on_url(url)
        if len(self.url) > self.limits.target_max:
            self._stop("uri-too-long", f"The request target has more than {self.limits.target_max} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is dropped, since the handler may already be at work on the headers."""
        if not self._in_head:
            return
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > self.limits.header_max_bytes or len(self.headers) > self.limits.headers_max:
            self._why = self._too_large()
            raise self._why
        if len(name) == 4 and name.lower() == b"host":
            self._hosts += 1
        # The parser looks at codings only after the head, when the handler would have been started.
        if len(name) == 17 and name.lower() == b"transfer-encoding" and value.strip().lower() != b"chunked":
            self._stop("bad-request", "The only Transfer-Encoding understood is chunked.")

    def on_headers_complete(self) -> None:
        """End the time of the head and start the handler."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._stop("bad-request", "This is not a proxy.")
            return  # comes again without the offer: see _feed
        # RFC 9112, section 3.2: two readers of one request must not see two hosts.
        if self._hosts > 1:
            self._stop("bad-request", "There is more than one Host header.")
        self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]  # ours, not ASGI's
        super().on_headers_complete()
        self._stop_timer()
        self._heads += 1
        self._in_head = False
        self._receiving = True
        self._head_bytes = self._body_bytes = self._framing_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Await the next head."""
        if self._in_head:
            return  # the offer of an upgrade, which comes again
        self._in_head = True
        self._begun = self._receiving = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request; one whose head is under way has its own time."""
        super().on_response_complete()
        if self._in_head and self._begun:
            self._unset_keepalive_if_required()

    # --- refusing ---

    def _stop(self, slug: str, detail: str) -> NoReturn:
        self._why = Refusal(slug, detail)
        raise self._why

    def _too_large(self) -> Refusal:
        limits = self.limits
        detail = (
            f"The headers exceed {limits.header_max_bytes} bytes, or number more than {limits.headers_max}."
        )
        return Refusal("headers-too-large", detail)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, unless other answers come first or this request's has begun; then end the connection."""
        self._stop_timer()
        self._refused = True
        self.logger.debug("refused before any handler: %s", refusal.slug)
        if self._receiving:
            if self.cycle.response_started or self.pipeline:
                self.transport.close()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        elif self._heads and not self.cycle.response_complete:
            self.cycle.keep_alive = False  # uvicorn closes after that answer, the last one owed
            return
        self._answer(refusal)

    def _answer(self, refusal: Refusal) -> None:
        request_id = self.limits.new_request_id()
        body = problem_body(refusal, request_id)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        lines = [b"%s: %s\r\n" % header for header in headers]
        self.transport.write(
            b"".join([STATUS_LINE[problem_type(refusal.slug).status], *lines, b"\r\n", body])
        )
        self.transport.close()

    # --- the time of a head ---

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.limits.head_timeout_s, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_late(self) -> None:
        self._timer = None
        if self.flow.read_paused:
            self._start_timer()  # it is late because we do not read
        elif self._begun or self._head_bytes:
            detail = f"The request's head was not complete within {self.limits.head_timeout_s:g} seconds."
            self._refuse(Refusal("request-timeout", detail))
        else:
            self.transport.close()


def limited_protocol(
    *,
    head_timeout_s: float,
    headers_max: int,
    header_max_bytes: int,
    target_max: int,
    new_request_id: Callable[[], str] | None = None,
) -> type[LimitedHttpProtocol]:
    """Return the protocol class for `uvicorn.Config(http=...)`.

    Args:
        head_timeout_s: for a request head, in seconds; a connection that says nothing is closed after it too.
        headers_max: most headers.
        header_max_bytes: most bytes of all headers together.
        target_max: most bytes of path and query.
        new_request_id: names requests refused here; None for ids by the machine's clock.
    """
    if new_request_id is None:
        ids = Ids(SystemClock())
        new_request_id = partial(ids.new, REQUEST)
    made = Limits(head_timeout_s, headers_max, header_max_bytes, target_max, new_request_id)

    class Limited(LimitedHttpProtocol):
        limits = made

    return Limited
