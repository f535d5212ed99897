"""A TCP proxy that breaks connections in the ways networks do, told by method calls.

    async with open_proxy(("127.0.0.1", port)) as proxy:
        proxy.down.cut_after = 100      # the answer breaks off
        ... http://127.0.0.1:{proxy.port}

`up` is towards the target, `down` towards the client. What is set counts from the next bytes on, for
connections that stand as for new ones. A target may be a Unix socket's path, PostgreSQL's for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from ports import reserve_port

Target = tuple[str, int] | Path
Ends = tuple[asyncio.StreamWriter, ...]

CHUNK = 65_536
_NO_LINGER = struct.pack("ii", 1, 0)  # socket(7): closing sends a RST and drops what was not sent


class Way:
    """What is done to bytes in one direction; as it is made, nothing.

    Attributes:
        latency_s: seconds each piece waits.
        jitter_s: seconds at most by which that is longer.
        bytes_per_s: bandwidth; None is unbounded.
        slice_bytes: largest piece that is passed on at once; None passes on what was read.
        slice_pause_s: seconds between two slices.
        blackhole: read, and pass nothing on.
        flood: this instead of the first that is read, again and again, until the connection is broken.
        cut_after: bytes of a connection that pass before it is closed; None is no limit.
        reset_after: the same, with a reset (RST) at both ends.
        silent_after: bytes of a connection that pass before it is a black hole; None is no limit.
        passed: bytes passed on, of all connections.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.passed = 0
        self.clear()

    def clear(self) -> None:
        """Pass everything on at once, from now on."""
        self.latency_s = self.jitter_s = self.slice_pause_s = 0.0
        self.bytes_per_s: float | None = None
        self.slice_bytes: int | None = None
        self.cut_after: int | None = None
        self.reset_after: int | None = None
        self.silent_after: int | None = None
        self.blackhole = False
        self.flood: bytes | None = None

    @property
    def limit(self) -> int | None:
        """Bytes of a connection that pass before it is broken."""
        return self.cut_after if self.reset_after is None else self.reset_after

    async def wait(self, size: int) -> None:
        """Wait as long as a piece of that many bytes takes."""
        delay_s = self.latency_s + self._chance.uniform(0, self.jitter_s)
        if self.bytes_per_s is not None:
            delay_s += size / self.bytes_per_s
        if delay_s > 0:
            await asyncio.sleep(delay_s)

    def pieces(self, data: bytes) -> list[bytes]:
        """Cut what was read as it is to be passed on."""
        size = self.slice_bytes or len(data)
        return [data[start : start + size] for start in range(0, len(data), size)]


class FaultProxy:
    """A listening port before a target.

    Attributes:
        port: on 127.0.0.1; stays the same through `refuse` and `listen`.
        up: bytes from the client to the target.
        down: bytes from the target to the client.
        connections: accepted so far.
        open: standing now.
    """

    def __init__(self, target: Target, chance: Random) -> None:
        self.target = target
        self.up, self.down = Way(chance), Way(chance)
        self.connections = 0
        self._pipes: dict[asyncio.Task[None], Ends] = {}
        self._server: asyncio.Server | None = None
        self.port = reserve_port()

    @property
    def open(self) -> int:
        """Connections that stand now."""
        return len(self._pipes)

    async def listen(self) -> None:
        """Accept connections, again."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """Be down: refuse new connections; those that stand stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def reset(self) -> None:
        """Break every connection that stands, with a reset at both ends."""
        for pipe, ends in self._pipes.items():
            _abort(ends)
            pipe.cancel()

    def clear(self) -> None:
        """Do nothing to bytes any more."""
        self.up.clear()
        self.down.clear()

    async def close(self) -> None:
        """Stop listening, and break what stands."""
        await self.refuse()
        pipes = tuple(self._pipes)
        self.reset()
        await asyncio.gather(*pipes, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        pipe = asyncio.current_task()
        assert pipe is not None
        self._pipes[pipe] = (writer,)
        try:
            target_reader, target_writer = await self._dial()
            self._pipes[pipe] = (writer, target_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(self.up, reader, target_writer, self._pipes[pipe]))
                both.create_task(self._pump(self.down, target_reader, writer, self._pipes[pipe]))
        except* (OSError, asyncio.CancelledError):
            pass  # broken by an end, or by us
        finally:
            for end in self._pipes.pop(pipe):
                end.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, Path):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection(*self.target)

    async def _pump(
        self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: Ends
    ) -> None:
        passed = 0
        while data := await reader.read(CHUNK):
            for piece in way.pieces(data):
                await way.wait(len(piece))
                if way.blackhole:
                    continue
                while way.flood is not None:
                    writer.write(way.flood)
                    await writer.drain()
                    way.passed += len(way.flood)
                limit, loud = way.limit, way.silent_after
                room = min(len(piece) if most is None else max(0, most - passed) for most in (limit, loud))
                room = min(room, len(piece))
                writer.write(piece[:room])
                await writer.drain()
                passed += room
                way.passed += room
                if limit is not None and passed >= limit:
                    await self._break(way, ends)
                if way.slice_bytes is not None:
                    await asyncio.sleep(way.slice_pause_s)
        if not way.blackhole:
            with contextlib.suppress(OSError):
                writer.write_eof()

    async def _break(self, way: Way, ends: Ends) -> None:
        if way.reset_after is not None:
            await asyncio.sleep(0.01)  # a reset would take back what the kernel has not sent yet
            _abort(ends)
        raise ConnectionAbortedError


def _abort(ends: Ends) -> None:
    for end in ends:
        raw = end.get_extra_info("socket")
        if raw is not None and raw.family != socket.AF_UNIX and raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        end.transport.abort()


@asynccontextmanager
async def open_proxy(target: Target, *, seed: int = 7) -> AsyncIterator[FaultProxy]:
    """Stand before a target until the end.

    Args:
        target: (host, port), or a Unix socket's path.
        seed: of the jitter.
    """
    proxy = FaultProxy(target, Random(seed))  # noqa: S311 - the same network in every run
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.close()
