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

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class BadReceiver:
    """A listening port that answers every request in its own bad way.

    Attributes:
        requests: that came whole.
        most_open: sockets that its senders held open at once, at most, as the kernel told at each new one.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._open: set[asyncio.StreamWriter] = set()
        self._under_way: set[asyncio.Task[None]] = set()
        self.url = ""
        self.requests = 0
        self.most_open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, answer it, and wait until the sender hangs up."""
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        self._open.add(writer)
        self.most_open = max(self.most_open, sum(_held(one) for one in self._open))
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
            self.requests += 1
            await self._answer(writer)
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # the sender has enough, or the test is over
        finally:
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


async def _never(_writer: asyncio.StreamWriter) -> None:
    """Answer nothing."""


async def _drip(writer: asyncio.StreamWriter) -> None:
    await _byte_by_byte(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def _drip_the_body(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    await _byte_by_byte(writer, b"x" * 1_000_000)


async def _byte_by_byte(writer: asyncio.StreamWriter, text: bytes) -> None:
    for byte in text:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(1)


async def _endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"y" * 65_536)
        await writer.drain()


async def _bomb(writer: asyncio.StreamWriter, coding: bytes) -> None:
    body = gzip_bomb()
    writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (coding, len(body)) + body)
    await writer.drain()


async def _redirect(writer: asyncio.StreamWriter, to: str) -> None:
    location = to.encode()
    writer.write(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location)
    await writer.drain()


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
    "bomb": Outcome.DELIVERED,
    "coded_bomb": Outcome.DELIVERED,
}
"""Every way to be bad, and what comes of a try: a status is an answer, whatever body follows it."""


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
            "bomb": functools.partial(_bomb, coding=b""),
            "coded_bomb": functools.partial(_bomb, coding=b"Content-Encoding: gzip\r\n"),
        }
        receivers = {name: BadReceiver(answers[name]) for name in BAD}
        for receiver in receivers.values():
            listener = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
            stack.push_async_callback(receiver.close)
            stack.callback(listener.close)
            receiver.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/hook"
        yield receivers, trap
