"""A name with many addresses: all are checked, few are dialled, and no two at once for a receiver."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from typing import Any

import httpx
import pytest
from net_servers import OK, Handler, RawServer, answering

from gateway.net import DIAL, Dial, DialPolicy, DialRefused, GuardedTransport, parse_policy
from gateway.net.resolver import first_few


def has_ipv6() -> bool:
    """Whether this machine has the loopback address of IPv6."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
LOOPBACK = parse_policy(allowed_networks=["127.0.0.0/8", "::1"], allow_http=True)
MANY = [f"8.8.4.{number}" for number in range(100)] + [f"2606:4700::{number:x}" for number in range(100)]
CONNECT_S = 0.4
"""For one address: longer than the 250 ms after which aiohttp would dial another one beside it."""


class Name:
    """One name's addresses, and the sockets that were made for them."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self._made: list[socket.socket] = []
        self.dialled: list[str] = []
        self.most_open = 0

    async def lookup(self, _host: str, _port: int) -> list[str]:
        return list(self._addresses)

    def make_socket(self, info: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
        """Nothing but loopback is really dialled."""
        family, kind, protocol, _, place = info
        self.dialled.append(place[0])
        if not ip_address(place[0]).is_loopback:
            raise OSError(101, "no test dials a real address")
        self._made.append(socket.socket(family, kind, protocol))
        self.most_open = max(self.most_open, sum(one.fileno() >= 0 for one in self._made))
        return self._made[-1]

    @asynccontextmanager
    async def client(self, policy: DialPolicy | None, connect_s: float) -> AsyncIterator[httpx.AsyncClient]:
        transport = GuardedTransport(
            policy, deadline_s=5.0, connect_s=connect_s, lookup=self.lookup, socket_factory=self.make_socket
        )
        async with httpx.AsyncClient(transport=transport, trust_env=False) as opened:
            yield opened


@contextmanager
def hanging(address: str) -> Iterator[int]:
    """A port at `address` where no connection comes about: its queue is full and nobody takes from it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind((address, 0))
        listener.listen(0)
        place = listener.getsockname()
        for _ in range(4):
            waiting = stack.enter_context(socket.socket(family))
            waiting.setblocking(False)
            waiting.connect_ex(place)
        yield place[1]


@asynccontextmanager
async def answering_at(address: str, port: int) -> AsyncIterator[None]:
    """The same port at another address, where every request is answered."""
    server = RawServer()
    handler: Handler = answering(OK, then_close=True)(server)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handler(reader, writer)
        writer.close()

    async with await asyncio.start_server(serve, address, port):
        yield


@pytest.mark.parametrize(
    ("addresses", "few"),
    [
        (["8.8.8.8"], ["8.8.8.8"]),
        (["8.8.8.1", "8.8.8.2", "8.8.8.3"], ["8.8.8.1", "8.8.8.2"]),
        (["2606::1", "2606::2", "8.8.8.1", "8.8.8.2"], ["2606::1", "8.8.8.1", "2606::2", "8.8.8.2"]),
        (["8.8.8.1", "8.8.8.2", "8.8.8.3", "2606::1"], ["8.8.8.1", "2606::1", "8.8.8.2"]),
    ],
)
def test_the_first_two_of_either_family_are_dialled_by_turns(addresses: list[str], few: list[str]) -> None:
    assert [str(one) for one in first_few([ip_address(text) for text in addresses])] == few


async def test_of_a_receivers_many_addresses_four_are_dialled_and_each_once() -> None:
    name, dial = Name(*MANY), Dial()
    few = ["8.8.4.0", "2606:4700::", "8.8.4.1", "2606:4700::1"]
    async with name.client(DialPolicy(), CONNECT_S) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("https://name.test/", extensions={DIAL: dial})
    assert name.dialled == few
    assert dial.addresses == tuple(few)
    assert not dial.connected


async def test_one_refused_address_refuses_all_also_where_it_would_not_be_dialled() -> None:
    name = Name(*MANY, "10.0.0.1")
    async with name.client(DialPolicy(), CONNECT_S) as http:
        with pytest.raises(DialRefused, match=r"10\.0\.0\.1 is private"):
            await http.get("https://name.test/")
    assert name.dialled == []


@pytest.mark.parametrize(
    ("dead", "alive"), [("127.0.0.2", "127.0.0.3"), pytest.param("::1", "127.0.0.1", marks=NEEDS_IPV6)]
)
async def test_a_receivers_next_address_is_dialled_once_the_one_before_was_given_up(
    dead: str, alive: str
) -> None:
    name = Name(dead, alive)
    with hanging(dead) as port:
        async with answering_at(alive, port), name.client(LOOPBACK, CONNECT_S) as http:
            assert (await http.get(f"http://name.test:{port}/")).status_code == 200
    assert (name.dialled, name.most_open) == ([dead, alive], 1)


async def test_a_provider_whose_address_does_not_answer_is_dialled_at_the_next_without_waiting_for_it() -> (
    None
):
    name = Name("127.0.0.2", "127.0.0.3")
    with hanging("127.0.0.2") as port:
        async with answering_at("127.0.0.3", port), name.client(None, connect_s=60.0) as http:
            assert (await http.get(f"http://name.test:{port}/")).status_code == 200
    assert name.dialled == ["127.0.0.2", "127.0.0.3"]


@NEEDS_IPV6
@pytest.mark.parametrize("policy", [None, LOOPBACK], ids=["provider", "receiver"])
async def test_an_address_that_refuses_is_followed_by_the_one_of_the_other_family(
    policy: DialPolicy | None,
) -> None:
    name = Name("::1", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    async with answering_at("127.0.0.1", port), name.client(policy, CONNECT_S) as http:
        assert (await http.get(f"http://name.test:{port}/")).status_code == 200
    assert name.dialled == ["::1", "127.0.0.1"]
