"""A disk that is really full: nothing new is taken on, what is under way is recorded, then all goes on."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from invariants import check_invariants
from running_gateway import EMULATIONS, PATIENCE_S, PROVIDERS, asked, client_of, environment, stats_of
from serve_process import SERVE, ServeProcess, made_key

from gateway.clock import SystemClock
from gateway.service.keys import Scope
from gateway.simulator import Simulator, serve_simulator
from gateway.storage.reserve import RESERVE_BYTES

DISK_MB = 48
MOUNT = 'mount -t tmpfs -o "size=$1m" tmpfs "$2" && cp -p "$3"/* "$2" && shift 3 && exec "$@"'
PADDING = "padding"


def may_mount(folder: Path) -> bool:
    """Whether this machine lets us have a mount namespace with a small disk in it."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", folder],
        check=False,
        capture_output=True,
    )
    return tried.returncode == 0


class SmallDisk(ServeProcess):
    """A `serve` whose database is on a disk of its own, which only it sees; begun with copies of `seed`."""

    def __init__(self, environ: Mapping[str, str], log: Path, disk: Path, seed: Path) -> None:
        super().__init__(environ, log)
        self.command: list[str | Path] = [
            "unshare",
            "-m",
            "sh",
            "-c",
            MOUNT,
            "sh",
            str(DISK_MB),
            str(disk),
            str(seed),
            SERVE,
        ]
        self._disk = disk

    async def start(self, **more: str) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                "serve",
                "--port",
                str(self.port),
                env=self._environ | more,
                stdout=log,
                stderr=log,
            )
        await until_ready(self.url)

    @property
    def folder(self) -> Path:
        """The disk, as seen from outside."""
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/root{self._disk}")

    def fill(self) -> None:
        """Leave not a byte free."""
        with (self.folder / PADDING).open("ab", buffering=0) as padding:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while padding.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        (self.folder / PADDING).unlink()


async def readiness(url: str) -> tuple[int, str]:
    async with httpx.AsyncClient(trust_env=False) as http:
        reply = await http.get(f"{url}/health/ready")
    return reply.status_code, reply.text


async def until_ready(url: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                if (await readiness(url))[0] == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def until_status(client: httpx.AsyncClient, job_id: str, *wanted: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await client.get(f"/v1/jobs/{job_id}")).json()["status"] not in wanted:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.05)


async def test_a_full_disk_takes_nothing_new_and_records_what_was_paid_for(tmp_path: Path) -> None:
    disk, seed, trial = (tmp_path / name for name in ("disk", "seed", "trial"))
    for folder in (disk, seed, trial):
        folder.mkdir()
    if not may_mount(trial):
        pytest.skip("this machine gives us no mount namespace")
    async with await serve_simulator(
        Simulator(EMULATIONS, clock=SystemClock(), run_s=6.0, render=False)
    ) as providers:
        urls = {name: f"{providers.url}/{name}" for name in PROVIDERS}
        key = await made_key(environment(seed, urls), seed, Scope.JOBS)
        async with (
            asyncio.timeout(90),
            SmallDisk(environment(disk, urls), tmp_path / "serve.log", disk, seed) as served,
            client_of(served.url, key.key) as client,
        ):
            assert (served.folder / "gateway.db.reserve").stat().st_blocks * 512 >= RESERVE_BYTES
            running = [(await client.post("/v1/jobs", json=asked(name))).json()["id"] for name in PROVIDERS]
            async with asyncio.timeout(PATIENCE_S):
                while sum((await stats_of(providers))["accepted"].values()) < len(running):  # noqa: ASYNC110 - told by no event
                    await asyncio.sleep(0.02)
            served.fill()
            refused, taken = await refused_post(client)
            assert refused.headers["content-type"] == "application/problem+json"
            status, told = await readiness(served.url)
            assert (status, "disk is full" in told) == (503, True), told
            assert not (served.folder / "gateway.db.reserve").exists()
            for job_id in running:
                await until_status(client, job_id, "succeeded")
            assert sum((await stats_of(providers))["accepted"].values()) <= len(running) + taken
            assert (await client.post("/v1/jobs", json=asked())).status_code == 503
            served.free()
            await until_ready(served.url)
            assert (served.folder / "gateway.db.reserve").exists()
            again = await client.post("/v1/jobs", json=asked())
            assert again.status_code == 202
            await until_status(client, again.json()["id"], "succeeded")
            for file in served.folder.glob("gateway.db*"):
                if not file.name.endswith((".reserve", ".lock")):
                    shutil.copy(file, seed)
            assert check_invariants(seed / "gateway.db") >= len(running) + 1
            assert await served.end(signal.SIGTERM) == 0


async def refused_post(client: httpx.AsyncClient) -> tuple[httpx.Response, int]:
    """Post until it is refused; the refusal, and how many the log still had room for."""
    taken = 0
    async with asyncio.timeout(PATIENCE_S):
        while True:
            reply = await client.post("/v1/jobs", json=asked(metadata={"note": "x" * 400}))
            if reply.status_code != 202:
                return reply, taken
            taken += 1
