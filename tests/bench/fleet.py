"""What a fleet gains by a second worker, and what ten thousand jobs in flight cost one process."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import psycopg
from provider import PROVIDER, ref_of
from rich.console import Console
from rich.table import Table
from running_jobs import store_running

sys.path += [
    str(Path(__file__).parents[1] / folder) for folder in ("faults", "flows", "store")
]  # as conftest.py

from engines import postgres_settings, sqlite_settings
from ports import reserve_port
from postgres_server import fresh_database
from running_gateway import REGISTRY, asked, client_of, environment
from serve_process import GatewayProcess, ServeProcess, WorkProcess, made_key

from gateway.service.keys import Scope
from gateway.settings import load

HERE = Path(__file__).parent
CALL_S = 0.05
AT_ONCE = 8
FLEET_JOBS = 1200
COUNTED = (0.2, 0.9)
"""Between which shares of the jobs the rate is taken: neither beginning nor end."""
IN_FLIGHT = 10_000
POLL_EVERY_S = 15.0
FOREVER_S = 1e6
SETTLE_S, WATCH_S, IDLE_S = 30.0, 60.0, 20.0
"""Seconds until the first polls are past; that polls, and that idleness, are watched."""


@asynccontextmanager
async def provider(*, call_s: float, run_s: float, jobs: int = 0) -> AsyncIterator[str]:
    """Run the provider's process; its base URL."""
    port = reserve_port()
    arguments = [str(one) for one in (port, call_s, run_s, jobs)]
    process = subprocess.Popen([sys.executable, str(HERE / "provider.py"), *arguments])  # noqa: ASYNC220 - once
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            while True:
                try:
                    await http.get(f"http://127.0.0.1:{port}/_stats")
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
                else:
                    break
        yield f"http://127.0.0.1:{port}/{PROVIDER}"
    finally:
        process.terminate()
        process.wait()


