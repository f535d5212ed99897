"""What many open event streams cost one process while jobs finish, and whether each hears its job's end."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import socket
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path

from fleet import Cost
from postgres_server import fresh_database
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
STREAMS = 2000
PER_S = 100
OPENING = 50
"""Streams that are opened at once."""
PATIENCE_S = 120.0
SPARE_FILES = 200
"""Open beside the streams' sockets."""


async def measure_streams(console: Console, *, streams: int = STREAMS, per_s: int = PER_S) -> None:
    """Print memory, CPU and lags of as many streams as jobs, all of which end."""
    allow_files(streams + SPARE_FILES)
    table = Table(title=f"{streams:,} event streams in one process, {per_s} jobs a second finish")
    for column in ("", "SQLite, same process", "PostgreSQL, another"):
        table.add_column(column, justify="left" if not column else "right")
    columns: list[dict[str, str]] = []
    for here in (True, False):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            url = f"sqlite:///{folder}/b.db" if here else stack.enter_context(fresh_database())
            columns.append(await _measure(url, streams, per_s, here=here))
    for what in columns[0]:
        table.add_row(what, *(column[what] for column in columns))
    console.print(table)


def allow_files(count: int) -> None:
    """Let this process, and those it starts, have so many files open; the usual limit is 1,024.

    Raises:
        SystemExit: the system allows fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in {resource.RLIM_INFINITY, max(hard, count)}:
        raise SystemExit(f"{count:,} open files are needed, and {hard:,} are allowed: ulimit -Hn {count}")
    if soft not in {resource.RLIM_INFINITY, max(soft, count)}:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


async def _measure(database: str, streams: int, per_s: int, *, here: bool) -> dict[str, str]:
    async with _process("serve", database, streams, per_s) as (server, port):
        assert server.stdout is not None
        key, jobs = json.loads(await server.stdout.readline())
        idle = Cost(server.pid)
        opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        for start in range(0, streams, OPENING):
            batch = (_open(port, key, job_id) for job_id in jobs[start : start + OPENING])
            opened += await asyncio.gather(*batch)
        await asyncio.sleep(3)  # what opening took is over
        quiet = Cost(server.pid)
        await asyncio.sleep(5)
        before = Cost(server.pid)
        listening = asyncio.gather(*(_listen(reader) for reader, _ in opened))
        if here:
            _say(server, "end")
            lags = await asyncio.wait_for(listening, PATIENCE_S)
        else:
            async with _process("end", database, streams, per_s) as (ender, _):
                _say(ender, json.dumps(jobs))
                lags = await asyncio.wait_for(listening, PATIENCE_S)
        after = Cost(server.pid)
        for _, writer in opened:
            writer.close()
        _say(server, "stop")
    told = sorted(lag for lag in lags if lag is not None)
    p50, p99 = statistics.median(told), told[int(len(told) * 0.99)]
    return {
        "memory, idle": f"{idle.resident_mb:,.0f} MB",
        "  streams open": f"{before.resident_mb:,.0f} MB",
        "  at the end": f"{after.resident_mb:,.0f} MB",
        "core busy, streams open": f"{before.busy_since(quiet):.0%}",
        "  while jobs finish": f"{after.busy_since(before):.0%}",
        "finished to heard: p50": f"{p50 * 1000:,.0f} ms",
        "  p99": f"{p99 * 1000:,.0f} ms",
        "streams that heard their job's end": f"{len(told):,} of {streams:,}",
    }


@asynccontextmanager
async def _process(role: str, database: str, jobs: int, per_s: int) -> AsyncIterator[tuple[Process, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    arguments = [str(HERE / "finishing.py"), role, database, *(str(one) for one in (port, jobs, per_s))]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=PIPE, stdout=PIPE, limit=2**24
    )
    try:
        yield process, port
        _say(process, "stop")
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


def _say(process: Process, text: str) -> None:
    assert process.stdin is not None
    if not process.stdin.is_closing():
        process.stdin.write(f"{text}\n".encode())


async def _open(port: int, key: str, job_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"event: job.accepted\n")
    return reader, writer


async def _listen(reader: asyncio.StreamReader) -> float | None:
    """Read a stream to its end; seconds from the job's end to hearing of it, None when that was not told."""
    text = await reader.readuntil(b"\r\n0\r\n\r\n")
    heard_s = time.time()
    last = text.rpartition(b"event: ")[2]
    found = re.search(rb'"timestamp":"([^"]+)"', last)
    if not last.startswith(b"job.succeeded\n") or found is None:
        return None
    return heard_s - datetime.fromisoformat(found[1].decode()).timestamp()
