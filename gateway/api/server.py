"""Serves the API over a socket: uvicorn with uvloop, httptools and our limits on a request's head."""

from __future__ import annotations

import socket

import uvicorn

from gateway.api.front import Front
from gateway.api.protocol import limited_protocol
from gateway.settings.model import Server

BACKLOG = 2048
FINISH_S = 20


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 picks a free one.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def url_of(listener: socket.socket) -> str:
    """Return the http URL at which a listening socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def build_server(front: Front, settings: Server) -> uvicorn.Server:
    """Return a server; `await server.serve(sockets=[listener])` runs it until a signal or `should_exit`."""
    protocol = limited_protocol(
        head_timeout_s=settings.head_timeout_s,
        headers_max=settings.headers_max,
        header_max_bytes=settings.header_max_bytes,
        target_max=settings.target_max,
    )
    config = uvicorn.Config(
        front,
        http=protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=FINISH_S,
    )
    return uvicorn.Server(config)
