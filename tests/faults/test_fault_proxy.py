"""The fault proxy breaks connections in each of its ways, and in no other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fault_proxy import FaultProxy, open_proxy

HELLO = b"hello, are you there? " * 4
PATIENCE_S = 5.0
SILENCE_S = 0.1

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """A proxy before a server that says what it hears."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, open_proxy(server.sockets[0].getsockname()[:2]) as proxy:
        yield proxy


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[Ends]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    async with asyncio.timeout(PATIENCE_S):
        yield reader, writer
    writer.close()


async def talked(ends: Ends, said: bytes = HELLO) -> float:
    """Say something, hear it back; seconds that took."""
    started = asyncio.get_running_loop().time()
    ends[1].write(said)
    assert await ends[0].readexactly(len(said)) == said
    return asyncio.get_running_loop().time() - started


async def silent(ends: Ends) -> bool:
    """Whether nothing comes for a while."""
    try:
        async with asyncio.timeout(SILENCE_S):
            return await ends[0].read(1) == b"never"
    except TimeoutError:
        return True


async def test_untold_it_passes_everything_on(proxy: FaultProxy) -> None:
    large = bytes(range(256)) * 4096
    async with connected(proxy) as ends:
        ends[1].write(large)
        ends[1].write_eof()
        assert await ends[0].read(-1) == large
    assert (proxy.up.passed, proxy.down.passed, proxy.connections) == (len(large), len(large), 1)


async def test_it_counts_connections(proxy: FaultProxy) -> None:
    async with connected(proxy) as one, connected(proxy) as two:
        await talked(one)
        await talked(two)
        assert (proxy.connections, proxy.open) == (2, 2)


async def test_latency_and_jitter_delay_each_way(proxy: FaultProxy) -> None:
    proxy.up.latency_s, proxy.down.latency_s, proxy.down.jitter_s = 0.05, 0.05, 0.05
    async with connected(proxy) as ends:
        assert await talked(ends) >= 0.1
        proxy.clear()
        assert (proxy.up.latency_s, proxy.down.jitter_s) == (0, 0)


async def test_bandwidth_is_bounded(proxy: FaultProxy) -> None:
    proxy.up.bytes_per_s = 1000.0
    async with connected(proxy) as ends:
        assert await talked(ends, b"x" * 100) >= 0.1


async def test_a_blackhole_takes_everything_and_says_nothing(proxy: FaultProxy) -> None:
    async with connected(proxy) as ends:
        await talked(ends)
        proxy.down.blackhole = True
        ends[1].write(HELLO)
        assert await silent(ends)
        assert (proxy.up.passed, proxy.down.passed) == (2 * len(HELLO), len(HELLO))
        assert proxy.open == 1


async def test_a_reset_breaks_what_stands(proxy: FaultProxy) -> None:
    async with connected(proxy) as ends:
        await talked(ends)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await ends[0].read(1)
    async with connected(proxy) as ends:
        await talked(ends)


async def test_a_reset_comes_after_as_many_bytes_as_told(proxy: FaultProxy) -> None:
    proxy.down.reset_after = 5
    async with connected(proxy) as ends:
        ends[1].write(HELLO)
        assert await ends[0].readexactly(5) == HELLO[:5]
        with pytest.raises(ConnectionResetError):
            await ends[0].read(1)
    assert (proxy.up.passed, proxy.down.passed) == (len(HELLO), 5)


async def test_a_reset_before_the_first_byte_lets_what_was_said_through(proxy: FaultProxy) -> None:
    proxy.down.reset_after = 0
    async with connected(proxy) as ends:
        ends[1].write(HELLO)
        with pytest.raises(ConnectionResetError):
            await ends[0].read(1)
    assert (proxy.up.passed, proxy.down.passed) == (len(HELLO), 0)


@pytest.mark.parametrize("after", [0, 1, 10])
async def test_a_cut_closes_after_as_many_bytes_as_told(proxy: FaultProxy, after: int) -> None:
    proxy.down.cut_after = after
    async with connected(proxy) as ends:
        ends[1].write(HELLO)
        assert await ends[0].read(-1) == HELLO[:after]
    assert (proxy.up.passed, proxy.down.passed) == (len(HELLO), after)


async def test_a_cut_on_the_way_up_keeps_the_rest_from_the_target(proxy: FaultProxy) -> None:
    proxy.up.cut_after = 3
    async with connected(proxy) as ends:
        ends[1].write(HELLO)
        assert await ends[0].read(-1) in {b"", HELLO[:3]}
    assert proxy.up.passed == 3


async def test_slices_arrive_one_by_one(proxy: FaultProxy) -> None:
    proxy.down.slice_bytes, proxy.down.slice_pause_s = 2, 0.01
    async with connected(proxy) as ends:
        ends[1].write(HELLO[:8])
        assert [await ends[0].read(100) for _ in range(4)] == [HELLO[at : at + 2] for at in (0, 2, 4, 6)]


async def test_down_it_refuses_and_comes_back_on_its_port(proxy: FaultProxy) -> None:
    async with connected(proxy) as stands:
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        await talked(stands)
    await proxy.listen()
    async with connected(proxy) as ends:
        await talked(ends)
    assert proxy.connections == 2


async def test_a_target_that_is_away_breaks_the_connection() -> None:
    async with open_proxy(("127.0.0.1", 9)) as proxy, connected(proxy) as ends:
        assert await ends[0].read(1) == b""


async def test_a_unix_socket_is_a_target_too(tmp_path: Path) -> None:
    server = await asyncio.start_unix_server(echo, tmp_path / "here")
    async with server, open_proxy(tmp_path / "here") as proxy, connected(proxy) as ends:
        await talked(ends)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await ends[0].read(1)
