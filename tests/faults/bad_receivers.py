"""Receivers of webhooks that do a sender harm, each in one way, and count the sockets it holds to them."""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from webhook_receiver import Receiver, open_receiver

from gateway.webhooks.outcome import Outcome

BOMB_BYTES: Final = 300 * 2**20
"""What the gzip bomb becomes when it is opened."""
_ZEROS: Final = bytes(2**20)
_ESTABLISHED: Final = 1  # of Linux's tcp_states.h

_INTERIM: Final = b"HTTP/1.1 103 Early Hints\r\n\r\n"
_SEND_BUFFER: Final = 65_536  # bytes that the kernel keeps for a sender that does not read


class Line:
    """What a receiver says to one sender.

    Attributes:
        written: bytes so far.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.written = 0

    async def write(self, text: bytes) -> None:
        """Say it, once there is room for it.

        Raises:
            ConnectionResetError: the sender has hung up. uvloop's transports raise a RuntimeError instead.
        """
        if self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(text)
        await self._writer.drain()
        self.written += len(text)


Answer = Callable[[Line], Awaitable[None]]


class BadReceiver:
    """A listening port that answers every request in its own bad way.

    Attributes:
        requests: that came whole.
        most_open: sockets that its senders held open at once, at most, as the kernel told at each new one.
        most_written: bytes that it could write to one of them, at most, before it was left.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._open: set[asyncio.StreamWriter] = set()
        self._under_way: set[asyncio.Task[None]] = set()
        self.url = ""
        self.requests = 0
        self.most_open = 0
        self.most_written = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, answer it, and wait until the sender hangs up."""
        task = asyncio.current_task()
        assert task is not None
        line = Line(writer)
        self._under_way.add(task)
        self._open.add(writer)
        self.most_open = max(self.most_open, sum(_held(one) for one in self._open))
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
            self.requests += 1
            await self._answer(line)
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # the sender has enough, or the test is over
        finally:
            self.most_written = max(self.most_written, line.written)
            self._open.discard(writer)
            self._under_way.discard(task)
            writer.transport.abort()

    async def close(self) -> None:
        """Leave everybody who is still there."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)


def _held(writer: asyncio.StreamWriter) -> bool:
    """Whether the sender still has this connection: one that it closed may not have told us yet."""
    here: socket.socket = writer.get_extra_info("socket")
    return here.fileno() >= 0 and here.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED


async def _never(_line: Line) -> None:
    """Answer nothing."""


async def _drip(line: Line) -> None:
    await _byte_by_byte(line, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def _drip_the_body(line: Line) -> None:
    await line.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    await _byte_by_byte(line, b"x" * 1_000_000)


async def _byte_by_byte(line: Line, text: bytes) -> None:
    for byte in text:
        await line.write(bytes((byte,)))
        await asyncio.sleep(1)


async def _endless(line: Line) -> None:
    await line.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await line.write(b"y" * 65_536)


async def _flood(line: Line) -> None:
    while True:
        await line.write(_INTERIM * 2000)


async def _bomb(line: Line, coding: bytes) -> None:
    body = gzip_bomb()
    await line.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (coding, len(body)) + body)


async def _redirect(line: Line, to: str) -> None:
    location = to.encode()
    await line.write(
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location
    )


@functools.cache
def gzip_bomb() -> bytes:
    """A third of a megabyte of gzip that opens to `BOMB_BYTES`: one packed piece again and again."""
    packer, checksum = zlib.compressobj(9, wbits=-15), 0
    piece = packer.compress(_ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)  # needs nothing that came before it
    times = BOMB_BYTES // len(_ZEROS)
    for _ in range(times):
        checksum = zlib.crc32(_ZEROS, checksum)
    head = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    return head + piece * times + packer.flush() + struct.pack("<II", checksum, BOMB_BYTES)


BAD: Final[Mapping[str, Outcome]] = {
    "never": Outcome.TIMEOUT,
    "drip": Outcome.TIMEOUT,
    "drip_body": Outcome.DELIVERED,
    "redirect": Outcome.REDIRECTED,
    "endless": Outcome.DELIVERED,
    "flood": Outcome.CONNECTION,
    "bomb": Outcome.DELIVERED,
    "coded_bomb": Outcome.DELIVERED,
}
"""Every way to be bad, and what comes of a try: a status is an answer, whatever body follows it; a flood
of interim answers is none."""


@asynccontextmanager
async def open_bad_receivers() -> AsyncIterator[tuple[dict[str, BadReceiver], Receiver]]:
    """One of each, by its name in `BAD`, and the trap that one of them redirects to."""
    gzip_bomb()  # now, since making it takes a while
    async with AsyncExitStack() as stack:
        trap = await stack.enter_async_context(open_receiver())
        answers: dict[str, Answer] = {
            "never": _never,
            "drip": _drip,
            "drip_body": _drip_the_body,
            "redirect": functools.partial(_redirect, to=trap.url()),
            "endless": _endless,
            "flood": _flood,
            "bomb": functools.partial(_bomb, coding=b""),
            "coded_bomb": functools.partial(_bomb, coding=b"Content-Encoding: gzip\r\n"),
        }
        receivers = {name: BadReceiver(answers[name]) for name in BAD}
        for receiver in receivers.values():
            listener = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
            listener.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            stack.push_async_callback(receiver.close)
            stack.callback(listener.close)
            receiver.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/hook"
        yield receivers, trap
