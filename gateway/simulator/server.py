"""The simulator on a port, inside a running event loop: for `simulate`, the demo, `serve` and tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.simulator.app import Simulator
from gateway.simulator.wire import CONNECTION

_NO_LINGER = struct.pack("ii", 1, 0)  # socket(7): linger on, for 0 s: closing sends a RST
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - told apart from an address, not bound
# Longer than clients keep idle connections, so that a reset is always one that a fault asked for.
_KEEP_ALIVE_S = 75
_STOP_S = 2


class SimulatorServer:
    """A simulator that listens. Also an async context manager, which stops it.

    Attributes:
        url: where it is reached, without a slash at the end.
        simulator: what it serves.
    """

    def __init__(
        self, simulator: Simulator, url: str, server: uvicorn.Server, task: asyncio.Task[None]
    ) -> None:
        self.simulator, self.url = simulator, url
        self._server, self._task = server, task

    async def stop(self) -> None:
        """Close the port, answer what is under way, stop the simulator. May be called twice."""
        self._server.should_exit = True
        self.simulator.refuse_more()
        await self._task
        await self.simulator.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def serve_simulator(simulator: Simulator, host: str = "127.0.0.1", port: int = 0) -> SimulatorServer:
    """Listen and serve in the background until stopped; no signal handler is installed.

    Args:
        simulator: what to serve; its `public_url` is set to the address where it is empty.
        host: an IPv4 or IPv6 address, or `localhost`.
        port: 0 picks a free one.

    Raises:
        OSError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024)
    shown = _WILDCARDS.get(host, host)
    url = f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"
    simulator.public_url = simulator.public_url or url
    await simulator.start()
    server = _Server(
        uvicorn.Config(
            simulator.asgi,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_STOP_S,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    return SimulatorServer(simulator, url, server, task)


class _Server(uvicorn.Server):
    """A server that says when it listens and leaves signals to whoever owns the process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Connection:
    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def hang_up(self) -> None:
        self._transport.close()

    def reset(self) -> None:
        if self._transport.is_closing():
            return  # the client was faster
        connection: Any = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()


class _Protocol(HttpToolsProtocol):
    """Hands the connection to the app as an ASGI extension."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: {"connection": _Connection(self.transport)}}
