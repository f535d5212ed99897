"""A name with many addresses: all are checked, few are dialled, and no two at once for a receiver."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from guarded_network import Network, post
from net_servers import OK, Handler, RawServer, answering

from gateway.net import DialPolicy, DialRefused, PooledTransport
from gateway.net.resolver import first_few


def has_ipv6() -> bool:
    """Whether this machine has the loopback address of IPv6."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
MANY = [f"8.8.4.{number}" for number in range(100)] + [f"2606:4700::{number:x}" for number in range(100)]
CONNECT_S = 0.4
"""For one address: longer than the 250 ms after which aiohttp would dial another one beside it."""


class Provider:
    """A provider's name with its addresses, and the sockets that were made for them."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self.dialled: list[str] = []

    async def lookup(self, _host: str, _port: int, _owner: str) -> list[str]:
        return list(self._addresses)

    def make_socket(self, info: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, place = info
        self.dialled.append(place[0])
        return socket.socket(family, kind, protocol)

    @asynccontextmanager
    async def client(self, connect_s: float) -> AsyncIterator[httpx.AsyncClient]:
        transport = PooledTransport(
            deadline_s=5.0, connect_s=connect_s, lookup=self.lookup, socket_factory=self.make_socket
        )
        async with httpx.AsyncClient(transport=transport, trust_env=False) as opened:
            yield opened


def dialling(address: str, port: int) -> int:
    """How many sockets of this machine are on their way to an address of IPv4 (Linux's SYN_SENT)."""
    words = bytes(reversed(ip_address(address).packed)).hex().upper()
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
    return sum(f" {words}:{port:04X} 02 " in line for line in lines)


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
    network = Network(MANY)
    async with network.client(DialPolicy()) as client:
        with pytest.raises(httpx.ConnectError, match="no test dials"):
            await post(client, "https://name.test/")
    assert network.dialled == ["8.8.4.0", "2606:4700::", "8.8.4.1", "2606:4700::1"]


async def test_one_refused_address_refuses_all_also_where_it_would_not_be_dialled() -> None:
    network = Network([*MANY, "10.0.0.1"])
    async with network.client(DialPolicy()) as client:
        with pytest.raises(DialRefused, match=r"10\.0\.0\.1 is private"):
            await post(client, "https://name.test/")
    assert network.dialled == []


@pytest.mark.parametrize(
    ("dead", "alive"), [("127.0.0.2", "127.0.0.3"), pytest.param("::1", "127.0.0.1", marks=NEEDS_IPV6)]
)
async def test_a_receivers_next_address_is_dialled_once_the_one_before_was_given_up(
    dead: str, alive: str
) -> None:
    on_their_way: list[int] = []

    class Watched(Network):
        def before_dial(self, address: str, port: int) -> None:
            super().before_dial(address, port)
            if address == "127.0.0.3":
                on_their_way.append(dialling(dead, port) - waiting)

    network = Watched([dead, alive])
    with hanging(dead) as port:
        waiting = dialling(dead, port) if dead.startswith("127.") else 0
        async with answering_at(alive, port), network.client(connect_s=CONNECT_S) as client:
            assert (await post(client, f"http://name.test:{port}/")).status == 200
    assert network.dialled == [dead, alive]
    assert sum(on_their_way) == 0


async def test_a_provider_whose_address_does_not_answer_is_dialled_at_the_next_without_waiting_for_it() -> (
    None
):
    provider = Provider("127.0.0.2", "127.0.0.3")
    with hanging("127.0.0.2") as port:
        async with answering_at("127.0.0.3", port), provider.client(connect_s=60.0) as http:
            assert (await http.get(f"http://name.test:{port}/")).status_code == 200
    assert provider.dialled == ["127.0.0.2", "127.0.0.3"]


@NEEDS_IPV6
async def test_an_address_that_refuses_is_followed_by_the_one_of_the_other_family() -> None:
    provider, receiver = Provider("::1", "127.0.0.1"), Network(["::1", "127.0.0.1"])
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://name.test:{port}/"
    async with (
        answering_at("127.0.0.1", port),
        provider.client(CONNECT_S) as http,
        receiver.client(connect_s=CONNECT_S) as client,
    ):
        assert (await http.get(url)).status_code == 200
        assert (await post(client, url)).status == 200
    assert provider.dialled == receiver.dialled == ["::1", "127.0.0.1"]
