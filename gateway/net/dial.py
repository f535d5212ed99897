"""What a caller tells the transport about one request, and what it learns about how it was dialled.

All three go through `httpx.Request.extensions`:

    dial = Dial()
    request = client.build_request("POST", url, extensions={DIAL: dial, FRESH: True, DEADLINE_S: 60.0})
    try:
        response = await client.send(request, stream=True)
    except httpx.HTTPError:
        made = dial.connected
"""

from __future__ import annotations

from contextvars import ContextVar

import msgspec

DIAL = "motion_gateway.dial"
"""A `Dial` of the caller's, filled in while the request runs; to be read after success or exception."""

FRESH = "motion_gateway.fresh"
"""True: a new connection for this request alone, so that a stale keep-alive cannot manufacture doubt."""

DEADLINE_S = "motion_gateway.deadline_s"
"""Seconds for the whole call, body included; overrides the transport's own."""


class Dial(msgspec.Struct):
    """How one request reached, or did not reach, the other side. One instance a request.

    A submission was not made if, and only if, `connected` stayed False: no byte of a request is written
    before the connection, TLS included, stands. Exception types do not tell: some occur on both sides.

    Attributes:
        started: a connection was begun; False means the request never left our own queue.
        connected: a connection stood, new or reused, so the request may have been read.
        reused: it was an idle one of the pool.
        addresses: what the name resolved to when a connection was begun, in the order of dialling; empty for
            a reused connection, a literal address and a refused request.
    """

    started: bool = False
    connected: bool = False
    reused: bool = False
    addresses: tuple[str, ...] = ()


current_dial: ContextVar[Dial | None] = ContextVar("current_dial", default=None)
"""The request being sent: aiohttp hands its resolver a name only, not the request it is for."""
