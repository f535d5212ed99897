"""HTTP servers inside this process, which leave signals to the command that started them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Generator
from typing import Any, Final

import uvicorn

from gateway.api.server import bind, url_of
from gateway.cli.exits import Failed

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Running:
    """A server that answers.

    Attributes:
        url: where it is reached, without a slash at the end.
    """

    def __init__(self, url: str, server: uvicorn.Server, task: asyncio.Task[None]) -> None:
        self.url = url
        self._server, self._task = server, task

    async def until(self, stopped: asyncio.Event) -> None:
        """Wait for a reason to stop it: the event, or that it ended by itself."""
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def stop(self) -> None:
        """Close the port and answer what is under way. May be called twice."""
        self._server.should_exit = True
        await self._task


async def start(config: uvicorn.Config, listener: socket.socket) -> Running:
    """Serve in the background on a socket that listens already."""
    url = url_of(listener)
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    return Running(url, server, task)


def claim_port(host: str, port: int, *, name: str = "--port") -> socket.socket:
    """Return a listening socket; port 0 picks a free one.

    Args:
        host: address to listen on.
        port: TCP port.
        name: of what sets it, for the message.

    Raises:
        Failed: the address cannot be had.
    """
    try:
        return bind(host, port)
    except OSError as error:
        problem = (error.strerror or str(error)).partition(" (while")[0]  # then come host and port once more
        hint = f"; stop what listens there, or give another {name}" if "in use" in problem else ""
        raise Failed(f"cannot listen on {host} port {port}: {problem.lower()}{hint}") from error


def stop_signal() -> asyncio.Event:
    """Return an event that the first signal sets; a second signal then acts as it does by default."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        stopped.set()
        for one in SIGNALS:
            loop.remove_signal_handler(one)

    for one in SIGNALS:
        loop.add_signal_handler(one, stop)
    return stopped


def plain_config(app: Any) -> uvicorn.Config:
    """Return how to serve a small ASGI application of our own on loopback."""
    return uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )


class _Server(uvicorn.Server):
    """Says when it listens. uvicorn's own handlers would raise the signal again once it has stopped."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
