"""`motion-gateway serve` as a process of its own, for tests that kill it or read all it says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx
from running_gateway import PATIENCE_S, REGISTRY

from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.service.keys import CreatedKey, Keys, Scope
from gateway.settings import load
from gateway.storage.store import open_store

SERVE = Path(sys.executable).with_name("motion-gateway")


class ServeProcess:
    """A `motion-gateway serve` that can be killed and started again, always on the same port."""

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.kills = 0
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MOTION_GATEWAY_")}
        self._environ, self._log = {**ours, **environ}, log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, **more: str) -> None:
        """Start, and wait until it answers.

        Args:
            more: further environment, for this start alone.
        """
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                SERVE, "serve", "--port", str(self.port), env=self._environ | more, stdout=log, stderr=log
            )
        async with httpx.AsyncClient(trust_env=False) as http:
            while self._process.returncode is None:
                with contextlib.suppress(httpx.TransportError):  # it binds its port when it can serve
                    if (await http.get(f"{self.url}/health/ready")).status_code == 200:
                        return
                await asyncio.sleep(0.02)
        raise AssertionError(self._log.read_text()[-2000:])

    async def end(self, how: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        self.kills += how is signal.SIGKILL
        return await self._process.wait()

    async def died(self) -> int:
        """Wait for it to end by itself; how it did."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), PATIENCE_S)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.end(signal.SIGKILL)


async def made_key(environ: Mapping[str, str], folder: Path, *scopes: Scope) -> CreatedKey:
    """Make a key in the database, before anything serves it."""
    settings = load(REGISTRY.specs, environ=environ, cwd=folder).settings
    store = open_store(settings)
    keys = Keys(store.database, SystemClock(), Ids(SystemClock()), store.sealer)
    made = await keys.create(name="the tests", owner="tester", scopes=scopes)
    await store.database.close()
    return made
