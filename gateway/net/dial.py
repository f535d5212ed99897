"""What a caller tells the transport about one request, and what it learns about how it was dialled.

All of it goes through `httpx.Request.extensions`:

    dial = Dial()
    request = client.build_request("POST", url, extensions={DIAL: dial, FRESH: True, DEADLINE_S: 60.0})
    try:
        response = await client.send(request, stream=True)
    except httpx.HTTPError:
        made = dial.connected
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

DIAL = "motion_gateway.dial"
"""A `Dial` of the caller's, filled in while the request runs; to be read after success or exception."""

FRESH = "motion_gateway.fresh"
"""True: a new connection for this request alone, so that a stale keep-alive cannot manufacture doubt."""

DEADLINE_S = "motion_gateway.deadline_s"
"""Seconds for the whole call, body included; overrides the transport's own."""


BEFORE_SEND = "motion_gateway.before_send"
"""A `BeforeSend` of the caller's: it has the last word, once the connection stands."""

BeforeSend = Callable[[], Awaitable[None]]
"""Awaited when the connection stands and before the first byte of the request is written. If it raises, or
does not return within the call's deadline, nothing is written."""


class Dial(msgspec.Struct):
    """How one request reached, or did not reach, the other side. One instance a request.

    A submission was not made if, and only if, `connected` stayed False or `withheld` is True: no byte of a
    request is written before the connection, TLS included, stands and its `BEFORE_SEND` has returned.
    Exception types do not tell: some occur on both sides.

    Attributes:
        started: a connection was begun; False means the request never left our own queue.
        connected: a connection stood, new or reused, so the request may have been read, unless withheld.
        withheld: its `BEFORE_SEND` has not said yes: nothing of the request was written.
        reused: it was an idle one of the pool.
    """

    started: bool = False
    connected: bool = False
    withheld: bool = False
    reused: bool = False
