"""Ports that stay a test's own while nobody listens there, as between two starts of one process."""

from __future__ import annotations

import random
import socket

# Below what Linux hands out by itself (ip_local_port_range begins at 32768): whoever asks for port 0, and
# every outgoing connection, takes one of those, and might take ours while it is free.
FIRST, LAST = 12_000, 32_000


def reserve_port() -> int:
    """Pick a port on 127.0.0.1 that nobody listens on, and that nobody is given by chance."""
    while True:
        port = random.randint(FIRST, LAST)  # noqa: S311 - each process another one
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
