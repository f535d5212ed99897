"""Ours against bare Litestar: durable accept and read, 100,000 jobs stored. A fleet, streams, and deliveries.

    python tests/bench/run.py [requests|fleet|streams|deliveries] ...

For requests the server is pinned to one core and the client to another; rounds alternate, so that a machine
whose speed drifts shifts both. Absolute rates are of this machine; the ratios are the result.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop
from deliveries import measure_deliveries
from fleet import FLEET_JOBS, IN_FLIGHT, measure_fleet
from load import drive
from pacing import show as show_pacing
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from seed import seed
from streams import STREAMS, measure_streams

HERE = Path(__file__).parent
CONNECTIONS = (16, 64)
WHAT = ("requests", "fleet", "streams", "deliveries")
BODY = (
    b'{"character":{"type":"image","url":"https://media.example.com/hero.png"},'
    b'"reference":{"type":"video","url":"https://media.example.com/act.mp4","duration_s":8.5},'
    b'"ratio":"9:16","expression_intensity":4,"metadata":{"order":"8812","tenant":"north"}}'
)


Make = Callable[[], bytes]


class Server:
    """One server process."""

    def __init__(self, role: str, *arguments: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py"), role, str(self.port), *arguments],
            stderr=subprocess.DEVNULL,  # the lines are written all the same
        )

    async def ready(self) -> None:
        """Wait until it accepts connections."""
        for _ in range(300):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
        raise SystemExit("the server did not start")

    def cpu_s(self) -> float:
        """CPU seconds it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


def post(key: str) -> Make:
    """Return a maker of POSTs, each with an Idempotency-Key of its own."""
    numbers = itertools.count()
    stamp = f"{time.time_ns():x}".encode()
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\nIdempotency-Key: "
    ) % (key.encode(), len(BODY))
    return lambda: b"%s%s-%d\r\n\r\n%s" % (head, stamp, next(numbers), BODY)


def get(key: str, ids: list[str]) -> Make:
    """Return a maker of GETs of random jobs."""
    choose = random.Random(7).choice  # noqa: S311  (which job is read is no secret)
    tail = b" HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n\r\n" % key.encode()
    return lambda: b"GET /v1/jobs/" + choose(ids).encode() + tail


async def measure(server: Server, connections: int, seconds: float, make: Make) -> tuple[float, float]:
    """Return answers a second, and the part of its core that the server was busy."""
    cpu, started = server.cpu_s(), time.perf_counter()
    answers = await drive(server.port, connections, seconds, make)
    elapsed = time.perf_counter() - started
    if set(answers) - {200, 202}:
        raise SystemExit(f"unexpected answers: {answers}")
    return sum(answers.values()) / elapsed, (server.cpu_s() - cpu) / elapsed


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=WHAT, help="all, unless one is named")
    parser.add_argument("--streams", type=int, default=STREAMS, help="open at once")
    parser.add_argument("--fleet-jobs", type=int, default=FLEET_JOBS, help="for the workers to end")
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT, help="jobs that run at once")
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs stored before")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    console = Console()
    show_pacing(console)  # arithmetic alone; `python tests/bench/pacing.py` prints just this
    if arguments.what in {None, "requests"}:
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})
        await compare_requests(console, arguments)
        os.sched_setaffinity(0, cores)
    if arguments.what in {None, "fleet"}:
        await measure_fleet(console, jobs=arguments.fleet_jobs, running=arguments.in_flight)
    if arguments.what in {None, "streams"}:
        await measure_streams(console, streams=arguments.streams)
    if arguments.what in {None, "deliveries"}:
        await measure_deliveries(console)


async def compare_requests(console: Console, arguments: argparse.Namespace) -> None:
    """Print ours against bare Litestar."""
    with tempfile.TemporaryDirectory() as folder, Progress(console=console, transient=True) as progress:
        database = Path(folder, "bench.db")
        task = progress.add_task("storing jobs", total=arguments.jobs)
        key, ids = await seed(database, arguments.jobs, lambda count: progress.update(task, completed=count))
        ours, bare = Server("ours", str(database)), Server("bare")
        try:
            await asyncio.gather(ours.ready(), bare.ready())
            rows = await rounds(progress, (bare, ours), post(key), get(key, ids), arguments)
        finally:
            ours.stop()
            bare.stop()
    table = Table(title=f"{arguments.jobs:,} jobs stored, every POST durable (synchronous=FULL), logging on")
    for column in ("", "connections", "ours /s", "bare /s", "ratio", "core busy: ours", "bare"):
        table.add_column(column, justify="left" if not column else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


async def rounds(
    progress: Progress, servers: tuple[Server, Server], posts: Make, gets: Make, arguments: argparse.Namespace
) -> list[tuple[str, ...]]:
    """Alternate between the two servers, bare first; return the medians as rows of the table."""
    plans = [(name, make, count) for name, make in (("POST", posts), ("GET", gets)) for count in CONNECTIONS]
    task = progress.add_task("measuring", total=len(plans) * arguments.rounds * 2)
    rows: list[tuple[str, ...]] = []
    for name, make, connections in plans:
        pairs: list[list[tuple[float, float]]] = []
        for _ in range(arguments.rounds):
            pair = []
            for server in servers:
                pair.append(await measure(server, connections, arguments.seconds, make))
                progress.advance(task)
            pairs.append(pair)
        ratio = statistics.median(ours[0] / bare[0] for bare, ours in pairs)
        bare_rate, bare_busy = (statistics.median(bare[part] for bare, _ in pairs) for part in (0, 1))
        our_rate, our_busy = (statistics.median(ours[part] for _, ours in pairs) for part in (0, 1))
        rates = (f"{our_rate:,.0f}", f"{bare_rate:,.0f}", f"{ratio:.2f}")
        rows.append((name, str(connections), *rates, f"{our_busy:.0%}", f"{bare_busy:.0%}"))
    return rows


if __name__ == "__main__":
    uvloop.run(main())
