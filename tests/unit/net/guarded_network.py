"""A client behind the guard, and names by a script: nothing but loopback is really dialled."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from gateway.net import Answer, DialPolicy, GuardedClient, parse_policy

BOTH_LOOPS = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ],
)
"""uvloop is what serves; its transports differ from asyncio's where they end."""
LOOPBACK = parse_policy(allowed_networks=["127.0.0.0/8", "::1"], allow_http=True)


class Network:
    """DNS that answers by a script, the last answer for ever, and what was asked and dialled."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers) or [["127.0.0.1"]]
        self.looked_up: list[str] = []
        self.dialled: list[str] = []

    async def lookup(self, host: str, _port: int, _owner: str) -> list[str]:
        self.looked_up.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def before_dial(self, address: str, _port: int) -> None:
        """Only loopback is really dialled; anything else ends here."""
        self.dialled.append(address)
        if not ip_address(address).is_loopback:
            raise OSError(101, "no test dials a real address")

    @asynccontextmanager
    async def client(
        self,
        policy: DialPolicy = LOOPBACK,
        *,
        deadline_s: float = 5.0,
        body_s: float = 1.0,
        connect_s: float = 5.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> AsyncIterator[GuardedClient]:
        client = GuardedClient(
            policy,
            deadline_s=deadline_s,
            body_s=body_s,
            connect_s=connect_s,
            lookup=self.lookup,
            ssl_context=ssl_context,
            before_dial=self.before_dial,
        )
        try:
            yield client
        finally:
            await client.aclose()


async def post(client: GuardedClient, url: str, *, wanted: int = 8192) -> Answer:
    """Post something small."""
    return await client.post(url, headers={"X-A": "b"}, body=b"{}", wanted=wanted)
