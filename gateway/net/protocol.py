"""aiohttp's side of one connection, with limits on what comes before an answer and after it.

aiohttp queues whatever heads a server sends, without back-pressure, and passes over interim answers (1xx) in
a loop that does not yield: a server that floods them stops the whole process, its time-outs included, and
takes gigabytes. Here they are counted as they are parsed, and the connection is broken when there are too
many. What comes after an answer, unasked, is never queued: the next request would take it for its own answer.

Relied on, of aiohttp 3.14 (`pyproject.toml` holds it there): a connector makes its protocols with `_factory`;
`set_response_params` begins each request; `data_received` hands each head that is complete to `feed_data`;
of an exception set, `HttpProcessingError` becomes `ClientResponseError`. tests/unit/net/test_net_floods.py
fails when any of it is no longer so.
"""

from __future__ import annotations

from typing import Any

from aiohttp import StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage

from gateway.net.limits import INTERIM_MAX, PIECE_BYTES

HEADS_BYTES = 262_144
"""All heads of one answer together, interim ones included: far more than servers and proxies allow."""


class LimitedAnswers(ResponseHandler):
    """One connection, kept or fresh."""

    _answered = True
    """The answer's head has come, or nothing has been asked yet."""
    _severed = False
    _interim = 0
    _head_bytes = 0

    def set_response_params(self, **params: Any) -> None:
        """Begin a request: one answer is owed."""
        self._answered = False
        self._interim = self._head_bytes = 0
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Parse what came, piece by piece, until it breaks a limit."""
        if len(data) <= PIECE_BYTES:  # empty, too: aiohttp then parses what it had held back
            self._take(data)
            return
        for start in range(0, len(data), PIECE_BYTES):
            self._take(data[start : start + PIECE_BYTES])

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Queue a head for whoever awaits it; called by `data_received`, head by head."""
        if self._answered:
            self._sever()
            return
        code = data[0].code
        if 100 <= code < 200 and code != 101:  # as aiohttp tells interim answers from others
            self._interim += 1
            if self._interim > INTERIM_MAX:
                self._refuse(f"more than {INTERIM_MAX} interim answers")
                return
        else:
            self._answered = True
        super().feed_data(data, size)

    def _take(self, piece: bytes) -> None:
        if self._severed:
            return
        super().data_received(piece)
        self._head_bytes += len(piece)
        if not self._answered and self._head_bytes > HEADS_BYTES:
            self._refuse(f"an answer's heads have more than {HEADS_BYTES} bytes")

    def _refuse(self, why: str) -> None:
        """Break the connection and tell whoever awaits the answer."""
        self._answered = True  # what else is parsed of this piece is not queued
        self.set_exception(HttpProcessingError(message=why))
        self._sever()

    def _sever(self) -> None:
        self._severed = True
        self.force_close()
        if self.transport is not None:
            self.transport.abort()
