"""A made-up directory and sockets that note where they would lead: nothing but loopback is ever dialled."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from running_gateway import RunningGateway

from gateway.net import PooledTransport
from gateway.net.resolver import Resolver
from gateway.webhooks.sending import open_sender

Place = tuple[str, int]


class RecordingDialer:
    """What a gateway looks up and dials.

    Args:
        directory: addresses by name; a list of lists answers each lookup anew, the last one for ever.
    """

    def __init__(self, directory: Mapping[str, Sequence[Sequence[str]]] | None = None) -> None:
        self._directory = {
            name: [list(one) for one in answers] for name, answers in (directory or {}).items()
        }
        self.looked_up: list[str] = []
        self.dialled: list[Place] = []

    @property
    def addresses(self) -> list[str]:
        """Where it dialled."""
        return [address for address, _ in self.dialled]

    async def lookup(self, host: str, _port: int, _owner: str) -> list[str]:
        self.looked_up.append(host)
        answers = self._directory.get(host)
        if answers is None:
            raise OSError(-2, "Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def before_dial(self, address: str, port: int) -> None:
        self.dialled.append((address, port))
        if not address.startswith("127."):
            raise OSError(101, "no test dials a real address")

    def make_socket(self, info: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, place = info
        self.before_dial(str(place[0]), int(place[1]))
        return socket.socket(family, kind, protocol)

    async def watch_receivers(self, running: RunningGateway) -> None:
        """Deliver webhooks by this directory and these sockets from now on."""
        gateway = running.gateway
        await gateway.stop_worker()
        await gateway.parts.sender.aclose()
        gateway.parts.sender = open_sender(
            gateway.settings.webhooks, lookup=self.lookup, before_dial=self.before_dial
        )
        await gateway.start_worker()

    async def watch_providers(self, running: RunningGateway) -> None:
        """Ask providers by them; connections that are kept already are not used any more."""
        transport = running.gateway.parts.upstream
        assert isinstance(transport, PooledTransport)
        await transport.aclose()
        transport._sessions.clear()
        transport._open_session = partial(
            transport._open_session,
            resolver=Resolver(self.lookup, lookup_s=5.0),
            socket_factory=self.make_socket,
        )
