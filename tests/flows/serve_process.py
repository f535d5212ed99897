"""`motion-gateway serve` and `work` as processes, for tests that kill them or read all they say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx
from ports import reserve_port
from running_gateway import PATIENCE_S, REGISTRY

from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.service.keys import CreatedKey, Keys, Scope
from gateway.settings import load
from gateway.storage.store import open_store

SERVE = Path(sys.executable).with_name("motion-gateway")


class GatewayProcess:
    """A command of ours that runs until it is ended, and can be started again."""

    def __init__(self, environ: Mapping[str, str], log: Path, *arguments: str) -> None:
        self.kills = 0
        self._from = 0
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MOTION_GATEWAY_")}
        self._environ, self._log, self._arguments = {**ours, **environ}, log, arguments
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether it was started, and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self, **more: str) -> None:
        """Start, and wait until it does its work.

        Args:
            more: further environment, for this start alone.
        """
        before = self._from = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                SERVE, *self._arguments, env=self._environ | more, stdout=log, stderr=log
            )
        while self._process.returncode is None:
            if await self._ready(before):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(self._log.read_text()[-2000:])

    def send(self, how: signal.Signals) -> None:
        """Send a signal, and wait for nothing."""
        assert self._process is not None
        self._process.send_signal(how)

    async def end(self, how: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:  # else it ended by itself, between two looks
            self._process.send_signal(how)
        self.kills += how is signal.SIGKILL
        return await self._process.wait()

    def worker_name(self) -> str | None:
        """The name under which it claims tasks; None when it carries out none."""
        names = re.findall(
            rb'"event":"worker.started".*?"worker":"(\w+)"', self._log.read_bytes()[self._from :]
        )
        return names[-1].decode() if names else None

    async def died(self) -> int:
        """Wait for it to end by itself; how it did."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), PATIENCE_S)

    async def _ready(self, log_from: int) -> bool:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.running:
            await self.end(signal.SIGKILL)


class ServeProcess(GatewayProcess):
    """A `motion-gateway serve` that can be killed and started again, always on the same port."""

    def __init__(self, environ: Mapping[str, str], log: Path, *options: str) -> None:
        self.port = reserve_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(environ, log, "serve", "--port", str(self.port), *options)

    async def _ready(self, log_from: int) -> bool:  # noqa: ARG002 - it says so itself
        with contextlib.suppress(OSError, httpx.TransportError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)  # it binds it when it can serve
            writer.close()
            async with httpx.AsyncClient(trust_env=False) as http:
                return (await http.get(f"{self.url}/health/ready")).status_code == 200
        return False


class WorkProcess(GatewayProcess):
    """A `motion-gateway work`."""

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        super().__init__(environ, log, "work")

    async def _ready(self, log_from: int) -> bool:
        return b"worker.started" in self._log.read_bytes()[log_from:]


async def made_key(environ: Mapping[str, str], folder: Path, *scopes: Scope) -> CreatedKey:
    """Make a key in the database, before anything serves it."""
    settings = load(REGISTRY.specs, environ=environ, cwd=folder).settings
    store = open_store(settings)
    keys = Keys(store.database, SystemClock(), Ids(SystemClock()), store.sealer)
    made = await keys.create(name="the tests", owner="tester", scopes=scopes)
    await store.database.close()
    return made