async def jobs_per_second(workers: int, jobs: int) -> float:
    """How many jobs that many workers end in a second."""
    with tempfile.TemporaryDirectory() as name, fresh_database() as url:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            at = await stack.enter_async_context(provider(call_s=CALL_S, run_s=0.0))
            settings = postgres_settings(url, 20.0) | {
                "WORKER__CONCURRENCY": str(AT_ONCE),
                "WORKER__IDLE_S": "0.5",
            }
            environ = environment(folder, {PROVIDER: at}, **settings)
            key = await made_key(environ, folder, Scope.JOBS)
            api = ServeProcess(environ, folder / "serve.log", "--no-worker")
            async with api, client_of(api.url, key.key) as http:
                for _ in range(jobs // 100):
                    await asyncio.gather(*(http.post("/v1/jobs", json=asked(PROVIDER)) for _ in range(100)))
            processes = [WorkProcess(environ, folder / f"work-{one}.log") for one in range(workers)]
            for process in processes:
                stack.push_async_callback(process.end, signal.SIGTERM)
            await asyncio.gather(*(process.start() for process in processes))
            return await asyncio.to_thread(_rate, url, jobs)


def _rate(url: str, jobs: int) -> float:
    seen: list[tuple[float, int]] = []
    with psycopg.connect(url, autocommit=True) as connection:
        while not seen or seen[-1][1] < jobs:
            row = connection.execute("SELECT count(*) FROM jobs WHERE status = 'succeeded'").fetchone()
            assert row is not None
            seen.append((time.perf_counter(), row[0]))
            time.sleep(0.05)
    first, last = (next(one for one in seen if one[1] >= share * jobs) for share in COUNTED)
    return (last[1] - first[1]) / (last[0] - first[0])


class Cost:
    """What a process has used."""

    def __init__(self, pid: int) -> None:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        self.at_s = time.perf_counter()
        resident = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert resident is not None
        self.resident_mb = int(resident[1]) / 1024

    def busy_since(self, before: Cost) -> float:
        """Share of one core since then."""
        return (self.cpu_s - before.cpu_s) / (self.at_s - before.at_s)


def pid_of(process: GatewayProcess) -> int:
    """A running process' id."""
    assert process._process is not None
    return process._process.pid


async def lags(http: httpx.AsyncClient) -> dict[float, float]:
    """Polls so far, by the upper bound of their lateness in seconds."""
    text = (await http.get("/metrics")).text
    found = re.findall(r'^motion_gateway_poll_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', text, re.MULTILINE)
    return {float(bound): float(count) for bound, count in found}


def quantile_s(counts: dict[float, float], share: float) -> float:
    """The lateness that so large a share of polls kept, interpolated within its bucket."""
    wanted, below, below_s = share * counts[float("inf")], 0.0, 0.0
    for bound_s, count in sorted(counts.items()):
        if count >= wanted:
            return below_s + (bound_s - below_s) * (wanted - below) / (count - below)
        below, below_s = count, bound_s
    raise AssertionError("unreachable: the last bucket holds all")


@asynccontextmanager
async def one_process(at: str, jobs: int, due_s: tuple[float, float]) -> AsyncIterator[ServeProcess]:
    """Serve a SQLite file with that many running jobs, with the default settings."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {
            f"PROVIDERS__{PROVIDER.upper()}__POLL_SCALE": "1.0",
            "WORKER__IDLE_S": "1.0",
            "METRICS__OPEN": "true",
        }
        environ = environment(folder, {PROVIDER: at}, **settings, **sqlite_settings(folder))
        loaded = load(REGISTRY.specs, environ=environ, cwd=folder).settings
        await store_running(loaded, PROVIDER, jobs, ref_of=ref_of, due_s=due_s)
        async with ServeProcess(environ, folder / "serve.log") as serve:
            yield serve


async def in_flight(jobs: int) -> list[tuple[str, str]]:
    """Poll that many jobs, then have as many parked; the lines to print."""
    async with (
        provider(call_s=0.0, run_s=FOREVER_S, jobs=jobs) as at,
        one_process(at, jobs, (2.0, 2.0 + POLL_EVERY_S)) as serve,
        client_of(serve.url, None) as http,
    ):
        await asyncio.sleep(SETTLE_S)
        before, cost = await lags(http), Cost(pid_of(serve))
        await asyncio.sleep(WATCH_S)
        after, later = await lags(http), Cost(pid_of(serve))
    seen = {bound: count - before[bound] for bound, count in after.items()}
    polled = seen[float("inf")]
    lines = [
        ("memory (RSS)", f"{later.resident_mb:.0f} MB"),
        ("polls a second", f"{polled / WATCH_S:,.0f} (due: {jobs / POLL_EVERY_S:,.0f})"),
        ("late, median / p99", f"{quantile_s(seen, 0.5):.2f} s / {quantile_s(seen, 0.99):.2f} s"),
        (
            "core busy",
            f"{later.busy_since(cost):.0%}, {1000 * (later.cpu_s - cost.cpu_s) / polled:.2f} ms a poll",
        ),
    ]
    async with one_process("http://127.0.0.1:9/runway", jobs, (3600.0, 7200.0)) as serve:
        await asyncio.sleep(5)
        cost = Cost(pid_of(serve))
        await asyncio.sleep(IDLE_S)
        idle = Cost(pid_of(serve)).busy_since(cost)
    return [*lines, ("core busy with as many parked", f"{idle:.1%}")]


async def measure_fleet(console: Console, *, jobs: int = FLEET_JOBS, running: int = IN_FLIGHT) -> None:
    """Print both."""
    one, two = [await jobs_per_second(workers, jobs) for workers in (1, 2)]
    table = Table(title=f"PostgreSQL, a provider that takes {CALL_S * 1000:.0f} ms a call, {AT_ONCE} at once")
    for column in ("", "one worker", "two", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("jobs ended /s", f"{one:,.0f}", f"{two:,.0f}", f"{two / one:.2f}")
    console.print(table)
    table = Table(
        title=f"{running:,} jobs in flight, one process on SQLite, a poll every {POLL_EVERY_S:.0f} s",
        show_header=False,
    )
    for line in await in_flight(running):
        table.add_row(*line)
    console.print(table)
