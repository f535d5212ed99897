"""aiohttp's connector, with our protocol, which dials a name's addresses one after the other.

Relied on, of aiohttp 3.14: the connector makes protocols with `_factory`, and asks `_wrap_create_connection`
for a connection to the first of `addr_infos` that takes one. tests/unit/net/test_net_floods.py and
test_net_addresses_in_turn.py fail when either is no longer so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

from gateway.net.protocol import LimitedAnswers

Connect = Callable[..., Awaitable[tuple[asyncio.Transport, ResponseHandler]]]


class LimitedConnector(aiohttp.TCPConnector):
    """Reads answers within limits."""

    def __init__(self, **options: Any) -> None:
        """Take aiohttp's own options."""
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType] - aiohttp leaves tuples open
        loop = asyncio.get_running_loop()
        self._factory = partial(LimitedAnswers, loop=loop)  # type: ignore[assignment]  # partial is invariant


class OneByOneConnector(LimitedConnector):
    """Holds one socket for one connection, however many addresses a name has.

    aiohttp dials the next address beside one that has not answered within 250 ms; without that it gives up
    the first address of each family when one of them does not answer. Here each address has its own time.
    """

    async def _wrap_create_connection(
        self, *args: Any, addr_infos: list[Any], **options: Any
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        connect = cast("Connect", super()._wrap_create_connection)  # pyright: ignore[reportUnknownMemberType]
        *others, last = addr_infos
        for one in others:
            try:
                return await connect(*args, addr_infos=[one], **options)
            except (aiohttp.ClientConnectorError, TimeoutError):
                continue  # as aiohttp does; what comes of the last one tells
        addr_infos[:] = [last]  # with which aiohttp will be done
        return await connect(*args, addr_infos=[last], **options)
